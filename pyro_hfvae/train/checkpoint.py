"""Writing and reading checkpoints: whole or not at all, and never one that is damaged."""

import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO

from pyro_hfvae.files import replacing

__all__ = ["WholeCheckpoints", "read_checkpoint", "write_checkpoint"]

CONTENT: dict[str, type] = {
    "state_dict": Mapping,
    "global_step": int,
    "random_state": Mapping,
    "optimizer_states": list,
    "lr_schedulers": list,
    "loops": Mapping,
    "data": Mapping,
    "pytorch-lightning_version": str,
}
"""What a checkpoint of a run holds, and of which type."""


class WholeCheckpoints(TorchCheckpointIO):
    """How Lightning writes and reads the checkpoints of a run.

    Its own way is through the temporary folder, from where a file is copied if that is another file system.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Writes a checkpoint beside the old one, which it then replaces."""
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint without unpickling code, to the CPU."""
        return read_checkpoint(Path(path))


def write_checkpoint(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Writes a checkpoint beside the old one, reads it back, and only then takes the old one's place.

    Raises:
        OSError: it cannot be written, or is not what was written when it is read back; the old one stands.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:  # torch's writer hides the reason, a full disk say
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
        file.flush()
        file.seek(0)
        if (damage := _damage(file)) is not None:
            raise OSError(f"checkpoint '{path}' was not written as it should be: {damage}")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads the checkpoint of a run without unpickling code, to the CPU.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or no checkpoint of a run.
    """
    with path.open("rb") as file:
        if (damage := _damage(file)) is not None:
            raise ValueError(f"checkpoint '{path}' cannot be read: {damage}")
        file.seek(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pickles that torch does not write, which the error names
                checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises several kinds, and none names the file
            reason = re.split(r"\.\s|\n", str(error))[0] or type(error).__name__
            raise ValueError(f"checkpoint '{path}' cannot be read: {reason}") from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"checkpoint '{path}' is not one of a run: it holds a {type(checkpoint).__name__}")
    if missing := [name for name in CONTENT if name not in checkpoint]:
        raise ValueError(f"checkpoint '{path}' is not one of a run: it lacks {', '.join(missing)}")
    wrong = [name for name, kind in CONTENT.items() if not isinstance(checkpoint[name], kind)]
    if not wrong and not isinstance(checkpoint["random_state"].get("cpu"), torch.Tensor):
        wrong = ["random_state"]
    if not wrong and (isinstance(checkpoint["global_step"], bool) or checkpoint["global_step"] < 0):
        wrong = ["global_step"]
    if wrong:
        raise ValueError(f"checkpoint '{path}' is not one of a run: what it holds as {wrong[0]} is something else")
    return checkpoint


def _damage(file: BinaryIO) -> str | None:
    """What is wrong with a file that torch wrote, by the checksum of each of its entries; None if nothing is.

    torch itself compares no checksums when it loads.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                return "it has compressed entries, so torch did not write it"
            damaged = archive.testzip()
    except Exception as error:  # of many kinds, by what is damaged
        return f"it is damaged, cut short or no checkpoint ({error})"
    return None if damaged is None else f"it is damaged: the checksum of its entry '{damaged}' is wrong"
