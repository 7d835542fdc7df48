"""The pictures in a folder, found without reading them."""

import os
from collections.abc import Iterator
from pathlib import Path

from pyro_hfvae.data.decode import picture_suffixes
from pyro_hfvae.data.pictures import Listed

__all__ = ["list_pictures"]


def list_pictures(folder: Path, recursive: bool) -> list[Listed]:
    """Files with the suffix of a format that pillow reads, by their names; hidden ones (``.name``) are none.

    Args:
        folder: which is there. Links to folders are followed, to each folder once.
        recursive: also those in the folders in it.

    Raises:
        NotADirectoryError: it is a file.
        PermissionError: a folder or a file may not be looked into.
        ValueError: there are none.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"'{folder}' is a file, expected a folder of images")
    suffixes = picture_suffixes()
    listing, others = [], set()
    for entry in _files(folder, recursive):
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix in suffixes:
            name = Path(entry.path).relative_to(folder).as_posix()
            try:
                stat = entry.stat()
                listing.append(Listed(name, stat.st_size, stat.st_mtime_ns))
            except FileNotFoundError:  # a link to nothing, which is named among what cannot be read
                listing.append(Listed(name, 0, 0))
        else:
            others.add(suffix or "no suffix")
    if not listing:
        there = f"; it has files with: {', '.join(sorted(others)[:10])}" if others else ", and no other files"
        raise ValueError(f"no images in '{folder}'{there}")
    return sorted(listing)


def _files(folder: Path, recursive: bool) -> "Iterator[os.DirEntry[str]]":
    seen = {os.path.realpath(folder)}
    folders = [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
                        yield entry
                    elif recursive and entry.is_dir() and (real := os.path.realpath(entry.path)) not in seen:
                        seen.add(real)
                        folders.append(entry.path)
        except PermissionError as error:
            raise PermissionError(f"'{error.filename}' may not be read: {error.strerror}") from error
