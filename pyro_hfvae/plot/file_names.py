"""Names of picture files that hold the name of a block, a variable or a factor, whatever that is."""

import hashlib
import re

__all__ = ["picture_name"]

_NO_FILE_NAME = '/\\:*?"<>|%'
"""Characters that some file system does not take, and the one that stands for them."""

_LONGEST = 180
"""Bytes of the name; most file systems take 255 for a whole file name."""


def picture_name(kind: str, name: str) -> str:
    """The name of a picture file without its ending: ``urllib.parse.unquote`` gives the name back.

    Args:
        kind: beginning of the file name, such as ``traversal_``.
        name: of a block, a variable or a factor. Of a long one the end is replaced by a hash.
    """
    quoted = "".join(
        "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "replace"))
        if letter in _NO_FILE_NAME or not letter.isprintable()
        else letter
        for letter in name
    )
    if len(quoted.encode()) > _LONGEST:
        cut = re.sub("%.?$", "", quoted.encode()[: _LONGEST - 20].decode("utf-8", "ignore"))
        quoted = f"{cut}… {hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:12]}"
    return f"{kind}{quoted}"
