"""Runs one mutated input and judges the result by its rule and by the files afterwards."""

import hashlib
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import torch
import yaml

from campaign.inputs import COMMANDS, SENTINEL
from campaign.server import Done, run
from pyro_hfvae.cli import main
from pyro_hfvae.train import load_run
from pyro_hfvae.train.one_line import one_line

__all__ = ["FAULTS", "GOOD", "Expected", "Judge", "Mutation", "Rule", "same"]


class Expected(Enum):
    """What a rule knows of its input."""

    REFUSED = "it is wrong: one line that names it, and exit code 2"
    EQUAL = "its meaning is what it was: the same result"
    EITHER = "refused, or the same result"
    FAITHFUL = "refused, stopped by a number that is not finite, or trained with a record that holds what was asked"
    WORKS = "it is right, and means something else"
    SOUND = "refused, or done with what there is"


@dataclass(frozen=True)
class Mutation:
    """A working folder was changed, and this command is to be run in it."""

    what: str
    command: Sequence[str]
    expected: Expected
    names: Sequence[str] = ()
    """A refusal names one of these; any text without them."""
    recorded: Mapping[str, Any] | None = None
    """What the new run's configuration must hold."""
    stranger: bool = False
    """The run was made by somebody else: nothing is remembered of it."""


Rule = Callable[[Random, Path], Mutation]
"""Changes a working folder as its docstring describes."""

GOOD = ("right", "refused", "stopped")
FAULTS = ("traceback", "hang", "wrong", "lost", "executed", "unclear", "turned away", "left over")
"""Ends that must not be; ``wrong`` was accepted though it is wrong, ``turned away`` is right and was refused."""

WRITES = {
    "fit": ("new/*",),
    "resume": (
        *("run/config.yaml", "run/checkpoints/last.ckpt", "run/versions.json", "run/metrics.csv", "run/.lock"),
        *("run/csv/*", "run/tensorboard/*"),
    ),
    "evaluate": ("run/metrics.json", "run/codes.npz", "run/metrics.csv"),
    "traverse": ("run/pictures/*",),
    "check": ("run/checks/*",),
    "report": ("run/report.html",),
    "load": (),
}
"""What each command is there to write, in the working folder."""


class Judge:
    """Runs mutated inputs; remembers the results of those that were not changed."""

    def __init__(self, template: Path, scratch: Path) -> None:
        self._template = template
        self._scratch = scratch
        self._results: dict[tuple[str, ...], dict[str, Any]] = {}

    def __call__(self, rule: Rule, rng: Random) -> tuple[str, str]:
        """The verdict on an input that a rule makes, and what was done and said."""
        folder = self._copy()
        work = folder / "work"
        mutation = rule(rng, work)
        if mutation.stranger:
            shutil.rmtree(folder / "home")
        before = files(work)
        done = _run(mutation.command, folder)
        after = files(work)
        verdict = self._verdict(mutation, done, folder, before, after)
        said = f"{_changed(before, after)} " if verdict == "lost" else ""
        said += " | ".join((done.err or done.out).strip().splitlines()[-3:])
        return (
            verdict,
            f"{mutation.what} [{' '.join(map(str, mutation.command))[:150]}] exit {done.status}: {said[:700]}",
        )

    def _copy(self) -> Path:
        shutil.rmtree(self._scratch, ignore_errors=True)
        return Path(shutil.copytree(self._template, self._scratch, symlinks=True))

    def _verdict(
        self, mutation: Mutation, done: Done, folder: Path, before: dict[str, str], after: dict[str, str]
    ) -> str:
        if (folder / SENTINEL).exists():
            return "executed"
        if done.hung:
            return "hang"
        if "Traceback (most recent call last)" in done.err or done.status not in (0, 1, 2):
            return "traceback"
        writes = () if done.status == 2 else WRITES[_kind(mutation.command)]
        changed = _changed(before, after)
        new = _new_run(mutation.command)
        if done.status == 2 and changed and not changed & before.keys():
            return "left over"
        if [name for name in changed if not _may_write(name, writes, new)]:
            return "lost"
        if done.status == 2:
            if not re.fullmatch(r"pyro-hfvae: error: [^\n]{3,}\n", done.err):
                return "unclear"
            if mutation.expected in (Expected.EQUAL, Expected.WORKS):
                return "turned away"
            named = not mutation.names or any(name in done.err for name in mutation.names)
            return "refused" if named else "unclear"
        if done.status == 1:
            line = done.err.strip().splitlines()[-1] if done.err.strip() else ""
            stopped = line.startswith("pyro-hfvae: stopped: ") and mutation.expected == Expected.FAITHFUL
            return "stopped" if stopped else "unclear"
        return "right" if self._accepted(mutation, done, folder / "work") else "wrong"

    def _accepted(self, mutation: Mutation, done: Done, work: Path) -> bool:
        """Whether it was right to accept the input, and the result is what it should be."""
        match mutation.expected:
            case Expected.REFUSED:
                return False
            case Expected.EQUAL | Expected.EITHER:
                return same(self._unchanged(mutation.command), result(mutation.command, work, done))
            case Expected.FAITHFUL:
                recorded = yaml.safe_load((work / "new" / "config.yaml").read_text(encoding="utf-8"))
                return mutation.recorded is not None and contains(recorded, mutation.recorded)
        found = result(mutation.command, work, done)
        return bool(found) and ("page" not in found or well_formed(found["page"]))

    def _unchanged(self, command: Sequence[str]) -> dict[str, Any]:
        key = tuple(command)
        if key not in self._results:
            folder = self._copy()
            done = _run(command, folder)
            if done.status != 0:
                raise RuntimeError(f"{command} fails on what was not changed: {done.err}")
            self._results[key] = result(command, folder / "work", done)
        return self._results[key]


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def _run(command: Sequence[str], folder: Path) -> Done:
    return run(command, folder, call=_load if command[0] == "load" else main)


def _load(arguments: Sequence[str]) -> int:
    """``load_run`` as a command: prints what was loaded."""
    try:
        loaded = load_run(arguments[1])
    except (ValueError, OSError, NotImplementedError) as error:
        print(f"pyro-hfvae: error: {one_line(error)}", file=os.sys.stderr)  # type: ignore[attr-defined]
        return 2
    weights = {**loaded.model.state_dict(), **loaded.guide.state_dict()}
    content = b"".join(value.numpy().tobytes() for value in weights.values())
    print(loaded.step, hashlib.sha256(content).hexdigest())
    return 0


def _may_write(name: str, writes: Sequence[str], new: str | None) -> bool:
    """Whether a command may write a path: what it is there for, the new run, and the folders above it."""
    if new is not None and (f"{name}/".startswith(f"{new}/") or f"{new}/".startswith(f"{name}/")):
        return True
    return any(fnmatch(f"{name}/", f"{pattern}*") for pattern in writes)


def _kind(command: Sequence[str]) -> str:
    return "resume" if any(str(part).startswith("--resume") for part in command) else command[0]


def _new_run(command: Sequence[str]) -> str | None:
    """The folder that ``fit`` is to make."""
    return command[command.index("--run") + 1] if command[0] == "fit" and "--run" in command else None


def files(folder: Path) -> dict[str, str]:
    """What every path below a folder is: a checksum, a link's target, or a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.is_dir():
            found[str(path.relative_to(folder))] = "folder"
    return found


def result(command: Sequence[str], work: Path, done: Done) -> dict[str, Any]:
    """What a command has made, without what differs from time to time."""
    kind = _kind(command)
    if kind == "load":
        return {"loaded": done.out}
    if kind in ("fit", "resume"):
        run = work / (_new_run(command) or "run")
        return {"checkpoint": checkpoint(run), "history": (run / "metrics.csv").read_text()}
    if kind == "report":
        return {"page": (work / "run" / "report.html").read_text(encoding="utf-8")}
    made = {"evaluate": ("metrics.json", "codes.npz"), "traverse": ("pictures/*.png",), "check": ("checks/*.txt",)}
    paths = [path for pattern in made[kind] for path in sorted((work / "run").glob(pattern))]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def checkpoint(run: Path) -> dict[str, Any]:
    """What a run's last checkpoint holds of the training, all but the names of versions."""
    content = torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    parts = ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "random_state", "data")
    return {part: content[part] for part in parts}


def same(a: Any, b: Any) -> bool:
    """Equal to the bit; empty slots of a memory are NaN."""
    if isinstance(a, torch.Tensor):
        return (
            isinstance(b, torch.Tensor)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
        )
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return bool(type(a) is type(b) and a == b)


def contains(recorded: Any, given: Any) -> bool:
    """Whether a resolved configuration holds what was given: classes by any of their names, numbers as numbers."""
    if isinstance(given, Mapping):
        if isinstance(recorded, Mapping) and "class_path" in recorded and "class_path" not in given:
            recorded = recorded.get("init_args", {})  # of a class that is the default
        return isinstance(recorded, Mapping) and all(
            key in recorded and contains(recorded[key], value) for key, value in given.items()
        )
    if isinstance(recorded, Mapping) and isinstance(given, str):
        return str(recorded.get("class_path", "")).rpartition(".")[2] == given.rpartition(".")[2]
    if isinstance(given, list):
        return isinstance(recorded, list) and len(recorded) == len(given) and all(map(contains, recorded, given))
    if isinstance(given, bool) or isinstance(recorded, bool) or given is None or recorded is None:
        return given is recorded
    if isinstance(given, int | float) and isinstance(recorded, int | float):
        return given == recorded or math.isclose(given, recorded, rel_tol=1e-15)
    return str(given) == str(recorded) or str(recorded).rpartition(".")[2] == str(given).rpartition(".")[2]


def well_formed(page: str) -> bool:
    """Whether a page is whole, and nothing of a run's own text stands in it as markup."""
    found: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            found.append(tag)

    Tags().feed(page)
    return "</html>" in page and "evil" not in found


assert set(WRITES) == set(COMMANDS)
