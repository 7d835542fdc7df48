"""What an observed site can be asked: its means, and which of its values are masked."""

from typing import Any

import torch
from pyro.distributions import Categorical, Multinomial
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from torch import Tensor
from torch.distributions import Distribution, Independent, constraints

__all__ = ["are_categories", "are_counts", "inner", "masks_of", "observed_means"]


def inner(fn: Distribution) -> Distribution:
    """The distribution inside of masks, of dimensions that count as an event, and of copies."""
    while isinstance(fn, ExpandedDistribution | Independent | MaskedDistribution):
        fn = fn.base_dist
    return fn


def masks_of(fn: Distribution) -> list[Tensor]:
    """The masks around a distribution, each in the batch shape that it was put on."""
    masks = []
    while isinstance(fn, ExpandedDistribution | Independent | MaskedDistribution):
        if isinstance(fn, MaskedDistribution):
            masks.append(torch.as_tensor(fn._mask).expand(fn.batch_shape))
        fn = fn.base_dist
    return masks


def are_categories(fn: Distribution) -> bool:
    """Whether values are numbers of categories, of which the means are probabilities."""
    return isinstance(inner(fn), Categorical)


def are_counts(fn: Distribution) -> bool:
    """Whether values are numbers of events."""
    support: Any = inner(fn).support
    return support.is_discrete and support not in (constraints.boolean, constraints.one_hot)


def observed_means(name: str, fn: Distribution) -> Tensor:
    """The mean of each number that a site observes, ``[*batch, ...]``; of categories their K probabilities.

    Raises:
        ValueError: the mean is not known; names the site.
    """
    base, whole = inner(fn), fn.batch_shape + fn.event_shape
    if hasattr(base, "feature_means"):
        means: Tensor = base.feature_means
        return means.expand(whole[:-1] + means.shape[-1:])
    if isinstance(base, Categorical):
        return base.probs.expand(whole + base.probs.shape[-1:])
    if isinstance(base, Multinomial):
        total = torch.as_tensor(base.total_count).to(base.probs)
        return (total[..., None] * base.probs).expand(whole)
    try:
        return fn.mean
    except (AttributeError, NotImplementedError):
        raise ValueError(f"the mean of observed site '{name}', {type(base).__name__}, is not known") from None
