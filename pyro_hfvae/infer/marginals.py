"""The inference marginal q(z) = (1/N) Σ_n q(z|x_n) of groups of variables, estimated from a batch of posteriors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["Group", "Posteriors", "expected_log_marginals", "log_weights"]

CHUNK_ELEMENTS = 2**22
"""Pairwise numbers held at once; a batch with more is taken some samples at a time and recomputed on the way back."""

MAXIMUM_COMBINATIONS = 4096


@dataclass(frozen=True)
class Posteriors:
    """q(z|x) of a batch: D normal variables with a sample of each, and V categoricals.

    Dimensions: S particles, B data, K categories (each categorical has its own number).
    """

    value: Tensor  # [S, B, D]
    loc: Tensor  # [S, B, D]
    scale: Tensor  # [S, B, D]
    log_mass: tuple[Tensor, ...]  # V tensors [S, B, K]


@dataclass(frozen=True)
class Group:
    """Variables whose joint marginal is asked for: positions among the normal ones and among the categoricals."""

    normal: tuple[int, ...]
    discrete: tuple[int, ...] = ()


def log_weights(
    batch: int,
    data_size: int,
    samples: range | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Log-weights of the references x^b' for the sample z^b, the paper's estimator, [B, B] or [len(samples), B].

    .. math:: \\hat q(z^b) = \\frac{1}{N} q(z^b|x^b) + \\frac{N-1}{N (B-1)} \\sum_{b' \\ne b} q(z^b|x^{b'})

    Esmaeili et al., Structured Disentangled Representations (AISTATS 2019), appendix. A batch of all the data (B = N)
    makes it the exact marginal.

    Args:
        batch: B.
        data_size: N.
        samples: the rows wanted; all by default.
        dtype: of the result; the default one if None.
        device: of the result.

    Raises:
        ValueError: B > N, or B = 1 < N, where a datum has no other to be set against.
    """
    if batch > data_size:
        raise ValueError(f"a batch of {batch} data is larger than data_size={data_size}")
    if batch == 1:
        if data_size > 1:
            raise ValueError(
                f"a batch of one datum cannot estimate the inference marginal of data_size={data_size} data; "
                "give two or more"
            )
        return torch.zeros(1, 1, dtype=dtype, device=device)
    samples = range(batch) if samples is None else samples
    other = math.log((data_size - 1) / (data_size * (batch - 1)))
    weights = torch.full((len(samples), batch), other, dtype=dtype, device=device)
    weights.diagonal(samples.start).fill_(-math.log(data_size))
    return weights


def expected_log_marginals(posteriors: Posteriors, groups: Sequence[Group], data_size: int) -> list[Tensor]:
    """E[log q̂(z_G)] for every group G, each [S, B].

    The expectation over the normal variables is the value at the sample; that over the categoricals is exact, over
    all combinations of their categories under q(·|x^b):

    .. math:: \\sum_k q(k|x^b) \\log \\sum_{b'} w_{bb'} q(k|x^{b'}) \\prod_d N(z^b_d; \\mu^{b'}_d, \\sigma^{b'}_d)

    with the weights w of :func:`log_weights`. Memory is bounded: B · B · D numbers are never held when they are many.

    Args:
        posteriors: of the batch.
        groups: the groups of variables.
        data_size: N.

    Raises:
        ValueError: a group with more than 4,096 combinations of categories, or a batch that has no marginal.
    """
    with torch.autocast(posteriors.value.device.type, enabled=False):
        masses = [_combinations(posteriors, group.discrete) for group in groups]  # each [S, B, K or 1]
        particles, batch, variables = posteriors.value.shape
        per_sample = particles * batch * (variables + max(mass.shape[-1] for mass in masses))
        size = max(1, CHUNK_ELEMENTS // per_sample)
        of_samples = partial(_of_samples, posteriors, masses, groups, data_size)
        if size < batch:
            of_samples = partial(checkpoint, of_samples, use_reentrant=False, preserve_rng_state=False)
        parts = [of_samples(range(start, min(start + size, batch))) for start in range(0, batch, size)]
        return [torch.cat(part, 1) for part in zip(*parts, strict=True)]


def _of_samples(
    posteriors: Posteriors, masses: Sequence[Tensor], groups: Sequence[Group], data_size: int, samples: range
) -> list[Tensor]:
    """E[log q̂(z_G)] of R of the samples against all M = B references, for each group [S, R]."""
    value = posteriors.value[:, samples.start : samples.stop]
    weights = log_weights(posteriors.value.shape[1], data_size, samples, value.dtype, value.device)  # [R, M]
    # Variables first, references last: sums over groups take slices, log-sums run along memory.
    deviation = value.mT[..., None] - posteriors.loc.mT[:, :, None]  # [S, D, R, M]
    log_normaliser = posteriors.scale.mT.log() + 0.5 * math.log(2 * math.pi)  # [S, D, M]
    pair = -0.5 * (deviation / posteriors.scale.mT[:, :, None]).square() - log_normaliser[:, :, None]
    single = (weights + pair).logsumexp(-1)  # [S, D, R]: all single variables at once, there are many of them
    expected = []
    for group, mass in zip(groups, masses, strict=True):
        if len(group.normal) == 1 and not group.discrete:
            expected.append(single[:, group.normal[0]])
            continue
        log_joint = weights + _take(pair, group.normal).sum(1)  # [S, R, M]
        log_marginal = (log_joint[:, :, None] + mass.mT[:, None]).logsumexp(-1)  # [S, R, K or 1]
        expected.append((mass[:, samples.start : samples.stop].exp() * log_marginal).sum(-1))
    return expected


def _take(pair: Tensor, which: tuple[int, ...]) -> Tensor:
    """``pair[:, which]``, without a copy where the variables are consecutive."""
    first, last = (which[0], which[-1] + 1) if which else (0, 0)
    return pair[:, first:last] if which == tuple(range(first, last)) else pair[:, list(which)]


def _combinations(posteriors: Posteriors, which: Sequence[int]) -> Tensor:
    """Log-mass of every combination of categories, [S, B, ∏ K]; [S, B, 1] of zeros for none."""
    combined = posteriors.value.new_zeros(*posteriors.value.shape[:2], 1)
    for index in which:
        combined = (combined[..., None] + posteriors.log_mass[index][..., None, :]).flatten(-2)
        if combined.shape[-1] > MAXIMUM_COMBINATIONS:
            raise ValueError(
                f"the {len(which)} discrete variables of a block, or of all blocks, have more than "
                f"{MAXIMUM_COMBINATIONS:,} combinations of categories, which are enumerated; use fewer or smaller ones"
            )
    return combined
