"""Images in MNIST's file format (idx, gzipped), and MNIST and Fashion-MNIST themselves."""

import gzip
import hashlib
import math
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pooch
import torch
from torch import Tensor

from pyro_hfvae.data.images import Images
from pyro_hfvae.data.integers import Integers
from pyro_hfvae.data.npz import reading
from pyro_hfvae.data.root import data_root
from pyro_hfvae.files import expanded
from pyro_hfvae.interruption import unfinished

__all__ = ["MNIST", "FashionMNIST", "IdxImages"]

PARTS = ("train", "t10k")
FILES = tuple(f"{part}-{kind}-ubyte.gz" for part in PARTS for kind in ("images-idx3", "labels-idx1"))

_UNSIGNED_BYTE = 8  # the third byte of the header: the type of the values; the fourth is the number of dimensions


class IdxImages(Images):
    """Images and labels in four ``idx.gz`` files, the training set first, the test set held out.

    Args:
        folder: where ``train-images-idx3-ubyte.gz``, ``train-labels-idx1-ubyte.gz``, ``t10k-images-idx3-ubyte.gz`` and
            ``t10k-labels-idx1-ubyte.gz`` lie.
        factor: what the labels are called.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file is damaged, or is not what its name says.
    """

    content_sha256: ClassVar[Mapping[str, str]] = {}  # of the decompressed content of files that must be the known ones

    def __init__(self, folder: str | Path, factor: str = "class") -> None:
        root = expanded(folder)
        missing = [name for name in FILES if not (root / name).is_file()]
        if missing:
            raise FileNotFoundError(f"no {', '.join(missing)} in '{root}': put them there")
        images, labels = zip(*(self._read_part(root, part) for part in PARTS), strict=True)
        if images[0].shape[1:] != images[1].shape[1:]:
            sizes = " and ".join("×".join(map(str, part.shape[1:])) for part in images)
            raise ValueError(f"train and t10k images in '{root}' differ in size: {sizes}")
        self._images = torch.cat(images)  # [N, H, W]
        self._labels = torch.cat(labels)  # [N]
        self.held_out = torch.arange(len(images[0]), len(self._images))
        self.image_shape = (1, self._images.shape[1], self._images.shape[2])
        self.factor_names = (factor,)
        self.factor_sizes = (int(self._labels.max()) + 1,)
        self.factor_kinds = ("categorical",)

    def __len__(self) -> int:
        return len(self._images)

    def images(self, indices: Integers) -> Tensor:
        """Images at ``indices`` [B], float32 in [0, 1], [B, 1, H, W]."""
        return self._images[self._checked(indices)].unsqueeze(1).float().div_(255)

    def factors(self, indices: Integers) -> Tensor:
        """Labels at ``indices`` [B], int64, [B, 1]."""
        return self._labels[self._checked(indices)].unsqueeze(1).long()

    def _read_part(self, root: Path, part: str) -> tuple[Tensor, Tensor]:
        images = self._read(root / f"{part}-images-idx3-ubyte.gz", dimensions=3)
        labels = self._read(root / f"{part}-labels-idx1-ubyte.gz", dimensions=1)
        if len(images) != len(labels):
            raise ValueError(f"'{root}' holds {len(images):,} {part} images but {len(labels):,} {part} labels")
        if not len(images):
            raise ValueError(f"'{root}' holds no {part} images")
        return images, labels

    def _read(self, file: Path, dimensions: int) -> Tensor:
        """The array of a file, of which no more is unpacked than its header promises."""
        with reading(file, "a gzip file"), gzip.open(file) as opened:
            start = opened.read(4 + 4 * dimensions)
            values = b""
            if len(start) == 4 + 4 * dimensions and start.startswith(_magic(dimensions)):
                values = _read_at_most(opened, math.prod(_dims(start)) + 1)
        expected = self.content_sha256.get(file.name)
        if expected is not None and (actual := hashlib.sha256(start + values).hexdigest()) != expected:
            raise ValueError(f"'{file}' is damaged: its content has SHA-256 {actual}, expected {expected}")
        return _parse_idx(start, values, file, dimensions)


class _Downloaded(IdxImages):
    """Known sets of images, fetched where they are not there yet, and fetched again where they are damaged."""

    subfolder: ClassVar[str]
    address: ClassVar[str]

    def __init__(self, folder: str | Path | None = None, factor: str = "class") -> None:
        self._fetches = folder is None
        if folder is None:
            folder = data_root() / self.subfolder
            self._download(folder)
        super().__init__(folder, factor)

    def _download(self, root: Path) -> None:
        missing = [name for name in FILES if not (root / name).is_file()]
        for name in missing:
            try:
                self._fetch(root / name)
            except OSError as error:
                reason = " ".join(str(error).split())
                raise FileNotFoundError(
                    f"no {', '.join(missing)} in '{root}', and no download from {self.address} ({reason}): put the "
                    "files there"
                ) from error

    def _fetch(self, file: Path) -> None:
        """Downloads a file beside its place and reads it, before it takes the place."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder, unfinished(Path(folder)):
            # No hash of the compressed file: compressions of the same content differ. Reading checks the content.
            pooch.retrieve(self.address + file.name, known_hash=None, fname=file.name, path=Path(folder))
            fetched = Path(folder) / file.name
            try:
                super()._read(fetched, dimensions=3 if "idx3" in file.name else 1)
            except ValueError as error:
                reason = str(error).replace(f"'{fetched}'", "it")
                raise ValueError(f"the download of {self.address}{file.name} is not kept: {reason}") from error
            fetched.replace(file)

    def _read(self, file: Path, dimensions: int) -> Tensor:
        try:
            return super()._read(file, dimensions)
        except ValueError as damage:
            if not self._fetches:
                raise
            try:
                self._fetch(file)
            except (OSError, ValueError) as error:
                reason = " ".join(str(error).split())
                raise ValueError(f"{damage}; and it could not be fetched again: {reason}") from error
            return super()._read(file, dimensions)


class MNIST(_Downloaded):
    """MNIST: 60,000 handwritten digits to train on and 10,000 held out, 28 × 28.

    Args:
        folder: where the four files lie. None is the folder ``mnist`` in the data root
            (:func:`~pyro_hfvae.data.data_root`), to which they are downloaded if need be.
        factor: what the labels are called.

    Raises:
        FileNotFoundError: a file is neither there nor to be had.
        ValueError: a file is damaged.
    """

    licence = "CC BY-SA 3.0"
    citation = (
        "LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition, Proc. IEEE 86, 1998"
    )
    subfolder = "mnist"
    address = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    content_sha256: ClassVar[Mapping[str, str]] = dict(
        zip(
            FILES,
            (
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
            strict=True,
        )
    )

    def __init__(self, folder: str | Path | None = None, factor: str = "digit") -> None:
        super().__init__(folder, factor)


class FashionMNIST(_Downloaded):
    """Fashion-MNIST: 60,000 pictures of clothes to train on and 10,000 held out, 28 × 28.

    Args:
        folder: where the four files lie. None is the folder ``fashion_mnist`` in the data root
            (:func:`~pyro_hfvae.data.data_root`), to which they are downloaded if need be.
        factor: what the labels are called.

    Raises:
        FileNotFoundError: a file is neither there nor to be had.
        ValueError: a file is damaged.
    """

    licence = "MIT"
    citation = "Xiao, Rasul, Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking, 2017, arXiv:1708.07747"
    subfolder = "fashion_mnist"
    address = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    content_sha256: ClassVar[Mapping[str, str]] = dict(
        zip(
            FILES,
            (
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
            strict=True,
        )
    )


def _magic(dimensions: int) -> bytes:
    """How an idx file starts: two zero bytes, the type, the number of dimensions."""
    return struct.pack(">HBB", 0, _UNSIGNED_BYTE, dimensions)


def _dims(start: bytes) -> tuple[int, ...]:
    """The dimensions in a header, four bytes each."""
    return struct.unpack(f">{len(start) // 4 - 1}I", start[4:])


def _read_at_most(opened: gzip.GzipFile, count: int) -> bytes:
    """So many bytes if there are as many, in pieces: memory follows what is there and not what a header claims."""
    content = bytearray()
    while len(content) < count and (piece := opened.read(min(count - len(content), 2**20))):
        content += piece
    return bytes(content)


def _parse_idx(start: bytes, values: bytes, file: Path, dimensions: int) -> Tensor:
    """The array after the header of an idx file."""
    if len(start) < 4 + 4 * dimensions:
        raise ValueError(f"'{file}' is truncated: {len(start)} bytes, where the header alone has {4 + 4 * dimensions}")
    if not start.startswith(_magic(dimensions)):
        expected = _magic(dimensions).hex()
        raise ValueError(f"'{file}' starts with {start[:4].hex()}, expected {expected}: not such an idx file")
    dims = _dims(start)
    if len(values) != math.prod(dims):
        found = f"{len(values):,}" if len(values) < math.prod(dims) else "more"
        raise ValueError(f"'{file}' is truncated or too long: {found} values for {list(dims)}")
    return torch.from_numpy(np.frombuffer(values, np.uint8).reshape(dims).copy())
