"""Weights of the terms: one for all, one for each level, or by name; fixed, scheduled, or with a capacity."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from pyro_hfvae.schedules import Schedule, value_at

__all__ = ["Capacity", "Weight", "check_weights", "cost", "each", "resolve_weights", "scheduled"]


@dataclass(frozen=True)
class Capacity:
    r"""Holds a term at a number of nats instead of pushing it down.

    .. math:: w \, |T - C|

    Burgess et al., Understanding disentangling in β-VAE (2018), eq. 8, where T is the KL of the whole posterior and C
    rises; Dupont, Learning Disentangled Joint Continuous and Discrete Representations (NeurIPS 2018), by block.

    Args:
        weight: w.
        nats: C, a number or a schedule.
    """

    weight: float | Schedule
    nats: float | Schedule


Weight = float | Schedule | Capacity
"""What a term is multiplied by, or how it is held at a capacity."""


def cost(weight: Weight, term: Tensor, step: int) -> Tensor:
    """The weighted term at a training step, or its weighted distance from the capacity; a scalar in nats."""
    if isinstance(weight, Capacity):
        return value_at(weight.weight, step) * (term - value_at(weight.nats, step)).abs()
    return value_at(weight, step) * term


def each(given: Weight | Sequence[Weight] | Mapping[str, Weight]) -> Iterator[Weight]:
    """All weights in an argument."""
    if isinstance(given, Mapping):
        yield from given.values()
    elif isinstance(given, Sequence):
        yield from given
    else:
        yield given


def resolve_weights(
    argument: str, given: Weight | Sequence[Weight] | Mapping[str, Weight], levels: Mapping[str, int]
) -> dict[str, Weight]:
    """The weight of each named node of the tree of blocks.

    Args:
        argument: what the weights are called, for messages.
        given: one weight for all, one for each level from the top, or one for each name.
        levels: name to level.

    Raises:
        ValueError: a level or a name without a weight, or a weight for one that is not there.
    """
    if isinstance(given, Mapping):
        wrong = [f"no '{name}'" for name in levels if name not in given]
        wrong += [f"an unknown '{name}'" for name in given if name not in levels]
        if wrong:
            known = ", ".join(f"'{name}'" for name in levels)
            raise ValueError(f"'{argument}' has {wrong[0]}; give a weight for each of: {known}")
        return {name: given[name] for name in levels}
    if isinstance(given, Sequence):
        depth = 1 + max(levels.values())
        if len(given) != depth:
            raise ValueError(f"'{argument}' has {len(given)} weights, but the blocks make {depth} levels of groups")
        return {name: given[level] for name, level in levels.items()}
    return dict.fromkeys(levels, given)


def check_weights(argument: str, given: object) -> None:
    """Refuses what is no weight.

    Raises:
        ValueError: a number that is not finite; schedules check themselves.
        TypeError: neither a number, nor a schedule, nor a capacity, nor a collection of these.
    """
    if isinstance(given, Mapping):
        for name, part in given.items():
            check_weights(f"{argument}.{name}", part)
    elif isinstance(given, Capacity):
        check_weights(f"{argument}.weight", given.weight)
        check_weights(f"{argument}.nats", given.nats)
    elif isinstance(given, Sequence) and not isinstance(given, str):
        for part in given:
            check_weights(argument, part)
    elif isinstance(given, float | int) and not isinstance(given, bool):
        if not math.isfinite(given):
            raise ValueError(f"weight '{argument}' must be a finite number, got {given}")
    elif not isinstance(given, Schedule):
        raise TypeError(
            f"weight '{argument}' must be a number, a schedule or a Capacity, got {type(given).__name__}: {given!r}"
        )


def scheduled(argument: str, given: object, step: int) -> dict[str, float]:
    """The values at a step of the schedules among the weights, by path: what a log should show."""
    if isinstance(given, Schedule):
        return {argument: given(step)}
    parts: Mapping[str, object] = {}
    if isinstance(given, Mapping):
        parts = given
    elif isinstance(given, Capacity):
        parts = {"weight": given.weight, "nats": given.nats}
    elif isinstance(given, Sequence):
        parts = {str(level): part for level, part in enumerate(given)}
    found = [scheduled(f"{argument}/{name}", part, step) for name, part in parts.items()]
    return {path: value for part in found for path, value in part.items()}
