"""Series in the text format of the UEA archive (``.ts``), as sktime and aeon use it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyro_hfvae.data.npz import reading

__all__ = ["Series", "read_ts"]


class Series(NamedTuple):
    """Series of a file."""

    values: list[NDArray[np.float64]]
    """Of each series, [T_n, V]."""
    labels: list[str]
    """The class of each series; empty where the file has none."""


def read_ts(file: Path) -> Series:
    """The series of a file, each a line: ``1.5,1.7,2.0:0.3,0.2,0.1:walking`` has two features and three steps.

    Args:
        file: which is there; with ``@classLabel true`` and the names of the classes, or ``false``.

    Raises:
        ValueError: it is no such file, its series have time stamps or missing values, or a line does not fit; names the
            file and the line.
    """
    with reading(file, "a .ts file of series"), file.open(encoding="utf-8") as opened:
        header: dict[str, list[str]] = {}
        values: list[NDArray[np.float64]] = []
        labels: list[str] = []
        for number, line in enumerate(opened, start=1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            if "data" not in header:
                if not text.startswith("@"):
                    raise ValueError(f"line {number} is neither a comment (#) nor a description (@) before @data")
                key, *words = text[1:].split()
                header[key.lower()] = words
                continue
            try:
                found, label = _series(text, _classes(header))
                if values and found.shape[1] != values[0].shape[1]:
                    raise ValueError(f"{found.shape[1]} features, the first series has {values[0].shape[1]}")
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            values.append(found)
            labels += label
        if not values:
            raise ValueError("it has no series after @data")
    return Series(values, labels)


def _classes(header: dict[str, list[str]]) -> set[str]:
    """The names of the classes, of which there may be none."""
    if header.get("timestamps", ["false"])[0].lower() != "false":
        raise ValueError("series with time stamps are not read")
    if header.get("targetlabel", ["false"])[0].lower() != "false":
        raise ValueError("series with a number as their target are not read")
    given = header.get("classlabel", ["false"])
    return set(given[1:]) if given[:1] != [] and given[0].lower() == "true" else set()


def _series(text: str, classes: set[str]) -> tuple[NDArray[np.float64], list[str]]:
    """The values of a line, [T, V], and its class, if there are classes."""
    parts = text.split(":")
    label = [parts.pop().strip()] if classes else []
    if label and label[0] not in classes:
        raise ValueError(f"the class {label[0]!r} is none of those in @classLabel")
    if any(cell.strip() == "?" for part in parts for cell in part.split(",")):
        raise ValueError("a value is missing (?), and missing values are not read")
    features = [np.array([float(cell) for cell in part.split(",")]) for part in parts]
    if not features or len({len(feature) for feature in features}) > 1:
        raise ValueError(
            f"its features have {', '.join(str(len(feature)) for feature in features)} steps, expected as many each"
        )
    return np.stack(features, axis=1), label
