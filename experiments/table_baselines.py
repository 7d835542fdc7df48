"""Tables without labels: categories, features and missing cells of an HFVAE beside sober baselines.

Usage: python -m pyro_hfvae.experiments.table_baselines --seeds 0 1 2

For each table of scikit-learn a run of its configuration in experiments/tables, as ``pyro-hfvae fit`` makes it. On the
held-out rows, the same for all methods: the accuracy of the discrete block with the classes (one-to-one), beside
k-means of the standardised columns and of the codes of a plain autoencoder with the same networks; the accuracy of a
forest that predicts the class from all codes, beside PCA and ICA with as many components as the run has variables; and
the error of a tenth of all cells, hidden at random in training and held-out rows, beside the columns' means and the
mean of the five nearest rows. Every seed is kept in rows/CELL.json and not run again; from all rows the command makes
the table.
"""

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, FastICA
from sklearn.impute import KNNImputer
from sklearn.neural_network import MLPRegressor

from pyro_hfvae import encode
from pyro_hfvae.data import Batch, Integers, ScikitLearnTable
from pyro_hfvae.experiments.cells import about, head, kept_cell, line
from pyro_hfvae.files import write_atomically
from pyro_hfvae.metrics import Codes, Factors, block_factor, clustering_accuracy
from pyro_hfvae.paint import impute
from pyro_hfvae.train import LoadedRun, RunFolder, load_run
from pyro_hfvae.train import fit as train
from pyro_hfvae.train.configuration import build_fit_parser, build_training

TABLES = ("wine", "breast_cancer", "digits")
HIDDEN = 0.1
"""Share of the cells that are hidden from the second run."""

MEASURES = {
    "classes by category": ("HFVAE", "k-means", "k-means of an autoencoder"),
    "class from codes": ("HFVAE", "PCA", "ICA"),
    "error of hidden cells": ("HFVAE", "nearest rows", "column means"),
}


class HiddenCells(ScikitLearnTable):
    """A table some cells of which are missing: the same ones in every batch.

    Args:
        name: of the table.
        share: of the cells that are hidden.
        seed: of the choice.
    """

    def __init__(self, name: Any, share: float = HIDDEN, seed: int = 0) -> None:
        super().__init__(name)
        generator = torch.Generator().manual_seed(seed)
        self.hidden = torch.rand(len(self), len(self.columns), generator=generator) < share

    def complete(self, indices: Integers) -> torch.Tensor:
        """The rows with all their cells."""
        return super().batch(indices).x

    def batch(self, indices: Integers) -> Batch:
        """The rows without the hidden cells."""
        return Batch(x=self.complete(indices).masked_fill(self.hidden[torch.as_tensor(indices)], torch.nan))


def run_of(table: str, seed: int, folder: Path, *options: str) -> LoadedRun:
    """A run of the table's configuration, as ``pyro-hfvae fit`` makes it, loaded."""
    parser = build_fit_parser()
    config = Path(__file__).parent / "tables" / f"{table}.yaml"
    parsed = parser.parse_args(
        [
            "--config",
            str(config),
            "--run",
            str(folder),
            "--seed",
            str(seed),
            *options,
        ]
    )
    training, data, built = build_training(parser, parsed)
    text = parser.dump(parsed, skip_unset=False)
    train(training, data, RunFolder(folder), config=text, seed=seed, trainer=vars(built.trainer))
    return load_run(folder)


def measure_table(table: str, seed: int) -> tuple[dict[str, Any], int]:
    """All measures of one seed, and the training steps of both runs."""
    with tempfile.TemporaryDirectory() as folder:
        run = run_of(table, seed, Path(folder) / "whole")
        hidden = f"{__name__ if __name__ != '__main__' else 'pyro_hfvae.experiments.table_baselines'}.HiddenCells"
        other = run_of(
            table, seed, Path(folder) / "hidden", "--data", hidden, "--data.name", table, "--data.seed", str(seed)
        )
        found = {"classes by category": _categories(run, seed), "class from codes": _codes(run, seed)}
        return found | {"error of hidden cells": _cells(other)}, run.step + other.step


def _rows(run: LoadedRun, indices: torch.Tensor) -> torch.Tensor:
    return run.data.source.batch(indices).x


def _scale(rows: NDArray[Any]) -> NDArray[Any]:
    """Standard deviations of the columns, 1 of one that is constant among these rows."""
    found = np.nanstd(rows, 0)
    return np.asarray(np.where(found > 0, found, 1.0))


def _categories(run: LoadedRun, seed: int) -> dict[str, float]:
    """Accuracy, one-to-one, of the categories of the held-out rows."""
    trained, held_out = (_rows(run, i).numpy() for i in (run.data.train_indices, run.data.held_out_indices))
    classes = run.data.source.factors(run.data.held_out_indices)[:, 0].numpy()
    codes = encode(run.guide, [(torch.from_numpy(held_out),)])
    kind = codes.columns[:, list(codes.block_columns("kind"))]
    scale = _scale(trained)
    k, width = kind.shape[1], codes.columns.shape[1] - kind.shape[1]
    autoencoder = MLPRegressor(
        hidden_layer_sizes=(128, 128, width, 128, 128), max_iter=500, early_stopping=True, random_state=seed
    )
    autoencoder.fit(trained / scale, trained / scale)

    def by_means(points: NDArray[Any], others: NDArray[Any]) -> float:
        means = KMeans(k, n_init=10, random_state=seed).fit(points)
        return float(clustering_accuracy(means.predict(others), classes))

    return {
        "HFVAE": float(clustering_accuracy(kind.argmax(1), classes)),
        "k-means": by_means(trained / scale, held_out / scale),
        "k-means of an autoencoder": by_means(
            *(_bottleneck(autoencoder, rows / scale) for rows in (trained, held_out))
        ),
    }


def _bottleneck(autoencoder: MLPRegressor, rows: NDArray[Any]) -> NDArray[np.float64]:
    """Activations of the third hidden layer, before its ReLU."""
    for weights, bias in list(zip(autoencoder.coefs_, autoencoder.intercepts_, strict=True))[:2]:
        rows = np.maximum(rows @ weights + bias, 0)
    return np.asarray(rows @ autoencoder.coefs_[2] + autoencoder.intercepts_[2], dtype=np.float64)


def _codes(run: LoadedRun, seed: int) -> dict[str, float]:
    """Accuracy of a forest that predicts the class of held-out rows from all codes, fitted to one half of them."""
    trained, held_out = (_rows(run, i).numpy() for i in (run.data.train_indices, run.data.held_out_indices))
    classes = run.data.source.factors(run.data.held_out_indices).numpy()
    factors = Factors(classes, run.data.source.factor_names, ("categorical",))
    own = encode(run.guide, [(torch.from_numpy(held_out),)])
    scale, count = _scale(trained), len(own.variables)

    def linear(method: PCA | FastICA) -> Codes:
        columns = method.fit(trained / scale).transform(held_out / scale).astype(np.float64)
        names = tuple(f"c{d}" for d in range(count))
        return Codes(columns, names, tuple((d,) for d in range(count)), {"all": tuple(range(count))})

    every = {
        "HFVAE": own,
        "PCA": linear(PCA(count, random_state=seed)),
        "ICA": linear(FastICA(count, max_iter=2000, random_state=seed)),
    }
    return {name: float(block_factor(codes, factors, seed=seed).all[0]) for name, codes in every.items()}


def _cells(run: LoadedRun) -> dict[str, float]:
    """Root mean square error of the hidden cells of held-out rows, in standard deviations of their columns."""
    source = cast(HiddenCells, run.data.source)
    trained, held_out = (_rows(run, i) for i in (run.data.train_indices, run.data.held_out_indices))
    truth, hidden = source.complete(run.data.held_out_indices), source.hidden[run.data.held_out_indices]
    center, scale = np.nanmean(trained.numpy(), 0), _scale(trained.numpy())
    torch.manual_seed(0)
    nearest = KNNImputer(n_neighbors=5).fit((trained.numpy() - center) / scale)
    filled = {
        "HFVAE": impute(run.model, run.guide, held_out).numpy(),
        "nearest rows": nearest.transform((held_out.numpy() - center) / scale) * scale + center,
        "column means": np.broadcast_to(center, truth.shape),
    }

    def error(values: NDArray[Any]) -> float:
        return float(np.sqrt((((values - truth.numpy()) / scale)[hidden.numpy()] ** 2).mean()))

    return {name: error(values) for name, values in filled.items()}


def main() -> None:
    """Runs what is missing and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("runs/table_baselines"))
    options = parser.parse_args()
    lines, cells = [], []
    for measure, methods in MEASURES.items():
        lines += ["", *head([measure, *methods])]
        for table in TABLES:
            found = [
                kept_cell(options.output, f"{table}_{seed}", seed, partial(measure_table, table, seed))
                for seed in options.seeds
            ]
            cells += found if measure == next(iter(MEASURES)) else []
            lines.append(line([table.replace("_", " "), *(_spread([c[measure][m] for c in found]) for m in methods)]))
    text = f"Median, lowest and highest of the seeds {', '.join(map(str, options.seeds))}. {about(cells)}"
    write_atomically(options.output / "tables_table.md", "\n".join([text, *lines]) + "\n")
    print((options.output / "tables_table.md").read_text())


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}, {max(values):.2f})"


if __name__ == "__main__":
    main()
