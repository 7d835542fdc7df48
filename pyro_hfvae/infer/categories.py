"""Combinations of the categories of several categoricals: all of them, or all within each of a few parts."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

__all__ = ["MAXIMUM_COMBINATIONS", "divide", "draw_one_hot", "log_mass_of_combinations", "one_hot_combinations"]

MAXIMUM_COMBINATIONS = 4096


def log_mass_of_combinations(log_masses: Sequence[Tensor]) -> Tensor:
    """Log-mass of every combination of categories of independent categoricals [S, B, K], [S, B, ∏ K]."""
    combined = log_masses[0]
    for log_mass in log_masses[1:]:
        combined = (combined[..., None] + log_mass[..., None, :]).flatten(-2)
    return combined


def one_hot_combinations(sizes: Mapping[str, tuple[int, int]], device: torch.device) -> dict[str, Tensor]:
    """One-hot vectors of every combination of the categories of some sites, in the order of the above.

    Args:
        sizes: number of categoricals V and of categories K of each site.
        device: where they are to be.

    Returns:
        Of each site, [∏ K^V, V, K].
    """
    each = [categories for count, categories in sizes.values() for _ in range(count)]
    which = iter(torch.unravel_index(torch.arange(math.prod(each), device=device), each) if each else ())
    found = {}
    for name, (count, categories) in sizes.items():
        index = torch.stack([next(which) for _ in range(count)], -1)
        found[name] = one_hot(index, categories)
    return found


def divide(sizes: Sequence[int]) -> list[list[int]]:
    """Categoricals in as few parts, of about as many combinations each, as have 4,096 at most.

    Args:
        sizes: K of each categorical. One that has more than that by itself sets the limit for all.

    Returns:
        The positions of each part's categoricals.
    """
    limit = max(MAXIMUM_COMBINATIONS, *sizes)
    count = 1
    while True:
        members: list[list[int]] = [[] for _ in range(count)]
        products = [1] * count
        for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
            fewest = products.index(min(products))
            members[fewest].append(place)
            products[fewest] *= sizes[place]
        if max(products) <= limit:
            return [sorted(part) for part in members if part]
        count += 1


def draw_one_hot(log_mass: Tensor) -> Tensor:
    """A draw of each categorical, a one-hot vector without gradient; log-masses and draws are [..., K]."""
    masses = log_mass.detach().exp()
    drawn = torch.multinomial(masses.flatten(0, -2), 1)[:, 0].view(masses.shape[:-1])
    return one_hot(drawn, masses.shape[-1]).to(masses)
