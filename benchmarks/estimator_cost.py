"""What a training step with a memory costs, as a multiple of one with the paper's estimator; they take turns.

Two blocks of five Gaussian variables and ten categories; N = 4,096, so that the memory holds everything; an epoch has
filled it before. Processor time of one thread: others use the machine too.
Usage: python benchmarks/estimator_cost.py [--batch-size 64] [--steps 40]
"""

import argparse
import itertools
import time
from collections.abc import Callable

import pyro
import torch

from pyro_hfvae import HierarchicalELBO
from pyro_hfvae.guides import ConvEncoder, ImageGuide, MLPEncoder
from pyro_hfvae.infer import Marginal, Memory, Minibatch
from pyro_hfvae.models import ConvDecoder, ImageModel, MLPDecoder

N = 4096
GAUSSIAN = {"first": 5, "second": 5}


def trainer(convolutional: bool, discrete: dict[str, int], marginal: Marginal, batch_size: int) -> Callable[[], None]:
    torch.manual_seed(0)
    side = 64 if convolutional else 28
    images = torch.rand(N, 1, side, side)
    model = ImageModel(GAUSSIAN, discrete, ConvDecoder if convolutional else MLPDecoder)
    guide = ImageGuide(GAUSSIAN, discrete, ConvEncoder if convolutional else MLPEncoder)
    programs = HierarchicalELBO(N, between=5.0, within=3.0, marginal=marginal)(model, guide)
    optimizer = torch.optim.Adam(programs.program_parameters(), lr=1e-3)
    batches = itertools.cycle(torch.arange(N).split(batch_size))

    def step() -> None:
        optimizer.zero_grad()
        programs(images[next(batches)]).backward()
        optimizer.step()
        programs.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pyro.settings.set(module_local_params=True)
    pyro.enable_validation(False)
    for convolutional in (False, True):
        for discrete in ({}, {"digit": 10}):
            steps = [
                trainer(convolutional, discrete, marginal, options.batch_size) for marginal in (Minibatch(), Memory(N))
            ]
            seconds: list[list[float]] = [[], []]
            warm = 5 + N // options.batch_size
            for turn in range(warm + options.steps):
                for step, taken in zip(steps, seconds, strict=True):
                    start = time.process_time()
                    step()
                    if turn >= warm:
                        taken.append(time.process_time() - start)
            # The machine's speed drifts: the ratio of neighbours in time, and its median.
            ratios = sorted(memory / paper for paper, memory in zip(*seconds, strict=True))
            paper = sorted(seconds[0])[len(ratios) // 2]
            name = f"{'convolutions, 64×64' if convolutional else 'dense layers, 28×28'}{', digit' if discrete else ''}"
            print(f"{name:28} {1e3 * paper:7.1f} ms a step; with memory × {ratios[len(ratios) // 2]:.2f}", flush=True)


if __name__ == "__main__":
    main()
