"""What is known of the images of a folder: from the names of folders, from a pattern of file names, from a table."""

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from pyro_hfvae.data.factor_values import FactorValues, checked_names

__all__ = ["from_folders", "from_pattern", "from_table"]

_HELD_OUT = {"1": True, "true": True, "yes": True, "test": True, "val": True, "validation": True}
_HELD_OUT |= {"0": False, "false": False, "no": False, "train": False, "training": False}


def from_folders(names: Sequence[str], levels: Sequence[str], held_out: str | None) -> list[FactorValues]:
    """A factor for each folder that an image lies in.

    Args:
        names: of the images, relative, with ``/``.
        levels: what the folders are called as factors, the outermost first.
        held_out: the outermost folder of images that are held out, which is not a factor.

    Raises:
        ValueError: an image lies in more or fewer folders.
    """
    factors = [FactorValues(level) for level in checked_names(levels)]
    for name in names:
        folders = name.split("/")[:-1]
        if held_out is not None and folders and (folders[0] == held_out or len(folders) == len(levels) + 1):
            del folders[0]
        if len(folders) != len(levels):
            wanted = "/".join(f"<{level}>" for level in levels)
            beneath = f", or that beneath '{held_out}'" if held_out is not None else ""
            raise ValueError(f"{name!r} does not lie in the folders that are to be factors, '{wanted}/'{beneath}")
        for factor, folder in zip(factors, folders, strict=True):
            factor.add(folder)
    return factors


def from_pattern(names: Sequence[str], pattern: str) -> list[FactorValues]:
    """A factor for each named group of a regular expression, which is searched for in each name.

    A group that did not take part in the match is a value that is not known.

    Raises:
        ValueError: it is no regular expression, has no named group, or is not found in a name.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"factors is '{pattern}', which is no regular expression: {error}") from error
    if not compiled.groupindex:
        raise ValueError(
            f"factors is '{pattern}': expected a list of names for folders, a table (.csv or .tsv), or a regular "
            r"expression with named groups, such as '(?P<person>\w+)_(?P<yaw>\d+)'"
        )
    factors = [FactorValues(group) for group in checked_names(list(compiled.groupindex))]
    missed = [name for name in names if compiled.search(name) is None]
    if missed:
        raise ValueError(
            f"the pattern '{pattern}' is found in {len(names) - len(missed):,} of {len(names):,} names, but not in "
            f"{missed[0]!r}"
        )
    for name in names:
        found = compiled.search(name)
        for factor in factors:
            factor.add(found and found[factor.name])
    return factors


def from_table(
    file: Path, names: Sequence[str], left_out: Collection[str], columns: Sequence[str] | None, held_out: str | None
) -> tuple[list[FactorValues], list[int] | None]:
    """A factor for each column of a table, whose first column names the images.

    Args:
        file: the table, comma-separated, or separated by tabulators if its suffix is ``.tsv``; the first line names
            the columns. Empty cells are values that are not known.
        names: of the images, relative, with ``/``.
        left_out: names that may stand in the table too.
        columns: that are factors; None is all but the first and ``held_out``.
        held_out: column that says which images are held out, by 1, true, yes, test, val or validation against 0, false,
            no, train or training.

    Returns:
        The factors, for the images in their order, and numbers of images that are held out, if there is such a column.

    Raises:
        ValueError: the table does not list just these images, each once, or lacks a column or a cell; names the file.
    """
    place = {name: at for at, name in enumerate(names)}
    lines = _lines(file)
    try:
        header = next(lines, (1, []))[1]
        by_held_out = held_out if held_out in header[1:] else None
        if columns is None:
            columns = [name for name in header[1:] if name != by_held_out]
        if len(header) < 2:
            raise ValueError(f"its first line is {','.join(header)!r}, expected the names of two columns or more")
        checked_names(header)
        missing = [name for name in columns if name not in header[1:]]
        if missing:
            raise ValueError(f"it has no column '{missing[0]}'; after the names it has: {', '.join(header[1:])}")
        chosen = [header.index(name) for name in columns]
        flags = None if by_held_out is None else (header.index(by_held_out), bytearray(len(names)))
        row_of: list[list[str] | None] = [None] * len(names)  # the texts of the factors, shared where they are the same
        shared: dict[str, str] = {}
        others = []
        for number, cells in lines:
            if len(cells) != len(header):
                raise ValueError(f"line {number} has {len(cells)} cells, the first line {len(header)}")
            at = place.get(cells[0])
            if at is None:
                if cells[0] not in left_out:
                    others.append(cells[0])
                continue
            if row_of[at] is not None:
                raise ValueError(f"it has {cells[0]!r} twice, the second time in line {number}")
            row_of[at] = [shared.setdefault(cells[column], cells[column]) for column in chosen]
            if flags is not None:
                flags[1][at] = _flag(cells[flags[0]], header[flags[0]], number)
        unlisted = [name for name, row in zip(names, row_of, strict=True) if row is None]
        if others or unlisted:
            raise ValueError(_differ(others, unlisted, len(names)))
        if flags is not None and not any(flags[1]):
            raise ValueError(f"column '{held_out}' holds out no image")
    except ValueError as error:
        raise ValueError(f"'{file}': {error}") from error
    factors = [FactorValues(name) for name in columns]
    for row in row_of:
        for factor, text in zip(factors, row or (), strict=True):
            factor.add(text)
    return factors, None if flags is None else [at for at, flag in enumerate(flags[1]) if flag]


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Numbers and cells of the lines that are not empty."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened, delimiter="\t" if file.suffix.lower() == ".tsv" else ",", strict=True)
            for cells in reader:
                if cells:
                    yield reader.line_num, [cell.strip() for cell in cells]
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no text in UTF-8: {error.reason} at byte {error.start}") from error
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error


def _flag(cell: str, column: str, line: int) -> bool:
    flag = _HELD_OUT.get(cell.lower())
    if flag is None:
        raise ValueError(f"line {line} has '{cell}' in column '{column}', expected one of {', '.join(_HELD_OUT)}")
    return flag


def _differ(others: Sequence[str], unlisted: Sequence[str], count: int) -> str:
    """How the names of table and folder differ."""
    differences = []
    if others:
        differences.append(f"{len(others):,} names in it are no images of the folder, {others[0]!r} the first")
    if unlisted:
        differences.append(f"{len(unlisted):,} of {count:,} images are not in it, {unlisted[0]!r} the first")
    return "; ".join(differences)
