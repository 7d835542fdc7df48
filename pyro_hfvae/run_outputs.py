"""What evaluate, traverse and check wrote for a run, and the training step that each output belongs to."""

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from pyro_hfvae.files import write_atomically

__all__ = ["OUTPUT_FILES", "output_step", "read_json", "record_files", "trained_steps"]

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
    """The training step of the output of a subcommand; None where there is no output or no step in its file.

    Raises:
        ValueError: the file that holds the step cannot be read; names it.
    """
    file = run / OUTPUT_FILES[command]
    return read_json(file).get("step") if file.is_file() else None


def record_files(folder: Path, step: int, names: Iterable[str]) -> None:
    """Writes ``folder/drawn.json``: the step, and the files in the folder that belong to it. Call it last.

    Files that were recorded before for the same step stay in the record. Files that were recorded for another step and
    are not among ``names`` are deleted, because they no longer show the run. Files without a record are not touched.
    """
    record, written = folder / "drawn.json", set(names)
    before = read_json(record) if record.is_file() else {}
    earlier = set(before.get("files", ()))
    if before.get("step") == step:
        written |= earlier
    else:
        for name in earlier - written:
            (folder / name).unlink(missing_ok=True)
    write_atomically(record, json.dumps({"step": step, "files": sorted(written)}, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping.

    Raises:
        ValueError: it does not; names it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no mapping of names to values")
    return content
