"""The subcommand ``traverse``: the pictures of a run."""

from itertools import chain

import numpy as np
import torch
from jsonargparse import Namespace
from matplotlib.figure import Figure

from pyro_hfvae.cli import feature_pictures, image_pictures
from pyro_hfvae.cli.encoded import Encoded, Pictures, Start, decodes_images, encode_run, middle, picture_file, prior
from pyro_hfvae.cli.known_factors import known_factors
from pyro_hfvae.cli.loading import load
from pyro_hfvae.files import write_atomically, write_figure
from pyro_hfvae.metrics import Codes
from pyro_hfvae.metrics.information import information_matrix
from pyro_hfvae.paint import commonest_categories, posterior_modes, read_marginals
from pyro_hfvae.plot import aggregate_posterior, pair_plot
from pyro_hfvae.run_outputs import record_files
from pyro_hfvae.train import LoadedRun

__all__ = ["traverse", "traverse_run"]

COLUMNS = 10
"""Pictures in a row, unless the user asks for others and there are as many held-out data."""


def traverse(options: Namespace) -> None:
    """Draws the pictures of a run."""
    traverse_run(load(options.run, options.trust), options)


def traverse_run(run: LoadedRun, options: Namespace) -> None:
    """Draws the pictures of a run that is loaded."""
    columns = options.columns or min(COLUMNS, len(run.data.held_out_indices))
    if columns > len(run.data.held_out_indices):
        raise ValueError(f"--columns {columns} is more than the {len(run.data.held_out_indices):,} held-out data")
    if options.image is not None and options.image >= len(run.data.source):
        raise ValueError(f"--image {options.image} is not in the data: its images are 0 to {len(run.data.source) - 1}")
    torch.manual_seed(options.seed)
    data = encode_run(run, columns)
    images = decodes_images(run.model, data.modes, data.all)
    if options.gif and not images:
        raise ValueError("--gif animates images, and the model of this run decodes none")
    common = commonest_categories(data.draws, data.variables)
    starts = [middle(data, common)]
    if options.prior:
        starts.append(prior(data, common))
    if options.image is not None:
        one = run.data.source.batch(torch.tensor([options.image])).to(run.device)
        place = f"as in {'image' if images else 'datum'} {options.image}"
        starts.append(Start(f"image_{options.image}_", place, posterior_modes(run.guide, one), image=one.x))
    run.folder.pictures.mkdir(exist_ok=True)
    names: list[str] = []
    drawn_pictures = _of_images(data, starts, columns, options.gif) if images else _of_features(data, starts, columns)
    for name, drawn in drawn_pictures:
        path = run.folder.pictures / name
        if isinstance(drawn, Figure):
            write_figure(path, drawn)
        else:
            write_atomically(path, drawn)
        names.append(name)
        print(path)
    record_files(run.folder.pictures, run.step, names)


def _of_images(data: Encoded, starts: list[Start], columns: int, animated: bool) -> Pictures:
    parts = [image_pictures.overview(data, columns), image_pictures.of_blocks(data, columns), _of_distributions(data)]
    return chain(*parts, *(image_pictures.traversals(data, start, columns, animated) for start in starts))


def _of_features(data: Encoded, starts: list[Start], columns: int) -> Pictures:
    """Of features, if the model has any; else of the latents alone."""
    yield from _of_distributions(data)
    try:
        reader = feature_pictures.feature_reader(data.run, data.all)
        observed = reader.observed(data.all)
    except ValueError as reason:
        print(f"no picture of what is decoded: {reason}")
        return
    for start in starts:
        yield from feature_pictures.feature_traversals(reader, data, observed, start, max(columns, 2))


def _of_distributions(data: Encoded) -> Pictures:
    """The aggregate posterior against the prior, and for each factor the two most informative variables."""
    run, blocks = data.run, data.run.objective.blocks
    if marginals := read_marginals(run.model, run.guide, data.batches, blocks):
        yield "aggregate_posterior.png", aggregate_posterior(marginals)
    known, _, rows = known_factors(run.data.source, data.factors)
    lines = [v for v in data.variables if data.draws.widths[v.site] == 1]
    if known is None or len(lines) < 2:
        return
    # Draws and not means: the means of a variable that carries nothing keep traces of everything.
    columns = torch.stack([data.draws.of(variable) for variable in lines], 1).cpu().double().numpy()  # [N, lines]
    columns = columns[rows]
    names = tuple(variable.name for variable in lines)
    codes = Codes(columns, names, tuple((line,) for line in range(len(lines))), {"all": tuple(range(len(lines)))})
    information = information_matrix(codes, known)  # [lines, F]
    for place, factor in enumerate(known.names):
        a, b = np.argsort(-information[:, place], kind="stable")[:2]
        period = known.period(place) if known.kinds[place] == "circular" else None
        figure = pair_plot(
            columns[:, [a, b]], (names[a], names[b]), known.values[:, place], factor, known.kinds[place], period
        )
        yield picture_file("pair_", factor), figure
