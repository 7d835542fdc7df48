"""Values that move with the training step: weights of the objective, capacities, the temperature of a relaxation."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Cosine", "Cyclical", "Linear", "Schedule", "Steps", "value_at"]


class Schedule(ABC):
    """A number for every training step, counted from 0. Subclass it and name the class by its import path."""

    @abstractmethod
    def __call__(self, step: int) -> float:
        """The value at a step."""


def value_at(value: float | Schedule, step: int) -> float:
    """The number itself, or the value of the schedule at the step."""
    return value(step) if isinstance(value, Schedule) else value


@dataclass(frozen=True)
class _BetweenEnds(Schedule):
    """A schedule of two ends and a number of steps."""

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check(self, self.steps, self.start, self.end)


@dataclass(frozen=True)
class Linear(_BetweenEnds):
    r"""From ``start`` to ``end`` in a straight line over the first ``steps`` steps, then constant.

    .. math:: v(t) = v_0 + (v_1 - v_0) \min(1, t / T)

    Raises:
        ValueError: an end that is not finite, or fewer than 1 steps.
    """

    def __call__(self, step: int) -> float:
        """The value at a step."""
        return self.start + (self.end - self.start) * min(1.0, step / self.steps)


@dataclass(frozen=True)
class Cosine(_BetweenEnds):
    r"""From ``start`` to ``end`` along half a cosine over the first ``steps`` steps, then constant.

    .. math:: v(t) = v_1 + (v_0 - v_1) (1 + \cos(\pi \min(1, t / T))) / 2

    Loshchilov and Hutter, SGDR (ICLR 2017), eq. 5, without restarts.

    Raises:
        ValueError: an end that is not finite, or fewer than 1 steps.
    """

    def __call__(self, step: int) -> float:
        """The value at a step."""
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * min(1.0, step / self.steps))) / 2


@dataclass(frozen=True)
class Cyclical(_BetweenEnds):
    r"""From ``start`` to ``end`` in a straight line over the first part of each cycle, constant for the rest of it.

    .. math:: v(t) = v_0 + (v_1 - v_0) \min(1, (t \bmod T) / (r T))

    Fu et al., Cyclical Annealing Schedule (NAACL 2019), eq. 6-7: R = ``rise`` is the part that rises. Unlike there the
    cycle goes on until training ends.

    Args:
        start: value at the start of a cycle.
        end: value that is held.
        steps: length of a cycle.
        rise: part of the cycle, in (0, 1], in which the value moves.

    Raises:
        ValueError: an end that is not finite, fewer than 1 steps, or a rise outside (0, 1].
    """

    rise: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.rise <= 1:
            raise ValueError(f"rise is a part of the cycle, above 0 and at most 1, got {self.rise}")

    def __call__(self, step: int) -> float:
        """The value at a step."""
        return self.start + (self.end - self.start) * min(1.0, step % self.steps / (self.rise * self.steps))


@dataclass(frozen=True)
class Steps(Schedule):
    """Constant pieces: ``values[i]`` until step ``at[i]``, the last value from there on.

    Args:
        values: one more than there are steps to change at.
        at: steps at which the next value starts, rising.

    Raises:
        ValueError: numbers of values and steps that do not fit, steps that do not rise, or a value that is not finite.
    """

    values: Sequence[float]
    at: Sequence[int]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.at) + 1:
            raise ValueError(
                f"{len(self.values)} values need {len(self.values) - 1} steps to change at, got {len(self.at)}"
            )
        if any(after <= before for before, after in zip((0, *self.at), self.at, strict=False)):
            raise ValueError(f"the steps to change at must rise and start above 0, got {list(self.at)}")
        _check(self, 1, *self.values)

    def __call__(self, step: int) -> float:
        """The value at a step."""
        return self.values[sum(step >= change for change in self.at)]


def _check(schedule: Schedule, steps: int, *values: float) -> None:
    if steps < 1:
        raise ValueError(f"a schedule takes 1 step or more, got {schedule}")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"the values of a schedule must be finite, got {schedule}")
