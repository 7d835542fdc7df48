"""Faces of several people, some of whom are held out: nothing is measured on people who were trained on."""

from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pyro_hfvae.data.data import FactorKind
from pyro_hfvae.data.images import Images
from pyro_hfvae.data.integers import Integers
from pyro_hfvae.data.npz import read_arrays
from pyro_hfvae.data.root import locate

__all__ = ["CMUFaces", "SFMFaces"]

Size: TypeAlias = Literal["full_120x128", "half_60x64", "quarter_30x32"]


class _Faces(Images):
    """Grey faces in an npz file, of which the last people are held out.

    Args:
        file: the file, whose images are uint8, [N, H, W], and whose factors are integers, [N, F], the person first.
        names: of images and factors in the file.
        brightest: the pixel value that becomes 1.
        held_out_people: number of people, the last in the file, whose images are all held out.
    """

    def __init__(self, file: Path, names: tuple[str, str], brightest: int, held_out_people: int) -> None:
        self._images, self._factors = _read(file, names, len(self.factor_sizes))
        self._brightest = brightest
        if int(self._images.max()) > brightest:
            raise ValueError(
                f"'{file}': {names[0]} holds the value {int(self._images.max())}, expected 0 to {brightest}"
            )
        if ((self._factors < 0) | (self._factors >= torch.tensor(self.factor_sizes))).any():
            sizes = " × ".join(map(str, self.factor_sizes))
            raise ValueError(f"'{file}': {names[1]} holds values outside {sizes}")
        people = self._factors[:, 0].unique()  # ascending
        if not 1 <= held_out_people < len(people):
            raise ValueError(
                f"held_out_people must be from 1 to {len(people) - 1}, one less than there are people, "
                f"got {held_out_people}"
            )
        self.held_out = (self._factors[:, 0] >= people[-held_out_people]).nonzero().squeeze(1)
        self.image_shape = (1, self._images.shape[1], self._images.shape[2])

    def __len__(self) -> int:
        return len(self._images)

    def images(self, indices: Integers) -> Tensor:
        """Faces at ``indices`` [B], float32 in [0, 1], [B, 1, H, W]."""
        return self._images[self._checked(indices)].unsqueeze(1).float().div_(self._brightest)

    def factors(self, indices: Integers) -> Tensor:
        """Factors of the faces at ``indices`` [B], int64, [B, F]."""
        return self._factors[self._checked(indices)]


class SFMFaces(_Faces):
    """Rendered faces, 64 × 64: 30 identities × 9 yaws × 5 pitches × 7 expressions, each combination once.

    The file is one of renderings of the Surrey Face Model (Huber et al., A Multiresolution 3D Morphable Face Model and
    Fitting Framework, VISAPP 2016), which is free for non-commercial purposes; none comes with this library. Nothing
    in it is unpickled.

    Args:
        path: the ``.npz`` file; one that is not absolute is looked for here and then in the data root
            (:func:`~pyro_hfvae.data.data_root`). It holds ``images`` (uint8, [N, 64, 64]) and ``factors`` (integers,
            [N, 4]: identity, yaw, pitch, expression).
        held_out_people: number of identities, the last ones, that are held out with all their images.
        size: height and width; 32 takes means over squares of 2×2 pixels, for networks that are to be quick.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file, no such number of people can be held out, or another size.
    """

    licence = "free for non-commercial purposes"
    citation = "Huber et al., A multiresolution 3D morphable face model and fitting framework, VISAPP 2016"
    factor_names = ("identity", "yaw", "pitch", "expression")
    factor_sizes = (30, 9, 5, 7)
    factor_kinds: tuple[FactorKind, ...] = ("categorical", "ordinal", "ordinal", "categorical")

    def __init__(
        self, path: str | Path = "sfm_faces/sfm_faces.npz", held_out_people: int = 6, size: Literal[64, 32] = 64
    ) -> None:
        if size not in (64, 32):
            raise ValueError(f"SFM faces have the size 64, or 32 as means over squares, got {size}")
        file = locate(path)
        if not file.is_file():
            raise FileNotFoundError(
                f"no SFM faces at '{file}': put an npz file with images (uint8, [N, 64, 64]) and factors "
                "(integers, [N, 4]: identity, yaw, pitch, expression) there"
            )
        super().__init__(file, ("images", "factors"), 255, held_out_people)
        if size == 32:
            if self.image_shape != (1, 64, 64):
                raise ValueError(f"'{file}': size 32 takes means of images of 64 × 64, got {self.image_shape[1:]}")
            squares = self._images.unflatten(1, (-1, 2)).unflatten(3, (-1, 2))  # [N, 32, 2, 32, 2]
            self._images = squares.float().mean((2, 4)).round().to(torch.uint8)
            self.image_shape = (1, 32, 32)


class CMUFaces(_Faces):
    """CMU Face Images: 20 people in 4 poses with 4 expressions, with and without sunglasses; 624 photos.

    T. Mitchell, CMU Face Images (1997), UCI Machine Learning Repository. The pixels, from 0 to 155, are divided by 155.
    Nothing in the file is unpickled.

    Args:
        path: the ``.npz`` file; one that is not absolute is looked for here and then in the data root
            (:func:`~pyro_hfvae.data.data_root`). For a size such as ``half_60x64`` it holds ``imgs_half_60x64`` (uint8,
            [N, 60, 64]) and ``factors_half_60x64`` (integers, [N, 4]: user, pose, expression, eyes).
        size: of the images, height by width.
        held_out_people: number of users, the last ones, that are held out with all their images.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file, or no such number of people can be held out.
    """

    licence = "free for educational purposes"
    citation = "Mitchell, CMU Face Images, UCI Machine Learning Repository, 1997"
    factor_names = ("user", "pose", "expression", "eyes")
    factor_sizes = (20, 4, 4, 2)
    factor_kinds: tuple[FactorKind, ...] = ("categorical", "categorical", "categorical", "categorical")

    def __init__(
        self, path: str | Path = "cmu_faces/cmu_faces.npz", size: Size = "quarter_30x32", held_out_people: int = 5
    ) -> None:
        file = locate(path)
        names = f"imgs_{size}", f"factors_{size}"
        if not file.is_file():
            raise FileNotFoundError(
                f"no CMU faces at '{file}': put an npz file with {names[0]} (uint8, [N, H, W]) and {names[1]} "
                "(integers, [N, 4]: user, pose, expression, eyes) there"
            )
        super().__init__(file, names, 155, held_out_people)


def _read(file: Path, names: tuple[str, str], factors: int) -> tuple[Tensor, Tensor]:
    """Images [N, H, W] and factors [N, F] of a file, as they stand there."""
    images, classes = read_arrays(file, names).values()
    if images.dtype != np.uint8 or images.ndim != 3 or not images.size:
        raise ValueError(f"'{file}': {names[0]} is {images.dtype} {list(images.shape)}, expected uint8 [N, H, W]")
    if classes.dtype.kind not in "iu" or classes.shape != (len(images), factors):
        raise ValueError(
            f"'{file}': {names[1]} is {classes.dtype} {list(classes.shape)}, expected integers "
            f"[{len(images)}, {factors}]"
        )
    return torch.from_numpy(images), torch.from_numpy(classes.astype(np.int64))
