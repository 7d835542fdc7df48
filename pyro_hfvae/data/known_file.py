"""Files of known data sets: where they lie, where they come from, and their checksum."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pooch

from pyro_hfvae.data.root import data_root

__all__ = ["KnownFile"]


@dataclass(frozen=True)
class KnownFile:
    """A file of a known data set.

    Attributes:
        place: below the data root (:func:`~pyro_hfvae.data.data_root`).
        sha256: of its content.
        address: to download it from; empty where there is none.
    """

    place: str
    sha256: str
    address: str = ""

    @property
    def file(self) -> Path:
        """Where it lies, if it is there."""
        return data_root() / self.place

    def verify(self) -> None:
        """Compares the content with the checksum.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: it is another content.
        """
        if not self.file.is_file():
            raise FileNotFoundError(f"no file at '{self.file}'")
        with self.file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if found != self.sha256:
            raise ValueError(
                f"'{self.file}' has the SHA-256 {found}, expected {self.sha256}: it is damaged, or another file"
            )

    def fetch(self) -> None:
        """Downloads it, if it is not there; what is damaged is not kept.

        Raises:
            FileNotFoundError: it is not there, and there is no address, or nothing to be had from it.
            ValueError: the download is another content.
        """
        if self.file.is_file():
            return
        if not self.address:
            raise FileNotFoundError(f"no file at '{self.file}', and no address to download it from: put it there")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.file.parent) as folder:
                pooch.retrieve(
                    self.address, known_hash=f"sha256:{self.sha256}", fname=self.file.name, path=Path(folder)
                )
                (Path(folder) / self.file.name).replace(self.file)
        except OSError as error:
            reason = " ".join(str(error).split())
            raise FileNotFoundError(
                f"no file at '{self.file}', and no download from {self.address} ({reason}): put it there"
            ) from error
        except ValueError as error:  # of pooch, which has removed it
            raise ValueError(
                f"the download of {self.address} is not kept: its SHA-256 is another than expected"
            ) from error
