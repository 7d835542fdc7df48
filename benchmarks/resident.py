"""A callback that notes the resident memory of a training, for load.py."""

from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer

PAGE = 4096 / 2**20  # MiB


class ResidentMemory(Callback):
    """Writes a line with the step and the resident memory in MiB, every so many steps."""

    def __init__(self, path: str, every: int) -> None:
        self.path = Path(path)
        self.every = every

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step % self.every == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            with self.path.open("a") as file:
                file.write(f"{trainer.global_step} {pages * PAGE:.1f}\n")
