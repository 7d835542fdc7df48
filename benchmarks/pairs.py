"""Pairs a second that the sampler draws on one core, against a plain Python loop over the data of a batch."""

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor

from pyro_hfvae.weak import Pairing, PairSampler

NAMES = ("identity", "yaw", "pitch", "expression")
SIZES = (30, 9, 5, 7)
BLOCKS = {"pose": ["yaw", "pitch"], "expression": ["expression"], "residual": []}
IDENTITY = 0.4


def plain_loop(factors: Tensor) -> Callable[[Tensor, int], object]:
    """The same pairs, one by one."""
    rows = factors.tolist()
    columns = {"pose": (1, 2), "expression": (3,)}
    groups = {name: defaultdict(list) for name in columns}
    for datum, row in enumerate(rows):
        for name, chosen in columns.items():
            groups[name][tuple(row[column] for column in chosen)].append(datum)

    def pairs(inputs: Tensor, step: int) -> object:
        source = random.Random(step)
        targets, gates = [], {name: [] for name in BLOCKS}
        for datum in inputs.tolist():
            mode = "identity" if source.random() < IDENTITY else source.choice(["pose", "expression"])
            target = datum
            if mode != "identity":
                group = groups[mode][tuple(rows[datum][column] for column in columns[mode])]
                while target == datum:
                    target = source.choice(group)
            targets.append(target)
            for name, gate in gates.items():
                gate.append(mode in ("identity", name))
        return torch.tensor(targets), {name: torch.tensor(gate) for name, gate in gates.items()}

    return pairs


def best_rate(draw: Callable[[Tensor, int], object], batches: list[Tensor], repeats: int) -> float:
    """Pairs a second of processor time in the quickest of some passes: other work can only slow a pass down."""
    quickest = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        for step, batch in enumerate(batches):
            draw(batch, step)
        quickest = min(quickest, time.process_time() - start)
    return sum(map(len, batches)) / quickest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    torch.set_num_threads(1)
    factors = torch.cartesian_prod(*map(torch.arange, SIZES))
    indices = torch.arange(len(factors))
    start = time.perf_counter()
    sampler = PairSampler(Pairing(BLOCKS, identity=IDENTITY), indices, factors, NAMES, seed=0)
    built = time.perf_counter() - start
    shape = (options.batches, options.batch_size)
    batches = list(torch.randint(0, len(factors), shape, generator=torch.Generator().manual_seed(0)))
    rates = [best_rate(draw, batches, options.repeats) for draw in (sampler.pairs, plain_loop(factors))]
    print(f"construction, {len(factors):,} data {built:11.3f} s")
    print(f"sampler                  {rates[0]:11,.0f} pairs/s, batches of {options.batch_size}, one core")
    print(f"plain Python loop        {rates[1]:11,.0f} pairs/s")
    print(f"sampler / plain loop     {rates[0] / rates[1]:11.2f}")


if __name__ == "__main__":
    main()
