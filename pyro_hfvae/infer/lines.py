"""How log-densities of groups of variables are sums of columns, each of which is made once for all groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from pyro_hfvae.infer.groups import Continuous

__all__ = ["DIFFERENCE", "GIVEN", "PRODUCT", "Column", "Lines", "SiteKind", "read_lines"]

DIFFERENCE, PRODUCT, GIVEN = range(3)
"""How the log-densities of all pairs are made, in the order of the columns: differences, products, or ``log_prob``."""

Column = tuple[int, str, tuple[int, ...]]
"""How it is made; a site, and which of its variables; of a difference, which number of its value."""

SiteKind = tuple[str, int, int, bool]
"""A site, how its densities are made, its numbers in a variable, and whether its variables are independent."""


@dataclass(frozen=True)
class Lines:
    """Columns, and sums of lines before them."""

    columns: Sequence[Column]
    sums: Sequence[Sequence[int]]
    """The lines that each line after the columns is the sum of."""
    place: Mapping[Continuous, int]
    """The line of each group."""

    def of(self, way: int) -> list[tuple[str, list[tuple[int, ...]]]]:
        """The columns that are made in one way, by site."""
        some = (column for column in self.columns if column[0] == way)
        return [(name, [indices for *_, indices in alike]) for name, alike in groupby(some, lambda column: column[1])]


@lru_cache(maxsize=256)
def read_lines(groups: tuple[Continuous, ...], kinds: tuple[SiteKind, ...]) -> Lines:
    """The lines of some groups, the log-density of each of which is the sum of those of its columns.

    A column of products has all variables of a site that are in the same groups. Where variables depend on one another
    it is what a group has of them.
    """
    ways = {name: (way, grain, independent) for name, way, grain, independent in kinds}
    owners: dict[Column, list[int]] = {}
    for number, group in enumerate(groups):
        for name, indices in group:
            way, grain, independent = ways[name]
            each = [(index,) for index in indices] if independent else [indices]
            if way == DIFFERENCE:
                each = [(index * grain + inner,) for index in indices for inner in range(grain)]
            for some in each:
                owners.setdefault((way, name, some), []).append(number)
    columns: dict[Column, list[int]] = {}
    together: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for column, inside in owners.items():
        way, name, indices = column
        if way == PRODUCT and ways[name][2]:
            together.setdefault((name, tuple(inside)), []).extend(indices)
        else:
            columns[column] = inside
    columns |= {(PRODUCT, name, tuple(sorted(some))): list(inside) for (name, inside), some in together.items()}
    order = {name: number for number, (name, *_) in enumerate(kinds)}
    ordered = sorted(columns, key=lambda column: (column[0], order[column[1]], column[2]))
    members = [
        frozenset(place for place, one in enumerate(ordered) if number in columns[one]) for number in range(len(groups))
    ]
    lines = {frozenset({place}): place for place in range(len(ordered))}
    sums: list[list[int]] = []
    for wanted in sorted(members, key=lambda some: (not some, len(some))):
        if wanted in lines:
            continue
        rest, made = wanted, []
        for known in sorted(lines, key=len, reverse=True):  # the sum of two blocks is that of their sums
            if known and known <= rest:
                made.append(lines[known])
                rest -= known
        lines[wanted] = len(ordered) + len(sums)
        sums.append(sorted(made))
    return Lines(ordered, sums, {group: lines[some] for group, some in zip(groups, members, strict=True)})
