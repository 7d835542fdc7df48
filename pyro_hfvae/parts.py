"""What was made of a run after its training, and at which training step: whether the newest checkpoint is shown."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from pyro_hfvae.files import write_atomically

__all__ = ["PARTS", "made_at", "read_json", "record_drawn", "trained_steps"]

PARTS = {"evaluate": "metrics.json", "traverse": "pictures/drawn.json", "check": "checks/drawn.json"}
"""Each subcommand that makes a part, and the file in which that part says its ``step``; it is written last."""


def trained_steps(run: Path) -> int | None:
    """The training steps of the newest checkpoint; None where there is none that can be read."""
    try:
        # Mapped, so that the parameters are not read.
        checkpoint = torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True, mmap=True)
        return int(checkpoint["global_step"])
    except Exception:  # torch raises several kinds; who needs the parameters is told by RunFolder what is wrong
        return None


def made_at(run: Path, command: str) -> int | None:
    """The training step at which a part was made; None where it was not, or does not say.

    Raises:
        ValueError: the file that says it cannot be read; names it.
    """
    file = run / PARTS[command]
    return read_json(file).get("step") if file.is_file() else None


def record_drawn(folder: Path, step: int, names: Iterable[str]) -> None:
    """Says in ``folder/drawn.json`` at which step files of the folder were made, once they all are.

    What it says of an earlier drawing at the same step stands. Files that were made at another step and not again are
    removed: they show what the run no longer is. Files that it does not name are not touched.
    """
    record, drawn = folder / "drawn.json", set(names)
    before = read_json(record) if record.is_file() else {}
    earlier = set(before.get("files", ()))
    if before.get("step") == step:
        drawn |= earlier
    else:
        for name in earlier - drawn:
            (folder / name).unlink(missing_ok=True)
    write_atomically(record, json.dumps({"step": step, "files": sorted(drawn)}, indent=2) + "\n")


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
