"""The data sets that the library knows by name: what they are, and whether their files are here and right."""

from dataclasses import dataclass
from pathlib import Path

from pyro_hfvae.data.data import Data
from pyro_hfvae.data.dsprites import DSprites
from pyro_hfvae.data.faces import CMUFaces, SFMFaces
from pyro_hfvae.data.idx import FILES, MNIST, FashionMNIST
from pyro_hfvae.data.known_file import KnownFile
from pyro_hfvae.data.newsgroups import Newsgroups
from pyro_hfvae.data.pbmc import PBMC68k
from pyro_hfvae.data.root import data_root
from pyro_hfvae.data.series_sets import BasicMotions, JapaneseVowels

__all__ = ["CATALOGUE", "Entry", "entry_of"]


@dataclass(frozen=True)
class Entry:
    """A data set with a name.

    Attributes:
        name: on the command line.
        make: the class; it needs no arguments.
        kind: of the data.
        size: number of data and their shape, in words.
        files: its files with their checksums; the class downloads what is missing.
        places: its files below the data root, where a checksum of the whole file is not known.
        reads_checksums: reading compares checksums of the content, and the class downloads what is missing.
    """

    name: str
    make: type[Data]
    kind: str
    size: str
    files: tuple[KnownFile, ...] = ()
    places: tuple[str, ...] = ()
    reads_checksums: bool = False

    @property
    def missing(self) -> list[Path]:
        """Its files that are not there."""
        files = [known.file for known in self.files] + [data_root() / place for place in self.places]
        return [file for file in files if not file.is_file()]

    @property
    def here(self) -> str:
        """Whether its files are there, in a word."""
        if not self.files and not self.places:
            return "drawn"
        return "no" if self.missing else "yes"

    def fetch(self) -> None:
        """Downloads the files that are not there.

        Raises:
            FileNotFoundError: there is no address for one, or nothing to be had from it.
            ValueError: what was downloaded is another content.
        """
        for known in self.files:
            known.fetch()
        if self.missing and self.reads_checksums:
            self.make()
        if self.missing:
            raise FileNotFoundError(f"no file at '{self.missing[0]}', and no address to download it from: put it there")

    def verify(self) -> str:
        """Compares its files with what is known of them.

        Returns:
            What was compared, in words.

        Raises:
            FileNotFoundError: a file is not there.
            ValueError: a file is damaged, or another one.
        """
        if self.missing:
            raise FileNotFoundError(f"no file at '{self.missing[0]}': pyro-hfvae data fetch {self.name}")
        for known in self.files:
            known.verify()
        if self.files:
            return f"SHA-256 of {len(self.files)} file{'s' * (len(self.files) > 1)} as expected"
        if not self.places:
            return "drawn, no file"
        # A folder that is named is read, never fetched again.
        self.make((data_root() / self.places[0]).parent) if self.reads_checksums else self.make()  # type: ignore[call-arg]
        return "SHA-256 of the content as expected" if self.reads_checksums else "can be read; no checksum is known"


CATALOGUE = (
    Entry("dsprites", DSprites, "images", "737,280 of 1 × 64 × 64"),
    Entry(
        "mnist",
        MNIST,
        "images",
        "70,000 of 1 × 28 × 28",
        places=tuple(f"mnist/{file}" for file in FILES),
        reads_checksums=True,
    ),
    Entry(
        "fashion-mnist",
        FashionMNIST,
        "images",
        "70,000 of 1 × 28 × 28",
        places=tuple(f"fashion_mnist/{file}" for file in FILES),
        reads_checksums=True,
    ),
    Entry("sfm-faces", SFMFaces, "images", "9,450 of 1 × 64 × 64", places=("sfm_faces/sfm_faces.npz",)),
    Entry("cmu-faces", CMUFaces, "images", "624 of 1 × 30 × 32", places=("cmu_faces/cmu_faces.npz",)),
    Entry("newsgroups", Newsgroups, "counts", "18,745 of 3,072", files=Newsgroups.files),
    Entry("pbmc68k", PBMC68k, "counts", "700 of 765", files=PBMC68k.files),
    Entry("basic-motions", BasicMotions, "sequences", "80 of 100 × 6", files=BasicMotions.files),
    Entry("japanese-vowels", JapaneseVowels, "sequences", "640 of 7 to 29 × 12", files=JapaneseVowels.files),
)


def entry_of(name: str) -> Entry:
    """The data set with a name.

    Raises:
        ValueError: there is none; lists them.
    """
    found = [entry for entry in CATALOGUE if entry.name == name]
    if not found:
        raise ValueError(f"there is no data set '{name}'; known are: {', '.join(entry.name for entry in CATALOGUE)}")
    return found[0]
