"""Which latent sites, and which variables of a site, form which block, and which blocks form which group."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["JOINT", "Blocks", "Layout", "Node", "Variable", "block_names", "indices_of_site", "resolve_blocks"]

Layout = Mapping[str, "Sequence[str] | Layout"]
"""Block name to site names or parts of sites: ``{"pose": ["z[0:4]"], "rest": ["z[4:]", "digit"]}``.

A mapping in the place of the parts makes a group of blocks, to any depth:
``{"pose": {"position": ["z[0:2]"], "size": ["z[2]"]}, "shape": ["shape"]}``.
"""

JOINT = "joint"
"""Name of the group of everything."""

_PART = re.compile(r"^(?P<site>[^\[\]]+)(\[(?P<indices>[^\[\]]*)\])?$")


@dataclass(frozen=True)
class Variable:
    """One latent variable: the ``index``-th scalar of a Gaussian site, or one categorical of a discrete site."""

    site: str
    index: int
    name: str


Blocks = Mapping[str, tuple[Variable, ...]]
"""Block name to its variables; together the blocks hold every variable once."""


@dataclass(frozen=True)
class Node:
    """A node of the tree above the variables: a group of groups or blocks, or a block, which has no groups below it."""

    name: str
    variables: tuple[Variable, ...]
    """All variables below it."""
    children: tuple["Node", ...] = ()
    level: int = 0
    """Groups above it; 0 for the group of everything."""

    @property
    def blocks(self) -> Blocks:
        """The blocks below it, or itself, in order."""
        if not self.children:
            return {self.name: self.variables}
        return {name: variables for child in self.children for name, variables in child.blocks.items()}

    def sets(self) -> list[tuple[Variable, ...]]:
        """What the terms set against one another: everything, each block, each variable, each group or block."""
        children = [child.variables for node in self.groups() for child in node.children]
        return [self.variables, *self.blocks.values(), *((variable,) for variable in self.variables), *children]

    def groups(self) -> "Iterator[Node]":
        """Itself and the groups below it that are no blocks."""
        if self.children:
            yield self
            for child in self.children:
                yield from child.groups()


def resolve_blocks(layout: Layout | None, sites: Mapping[str, int]) -> Node:
    """Says which variables form which block.

    Args:
        layout: block name to parts, each a site name (all its variables) or a site name with indices or slices in
            brackets: ``"z"``, ``"z[3]"``, ``"z[0:4]"``, ``"z[0:2,5]"``; or group name to a layout of its own. None:
            every site is a block.
        sites: the latent sites that model and guide share, with the number of variables of each (a vector site has
            one per element, in C order; a discrete site has one per categorical, whatever its number of categories).

    Returns:
        The group of everything, named "joint"; its ``blocks`` are in the order of the layout.

    Raises:
        ValueError: a part that cannot be read, names no site or no variable, overlaps another; a variable that is in
            no block; a name given twice. The message names the block and the site.
    """
    root = _resolve(JOINT, {site: [site] for site in sites} if layout is None else layout, sites, 0)
    names: set[str] = {JOINT}
    for node in _descendants(root):
        if node.name in names:
            taken = "is the name of the group of everything" if node.name == JOINT else "names two groups or blocks"
            raise ValueError(f"'{node.name}' {taken}: give another name")
        names.add(node.name)
    owner: dict[Variable, str] = {}
    for block, variables in root.blocks.items():
        for variable in variables:
            if variable in owner:
                raise ValueError(
                    f"variable {variable.index} of site '{variable.site}' is in block '{owner[variable]}' "
                    f"and again in block '{block}'"
                )
            owner[variable] = block
    for site, size in sites.items():
        missing = [variable.name for variable in _variables(site, size) if variable not in owner]
        if missing:
            raise ValueError(f"site '{site}' has variables in no block: {', '.join(missing)}")
    return root


def block_names(layout: Layout) -> list[str]:
    """Names of the groups and blocks of a layout, from the top."""
    names = []
    for name, parts in layout.items():
        names.append(name)
        if isinstance(parts, Mapping):
            names.extend(block_names(parts))
    return names


def indices_of_site(layout: Layout, site: str, size: int) -> dict[str, list[int]]:
    """Which variables of one site are in which group or block; for who does not know the other sites.

    Args:
        layout: as of :func:`resolve_blocks`, which also checks that together the blocks hold every variable once.
        site: name of the site.
        size: number of its variables.

    Returns:
        Group or block name to indices; none for one that has no part of the site.

    Raises:
        ValueError: a part that cannot be read, or names no variable of the site; names the block.
    """
    found: dict[str, list[int]] = {}
    for name, parts in layout.items():
        _check_parts(name, parts)
        if isinstance(parts, Mapping):
            below = indices_of_site(parts, site, size)
            found |= below
            found[name] = sorted({index for indices in below.values() for index in indices})
        else:
            here = [part for part in parts if (match := _PART.match(part)) is None or match["site"] == site]
            found[name] = [variable.index for part in here for variable in _read_part(name, part, {site: size})]
    return found


def _check_parts(name: str, parts: object) -> None:
    if isinstance(parts, str) or not isinstance(parts, Mapping | Sequence) or not parts:
        raise ValueError(f"block '{name}' must be a list of one or more sites or parts of sites, got {parts!r}")


def _resolve(name: str, parts: object, sites: Mapping[str, int], level: int) -> Node:
    _check_parts(name, parts)
    if isinstance(parts, Mapping):
        children = tuple(_resolve(child, below, sites, level + 1) for child, below in parts.items())
        return Node(name, tuple(variable for child in children for variable in child.variables), children, level)
    assert isinstance(parts, Sequence)
    return Node(name, tuple(v for part in parts for v in _read_part(name, part, sites)), (), level)


def _descendants(node: Node) -> Iterator[Node]:
    for child in node.children:
        yield child
        yield from _descendants(child)


def _variables(site: str, size: int) -> list[Variable]:
    return [Variable(site, index, site if size == 1 else f"{site}[{index}]") for index in range(size)]


def _read_part(block: str, part: str, sites: Mapping[str, int]) -> list[Variable]:
    match = _PART.match(part)
    if match is None:
        raise ValueError(
            f"block '{block}' has the part {part!r}; write 'site', 'site[3]', 'site[0:4]' or 'site[0:2,5]'"
        )
    site, indices = match["site"], match["indices"]
    if site not in sites:
        known = ", ".join(f"'{name}'" for name in sites)
        raise ValueError(
            f"block '{block}' names site '{site}', which model and guide do not share; they share: {known}"
        )
    variables = _variables(site, sites[site])
    if indices is None:
        return variables
    return [variables[index] for item in indices.split(",") for index in _read_item(block, part, item, len(variables))]


def _read_item(block: str, part: str, item: str, size: int) -> range:
    """Indices of one item between the commas: ``3`` or ``0:4`` with either end left out."""
    match = re.match(r"^\s*(\d+)\s*$|^\s*(\d*)\s*:\s*(\d*)\s*$", item)
    if match is None:
        raise ValueError(f"block '{block}' has the part '{part}'; '{item.strip()}' is no index and no slice a:b")
    if match[1] is not None:
        start, stop = int(match[1]), int(match[1]) + 1
    else:
        start, stop = int(match[2] or 0), int(match[3] or size)
    if not 0 <= start < stop <= size:
        raise ValueError(f"block '{block}' has the part '{part}', but its site has the variables 0 to {size - 1}")
    return range(start, stop)
