"""How long training steps of a trained run take with denormal numbers as they are, against denormal numbers as zero.

Usage: python benchmarks/denormals.py RUN

The two are timed in turn, in processor time, so that other work on the machine slows both; the ratio is what counts.
"""

import statistics
import sys
import time

import pyro
import torch

from pyro_hfvae.train import LoadedRun, load_run

STEPS = 10
ROUNDS = 9


def seconds(run: LoadedRun, flush: bool) -> float:
    """Processor time of forward and backward passes of ``STEPS`` batches."""
    module = run.objective(run.model, run.guide)
    torch.set_flush_denormal(flush)
    torch.manual_seed(0)
    batches = iter(run.data.train_dataloader())
    started = time.process_time()
    for _ in range(STEPS):
        module.zero_grad()
        module(*next(batches)).backward()
    return time.process_time() - started


def main() -> None:
    """Prints milliseconds a step, and the ratio."""
    run = load_run(sys.argv[1])
    run.model.train()
    run.guide.train()
    with pyro.validation_enabled(False):
        seconds(run, True)
        pairs = [(seconds(run, False), seconds(run, True)) for _ in range(ROUNDS)]
    kept, zero = (1000 * statistics.median(times) / STEPS for times in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print(f"denormals kept {kept:.1f} ms, as zero {zero:.1f} ms a step; ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
