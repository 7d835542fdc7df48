"""What the observed features do while a latent variable moves.

Shapes: `Q` values of the variable; a feature has `n` numbers: one, `K` probabilities, or `T` steps in time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Response", "Responses"]


@dataclass(frozen=True, eq=False)
class Response:
    """One feature at the values of a variable.

    Attributes:
        name: of the feature.
        values: its numbers, decoded, `[Q, n]`.
        spread: how wide most data lie; of several numbers the root of the sum of the squares. Not used of a category.
        usual: between what values most data lie, or None.
        labels: of the K categories; empty for anything else.
        counted: whether it is a number of events.
    """

    name: str
    values: NDArray[np.float64]
    spread: float
    usual: tuple[float, float] | None = None
    labels: tuple[str, ...] = ()
    counted: bool = False

    def __post_init__(self) -> None:
        if np.ndim(self.values) != 2 or np.shape(self.values)[0] < 2:
            raise ValueError(f"values of '{self.name}' must be [Q, n] with Q of 2 or more, got {np.shape(self.values)}")
        if self.labels and len(self.labels) != self.values.shape[1]:
            raise ValueError(f"'{self.name}' has {len(self.labels)} labels for {self.values.shape[1]} categories")

    @property
    def moved(self) -> float:
        """How far it moves, as a share of how wide most data lie; of a category the largest change of a probability.

        0 where the data do not vary.
        """
        ways = np.ptp(self.values, axis=0)
        if self.labels:
            return float(ways.max())
        return float(np.sqrt(np.square(ways).sum())) / self.spread if self.spread > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Responses:
    """All features at the values of one variable, all else held.

    Attributes:
        variable: its name.
        points: its values, `[Q]`, or the numbers of its categories.
        discrete: whether these are categories.
        features: what each feature does.
    """

    variable: str
    points: NDArray[np.float64]
    discrete: bool
    features: Sequence[Response]

    def __post_init__(self) -> None:
        for one in self.features:
            if len(one.values) != len(self.points):
                raise ValueError(
                    f"'{one.name}' has {len(one.values)} values for {len(self.points)} points of {self.variable}"
                )

    @property
    def title(self) -> str:
        """The variable and its range."""
        first, last = (f"{point:.0f}" if self.discrete else f"{point:z.1f}" for point in self.points[[0, -1]])
        return f"{self.variable}: {first} to {last}"

    def most_moved(self, count: int) -> list[Response]:
        """The features that move most, in this order."""
        return sorted(self.features, key=lambda one: -one.moved)[:count]
