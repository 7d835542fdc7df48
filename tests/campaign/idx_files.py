"""Four files of MNIST's format (idx)."""

import gzip
import math
import shutil
import struct
from pathlib import Path
from random import Random

import numpy as np

from campaign.data_files import IDX, damaged
from campaign.inputs import IDX_FILES, write_idx
from campaign.judge import Expected, Mutation, Rule

__all__ = ["RULES"]


def idx_damaged(rng: Random, work: Path) -> Mutation:
    """Bits or bytes of an idx file are others, or missing."""
    file = work / "idx" / rng.choice(IDX_FILES)
    content, what, short = damaged(rng, file.read_bytes())
    file.write_bytes(content)
    return Mutation(f"{file.name}: {what}", IDX, Expected.REFUSED if short else Expected.EITHER, (file.name,))


def idx_content(rng: Random, work: Path) -> Mutation:
    """An idx file claims other sizes or another type, is another one of the four, or is not compressed."""
    folder = work / "idx"
    file = folder / rng.choice(IDX_FILES)
    raw = bytearray(gzip.decompress(file.read_bytes()))
    dimensions = 3 if "images" in file.name else 1
    kind = rng.choice(["sizes", "sizes", "type", "dimensions", "exchanged", "plain", "others", "more"])
    if kind == "sizes":
        place = 4 + 4 * rng.randrange(dimensions)
        raw[place : place + 4] = struct.pack(">I", rng.choice([0, 1, 7, 9, 2**31, 2**32 - 1]))
        if math.prod(struct.unpack(f">{dimensions}I", raw[4 : 4 + 4 * dimensions])) == len(raw) - 4 - 4 * dimensions:
            raw[4] ^= 1
    elif kind == "type":
        raw[2] = rng.choice([0, 9, 11, 12, 13, 14, 255])
    elif kind == "dimensions":
        raw[3] = rng.choice([0, 2, 4, 255])
    elif kind == "more":
        raw += rng.randbytes(rng.randrange(1, 3000))
    if kind == "exchanged":
        kinds = [name for name in IDX_FILES if name != file.name and ("images" in name) != ("images" in file.name)]
        shutil.copy(folder / rng.choice(kinds), file)
    elif kind == "others":
        count = rng.choice([1, 29, 31, 69, 71])
        write_idx(file, np.zeros((count, 8, 8) if dimensions == 3 else count, np.uint8))
    else:
        file.write_bytes(raw if kind == "plain" else gzip.compress(raw))
    return Mutation(f"{file.name}: {kind}", IDX, Expected.REFUSED, (file.name, "idx"))


def idx_compressed(rng: Random, work: Path) -> Mutation:
    """An idx file is compressed in another way: the same data."""
    file = work / "idx" / rng.choice(IDX_FILES)
    raw = gzip.decompress(file.read_bytes())
    half = rng.randrange(1, len(raw))
    level = rng.randrange(10)
    parts = rng.choice([[raw], [raw[:half], raw[half:]], [b"", raw]])
    file.write_bytes(b"".join(gzip.compress(part, level, mtime=rng.randrange(2**31)) for part in parts))
    return Mutation(f"{file.name}: level {level}, {len(parts)} parts", IDX, Expected.EQUAL)


RULES: dict[Rule, int] = {idx_damaged: 40, idx_content: 40, idx_compressed: 10}
