"""Which latent sites, and which variables of a site, form which block."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Blocks", "Layout", "Variable", "resolve_blocks"]

Layout = Mapping[str, Sequence[str]]
"""Block name to site names or parts of sites: ``{"pose": ["z[0:4]"], "rest": ["z[4:]", "digit"]}``."""

_PART = re.compile(r"^(?P<site>[^\[\]]+)(\[(?P<indices>[^\[\]]*)\])?$")


@dataclass(frozen=True)
class Variable:
    """One latent variable: the ``index``-th scalar of a Gaussian site, or one categorical of a discrete site."""

    site: str
    index: int
    name: str


Blocks = Mapping[str, tuple[Variable, ...]]
"""Block name to its variables; together the blocks hold every variable once."""


def resolve_blocks(layout: Layout | None, sites: Mapping[str, int]) -> Blocks:
    """Says which variables form which block.

    Args:
        layout: block name to parts, each a site name (all its variables) or a site name with indices or slices in
            brackets: ``"z"``, ``"z[3]"``, ``"z[0:4]"``, ``"z[0:2,5]"``. None: every site is a block.
        sites: the latent sites that model and guide share, with the number of variables of each (a vector site has
            one per element, in C order; a discrete site has one per categorical, whatever its number of categories).

    Returns:
        The blocks in the order of the layout.

    Raises:
        ValueError: a part that cannot be read, names no site or no variable, overlaps another, or a variable that is
            in no block. The message names the block and the site.
    """
    if layout is None:
        layout = {site: [site] for site in sites}
    blocks: dict[str, tuple[Variable, ...]] = {}
    owner: dict[Variable, str] = {}
    for block, parts in layout.items():
        if isinstance(parts, str) or not parts:
            raise ValueError(f"block '{block}' must be a list of one or more sites or parts of sites, got {parts!r}")
        variables = [variable for part in parts for variable in _read_part(block, part, sites)]
        for variable in variables:
            if variable in owner:
                raise ValueError(
                    f"variable {variable.index} of site '{variable.site}' is in block '{owner[variable]}' "
                    f"and again in block '{block}'"
                )
            owner[variable] = block
        blocks[block] = tuple(variables)
    for site, size in sites.items():
        missing = [variable.name for variable in _variables(site, size) if variable not in owner]
        if missing:
            raise ValueError(f"site '{site}' has variables in no block: {', '.join(missing)}")
    return blocks


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
