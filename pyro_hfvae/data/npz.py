"""Arrays from npz files that others have made."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_arrays"]


def read_arrays(file: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Arrays of an npz file, unpickling nothing.

    Args:
        file: which is there.
        names: what must be in it.
        optional: what is read if it is in it.

    Raises:
        ValueError: it is no npz file, is damaged, or lacks an array.
    """
    try:
        with np.load(file, allow_pickle=False) as content:
            for name in names:
                if name not in content:
                    raise ValueError(f"it has no '{name}'; it has: {', '.join(content) or 'nothing'}")
            return {name: content[name] for name in (*names, *optional) if name in content}
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, AttributeError, TypeError) as error:
        raise ValueError(f"'{file}' is not an npz file with {' and '.join(names)}: {error}") from error
