"""The subcommands: each takes its parsed options and does one job."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import Namespace
from numpy.typing import NDArray

from pyro_hfvae.batch import Batch
from pyro_hfvae.cli.feature_metrics import run_features
from pyro_hfvae.cli.known_factors import known_factors
from pyro_hfvae.cli.loading import load, resumed
from pyro_hfvae.cli.output import output_may_close
from pyro_hfvae.files import expanded, write_atomically
from pyro_hfvae.interruption import advising
from pyro_hfvae.metrics import (
    Factors,
    encode,
    encode_posteriors,
    measure,
    measure_posteriors,
    measure_swaps,
    write_shared_codes,
)
from pyro_hfvae.paint import painter
from pyro_hfvae.plot import summary_lines
from pyro_hfvae.train import LoadedRun, RunFolder
from pyro_hfvae.train import fit as train
from pyro_hfvae.train.configuration import build_fit_parser, build_training

__all__ = ["evaluate", "evaluate_run", "expand_resume", "fit"]

INFORMATION_DATA = 5_000
"""Held-out data whose posteriors make the marginals of the information with factors, at most."""

INFORMATION_SAMPLES = 1_000
"""Of these, how many give a sample: the cost is their product."""

SCORED_DATA = 8
"""Held-out data that the scores need at least."""

PAINTED_DATA = 5_000
"""Held-out data that are decoded with a block of another, or train the regressor of pictures, at most."""

SHARED_DATA = 2_000
"""Data of the whole data set, held out or not, that every run of it encodes: UDR compares runs by them."""


def expand_resume(arguments: list[str]) -> list[str]:
    """Puts the configuration of the run that ``fit --resume RUN`` names in front of the other options."""
    run = resumed(arguments) if arguments[:1] == ["fit"] else None
    if run is None:
        return arguments
    folder = RunFolder(Path(run))
    return ["fit", "--config", str(folder.config), "--run", str(folder.path), *arguments[1:]]


def fit(options: Namespace) -> None:
    """Trains as configured and leaves the run folder."""
    resume = options.resume is not None
    if resume and expanded(options.run).resolve() != expanded(options.resume).resolve():
        raise ValueError(
            f"--resume {options.resume} goes on with this run, but --run or a configuration names '{options.run}'"
        )
    options = options.clone()
    options.resume, options.trust = None, None
    parser = build_fit_parser()
    training, data, built = build_training(parser, options)
    run = RunFolder(options.run)
    with output_may_close(), advising(run.how_to_go_on):
        train(
            training,
            data,
            run,
            config=parser.dump(options, skip_unset=False),
            seed=options.seed,
            trainer=vars(built.trainer),
            checkpoint_every=options.checkpoint_every,
            resume=resume,
        )
        print(f"run: {options.run}")


def evaluate(options: Namespace) -> None:
    """Measures a run on its held-out data, writes ``metrics.json`` and prints a summary."""
    evaluate_run(load(options.run, options.trust), options)


def evaluate_run(run: LoadedRun, options: Namespace) -> None:
    """Measures a run that is loaded."""
    if run.data.source.factor_names and options.samples < SCORED_DATA:
        raise ValueError(f"--samples {options.samples} is too few: the scores need {SCORED_DATA} held-out data")
    held_out, factors = zip(*run.data.held_out_batches(options.samples), strict=True)
    data = Batch.joined(held_out)
    torch.manual_seed(options.seed)  # a guide whose sites depend on one another is sampled
    codes = encode(run.guide, _on_device(run, held_out), run.objective.blocks)
    torch.manual_seed(options.seed)
    batches = _on_device(run, (batch for batch, _ in run.data.held_out_batches(options.term_samples)))
    terms = run.objective.aggregate_terms(run.model, run.guide, batches)
    source, count = run.data.source, min(options.term_samples, len(run.data.held_out_indices))
    metrics = {
        "data": {
            "name": type(source).__name__,
            "data_size": run.data.data_size,
            "held_out": len(codes.columns),
            "held_out_for_terms": count,
        },
        "step": run.step,
        "seed": options.seed,
        "terms": terms.numbers(),
        "terms_note": f"exact inference marginal of {count:,} held-out data; I(x; z) is at most {np.log(count):.2f}",
        "disentanglement": None,
        "disentanglement_note": None,
        "left_out": {},
    }
    if source.factor_names:
        values = torch.cat(factors).numpy()
        known, metrics["left_out"], rows = known_factors(source, values)
        try:
            if known is None:
                raise ValueError("no factor varies enough among the held-out data")
            measured = measure(codes.rows(rows), known, permutations=options.permutations, seed=options.seed)
            if unknown := len(values) - len(rows):
                measured["notes"].append(f"{unknown:,} held-out data with a factor that is not known are left out")
            measured |= _marginal_information(run, data, values, options.seed)
            measured |= _swaps(run, data, values, options.seed)
            metrics["disentanglement"] = measured
        except ValueError as reason:  # too few data, or data that do not vary
            if options.permutations == 1:  # not the data's fault, but the user's
                raise
            metrics["disentanglement_note"] = str(reason)
    shared = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))[:SHARED_DATA]
    batches = _on_device(run, (source.batch(part) for part in shared.split(256)))
    write_shared_codes(run.folder.codes, encode(run.guide, batches, run.objective.blocks), shared.numpy())
    metrics |= run_features(run, data.to(run.device), options.seed)
    run.folder.write_history()
    write_atomically(run.folder.metrics, json.dumps(metrics, indent=2) + "\n")
    print("\n".join(summary_lines(metrics)))


def _marginal_information(run: LoadedRun, held_out: Batch, factors: NDArray[Any], seed: int) -> dict[str, Any]:
    """Information of blocks and variables with the factors of the first data, or the reason why there is none."""
    try:
        known, data = _varying(run, held_out, factors, INFORMATION_DATA)
        posteriors = encode_posteriors(run.guide, data.split(256), run.objective.blocks)
    except ValueError as reason:  # posteriors that have no parameters to be read: of another family, or structured
        return {"marginal_information": None, "marginal_information_note": str(reason)}
    found = measure_posteriors(posteriors, known, samples=INFORMATION_SAMPLES, seed=seed)
    return {"marginal_information": found, "marginal_information_note": None}


def _swaps(run: LoadedRun, held_out: Batch, factors: NDArray[Any], seed: int) -> dict[str, Any]:
    """Scores of swaps among the first data, or the reason why there is none."""
    try:
        known, data = _varying(run, held_out, factors, PAINTED_DATA)
        blocks = run.blocks_of(data.rows(slice(2)))
        found = measure_swaps(painter(run.model, run.guide, data, blocks), list(blocks), known, seed=seed)
        return {"swaps": found, "swaps_note": None}
    except ValueError as reason:  # one block alone, or a model that paints nothing
        return {"swaps": None, "swaps_note": str(reason)}


def _varying(run: LoadedRun, held_out: Batch, factors: NDArray[Any], count: int) -> tuple[Factors, Batch]:
    """The factors of the first data that vary enough to be measured, and the data of which they are known.

    Raises:
        ValueError: no factor varies enough.
    """
    known, _, rows = known_factors(run.data.source, factors[:count])
    if known is None:
        raise ValueError(f"no factor varies enough among {len(factors[:count]):,} data")
    return known, held_out.rows(torch.from_numpy(rows)).to(run.device)


def _on_device(run: LoadedRun, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Data on the device of the programs."""
    return (batch.to(run.device) for batch in batches)
