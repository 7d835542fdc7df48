"""Does the aggregate posterior q(z) look like the prior p(z): a classifier two-sample test of each block and of all."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pyro_hfvae.batch import AnyBatch, as_arguments
from pyro_hfvae.blocks import Layout
from pyro_hfvae.posterior.draws import draw_guide, simulate
from pyro_hfvae.posterior.layout import read_arrays
from pyro_hfvae.posterior.programs import Program, fix

__all__ = ["ALL_BLOCKS", "TwoSample", "aggregate_against_prior", "classifier_two_sample"]

ALL_BLOCKS = "all blocks"
SMALLEST = 20
"""Draws of each kind; with fewer no accuracy of the test half could be distinguished from chance."""


@dataclass(frozen=True)
class TwoSample:
    """What a classifier makes of draws of two kinds."""

    accuracy: float
    """On held-out draws, half of them of each kind; .5 is chance."""
    p_value: float
    """Of an accuracy as high where both kinds are the same."""
    held_out: int
    """Number of held-out draws."""


def classifier_two_sample(first: NDArray[np.float64], second: NDArray[np.float64], seed: int = 0) -> TwoSample:
    """Tests whether two samples come from one distribution: trains a classifier on half, counts its hits on the rest.

    If they do, each held-out draw is hit with probability 1/2 by any classifier, so that the number of hits is binomial
    and the p-value exact. Lopez-Paz, Oquab, Revisiting Classifier Two-Sample Tests (ICLR 2017). The classifier is a
    small network of scikit-learn on the standardised numbers and their squares.

    Args:
        first: [n, C], independent draws.
        second: [n, C], as many.
        seed: of the split and of the classifier.

    Raises:
        ValueError: fewer than 20 draws, or samples of different shapes.
    """
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"two samples [n, C] of one shape are compared, got {first.shape} and {second.shape}")
    if len(first) < SMALLEST:
        raise ValueError(f"a two-sample test needs {SMALLEST} draws of each kind or more, got {len(first)}")
    random = np.random.default_rng(seed)
    half = len(first) // 2
    order = [random.permutation(len(first)) for _ in range(2)]
    parts = [sample[kept] for sample, kept in zip((first, second), order, strict=True)]
    train = np.concatenate([part[:half] for part in parts])
    test = np.concatenate([part[half : 2 * half] for part in parts])
    kinds = np.repeat([0, 1], half)
    mean, spread = train.mean(0), np.maximum(train.std(0), 1e-12)
    squared = [np.hstack([part, ((part - mean) / spread) ** 2]) for part in (train, test)]
    classifier = make_pipeline(
        StandardScaler(), MLPClassifier((32,), alpha=0.1, max_iter=200, learning_rate_init=0.01, random_state=seed)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # any classifier gives a valid test
        classifier.fit(squared[0], kinds)
    hits = int((classifier.predict(squared[1]) == kinds).sum())
    return TwoSample(hits / len(kinds), float(binomtest(hits, len(kinds), 0.5, alternative="greater").pvalue), 2 * half)


@torch.no_grad()
def aggregate_against_prior(
    model: Program,
    guide: Program,
    batches: Iterable[AnyBatch],
    blocks: Layout | None = None,
    seed: int = 0,
    **kwargs: Any,
) -> dict[str, TwoSample]:
    r"""Compares draws of the aggregate posterior with as many draws of the prior.

    .. math:: q(z) = \frac{1}{N} \sum_n q(z|x_n) \qquad\text{against}\qquad p(z)

    One z ~ q(z|x_n) is drawn for each datum. For a model that has learned the data, with exact inference, the two are
    equal; what a decoder makes of draws of the prior is only as good as they are alike. All blocks together also show
    of dependence between blocks. A Concrete site is compared by its relaxed values, or by its categories where the
    prior of another site depends on it.

    Args:
        model: the generative program.
        guide: the inference program.
        batches: arguments of both, batch by batch.
        blocks: the layout, as for the objective; each site by default.
        seed: of the classifiers.
        kwargs: keyword arguments of both, the same for each batch.

    Returns:
        Block, or "all blocks", to the outcome; a single block has no "all blocks" beside it.
    """
    drawn: dict[str, list[torch.Tensor]] = {}
    prior: dict[str, list[torch.Tensor]] = {}
    for batch in batches:
        args, named = as_arguments(batch)
        named |= kwargs
        fixed = fix(model, guide, *args, **named)
        posterior = draw_guide(*fixed, *args, **named)
        layout = read_arrays(posterior.guide_trace, blocks)
        for kept, values in ((drawn, posterior.values), (prior, simulate(fixed[0], *args, **named).latents)):
            for block, columns in layout.blocks(values).items():
                kept.setdefault(block, []).append(columns.cpu())
    if not drawn:
        raise ValueError("no batch was given")
    pairs = {block: (torch.cat(drawn[block]).numpy(), torch.cat(prior[block]).numpy()) for block in drawn}
    if len(pairs) > 1:
        if ALL_BLOCKS in pairs:
            raise ValueError(f"a block is named '{ALL_BLOCKS}', which is the name of all of them: give another name")
        pairs[ALL_BLOCKS] = (
            np.hstack([pair[0] for pair in pairs.values()]),
            np.hstack([pair[1] for pair in pairs.values()]),
        )
    return {block: classifier_two_sample(*pair, seed=seed) for block, pair in pairs.items()}
