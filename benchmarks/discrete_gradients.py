"""What each treatment of a categorical makes of the gradient of its terms, against the exact one.

First: 64 posteriors over 10 categories, some likelier than others, uniform prior, all data in the batch, Concrete
temperature .66; the gradient with respect to the logits of E[KL(q(y|x) || p(y))], I(x; y) and KL(q(y) || p(y)). Cosine
of the mean over 3,000 draws to the exact gradient, and the spread of one draw: root mean squared distance from that
mean, over the size of the exact gradient. Second: five categoricals of 10, whose 100,000 combinations are too many to
go through, in a batch of 64 of 1,000 data: E[log q(y)] of their joint marginal by parts and draws.
Usage: python benchmarks/discrete_gradients.py
"""

import math
from collections.abc import Callable

import pyro.distributions as dist
import torch
from hand_made import group, log_aggregates, sample_of
from torch import Tensor

from pyro_hfvae.distributions import Concrete, ConcreteDensity, StraightThroughConcrete
from pyro_hfvae.infer import Minibatch, categories
from pyro_hfvae.sites import read_site

N, K, TEMPERATURE, DRAWS = 64, 10, 0.66, 3000
LogDensities = tuple[Tensor, Tensor, Tensor]
"""log q(y^b|x^b) and log p(y^b), [B], and log q(y^b|x^m), [B, M]."""


def at_arg_max(logits: Tensor) -> LogDensities:
    category = Concrete(TEMPERATURE, logits=logits).rsample().argmax(-1)
    pairs = logits.log_softmax(-1)[:, category].T
    return pairs.diagonal(), torch.full((N,), -math.log(K)), pairs


def by_density(logits: Tensor) -> LogDensities:
    fn = ConcreteDensity(TEMPERATURE, logits=logits)
    value = fn.rsample()
    prior = ConcreteDensity(TEMPERATURE, logits=torch.zeros(K))
    pairs = fn.log_prob(value[:, None])
    return pairs.diagonal(), prior.log_prob(value), pairs


def straight_through(logits: Tensor) -> LogDensities:
    value = StraightThroughConcrete(TEMPERATURE, logits=logits).rsample()
    pairs = value @ logits.log_softmax(-1).T
    return pairs.diagonal(), -math.log(K) * value.sum(-1), pairs


def sampled(of: Callable[[Tensor], LogDensities]) -> Callable[[Tensor], Tensor]:
    def terms(logits: Tensor) -> Tensor:
        conditional, prior, pairs = of(logits)
        marginal = pairs.logsumexp(-1) - math.log(N)
        return torch.stack([conditional - prior, conditional - marginal, marginal - prior]).mean(-1)

    return terms


def enumerated(logits: Tensor) -> Tensor:
    log_mass = logits.log_softmax(-1)
    mass, marginal = log_mass.exp(), log_mass.logsumexp(0) - math.log(N)
    parts = [log_mass + math.log(K), log_mass - marginal, (marginal + math.log(K)).expand(N, K)]
    return torch.stack([(mass * part).sum(-1) for part in parts]).mean(-1)


def gradients(terms: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_()
    found = terms(logits)
    return torch.stack([torch.autograd.grad(part, logits, retain_graph=True)[0].flatten() for part in found])


def of_one_site() -> None:
    logits = 2 * torch.randn(N, K) + torch.linspace(-2, 2, K)
    exact = gradients(enumerated, logits)
    print(f"{'':18}cosine of the mean, spread of one draw, of KL, mutual information, marginal KL")
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "mass at arg-max": sampled(at_arg_max),
        "density": sampled(by_density),
        "straight-through": sampled(straight_through),
        "enumeration": enumerated,
    }
    for name, terms in ways.items():
        draws = 1 if terms is enumerated else DRAWS
        total, squares = torch.zeros_like(exact), torch.zeros(3)
        for _ in range(draws):
            found = gradients(terms, logits)
            total += found
            squares += found.square().sum(1)
        mean = total / draws
        spread = (squares / draws - mean.square().sum(1)).clamp_min(0).sqrt() / exact.norm(dim=1)
        cosine = torch.cosine_similarity(mean, exact, 1)
        print(f"{name:18}" + "  ".join(f"{c:6.3f} {s:6.2f}" for c, s in zip(cosine, spread, strict=True)), flush=True)


def of_five_sites(draws: int = 20) -> None:
    logits = [2 * torch.randn(64, K) for _ in range(5)]

    def found() -> tuple[Tensor, Tensor]:
        leaves = [part.clone().requires_grad_() for part in logits]
        names = [f"y{place}" for place in range(5)]
        fns = [dist.OneHotCategorical(logits=part) for part in leaves]
        q = {name: read_site(name, fn, fn.sample()) for name, fn in zip(names, fns, strict=True)}
        references = Minibatch().references(sample_of(q), 1000)
        value = log_aggregates(q, [group(**{name: [0] for name in names})], references)[0].mean()
        return value.detach(), torch.cat([part.flatten() for part in torch.autograd.grad(value, leaves)])

    limit, categories.MAXIMUM_COMBINATIONS = categories.MAXIMUM_COMBINATIONS, K**5
    exact, exact_gradient = found()
    categories.MAXIMUM_COMBINATIONS = limit
    values, parts = zip(*(found() for _ in range(draws)), strict=True)
    value, gradient = torch.stack(values), torch.stack(parts)
    error = value.std() / math.sqrt(draws)
    print(
        f"by parts: exact {exact:.3f}, mean of {draws} {value.mean():.3f} ± {error:.3f}, one draw ± {value.std():.3f}"
    )
    spread = gradient.var(0).sum().sqrt() / exact_gradient.norm()
    cosines = torch.cosine_similarity(gradient, exact_gradient, 1)
    mean = torch.cosine_similarity(gradient.mean(0), exact_gradient, 0)
    print(f"gradient: cosine of one draw {cosines.mean():.3f}, of the mean {mean:.4f}; spread of one draw {spread:.2f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    of_one_site()
    of_five_sites()
