"""What decides which data are trained on and which are held out, kept with a run so that it goes on with the same."""

import zlib

import torch
from torch import Tensor

from pyro_hfvae.train.data_module import DataModule

__all__ = ["data_record", "split_record"]

CHECKED_BYTES = 2**27
"""Of larger data, a part of this size is compared: it is read or drawn at every start."""


def split_record(data: DataModule) -> dict[str, int]:
    """The seed, the numbers of data and of held-out data, and a checksum of the held-out indices."""
    return {
        "seed": data.seed,
        "size": len(data.source),
        "held_out": len(data.held_out_indices),
        "split": _checksum(data.held_out_indices),
    }


def data_record(data: DataModule) -> dict[str, int]:
    """The same with a checksum of the content, which takes a while."""
    source = data.source
    with torch.random.fork_rng():
        torch.manual_seed(0)
        size = sum(values.nbytes for values in source.batch(torch.arange(1)).values())
        count = min(len(source), max(1, CHECKED_BYTES // max(1, size)))
        chosen = torch.randperm(len(source))[:count].sort().values
        content = 0
        for indices in chosen.split(256):
            for values in (*source.batch(indices).values(), source.factors(indices)):
                content = _checksum(values, content)
    return split_record(data) | {"content": content}


def _checksum(values: Tensor, before: int = 0) -> int:
    return zlib.crc32(values.detach().cpu().flatten().view(torch.uint8).numpy().tobytes(), before)
