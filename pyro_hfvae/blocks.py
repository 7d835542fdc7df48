"""Block layouts: which variables of which latent sites form a block, and which blocks form a group."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from operator import index
from typing import Any

from torch import nn

__all__ = [
    "JOINT",
    "Blocks",
    "Group",
    "Layout",
    "Node",
    "Variable",
    "block_names",
    "block_sizes",
    "indices_of_site",
    "resolve_blocks",
]

Layout = Mapping[str, "Sequence[str] | Layout"]
"""Block name to sites or slices of sites: ``{"pose": ["z[0:4]"], "rest": ["z[4:]", "digit"]}``.

A mapping in place of the list makes a group of blocks, to any depth:
``{"pose": {"position": ["z[0:2]"], "size": ["z[2]"]}, "shape": ["shape"]}``.
"""

JOINT = "joint"
"""Name of the group of all blocks."""


@dataclass(frozen=True)
class Variable:
    """One latent variable: one number of a continuous site, or one categorical of a discrete site."""

    site: str
    index: int
    """Flat index among the variables of the site, in C order."""
    name: str
    """``z`` if the site has one variable only, else with its coordinates: ``z[2]``, ``z[0,2]``."""

    @property
    def group(self) -> "Group":
        """The variable alone, as a set."""
        return frozenset({self})


Group = frozenset[Variable]
Blocks = Mapping[str, tuple[Variable, ...]]
"""Block name to its variables; each variable is in exactly one block."""

Shape = tuple[int, ...]
_SITE_AND_INDICES = re.compile(r"([^\[\]]+)(?:\[([^\[\]]*)\])?")


@dataclass(frozen=True)
class Node:
    """A node of the tree over the variables: a block, which has no children, or a group of blocks or groups."""

    name: str
    variables: tuple[Variable, ...]
    """All variables below the node."""
    children: tuple["Node", ...] = ()
    level: int = 0
    """Number of groups above the node; 0 for the root."""

    @cached_property
    def group(self) -> Group:
        """All variables below the node, as a set."""
        return frozenset(self.variables)

    @cached_property
    def _hash(self) -> int:
        return hash((self.name, self.variables, self.children, self.level))

    def __hash__(self) -> int:
        """That of the fields, made once: trees are keys of what each step looks up."""
        return self._hash

    def nodes(self) -> "Iterator[Node]":
        """The node and all below it, from the top."""
        yield self
        for child in self.children:
            yield from child.nodes()

    def groups(self) -> "list[Node]":
        """The groups among the nodes."""
        return [node for node in self.nodes() if node.children]

    @property
    def blocks(self) -> Blocks:
        """The blocks among the nodes, in the layout's order."""
        return {node.name: node.variables for node in self.nodes() if not node.children}

    def sets(self) -> list[Group]:
        """The distinct sets of variables whose marginals the terms need: of each node, and of each variable."""
        nodes, singles = (node.group for node in self.nodes()), (variable.group for variable in self.variables)
        return list(dict.fromkeys([*nodes, *singles]))


def resolve_blocks(layout: Layout | None, sites: Mapping[str, Shape]) -> Node:
    """Builds the tree of groups, blocks and variables that a layout describes.

    Args:
        layout: block name to a list of sites (``"z"``: all its variables) and slices of sites; or group name to a
            layout. Slices are those of NumPy, negative numbers and ``...`` included. For a site of one dimension,
            commas separate the items of a list (``"z[0:2,5]"`` is variables 0, 1 and 5); for more, they separate
            dimensions (``"z[:, 0:2]"``, ``"z[1]"``, ``"z[..., 2]"``). None: every site is a block.
        sites: name of each latent site to the shape of its variables: the event shape, without the dimension of the
            categories where the site is discrete; ``()`` for a single variable, which is a vector of one.

    Returns:
        The root of the tree, named "joint"; its ``blocks`` are in the order of the layout.

    Raises:
        ValueError: an entry that cannot be read, names an unknown site, is out of range or selects nothing; a
            variable in two blocks or in none; a name given twice. The message names the block and the site.
    """
    layout = {site: [site] for site in sites} if layout is None else layout
    if not isinstance(layout, Mapping) or not layout:
        raise ValueError(f"blocks must map the name of each block to a list of sites, got {layout!r}")
    root = _resolve(JOINT, layout, sites, 0)
    for name, count in Counter(node.name for node in root.nodes()).items():
        if count > 1:
            raise ValueError(f"two groups or blocks have the name '{name}' (that of all blocks is '{JOINT}')")
    owner: dict[Variable, str] = {}
    for block, variables in root.blocks.items():
        for variable in variables:
            if variable in owner:
                raise ValueError(f"{variable.name} is in block '{owner[variable]}' and again in block '{block}'")
            owner[variable] = block
    for site, shape in sites.items():
        if missing := [variable.name for variable in _variables(site, shape).values() if variable not in owner]:
            raise ValueError(f"site '{site}' has variables in no block: {', '.join(missing)}")
    return root


def block_names(layout: Layout) -> list[str]:
    """Names of the groups and blocks of a layout, from the top."""
    below = {name: block_names(some) if isinstance(some, Mapping) else [] for name, some in layout.items()}
    return [each for name, names in below.items() for each in (name, *names)]


def indices_of_site(layout: Layout, site: str, shape: Shape) -> dict[str, list[int]]:
    """Flat indices of the variables of one site by group and block, for callers that see one site at a time.

    Args:
        layout: as for :func:`resolve_blocks`, which also checks that each variable is in exactly one block.
        site: name of the site.
        shape: shape of its variables.

    Returns:
        Name of each group and block to indices; empty where it has no variable of the site.

    Raises:
        ValueError: an entry that cannot be read, or that is out of range for the site; names the block.
    """
    root = _resolve(JOINT, layout, {site: shape}, 0, others=True)
    return {node.name: [variable.index for variable in node.variables] for node in root.nodes() if node is not root}


def _resolve(name: str, entries: object, sites: Mapping[str, Shape], level: int, others: bool = False) -> Node:
    """The node of a group or block; with ``others``, entries of sites that are not given are skipped."""
    if isinstance(entries, str) or not isinstance(entries, Mapping | Sequence) or not entries:
        raise ValueError(f"block '{name}' must be a list of one or more sites or slices of sites, got {entries!r}")
    if isinstance(entries, Mapping):
        children = tuple(_resolve(child, below, sites, level + 1, others) for child, below in entries.items())
        return Node(name, tuple(variable for child in children for variable in child.variables), children, level)
    return Node(name, tuple(v for entry in entries for v in _read(name, entry, sites, others)), (), level)


@lru_cache(maxsize=256)
def _variables(site: str, shape: Shape) -> Mapping[Shape, Variable]:
    """Coordinates to variables, in C order."""
    every = list(product(*map(range, shape)))
    names = [site if len(every) == 1 else f"{site}[{','.join(map(str, coordinates))}]" for coordinates in every]
    return {every[index]: Variable(site, index, name) for index, name in enumerate(names)}


def _read(block: str, entry: object, sites: Mapping[str, Shape], others: bool) -> list[Variable]:
    """The variables that one entry of a block selects."""
    text = entry if isinstance(entry, str) else ""
    if text in sites:  # first, for the name of a site may have brackets
        return list(_variables(text, sites[text]).values())
    match = _SITE_AND_INDICES.fullmatch(text)
    if match is None:
        raise ValueError(f"block '{block}' has {entry!r}; write 'site', or a slice as 'site[0:4]' or 'site[:, 0:2]'")
    site = match[1]
    if site not in sites:
        if others:
            return []
        known = "they share: " + ", ".join(f"'{name}'" for name in sites)
        raise ValueError(f"block '{block}' names site '{site}', which model and guide do not share; {known}")
    shape = tuple(sites[site]) or (1,)  # a single variable can be named with or without its index
    try:
        return [_variables(site, shape)[coordinates] for coordinates in _select(match[2], shape)]
    except ValueError as error:
        raise ValueError(f"block '{block}' has '{entry}', but site '{site}' has the shape {shape}: {error}") from None


def _select(indices: str, shape: Shape) -> list[Shape]:
    """The coordinates that the text between the brackets selects, in the order of NumPy."""
    items = [item.strip() for item in indices.split(",")]
    if len(shape) == 1 and "..." not in items:
        return [(index,) for item in items for index in _along(item, shape[0])]
    missing = len(shape) - sum(item != "..." for item in items)
    if missing < 0 or items.count("...") > 1:
        raise ValueError(f"write one index or slice for each of its {len(shape)} dimensions, or '...' once")
    rest = items.index("...") if "..." in items else len(items)
    items[rest : rest + 1] = [":"] * missing
    return list(product(*map(_along, items, shape)))


def _along(item: str, size: int) -> Sequence[int]:
    """The indices that an index or a slice selects along one dimension."""
    try:
        numbers: list[Any] = [int(number) if number.strip() else None for number in item.split(":")]
        found = range(size)[slice(*numbers)] if ":" in item else [range(size)[numbers[0]]]
    except IndexError:
        found = []
    except (TypeError, ValueError):
        raise ValueError(f"'{item}' is neither an index nor a slice a:b") from None
    if not found or any(number is not None and not -size <= number <= size for number in numbers[:2]):
        raise ValueError(f"'{item}' is empty or out of range; the indices are 0 to {size - 1}")
    return found


def block_sizes(gaussian: Mapping[str, int], discrete: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """The sizes of the Gaussian and of the discrete sites by name, as integers.

    Raises:
        ValueError: a name that is no text, or that ``torch.nn.ModuleDict`` cannot hold, because it has a dot or is one
            of its own attributes; a name of both kinds; a size below 1; or no block.
    """
    taken = nn.ModuleDict()
    for name, size in [*gaussian.items(), *discrete.items()]:
        if not isinstance(name, str):
            raise ValueError(f"the name of a block must be text, got {name!r}: put it in quotes")
        if not name or "." in name or hasattr(taken, name):
            raise ValueError(f"'{name}' cannot name a block: it is empty, has a dot or is a name of torch's own")
        if index(size) < 1:
            raise ValueError(f"block '{name}' must have 1 variable or category or more, got {size}")
    if both := [name for name in gaussian if name in discrete]:
        raise ValueError(f"block '{both[0]}' is both Gaussian and discrete")
    if not gaussian and not discrete:
        raise ValueError("there is no block: name a Gaussian or a discrete one with its size")
    return {name: index(n) for name, n in gaussian.items()}, {name: index(n) for name, n in discrete.items()}
