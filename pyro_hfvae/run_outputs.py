"""What evaluate, traverse and check wrote for a run, and the training step that each output belongs to."""

import json
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

import torch

from pyro_hfvae.files import write_atomically

__all__ = ["OUTPUT_FILES", "output_step", "read_json", "read_text", "record_files", "refuse_links", "trained_steps"]

OUTPUT_FILES = {"evaluate": "metrics.json", "traverse": "pictures/drawn.json", "check": "checks/drawn.json"}
"""Subcommand to the file that holds the ``step`` of its output; it is written last."""


def trained_steps(run: Path) -> int | None:
    """The training steps of the newest checkpoint; None where none can be read."""
    path = run / "checkpoints" / "last.ckpt"
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith("/data.pkl"):  # all but the numbers of tensors
                    archive.read(name)  # compares its checksum
        # Mapped, so that the parameters are not read.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return int(checkpoint["global_step"])
    except Exception:  # torch raises several kinds; RunFolder.load_checkpoint reports what is wrong
        return None


def output_step(run: Path, command: str) -> int | None:
    """The training step of the output of a subcommand; None where there is no output, or no step can be read."""
    return _step(run / OUTPUT_FILES[command])


def record_files(folder: Path, step: int, names: Iterable[str]) -> None:
    """Writes ``folder/drawn.json``: the step, and the files in the folder that belong to it. Call it last.

    Files that were recorded before for the same step stay in the record. Pictures that were recorded for another step
    and are not among ``names`` are deleted, because they no longer show the run. Files without a record are not
    touched, nor is anything outside the folder, whatever the record names. A damaged record is written anew.
    """
    record, written = folder / "drawn.json", set(names)
    earlier = _recorded(record)
    if _step(record) == step:
        written |= earlier
    else:
        for name in earlier - written:
            (folder / name).unlink(missing_ok=True)
    write_atomically(record, json.dumps({"step": step, "files": sorted(written)}, indent=2) + "\n")


def _step(file: Path) -> int | None:
    try:
        step = read_json(file).get("step")
    except (OSError, ValueError):
        return None
    return step if isinstance(step, int) else None


def _recorded(record: Path) -> set[str]:
    """The pictures of the folder itself that its record names."""
    try:
        names = read_json(record).get("files")
    except (OSError, ValueError):
        return set()
    return {
        name
        for name in (names if isinstance(names, list) else [])
        if isinstance(name, str)
        and PurePath(name).name == name
        and PurePath(name).suffix in (".png", ".gif")
        and (record.parent / name).is_file()
    }


def refuse_links(run: Path) -> None:
    """Refuses a run folder in which a link leads out of it or nowhere: nothing is read or written where it points.

    Raises:
        ValueError: there is such a link; names it.
    """
    whole = run.resolve()
    for folder, folders, files in os.walk(run):
        for path in (Path(folder, name) for name in (*folders, *files)):
            if not path.is_symlink():
                continue
            inside = Path(os.path.realpath(path)).is_relative_to(whole)  # Path.resolve fails on a link to itself
            if not inside or not path.exists():
                where = "nowhere" if inside else "out of the run folder"
                raise ValueError(f"'{path}' is a link that leads {where}: put the file itself there")


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        ValueError: it is not UTF-8; names the file.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is no text in UTF-8: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping.

    Raises:
        ValueError: it does not; names it.
    """
    try:
        content = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no mapping of names to values")
    return content
