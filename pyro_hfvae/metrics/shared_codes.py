"""Codes of images that several runs share, kept in a file: what `udr` compares runs by."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyro_hfvae.files import write_atomically
from pyro_hfvae.metrics.codes import Codes

__all__ = ["SharedCodes", "read_shared_codes", "write_shared_codes"]


@dataclass(frozen=True, eq=False)
class SharedCodes:
    """The means of ``V`` continuous variables for ``n`` images, which are named by their indices.

    Attributes:
        variables: the ``V`` names.
        columns: posterior means ``[n, V]``.
        images: the index of each image in its data set ``[n]``.
    """

    variables: tuple[str, ...]
    columns: NDArray[np.float64]
    images: NDArray[np.int64]

    @property
    def codes(self) -> Codes:
        """The same as codes of one block.

        Raises:
            ValueError: there is no variable.
        """
        places = tuple(range(len(self.variables)))
        return Codes(self.columns, self.variables, tuple((place,) for place in places), {"all": places})


def write_shared_codes(path: Path, codes: Codes, images: NDArray[np.int64]) -> None:
    """Writes the variables of one column, whole or not at all; categories have no ranks, and `udr` does not take them.

    Args:
        path: of an ``.npz`` file.
        codes: of ``n`` images.
        images: the index of each ``[n]``.
    """
    chosen = [place for place in range(len(codes.variables)) if len(codes.columns_of(place)) == 1]
    buffer = BytesIO()
    np.savez(
        buffer,
        variables=np.array([codes.variables[place] for place in chosen], dtype=np.str_),
        columns=codes.columns[:, [codes.columns_of(place)[0] for place in chosen]].astype(np.float32),
        images=images,
    )
    write_atomically(path, buffer.getvalue())


def read_shared_codes(path: Path) -> SharedCodes:
    """Reads what `write_shared_codes` wrote, without unpickling.

    Raises:
        ValueError: it cannot be read; names the file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return SharedCodes(
                tuple(file["variables"].tolist()), file["columns"].astype(np.float64), file["images"].astype(np.int64)
            )
    except Exception as error:  # numpy and zipfile raise several kinds, and none names the file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"'{path}' does not hold codes; write it again with 'pyro-hfvae evaluate' ({reason})"
        ) from error
