"""Images in a folder, in any format that pillow reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from pyro_hfvae.data.data import FactorKind
from pyro_hfvae.data.decode import Channels, Fit
from pyro_hfvae.data.factor_values import FactorValues, collected
from pyro_hfvae.data.folder_factors import from_folders, from_pattern, from_table
from pyro_hfvae.data.listing import list_pictures
from pyro_hfvae.data.mapped import MappedImages
from pyro_hfvae.data.pictures import cached_pictures, checked_target, report
from pyro_hfvae.data.root import locate

__all__ = ["ImageFolder"]


class ImageFolder(MappedImages):
    """Images in a folder and the folders in it, grey or in colour, in any format that pillow reads.

    They are decoded and brought to their size once, into a file of the data root's folder ``image_cache``, of which
    each batch is read. The file is made anew when a name, size or time of change in the folder, or an option, is
    another. Files that cannot be read as images are left out, with a warning that names them.

    Each image is turned as its EXIF orientation asks; transparent pixels are laid over black, unless there are four
    channels; of a film the first frame is taken. Values of 16 bits run from 0 to 65,535, real ones from 0 to 1. Images
    with more pixels than ``PIL.Image.MAX_IMAGE_PIXELS`` are left out like damaged ones.

    What is known of the images, ``factors``, comes from one of three places:

    - a list of names, ``["person", "expression"]``: those of the folders that each image lies in, the outermost first;
    - a table, ``"labels.csv"``, in the folder or elsewhere: the first column has the names of the images, relative to
      the folder, with ``/``; each other column is a factor; cells may be empty;
    - a regular expression, ``r"(?P<person>\\w+)_(?P<yaw>\\d+)"``, that is found in each name; each named group is a
      factor.

    A factor whose values are all numbers, not all of them whole, is continuous, every other one categorical; ``kinds``
    names another kind.

    Args:
        path: the folder; one that is not absolute is looked for here and then in the data root
            (:func:`~pyro_hfvae.data.data_root`).
        size: height and width. None keeps that of the images, which must be the same for all.
        channels: 1 for grey, 3 for colours, 4 for colours and opacity. None is 1 or 3, as the images are, which must be
            the same for all.
        factors: where factors come from, as above; None is no factors.
        columns: of the table that are factors; None is all of them.
        kinds: of factors, by name.
        held_out: the folder whose images are held out, ``"test"``, or the column of the table that marks them: by 1,
            true, yes, test, val or validation, against 0, false, no, train or training. None is none.
        fit: how images become the size: ``crop`` cuts the largest part in the middle that has its proportions,
            ``stretch`` takes all.
        recursive: also images in the folders in it.

    Attributes:
        names: of the images, relative to the folder, in the order of their numbers.
        unreadable: files that are left out, with the reason.

    Raises:
        FileNotFoundError: there is no such folder.
        NotADirectoryError: it is a file.
        PermissionError: it may not be read.
        ValueError: it has no images, more than half cannot be read, they differ in size or channels where these are not
            given, or factors do not fit them.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int] | None = None,
        channels: Channels | None = None,
        factors: Sequence[str] | str | None = None,
        columns: Sequence[str] | None = None,
        kinds: Mapping[str, FactorKind] | None = None,
        held_out: str | None = None,
        fit: Fit = "crop",
        recursive: bool = True,
    ) -> None:
        target = checked_target(size, channels, fit)
        folder = locate(path)
        if not folder.exists():
            raise FileNotFoundError(f"no folder of images at '{folder}'")
        folder = folder.resolve()
        listing = list_pictures(folder, recursive)
        pixels, self.unreadable = cached_pictures(folder, listing, folder.joinpath, target, recursive)
        report(folder, self.unreadable)
        self.names = tuple(listed.name for listed in listing if listed.name not in self.unreadable)
        try:
            found, by_table = self._known(folder, factors, columns, held_out)
            known = collected(len(self.names), found, kinds)
            if held_out is not None:
                self.held_out = torch.tensor(self._within(held_out) if by_table is None else by_table)
        except ValueError as error:
            raise ValueError(f"'{folder}': {error}") from error
        super().__init__(pixels, known.values)
        self.factor_names, self.factor_sizes, self.factor_kinds, self.factor_labels = known[:4]

    def _known(
        self, folder: Path, factors: Sequence[str] | str | None, columns: Sequence[str] | None, held_out: str | None
    ) -> tuple[list[FactorValues], list[int] | None]:
        """Factors, and numbers of images that a column holds out."""
        is_table = isinstance(factors, str) and factors.lower().endswith((".csv", ".tsv"))
        if columns is not None and not is_table:
            raise ValueError("columns is for factors that are a table (.csv or .tsv)")
        if factors is None:
            return [], None
        if not isinstance(factors, str):
            return from_folders(self.names, factors, held_out), None
        if not is_table:
            return from_pattern(self.names, factors), None
        table = folder / factors if (folder / factors).is_file() else locate(factors)
        if not table.is_file():
            raise FileNotFoundError(f"no table of factors at '{folder / factors}' nor '{table}'")
        return from_table(table, self.names, self.unreadable, columns, held_out)

    def _within(self, held_out: str) -> list[int]:
        """Numbers of the images in a folder."""
        found = [at for at, name in enumerate(self.names) if name.startswith(f"{held_out.rstrip('/')}/")]
        if not found:
            folders = sorted({name.split("/")[0] for name in self.names if "/" in name})
            raise ValueError(
                f"held_out is '{held_out}', which is neither a folder of images nor a column of a table of factors; "
                f"folders: {', '.join(folders[:10]) or 'none'}"
            )
        return found
