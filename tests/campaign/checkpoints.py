"""Checkpoints that are damaged, of another kind, or that hold something else."""

import io
import pickle
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch

from campaign.data_files import Payload, damaged
from campaign.inputs import COMMANDS
from campaign.judge import Expected, Mutation, Rule

__all__ = ["RULES"]

COMMAND = ("load", "load", "resume", "resume", "evaluate")


def _file(work: Path) -> Path:
    return work / "run" / "checkpoints" / "last.ckpt"


def _load(work: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(_file(work), map_location="cpu", weights_only=True)
    return content


def _mutation(rng: Random, what: str, expected: Expected, commands: tuple[str, ...] = COMMAND, **more: Any) -> Mutation:
    return Mutation(what, COMMANDS[rng.choice(commands)], expected, ("last.ckpt", "run", "finite"), **more)


def damage(rng: Random, work: Path) -> Mutation:
    """Bits or bytes are others, or missing."""
    content, what, short = damaged(rng, _file(work).read_bytes())
    _file(work).write_bytes(content)
    return _mutation(rng, what, Expected.REFUSED if short else Expected.EITHER, (*COMMAND, "load", "load"))


def pickles(rng: Random, work: Path) -> Mutation:
    """A pickle with a call in it, in every way that torch can read."""
    content = _load(work)
    kind = rng.choice(["plain", "torch", "legacy", "inside", "weights", "archive", "protocol"])
    file = _file(work)
    if kind in ("plain", "protocol"):
        file.write_bytes(
            pickle.dumps(Payload() if kind == "plain" else [Payload(), content], protocol=rng.randrange(6))
        )
    elif kind == "archive":
        with zipfile.ZipFile(file) as old:
            entries = {name: old.read(name) for name in old.namelist()}
        with zipfile.ZipFile(file, "w") as new:
            for name, value in entries.items():
                new.writestr(name, pickle.dumps(Payload()) if name.endswith("data.pkl") else value)
    else:
        if kind == "weights":
            content["state_dict"][rng.choice([*content["state_dict"]])] = Payload()
        content[rng.choice(["extra", *content])] = Payload()
        torch.save(Payload() if kind == "torch" else content, file, _use_new_zipfile_serialization=kind != "legacy")
    return _mutation(rng, kind, Expected.REFUSED, stranger=rng.random() < 0.5)


def other_file(rng: Random, work: Path) -> Mutation:
    """Another kind of file: another archive, one that torch wrote, compressed, a folder, or nothing."""
    file = _file(work)
    kind = rng.choice(
        ["npz", "empty", "bytes", "tensor", "list", "weights", "jit", "compressed", "folder", "missing", "text", "zip"]
    )
    content = _load(work)
    raw = file.read_bytes()
    file.unlink()
    if kind == "npz":
        shutil.copy(work / "data.npz", file)
    elif kind in ("tensor", "list", "weights"):
        torch.save({"tensor": torch.zeros(3), "list": [1, 2], "weights": content["state_dict"]}[kind], file)
    elif kind == "jit":
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(file))
    elif kind in ("compressed", "zip"):
        with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist() if kind == "compressed" else ("../../notes.txt",):
                new.writestr(name, old.read(name) if kind == "compressed" else b"other")
    elif kind == "folder":
        file.mkdir()
    elif kind != "missing":
        file.write_bytes({"empty": b"", "bytes": rng.randbytes(5000), "text": b"hello\n"}[kind])
    return _mutation(rng, kind, Expected.REFUSED)


def without(rng: Random, work: Path) -> Mutation:
    """A part of the content is missing."""
    content = _load(work)
    part = rng.choice(["state_dict", "global_step", "random_state", "optimizer_states", "loops", "data"])
    inner = content
    if part in ("state_dict", "data") and rng.random() < 0.7:
        inner, part = content[part], rng.choice([*content[part]])
    del inner[part]
    torch.save(content, _file(work))
    only_resumed = part == "loops" or inner is content.get("data")
    commands = ("resume",) if only_resumed else COMMAND
    return _mutation(rng, f"without {part}", Expected.REFUSED, commands)


def other_part(rng: Random, work: Path) -> Mutation:
    """A part of the content is of another type."""
    content = _load(work)
    part = rng.choice(
        ["state_dict", "global_step", "random_state", "optimizer_states", "lr_schedulers", "loops", "data"]
    )
    old = content[part]
    values = [None, "word", 1.5, [1, "a"], {"a": 1}, torch.zeros(2), {}, (), -7, [None]]
    content[part] = rng.choice([value for value in values if type(value) is not type(old) or value])
    torch.save(content, _file(work))
    read_by_all = part in ("state_dict", "global_step")
    what = f"{part}: {content[part]!r}"[:200]
    return _mutation(rng, what, Expected.REFUSED, COMMAND if read_by_all else ("resume",))


def weights(rng: Random, work: Path) -> Mutation:
    """A parameter has another shape or type, or is not finite."""
    content = _load(work)
    state = content["state_dict"]
    name = rng.choice([name for name, value in state.items() if isinstance(value, torch.Tensor) and value.ndim])
    old = state[name]
    kind = rng.choice(
        ["shape", "nan", "inf", "bool", "complex", "quantized", "sparse", "list", "empty", "scalar", "meta"]
    )
    new: Any = {
        "shape": lambda: old.repeat(2, *([1] * (old.ndim - 1))),
        "nan": lambda: torch.full_like(old, float("nan")),
        "inf": lambda: torch.full_like(old, float("inf")),
        "bool": lambda: old > 0,
        "complex": lambda: old.to(torch.complex64),
        "quantized": lambda: torch.quantize_per_tensor(old, 0.1, 0, torch.qint8),
        "sparse": lambda: old.to_sparse(),
        "list": old.tolist,
        "empty": lambda: old[:0],
        "scalar": lambda: old.sum(),
        "meta": lambda: torch.empty_like(old, device="meta"),
    }[kind]()
    state[name] = new
    torch.save(content, _file(work))
    return _mutation(rng, f"{name}: {kind}", Expected.REFUSED)


def _numbers(node: Any, key: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for name, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from _numbers(value, (*key, name)) if isinstance(value, dict | list) and value else [(*key, name)]


def training_state(rng: Random, work: Path) -> Mutation:
    """The state of the optimiser, of the loops, of the random stream or of the data's record has another value."""
    content = _load(work)
    part = rng.choice(["optimizer_states", "loops", "random_state", "data", "global_step"])
    if part == "global_step":
        content[part] = rng.choice([-1, 10**18, True])
        key: tuple[Any, ...] = ()
    else:
        key = rng.choice([*_numbers(content[part])])
        inner = content[part]
        for name in key[:-1]:
            inner = inner[name]
        values = [None, "word", -1, torch.zeros(7), [], {"a": 1}, float("nan")]
        inner[key[-1]] = rng.choice(
            [value for value in values if isinstance(value, int) or type(value) is not type(inner[key[-1]])]
        )
    torch.save(content, _file(work))
    return _mutation(rng, f"{part} {key}", Expected.EITHER, ("resume",))


def saved_again(rng: Random, work: Path) -> Mutation:
    """The same content, with something more or written by torch once more: the same results."""
    content = _load(work)
    if rng.random() < 0.5:
        content[f"extra{rng.random()}"] = rng.choice([1, "a", [1.5], torch.zeros(3)])
    torch.save(content, _file(work))
    return _mutation(rng, "saved again", Expected.EQUAL)


RULES: dict[Rule, int] = {
    damage: 90,
    pickles: 40,
    other_file: 40,
    without: 30,
    other_part: 40,
    weights: 40,
    training_state: 50,
    saved_again: 10,
}
