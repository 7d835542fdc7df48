"""The subcommand ``data``: which data sets there are, what is in one, and whether its files are here and right."""

import inspect
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace

from pyro_hfvae.cli.loading import imports_of_fit
from pyro_hfvae.data import Counts, Data, ImageFile, Sequences, Table, catalogue, data_root
from pyro_hfvae.data.catalogue import entry_of
from pyro_hfvae.data.npz import reading
from pyro_hfvae.data.table_source import located
from pyro_hfvae.train.construct import construct

__all__ = ["add_data_actions", "data", "describe"]

SHOWN = 12
"""Names, labels and columns that are printed at most, of many."""

BLOCK = 4096
"""Data that are looked at together where all are."""


def add_data_actions(parser: ArgumentParser) -> None:
    """Adds the actions of ``pyro-hfvae data``; the parser must be that of a subcommand already."""
    actions = parser.add_subcommands(dest="action", required=True)
    actions.add_subcommand(
        "list",
        ArgumentParser(description="List the data sets that the library knows.", exit_on_error=False),
        help="the data sets that the library knows, and which are here",
    )
    info = ArgumentParser(
        description="Print what a data set is: number of data, shapes, columns, factors, missing cells.",
        exit_on_error=False,
    )
    info.add_argument("data", metavar="DATA", help="name of a known data set, a file, or the import path of a class")
    info.add_argument(
        "--arguments",
        type=dict[str, Any],
        default={},
        help="of the class, beside the file: '{factors: [kind], kinds: {age: number}}'",
    )
    actions.add_subcommand("info", info, help="what a data set or file has in it")
    for name, help in (
        ("fetch", "download the files of data sets that are not here"),
        ("verify", "compare the files of data sets with their checksums"),
    ):
        action = ArgumentParser(description=f"{help.capitalize()}.", exit_on_error=False)
        action.add_argument("names", nargs="*" if name == "verify" else "+", metavar="NAME", help="of a data set")
        actions.add_subcommand(name, action, help=help)


def data(options: Namespace) -> None:
    """Does what is asked for."""
    actions: dict[str, Callable[[Namespace], None]] = {"list": _list, "info": _info, "fetch": _fetch, "verify": _verify}
    actions[options.action](options[options.action])


def _list(_: Namespace) -> None:
    rows = [("name", "kind", "size", "here", "licence")]
    rows += [(entry.name, entry.kind, entry.size, entry.here, entry.make.licence) for entry in catalogue.CATALOGUE]
    print("\n".join(_aligned(rows)))
    print(f"files: {data_root()}")


def _fetch(options: Namespace) -> None:
    for entry in [entry_of(name) for name in options.names]:
        entry.fetch()
        print(f"{entry.name}: {'no files to fetch' if entry.here == 'drawn' else 'here'}")


def _verify(options: Namespace) -> None:
    """Of the data sets that are named, or of all that are here; the first error is that of the command."""
    entries = [entry_of(name) for name in options.names or ()] or [
        entry for entry in catalogue.CATALOGUE if entry.here == "yes"
    ]
    errors: list[Exception] = []
    for entry in entries:
        try:
            print(f"{entry.name}: {entry.verify()}")
        except (ValueError, OSError) as error:
            errors.append(error)
    if not entries:
        print(f"no files of known data sets in {data_root()}")
    if errors:
        raise errors[0]


def _info(options: Namespace) -> None:
    print("\n".join(describe(_opened(options.data, options.arguments))))


def _opened(name: str, arguments: Mapping[str, Any]) -> Data:
    """The data of a known name, of a file, or of a class."""
    known = [entry for entry in catalogue.CATALOGUE if entry.name == name]
    if known:
        if known[0].missing:
            raise FileNotFoundError(f"no file at '{known[0].missing[0]}': pyro-hfvae data fetch {name}")
        return _made(known[0].make, arguments)
    file = Path(name)
    if file.suffix.lower() in _READERS or "/" in name or file.is_file():
        if file.suffix.lower() not in _READERS:
            raise ValueError(f"'{name}' ends in none of {', '.join(_READERS)}: name the class that reads it")
        return _made(_READERS[file.suffix.lower()](located(file, "data")), {**arguments}, str(file))
    with imports_of_fit([]):
        try:
            found = resolve_name(name)
        except (ImportError, AttributeError, ValueError) as error:
            names = ", ".join(entry.name for entry in catalogue.CATALOGUE)
            raise ValueError(
                f"'{name}' is no file, no class that can be imported ({error}) and none of {names}"
            ) from error
        return _made(found, arguments)


def _made(make: Any, arguments: Mapping[str, Any], *file: str) -> Data:
    if not inspect.isclass(make) and not inspect.isfunction(make):
        raise ValueError(f"{make!r} is no class of data")
    try:
        inspect.signature(make).bind(*file, **arguments)
    except TypeError as error:
        raise ValueError(
            f"{make.__module__}.{make.__qualname__}: {error}; give --arguments '{{NAME: VALUE}}'"
        ) from error
    found = construct(make, *file, **arguments)
    if not isinstance(found, Data):
        raise ValueError(f"{make.__module__}.{make.__qualname__} makes a {type(found).__name__}, expected a Data")
    return found


def _of_npz(file: Path) -> type[Data]:
    """The class that reads such an npz file, by the names of its arrays."""
    with reading(file, "an npz file"), zipfile.ZipFile(file) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
    if "images" in names:
        return ImageFile
    if "lengths" in names:
        return Sequences
    return Counts if {"indices", "indptr"} <= names else Table


_READERS: dict[str, Callable[[Path], type[Data]]] = {
    ".npz": _of_npz,
    ".h5ad": lambda _: Counts,
    ".ts": lambda _: Sequences,
    **dict.fromkeys((".csv", ".tsv", ".txt", ".parquet", ".pq", ".npy"), lambda _: Table),
}


def describe(data: Data) -> list[str]:
    """What a data set is, in lines of text."""
    batch = data.batch(torch.tensor([0]))
    tensors = [
        f"{name} {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape[1:])}" for name, tensor in batch.items()
    ]
    held_out = "none of its own: fit draws a tenth" if data.held_out is None else f"{len(data.held_out):,}"
    lines = [f"{type(data).__name__}: {len(data):,} data", f"tensors: {', '.join(tensors)}", f"held out: {held_out}"]
    if isinstance(data, Table):
        lines += ["columns:", *_columns(data)]
    elif data.feature_names:
        lines.append(f"features: {_some(data.feature_names)}")
    if "lengths" in batch:
        lengths = torch.cat([data.batch(part)["lengths"] for part in torch.arange(len(data)).split(BLOCK)])
        lines.append(f"lengths: {int(lengths.min())} to {int(lengths.max())}")
    lines += ["factors:", *_factors(data)] if data.factor_names else ["factors: none"]
    lines += [f"licence: {data.licence}"] * bool(data.licence) + [f"citation: {data.citation}"] * bool(data.citation)
    return lines


def _columns(table: Table) -> list[str]:
    """A line for each column of a table, with the number of missing cells."""
    missing = torch.zeros(len(table.columns), dtype=torch.int64)
    for part in torch.arange(len(table)).split(BLOCK):
        missing += table.batch(part).x.isnan().sum(0)
    rows = [("name", "kind", "missing", "values")]
    for column, count in zip(table.columns, missing.tolist(), strict=True):
        if column.kind == "category":
            values = _some(column.labels)
        elif column.kind == "time":
            values = f"mean {table.decode(_means(table))[column.name][0]}, deviation {column.scale / 86400:.4g} days"
        else:
            values = f"mean {column.mean:.6g}, deviation {column.scale:.6g}" if column.standardised else ""
        rows.append((column.name, column.kind, f"{count:,}", values))
    return [f"  {line}" for line in _aligned(rows)]


def _means(table: Table) -> torch.Tensor:
    """The row of x that stands for the mean of each column, [1, D]."""
    return torch.zeros(1, len(table.columns))


def _factors(data: Data) -> list[str]:
    """A line for each factor."""
    values = torch.cat([data.factors(part) for part in torch.arange(len(data)).split(BLOCK)]).double()
    rows = [("name", "kind", "missing", "values")]
    for place, (name, kind, size) in enumerate(
        zip(data.factor_names, data.factor_kinds, data.factor_sizes, strict=True)
    ):
        present = values[~values[:, place].isnan(), place]
        labels = data.factor_labels.get(name)
        shown = f"{size}: {_some(labels)}" if labels else f"{size}"
        if kind == "continuous":
            shown = f"{present.min():.6g} to {present.max():.6g}" if len(present) else ""
        rows.append((name, kind, f"{len(values) - len(present):,}", shown))
    return [f"  {line}" for line in _aligned(rows)]


def _some(names: tuple[str, ...]) -> str:
    """The first of many names."""
    return ", ".join(names[:SHOWN]) + (f", ... ({len(names):,} in all)" if len(names) > SHOWN else "")


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines, each column as wide as its longest cell."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
