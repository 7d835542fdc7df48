"""How it is known which data share the factor of a block: from known factors, from groups, or from a list of pairs."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pyro_hfvae.data.integers import Integers, as_integers
from pyro_hfvae.data.npz import read_array
from pyro_hfvae.files import expanded
from pyro_hfvae.weak.partners import GroupPartners, ListedPartners, Partners

__all__ = ["Groups", "IndexPairs", "SharedFactors", "Sharing"]


class Sharing(ABC):
    """Says which of the training data share the factor of a block."""

    @abstractmethod
    def partners(
        self, indices: Tensor, factors: Tensor, factor_names: Sequence[str], size: int | None = None
    ) -> Partners:
        """The partners among some of the data; who is not among them is nobody's partner.

        Args:
            indices: of the training data, int64, [N], ascending.
            factors: their known factors, int64, [N, F]; below 0 where one is not known.
            factor_names: the names of the F factors.
            size: number of the data of the whole set, those that are held out too; by default no datum comes after the
                last of ``indices``.

        Returns:
            Partners, numbered by their place in ``indices``.

        Raises:
            ValueError: what was given does not fit the data.
        """


class SharedFactors(Sharing):
    """Data share the factor of a block if they agree in all of some known factors.

    Args:
        names: of the factors, or the name of one.

    Raises:
        ValueError: no name; later, a name that the data do not know.
    """

    def __init__(self, names: str | Sequence[str]) -> None:
        self.names = (names,) if isinstance(names, str) else tuple(map(str, names))
        if not self.names:
            raise ValueError("name one factor or more that are to be shared")

    def partners(
        self, indices: Tensor, factors: Tensor, factor_names: Sequence[str], size: int | None = None
    ) -> Partners:
        """Groups of data with the same combination of values."""
        labels = torch.zeros(len(indices), dtype=torch.int64)
        unknown = torch.zeros(len(indices), dtype=torch.bool)
        for name in self.names:
            if name not in factor_names:
                known = ", ".join(f"'{other}'" for other in factor_names) or "none"
                raise ValueError(f"the data have no factor '{name}'; they have: {known}")
            values = factors[:, list(factor_names).index(name)]
            unknown |= values < 0
            values = values.clamp(min=0)
            combined = labels * (values.max() + 1) + values
            labels = combined.unique(return_inverse=True)[1]  # small again, whatever the number of factors
        return GroupPartners(torch.where(unknown, -1, labels))


class Groups(Sharing):
    """Data share the factor of a block if they are in the same group: all photos of one person, say.

    Args:
        labels: the group of each datum of the whole set, integers, [N], below 0 where it is not known; or the path of
            a ``.npy`` file with them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not integers, not one for each datum.
    """

    def __init__(self, labels: str | Path | Integers) -> None:
        self.labels = _integers("labels", labels, "[N]")

    def partners(
        self, indices: Tensor, factors: Tensor, factor_names: Sequence[str], size: int | None = None
    ) -> Partners:
        """The groups among the training data."""
        size = _size(indices, size)
        if len(self.labels) != size:
            raise ValueError(f"there are {len(self.labels):,} labels of groups for {size:,} data: give one for each")
        return GroupPartners(self.labels[indices])


class IndexPairs(Sharing):
    """Data share the factor of a block if they are listed as a pair, in either order.

    That a shares with b, and b with c, is not taken to mean that a shares with c: use :class:`Groups` for that. Pairs
    with a datum that is held out are left out.

    Args:
        pairs: indices of two different data each, integers, [P, 2]; or the path of a ``.npy`` file with them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not integers, not two for each pair, negative, or a datum paired with itself.
    """

    def __init__(self, pairs: str | Path | Integers) -> None:
        self.pairs = _integers("pairs", pairs, "[P, 2]")
        if (self.pairs < 0).any():
            raise ValueError(f"pairs hold the index {int(self.pairs.min())}; indices start at 0")
        same = self.pairs[:, 0] == self.pairs[:, 1]
        if same.any():
            raise ValueError(f"pairs hold datum {int(self.pairs[same][0, 0])} with itself; that is no pair")

    def partners(
        self, indices: Tensor, factors: Tensor, factor_names: Sequence[str], size: int | None = None
    ) -> Partners:
        """The pairs among the training data."""
        size = _size(indices, size)
        if len(self.pairs) and int(self.pairs.max()) >= size:
            raise ValueError(f"pairs hold the index {int(self.pairs.max()):,}, but there are {size:,} data")
        place = torch.searchsorted(indices, self.pairs).clamp(max=len(indices) - 1)  # [P, 2]
        both = (indices[place] == self.pairs).all(1)
        return ListedPartners(place[both], len(indices))


def _size(indices: Tensor, size: int | None) -> int:
    """The number of data of the whole set."""
    return size if size is not None else int(indices.max()) + 1 if len(indices) else 0


def _integers(name: str, given: str | Path | Integers, shape: str) -> Tensor:
    """The integers given, or those in a file."""
    if not isinstance(given, str | Path):
        return as_integers(name, given, shape)
    path = expanded(given)
    if not path.is_file():
        raise FileNotFoundError(f"no file of {name} at '{path}': put an .npy file with integers {shape} there")
    return as_integers(f"{name} in '{path}'", read_array(path, f"{name}, integers {shape}"), shape)
