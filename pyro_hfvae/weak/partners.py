"""Who shares a factor with whom: one random partner for each datum of a batch, without a loop over the data."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

__all__ = ["GroupPartners", "ListedPartners", "Partners"]


class Partners(ABC):
    """Rows of data that share a factor: that of datum n lists n itself and its partners.

    A uniform number in [0, 1) chooses, so that who draws it decides what is drawn.

    Args:
        start: place of the first member of each datum's row, int64, [N].
        count: members of the row, [N]; 0 where nothing is known of the datum.
        rank: place of the datum within its own row, [N].
        members: all rows, one after the other.
        population: number of data that partners and wrong partners are drawn from.

    Attributes:
        has_partner: whether another datum is known to share the factor, bool, [N].
        others: number of data that a wrong partner is drawn from, int64, [N].
    """

    def __init__(self, start: Tensor, count: Tensor, rank: Tensor, members: Tensor, population: int) -> None:
        self.start = start
        self.count = count
        self.rank = rank
        self.members = members
        self.has_partner = count > 1
        self.others = population - count

    @abstractmethod
    def differing(self, data: Tensor, uniform: Tensor) -> Tensor:
        """A datum that is not known to share the factor, for each that has one.

        Args:
            data: numbers of the data, from 0 to N - 1, int64, [B].
            uniform: float64 in [0, 1), [B].

        Returns:
            One of the `others` of each, all equally likely, int64, [B].
        """

    def sharing(self, data: Tensor, uniform: Tensor) -> Tensor:
        """A partner for each datum that has one, never the datum itself.

        Args:
            data: numbers of the data, from 0 to N - 1, int64, [B].
            uniform: float64 in [0, 1), [B].

        Returns:
            One of the partners of each, all equally likely, int64, [B].
        """
        chosen = _choose(uniform, self.count[data] - 1)
        chosen = chosen + (chosen >= self.rank[data])  # past the datum itself
        return self.members[self.start[data] + chosen]


class GroupPartners(Partners):
    """Groups: all data with the same label share the factor.

    Args:
        labels: the group of each datum, int64, [N]; below 0 where it is not known.
    """

    def __init__(self, labels: Tensor) -> None:
        known = labels >= 0
        _, group, sizes = labels[known].unique(return_inverse=True, return_counts=True)
        ends = sizes.cumsum(0)
        start, count, rank = (torch.zeros_like(labels) for _ in range(3))
        start[known], count[known] = (ends - sizes)[group], sizes[group]
        members = known.nonzero().squeeze(1)[group.argsort(stable=True)]  # group after group
        rank[members] = torch.arange(len(members)) - start[members]
        super().__init__(start, count, rank, members, population=len(members))

    def differing(self, data: Tensor, uniform: Tensor) -> Tensor:
        """A datum of another group: of the data in the order of the groups, those before and after its own."""
        chosen = _choose(uniform, self.others[data])
        return self.members[torch.where(chosen < self.start[data], chosen, chosen + self.count[data])]


class ListedPartners(Partners):
    """Explicit pairs. Sharing goes both ways, but not from pair to pair.

    Args:
        pairs: two different data each, int64, [P, 2].
        size: N.
    """

    def __init__(self, pairs: Tensor, size: int) -> None:
        self.size = size
        itself = torch.arange(size)
        one, two = (torch.cat([pairs[:, end], pairs[:, 1 - end], itself]) for end in (0, 1))
        cells = (one * size + two).unique()  # sorted: row after row, and by datum in each
        row, members = cells // size, cells % size
        count = torch.bincount(row, minlength=size)
        start = count.cumsum(0) - count
        rank = (row == members).nonzero().squeeze(1) - start
        # How many data before each member are not in its row; it rises along a row.
        self.missing = row * size + members - (torch.arange(len(members)) - start[row])
        super().__init__(start, count, rank, members, population=size)

    def differing(self, data: Tensor, uniform: Tensor) -> Tensor:
        """A datum that is in no pair with it: the k-th that its row lacks comes after j members, where j is counted."""
        chosen = _choose(uniform, self.others[data])
        before = torch.searchsorted(self.missing, data * self.size + chosen, right=True) - self.start[data]
        return chosen + before


def _choose(uniform: Tensor, count: Tensor) -> Tensor:
    """A number from 0 to count - 1 for each."""
    return (uniform * count).long()
