"""Images in MNIST's file format (idx, gzipped), and MNIST and Fashion-MNIST themselves."""

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pooch
import torch
from torch import Tensor

from pyro_hfvae.data.images import Images
from pyro_hfvae.data.integers import Integers
from pyro_hfvae.data.root import data_root

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
        root = Path(folder).expanduser()
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
        try:
            content = gzip.decompress(file.read_bytes())
        except (gzip.BadGzipFile, zlib.error, EOFError, struct.error) as error:
            raise ValueError(f"'{file}' is not a gzip file, or is damaged: {error}") from error
        expected = self.content_sha256.get(file.name)
        if expected is not None and (actual := hashlib.sha256(content).hexdigest()) != expected:
            raise ValueError(f"'{file}' is damaged: its content has SHA-256 {actual}, expected {expected}")
        return _parse_idx(content, file, dimensions)


class _Downloaded(IdxImages):
    """Known sets of images, fetched where they are not there yet."""

    subfolder: ClassVar[str]
    address: ClassVar[str]

    def __init__(self, folder: str | Path | None = None, factor: str = "class") -> None:
        if folder is None:
            root = data_root() / self.subfolder
            self._download(root)
            folder = root
        super().__init__(folder, factor)

    def _download(self, root: Path) -> None:
        missing = [name for name in FILES if not (root / name).is_file()]
        for name in missing:
            try:
                # No hash of the compressed file: compressions of the same content differ. Reading checks the content.
                pooch.retrieve(self.address + name, known_hash=None, fname=name, path=root)
            except OSError as error:
                raise FileNotFoundError(
                    f"no {', '.join(missing)} in '{root}', and no download from {self.address}: put the files there"
                ) from error


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


def _parse_idx(content: bytes, file: Path, dimensions: int) -> Tensor:
    """The array after an idx header: two zero bytes, type, number of dimensions, then each dimension in four bytes."""
    magic = (0, _UNSIGNED_BYTE, dimensions)
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise ValueError(f"'{file}' is truncated: {len(content)} bytes, where the header alone has {start}")
    if struct.unpack_from(">HBB", content) != magic:
        expected = struct.pack(">HBB", *magic).hex()
        raise ValueError(f"'{file}' starts with {content[:4].hex()}, expected {expected}: not such an idx file")
    dims = struct.unpack_from(f">{dimensions}I", content, 4)
    if len(content) - start != math.prod(dims):
        raise ValueError(f"'{file}' is truncated or too long: {len(content) - start:,} values for {list(dims)}")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(dims).copy())
