"""A file of images (npz), and other files in the place of files of data."""

import gzip
import io
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from campaign.inputs import COMMANDS, IDX_FILES, arrays, write_npz
from campaign.judge import Expected, Mutation, Rule

__all__ = ["IDX", "RULES", "Payload", "damaged"]

FIT = COMMANDS["fit"]
IDX = (
    *FIT,
    *("--data", "pyro_hfvae.data.IdxImages", "--data.folder", "idx", "--batches.held_out", "null"),
    *("--batches.batch_size", "16"),
)


class Payload:
    """Makes the sentinel when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.path.join("..", "sentinel"),)


def damaged(rng: Random, content: bytes) -> tuple[bytes, str, bool]:
    """Content that is damaged at a random place, how, and whether its end is missing."""
    kind = rng.choice(["bits", "bits", "bits", "zeros", "noise", "cut", "exchanged", "inserted"])
    place = rng.randrange(len(content))
    size = min(rng.choice([1, 2, 16, 512, 4096]), len(content) - place)
    if kind == "bits":
        changed = bytearray(content)
        for _ in range(rng.choice([1, 1, 1, 2, 8])):
            place = rng.randrange(len(content))
            changed[place] ^= 1 << rng.randrange(8)
        return bytes(changed), f"bit at {place} of {len(content)}", False
    if kind == "cut":
        return content[:place], f"first {place} of {len(content)} bytes", True
    new = {
        "zeros": bytes(size),
        "noise": rng.randbytes(size),
        "inserted": rng.randbytes(size) + content[place : place + size],
    }
    if kind == "exchanged":
        return content[:place] + content[place + size :] + content[place : place + size], f"{kind} at {place}", False
    return content[:place] + new[kind] + content[place + size :], f"{size} bytes {kind} at {place}", False


def npz_damaged(rng: Random, work: Path) -> Mutation:
    """Bits or bytes of an npz file are others, or missing."""
    file = work / "data.npz"
    content, what, short = damaged(rng, file.read_bytes())
    file.write_bytes(content)
    return Mutation(what, FIT, Expected.REFUSED if short else Expected.EITHER, ("data.npz",))


def _npz(work: Path, content: dict[str, Any], what: str, expected: Expected, *names: str) -> Mutation:
    with np.errstate(all="ignore"):
        write_npz(work / "data.npz", content)
    return Mutation(what, FIT, expected, names)


def dtype(rng: Random, work: Path) -> Mutation:
    """An array has a dtype that does not fit."""
    content = arrays()
    name = rng.choice([*content])
    types = ["f2", "f4", "f8", "c8", "S3", "M8[s]", "m8[s]", "V4", "O"]
    types += {"images": ["i1", "i2", "u2", "i8", "?", "U3"], "factors": ["U3", "?"], "held_out": ["U3"]}.get(
        name, ["i8", "u1"]
    )
    kind = rng.choice(types)
    shape = content[name].shape
    content[name] = (
        np.zeros(shape, kind) if content[name].dtype.kind == "U" or kind[0] in "MmV" else content[name].astype(kind)
    )
    return _npz(work, content, f"{name} as {kind}", Expected.REFUSED, name)


def shape(rng: Random, work: Path) -> Mutation:
    """An array has a shape that does not fit."""
    content = arrays()
    images, factors = content["images"], content["factors"]
    new: dict[str, list[Any]] = {
        "images": [
            *(images[0], images[0, 0], images[:0], images[:, :0], images[..., None, None], images[:, None, :, :]),
            *(
                np.uint8(3),
                images.reshape(-1),
                images.reshape(100, 4, 16),
                images.reshape(50, 8, 16),
                images[:99],
                images[:3],
            ),
            *(np.repeat(images[..., None], channels, 3) for channels in (2, 3, 4, 5)),
        ],
        "factors": [
            factors[:99],
            factors[:0],
            factors.T,
            factors[:, 0],
            factors[..., None],
            factors[:, :2],
            np.int64(1),
        ],
        "factor_names": [np.array(["x"]), np.array("x"), np.array([["x", "y", "z"]]), np.array([], dtype=str)],
        "factor_kinds": [np.array(["ordinal"]), np.array("ordinal"), np.array(["ordinal"] * 4)],
        "held_out": [
            np.array(5),
            np.array([[1, 2, 3]]),
            np.array([], dtype=int),
            np.ones(99, bool),
            np.ones((100, 1), bool),
        ],
    }
    name = rng.choice([*new])
    place = rng.randrange(len(new[name]))
    content[name] = new[name][place]
    command = (*FIT, "--batches.held_out", "null") if name == "held_out" else FIT
    made = _npz(work, content, f"{name} {place}", Expected.REFUSED)
    return Mutation(made.what, command, made.expected, (name, "data.npz", "shape", "hold out", "images"))


def values(rng: Random, work: Path) -> Mutation:
    """Values of an array are outside of what it may hold."""
    content = arrays()
    name = rng.choice([*content])
    row = rng.randrange(100)
    if name == "images":
        content[name] = (content[name] > 0).astype(np.uint8)  # 255 is the brightest
    elif name == "factors":
        content[name][row, rng.randrange(3)] = rng.choice([-1, -(2**40), 2**31, 2**62])
    elif name == "held_out":
        content[name] = np.array(
            rng.choice([[-1, 2, 3], [1, 2, 100], [4, 4, 5], [*range(100)], [*range(99)], [7], [0, 1, 0, 1]])
        )
    elif name == "factor_kinds":
        content[name] = np.array(rng.choice([["ordinal", "ordinal", "cardinal"], ["", "", ""], ["Ordinal"] * 3]))
    else:
        content[name] = np.array(
            rng.choice([["x", "x", "y"], ["x", "", "y"], ["x", "\n", "y"], ["x", "a\tb", "y"], ["x", "\x1b[31m", "y"]])
        )
    command = (*FIT, "--batches.held_out", "null")
    made = _npz(work, content, f"{name}", Expected.REFUSED)
    return Mutation(made.what, command, made.expected, (name, "hold out"))


def names(rng: Random, work: Path) -> Mutation:
    """Factors have names with any letters that can be printed: nothing is written elsewhere."""
    content = arrays()
    some = [
        "../../notes",
        "/etc/x",
        ".",
        "..",
        "a/b",
        "a\\b",
        "n" * 300,
        "é" * 200,
        "keys",
        "items",
        "__class__",
        "self",
        "nan",
        "0",
    ]
    some += [
        "<evil>",
        "</script><evil>",
        "{{x}}",
        "{x}",
        "%s",
        "*",
        "a.b",
        "con",
        "train/elbo",
        "z",
        "level",
        "step",
        "日本",
        "🙂",
        "-",
        "--x",
    ]
    content["factor_names"] = np.array(rng.sample(some, 3))
    write_npz(work / "data.npz", content)
    shutil.rmtree(work / "run" / "pictures")
    command = rng.choice(["fit", "evaluate", "traverse"])
    return Mutation(str(content["factor_names"].tolist())[:80], COMMANDS[command], Expected.WORKS)


def header(rng: Random, work: Path) -> Mutation:
    """The header of an array in an npz file is not that of its content."""
    content = arrays()
    name = rng.choice(["images", "factors", "held_out"])
    body = content[name].tobytes()
    old = {"descr": content[name].dtype.str, "fortran_order": False, "shape": content[name].shape}
    kind = rng.choice(
        ["more", "less", "huge", "negative", "no numbers", "object", "type", "key", "rubbish", "length", "long", "code"]
    )
    new: Any = dict(old)
    if kind in ("more", "less", "huge", "negative", "no numbers"):
        count = {
            "more": 101 + rng.randrange(99),
            "less": rng.randrange(99),
            "huge": 10 ** rng.randrange(9, 40),
            "negative": -1,
        }
        new["shape"] = (count.get(kind, "a"), *old["shape"][1:])
    elif kind in ("object", "type"):
        new["descr"] = (
            "|O"
            if kind == "object"
            else rng.choice(["<f8", "<u8", "|S8", "<U2", "|V3", "nonsense", "<i9", [("a", "<i4")]])
        )
    elif kind == "key":
        new.pop(rng.choice([*new]))
    text = {
        "rubbish": rng.randbytes(60).hex(),
        "long": f"{new!r:<70000}",
        "code": "__import__('os').mkdir('../sentinel')",
    }.get(kind, repr(new))
    encoded = text.encode() + b"\n"
    claimed = len(encoded) + (rng.choice([-20, 30, 20000]) if kind == "length" else 0)
    magic = b"\x93NUMPY\x01\x00" + struct.pack("<H", claimed % 65536)
    if kind == "object":
        body = pickle.dumps(Payload())
    with zipfile.ZipFile(work / "data.npz", "w") as archive:
        for other, array in content.items():
            with archive.open(f"{other}.npy", "w") as file:
                if other == name:
                    file.write(magic + encoded + body)
                else:
                    np.lib.format.write_array(file, array)
    fits = kind == "type" and _itemsize(new["descr"]) == content[name].dtype.itemsize and name != "images"
    expected = Expected.EITHER if fits else Expected.REFUSED
    return Mutation(f"{name}: {text[:90]}", FIT, expected, ("data.npz",))


def _itemsize(kind: Any) -> int:
    try:
        return np.dtype(kind).itemsize
    except TypeError:
        return 0


def archives(rng: Random, work: Path) -> Mutation:
    """The npz file is compressed, has more in it, or another order: the same data."""
    content = arrays()
    kind = rng.choice(["compressed", "more", "order", "objects beside", "integers", "order of bytes", "fortran"])
    items = [*content.items()]
    if kind == "order":
        rng.shuffle(items)
    elif kind == "more":
        items.append((rng.choice(["photographer", "a/b", "../x", "images2"]), np.arange(3)))
    elif kind == "objects beside":
        items.append(("notes", np.array([Payload()], dtype=object)))
    elif kind == "integers":
        items = [
            (name, of.astype(rng.choice(["i1", "u1", "i4", "u8"])) if name == "factors" else of) for name, of in items
        ]
    elif kind == "order of bytes":
        items = [(name, of.astype(of.dtype.newbyteorder(">"))) for name, of in items]
    elif kind == "fortran":
        items = [(name, np.asfortranarray(of)) for name, of in items]
    (np.savez_compressed if kind == "compressed" else np.savez)(work / "data.npz", **dict(items))
    return Mutation(kind, FIT, Expected.EQUAL)


def other_file(rng: Random, work: Path) -> Mutation:
    """Another kind of file, a folder, or nothing has the file's name."""
    idx = rng.random() < 0.5
    file = work / "idx" / rng.choice(IDX_FILES) if idx else work / "data.npz"
    content = file.read_bytes()
    file.unlink()
    kinds = ["missing", "folder", "loop", "empty", "text", "pickle", "npy", "zip", "gzip", "bytes", "zeros", "html"]
    kind = rng.choice(kinds)
    buffer = io.BytesIO()
    if kind == "npy":
        np.save(buffer, arrays()["images"])
    elif kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(rng.choice(["images.txt", "images.npy", "../images.npy"]), rng.randbytes(300))
    contents = {
        **{
            "empty": b"",
            "text": b"images\n",
            "pickle": pickle.dumps(Payload()),
            "npy": buffer.getvalue(),
            "zip": buffer.getvalue(),
        },
        **{
            "gzip": gzip.compress(content),
            "bytes": rng.randbytes(2000),
            "zeros": bytes(2000),
            "html": b"<html>404 Not Found</html>",
        },
    }
    if kind == "folder":
        file.mkdir()
    elif kind == "loop":
        file.symlink_to(file.name)
    elif kind != "missing":
        file.write_bytes(contents[kind])
    return Mutation(f"{file.name}: {kind}", IDX if idx else FIT, Expected.REFUSED, (file.name,))


RULES: dict[Rule, int] = {
    npz_damaged: 60,
    dtype: 50,
    shape: 50,
    values: 40,
    names: 40,
    header: 50,
    archives: 20,
    other_file: 40,
}
