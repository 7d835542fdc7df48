"""Bias and spread of the gradient that an estimator gives, against the exact marginal's.

400 posteriors in 4 variables, two blocks of 2, I(x; z) weighted 1, A 5, i 3, ii 1; batches of 32; the gradient with
respect to the means and log-scales of the batch. `path`: a memory whose references, the batch's too, carry no gradient,
which is unbiased. Usage: python benchmarks/estimator_gradients.py
"""

import math

import torch
from hand_made import group, log_aggregates, normal, sample_of
from torch import Tensor
from torch.distributions import Normal

from pyro_hfvae.infer import Exact, Marginal, Memory, Minibatch

N, D, B = 400, 4, 32
GROUPS = [group(z=range(D)), group(z=[0, 1]), group(z=[2, 3]), *(group(z=[index]) for index in range(D))]


def gradient(loc: Tensor, log_scale: Tensor, marginal: Marginal, data: Tensor, path: bool = False) -> Tensor:
    """Of the weighted terms, summed over the batch, [B, 2 D]."""
    loc, log_scale = loc.clone().requires_grad_(), log_scale.clone().requires_grad_()
    scale = log_scale.exp()
    value = loc + scale * torch.randn_like(loc)
    q = {"z": normal(value, loc.detach(), scale.detach()) if path else normal(value, loc, scale)}
    found = log_aggregates(q, GROUPS, marginal.references(sample_of(q, data), N))
    joint, first, second, *variables = (part.sum() for part in found)
    single, block = torch.stack(variables).sum(), first + second
    conditional, prior = Normal(loc, scale).log_prob(value).sum(), Normal(0.0, 1.0).log_prob(value).sum()
    cost = conditional - joint + 5 * (joint - block) + 3 * (block - single) + single - prior
    return torch.cat(torch.autograd.grad(cost, [loc, log_scale]), 1)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    everything = torch.arange(N)
    for s in (0.1, 0.3):
        correlation = torch.full((D, D), 0.5).fill_diagonal_(1.0)
        loc = math.sqrt(1 - s * s) * torch.randn(N, D) @ torch.linalg.cholesky(correlation).T
        log_scale = math.log(s) + 0.2 * torch.randn(N, D)
        full = torch.stack([gradient(loc, log_scale, Exact(), everything) for _ in range(250)])
        exact, spread = full.mean(0), full.std(0).square().mean().sqrt()
        signal = exact.square().mean().sqrt()
        print(f"s = {s}: root mean square of the exact gradient {signal:.2f}; Exact: standard deviation {spread:.2f}")
        memory = Memory(N)
        for which in everything.split(B):
            q = normal(loc[which], loc[which], log_scale[which].exp())
            memory.record(sample_of({"z": q}, which), N)
        for name, marginal, path in (
            ("Minibatch", Minibatch(), False),
            ("Memory", memory, False),
            ("path", memory, True),
        ):
            total, squares, count = torch.zeros(N, 2 * D), torch.zeros(N, 2 * D), torch.zeros(N, 1)
            for _ in range(40):
                for which in torch.randperm(N).split(B)[: N // B]:
                    found = gradient(loc[which], log_scale[which], marginal, which, path)
                    total[which] += found
                    squares[which] += found**2
                    count[which] += 1
            mean = total / count
            variance = ((squares / count - mean**2) * count / (count - 1)).mean()
            # What is left of the noise in the two means is not bias.
            bias = ((mean - exact) ** 2).mean() - variance / count.mean() - spread**2 / len(full)
            cosine = torch.cosine_similarity(mean.flatten(), exact.flatten(), 0)
            print(f"  {name:10} bias {bias.clamp_min(0).sqrt():.2f}  standard deviation {variance.sqrt():.2f}", end="")
            print(f"  cosine of the mean {cosine:.3f}", flush=True)


if __name__ == "__main__":
    main()
