"""CelebA: 202,599 photos of faces with 40 attributes each, from the files of its authors."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_hfvae.data.data import FactorKind
from pyro_hfvae.data.decode import Channels, Fit
from pyro_hfvae.data.listing import list_pictures
from pyro_hfvae.data.mapped import MappedImages
from pyro_hfvae.data.npz import reading
from pyro_hfvae.data.pictures import Listed, cached_pictures, checked_target, report
from pyro_hfvae.data.root import locate

__all__ = ["CelebA"]

_PICTURES = "img_align_celeba"
_ATTRIBUTES, _PARTITION, _IDENTITY = "list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt"
_SUBFOLDERS = ("", "Img", "Anno", "Eval")  # as the authors' folders are called
_TEST = 2


class CelebA(MappedImages):
    """Faces of 10,177 people, 178 × 218, aligned; the images of the authors' test set are held out.

    The authors give the files out from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html; nothing is downloaded here.
    The folder, or its folders ``Img``, ``Anno`` and ``Eval``, holds ``img_align_celeba.zip`` or the folder
    ``img_align_celeba``, ``list_attr_celeba.txt``, ``list_eval_partition.txt``, and, for the factor ``identity``,
    ``identity_CelebA.txt``. Photos are decoded and brought to their size once, as by
    :class:`~pyro_hfvae.data.ImageFolder`.

    Args:
        folder: where the files lie; one that is not absolute is looked for here and then in the data root
            (:func:`~pyro_hfvae.data.data_root`).
        size: height and width.
        factors: names of attributes, as in ``list_attr_celeba.txt``, and ``identity``, the number of the person. None
            is the 40 attributes. An attribute is 0 or 1.
        channels: 3 for colours, 1 for grey.
        fit: ``crop`` cuts the largest part in the middle that has the proportions of the size, ``stretch`` takes all.

    Attributes:
        names: of the photos, in the order of their numbers.
        unreadable: photos that are left out, with the reason.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file is damaged, or files do not fit one another.
    """

    licence = "for non-commercial research only"
    citation = "Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild. ICCV 2015."

    def __init__(
        self,
        folder: str | Path = "celeba",
        size: tuple[int, int] = (64, 64),
        factors: Sequence[str] | None = None,
        channels: Channels = 3,
        fit: Fit = "crop",
    ) -> None:
        root = locate(folder).resolve()
        target = checked_target(size, channels, fit)
        names, columns = _attributes(_found(root, _ATTRIBUTES))
        parts = _numbers(_found(root, _PARTITION), names)
        if parts.max() > _TEST:
            raise ValueError(f"'{_found(root, _PARTITION)}': it gives {parts.max()} for a photo, expected 0, 1 or 2")
        chosen = tuple(columns) if factors is None else tuple(factors)
        if unknown := [name for name in chosen if name not in columns and name != "identity"]:
            raise ValueError(f"CelebA has no factor '{unknown[0]}'; it has: identity, {', '.join(columns)}")
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"factors names one twice: {', '.join(chosen)}")
        if "identity" in chosen:
            people, columns["identity"] = np.unique(_numbers(_found(root, _IDENTITY), names), return_inverse=True)
            self.factor_labels = {"identity": tuple(map(str, people.tolist()))}

        source, listing, load = _photos(root, names)
        pixels, self.unreadable = cached_pictures(source, listing, load, target)
        report(source, self.unreadable)
        kept = np.array([name not in self.unreadable for name in names])
        self.names = tuple(name for name in names if name not in self.unreadable)
        values = torch.empty(len(self.names), len(chosen), dtype=torch.int64)
        for place, name in enumerate(chosen):
            values[:, place] = torch.from_numpy(columns[name][kept])
        super().__init__(pixels, values)
        self.held_out = torch.from_numpy(np.flatnonzero(parts[kept] == _TEST))
        self.factor_names = chosen
        kind: FactorKind = "categorical"
        self.factor_kinds = (kind,) * len(chosen)
        self.factor_sizes = tuple(len(self.factor_labels.get(name, "01")) for name in chosen)


def _found(root: Path, name: str) -> Path:
    """A file or folder of this name."""
    for subfolder in _SUBFOLDERS:
        if (root / subfolder / name).exists():
            return root / subfolder / name
    raise FileNotFoundError(
        f"no {name} in '{root}', nor in its folders {', '.join(_SUBFOLDERS[1:])}: put the files of CelebA there"
    )


def _attributes(file: Path) -> tuple[list[str], dict[str, NDArray[np.int64]]]:
    """Names of the photos, and for each attribute a 0 or 1 for each photo."""
    with reading(file, "the attributes of CelebA"), file.open(encoding="ascii") as opened:
        count, attributes = int(opened.readline()), opened.readline().split()
        names: list[str] = []
        values = np.empty((count, len(attributes)), np.int8)
        for number, line in enumerate(filter(str.strip, opened), 3):
            name, *cells = line.split()
            if len(names) == count or len(cells) != len(attributes) or not set(cells) <= {"-1", "1"}:
                raise ValueError(
                    f"line {number} is not one of {count:,} with a name and {len(attributes)} values of -1 or 1"
                )
            values[len(names)] = [cell == "1" for cell in cells]
            names.append(name)
        if len(names) < count or not count:
            raise ValueError(f"its first line gives {count:,} photos, but it lists {len(names):,}")
        if len(set(names)) < count:
            raise ValueError("it has a photo twice")
    return names, {name: values[:, place].astype(np.int64) for place, name in enumerate(attributes)}


def _numbers(file: Path, names: Sequence[str]) -> NDArray[np.int64]:
    """The number that a file gives for each photo."""
    with reading(file, f"a name and a number in each of {len(names):,} lines"), file.open(encoding="ascii") as opened:
        found = {}
        for number, line in enumerate(filter(str.strip, opened), 1):
            cells = line.split()
            if len(cells) != 2 or not cells[1].isdecimal() or cells[0] in found:
                raise ValueError(f"line {number} is {line.strip()!r}")
            found[cells[0]] = int(cells[1])
        if missing := [name for name in names if name not in found]:
            raise ValueError(f"it has no '{missing[0]}'")
        return np.array([found[name] for name in names])


def _photos(root: Path, names: Sequence[str]) -> tuple[Path, list[Listed], Callable[[str], Path | bytes]]:
    """Where the photos are, their listing in the order of the names, and how one is loaded."""
    load: Callable[[str], Path | bytes]
    try:
        source = _found(root, _PICTURES)
        there = {listed.name: listed for listed in list_pictures(source, recursive=False)}
        load = source.joinpath
    except FileNotFoundError:
        source = _found(root, f"{_PICTURES}.zip")
        with reading(source, "a zip file"):
            archive = zipfile.ZipFile(source)
            entries = {entry.filename.rpartition("/")[2]: entry for entry in archive.infolist() if not entry.is_dir()}
        there = {name: Listed(name, entry.file_size, entry.CRC) for name, entry in entries.items()}
        load = lambda name: archive.read(entries[name])  # noqa: E731
    if missing := [name for name in names if name not in there]:
        raise ValueError(
            f"'{source}' lacks {len(missing):,} of the {len(names):,} photos in {_ATTRIBUTES}, '{missing[0]}' the first"
        )
    return source, [there[name] for name in names], load
