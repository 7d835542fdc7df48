"""The subcommands: each takes its parsed options and does one job."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from jsonargparse import Namespace
from torch import Tensor

from pyro_hfvae.cli.parser import build_fit_parser
from pyro_hfvae.cli.programs import Trained, build_training, load_run
from pyro_hfvae.files import write_atomically
from pyro_hfvae.metrics import Factors, encode, measure
from pyro_hfvae.plot import summary_lines, write_report
from pyro_hfvae.train import RunFolder
from pyro_hfvae.train import fit as train

__all__ = ["evaluate", "expand_resume", "fit", "report"]


def expand_resume(arguments: list[str]) -> list[str]:
    """Puts the configuration of the run that ``fit --resume RUN`` names in front of the other options."""
    if arguments[:1] != ["fit"]:
        return arguments
    for place, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag == "--resume" and (equals or place + 1 < len(arguments)):
            folder = RunFolder(Path(value if equals else arguments[place + 1]))
            folder.require()
            return ["fit", "--config", str(folder.config), "--run", str(folder.path), *arguments[1:]]
    return arguments


def fit(options: Namespace) -> None:
    """Trains as configured and leaves the run folder."""
    resume = options.resume is not None
    options = options.clone()
    options.resume = None
    parser = build_fit_parser()
    training, data, built = build_training(parser, options)
    train(
        training,
        data,
        RunFolder(options.run),
        config=parser.dump(options, skip_unset=False),
        seed=options.seed,
        trainer=vars(built.trainer),
        checkpoint_every=options.checkpoint_every,
        resume=resume,
    )
    print(f"run: {options.run}")


def evaluate(options: Namespace) -> None:
    """Measures a run on its held-out data, writes ``metrics.json`` and prints a summary."""
    run = load_run(RunFolder(options.run))
    images, factors = zip(*run.data.held_out_batches(options.samples), strict=True)
    codes = encode(run.guide, _on_device(run, images), run.objective.blocks)
    torch.manual_seed(options.seed)
    batches = _on_device(run, (images for images, _ in run.data.held_out_batches(options.term_samples)))
    terms = run.objective.aggregate_terms(run.model, run.guide, batches)
    source, count = run.data.images, min(options.term_samples, len(run.data.held_out_indices))
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
    }
    if source.factor_names:
        known = Factors(torch.cat(factors).numpy(), source.factor_names, source.factor_kinds, source.factor_periods)
        metrics["disentanglement"] = measure(codes, known, permutations=options.permutations, seed=options.seed)
    run.folder.write_history()
    write_atomically(run.folder.metrics, json.dumps(metrics, indent=2) + "\n")
    print("\n".join(summary_lines(metrics)))


def report(options: Namespace) -> None:
    """Writes the page of a run."""
    RunFolder(options.run).require()
    print(f"report: {write_report(options.run)}")


def _on_device(run: Trained, images: Iterable[Tensor]) -> Iterator[tuple[Tensor]]:
    """Arguments of the programs, on their device."""
    device = next(run.model.parameters()).device
    return ((batch.to(device),) for batch in images)
