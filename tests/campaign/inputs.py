"""What the mutations start from: a configuration, files of data, and a run with everything in it."""

import gzip
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from support import TinyImages

from campaign.server import run

__all__ = ["COMMANDS", "IDX_FILES", "SENTINEL", "TINY", "arrays", "base", "make_inputs", "write_idx", "write_npz"]

TINY = Path(__file__).parents[1] / "tiny.yaml"

SENTINEL = "sentinel"
"""Beside the working folder: who makes it has executed code."""

STRANGER = f"""import os
os.close(os.open(os.path.join(os.environ["HOME"], "..", {SENTINEL!r}), os.O_CREAT))
from pyro_hfvae.data import ImageFile as Data
from pyro_hfvae.guides import ImageGuide as Guide, MLPEncoder as Encoder
from pyro_hfvae.infer import HierarchicalELBO as Objective
from pyro_hfvae.models import ImageModel as Model, MLPDecoder as Decoder
from pyro_hfvae.schedules import Linear as Schedule
from pytorch_lightning import Callback
from torch.optim import Adam as Optimizer
"""
"""A module that works and leaves a trace when it is imported."""

COMMANDS = {
    "fit": ("fit", "--config", "config.yaml", "--run", "new"),
    "resume": ("fit", "--resume", "run", "--trainer.max_steps", "6"),
    "evaluate": ("evaluate", "run", "--permutations", "0", "--samples", "30", "--term_samples", "30"),
    "traverse": ("traverse", "run", "--columns", "2"),
    "check": (
        *("check", "run", "--data", "4", "--draws", "50", "--predictive_draws", "39", "--simulations", "20"),
        *("--aggregate_data", "20"),
    ),
    "report": ("report", "run"),
    "load": ("load", "run"),
}
"""The commands, on little data; ``load`` is ``load_run`` in Python."""

IDX_FILES = tuple(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


def base() -> dict[str, Any]:
    """The configuration: three steps on a file of images, in .8 seconds."""
    config: dict[str, Any] = yaml.safe_load(TINY.read_text())
    config["seed"] = 1
    config["data"] = {"class_path": "pyro_hfvae.data.ImageFile", "init_args": {"path": "data.npz"}}
    config["training"]["temperature"]["init_args"]["steps"] = 2
    config["trainer"] |= {"max_steps": 3, "val_check_interval": 2, "limit_val_batches": 1, "log_every_n_steps": 1}
    config["checkpoint_every"] = 2
    return config


def arrays() -> dict[str, Any]:
    """What the file of images holds."""
    images, every = TinyImages(), torch.arange(100)
    return {
        "images": (images.images(every)[:, 0] * 255).byte().numpy(),  # [100, 8, 8]
        "factors": images.factors(every).numpy(),
        "factor_names": np.array(images.factor_names),
        "factor_kinds": np.array(images.factor_kinds),
        "held_out": np.arange(0, 100, 4),
    }


def write_npz(path: Path, content: dict[str, Any]) -> None:
    np.savez(path, **content)


def write_idx(path: Path, values: np.ndarray[Any, Any]) -> None:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), mtime=0))


def make_inputs(folder: Path) -> None:
    """Writes ``folder/work`` and trains, measures, draws, checks and reports ``folder/work/run``."""
    work = folder / "work"
    (work / "idx").mkdir(parents=True)
    (work / "config.yaml").write_text(yaml.safe_dump(base(), sort_keys=False))
    (work / "notes.txt").write_text("The user's own.\n")
    (work / "stranger.py").write_text(STRANGER)
    content = arrays()
    write_npz(work / "data.npz", content)
    labels = content["factors"][:, 2].astype(np.uint8)
    parts = (slice(70), slice(70, None))
    values = [of[part] for part in parts for of in (content["images"], labels)]
    for name, part in zip(IDX_FILES, values, strict=True):
        write_idx(work / "idx" / name, part)
    for command in (("fit", "--config", "config.yaml", "--run", "run"), *list(COMMANDS.values())[2:6]):
        done = run(command, folder)
        if done.status != 0:
            raise RuntimeError(f"{' '.join(command)} fails: {done.err}")
    for name in os.listdir(folder):
        if name in ("out", "err"):
            (folder / name).unlink()
