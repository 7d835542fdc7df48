"""Frames a second that the dSprites renderer draws on one core, against unpacking the same from bits in memory."""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pyro_hfvae.data import DSprites


def best_rate(ask: Callable[[Tensor], Tensor], batches: list[Tensor], repeats: int) -> float:
    """Frames a second in the quickest of some passes: what else the machine does can only slow a pass down."""
    quickest = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        for batch in batches:
            ask(batch)
        quickest = min(quickest, time.perf_counter() - start)
    return sum(map(len, batches)) / quickest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    torch.set_num_threads(1)
    start = time.perf_counter()
    drawn = DSprites()
    built = time.perf_counter() - start
    generator = torch.Generator().manual_seed(0)
    shape = (options.batches, options.batch_size)
    batches = list(torch.randint(0, len(drawn), shape, generator=generator))

    # The alternative holds every frame of these batches as bits, as a reader of the original file would.
    bits = np.concatenate([np.packbits(drawn.images(batch).numpy().astype(bool)).reshape(-1, 512) for batch in batches])
    places = list(torch.randperm(len(bits), generator=generator).view(shape))

    def unpack(batch: Tensor) -> Tensor:
        return torch.from_numpy(np.unpackbits(bits[batch.numpy()], axis=1)).view(-1, 1, 64, 64).float()

    rates = best_rate(drawn.images, batches, options.repeats), best_rate(unpack, places, options.repeats)
    print(f"construction          {built:10.2f} s")
    print(f"renderer              {rates[0]:10,.0f} frames/s, random batches of {options.batch_size}, one core")
    print(f"unpacking stored bits {rates[1]:10,.0f} frames/s")
    print(f"renderer / unpacking  {rates[0] / rates[1]:10.2f}")


if __name__ == "__main__":
    main()
