"""The terms by their definition, without the library: direct sums over all pairs of a sample and a datum, in float64.

A table of a group of variables has the shape [K of each category ..., B, N]: the log-density of the group at the sample
of datum b, for each combination of its categories, under the distribution that belongs to datum n. N is 1 where that
distribution is the same for all data.
"""

import functools
import math
from types import SimpleNamespace

import pyro
import pytest
import torch
from pyro import poutine
from torch.distributions import MultivariateNormal

ROUNDING = 1e-7
"""Nats: float64 has 16 digits, of which squares that are expanded lose up to half."""


def seeded(program, seed=0):
    """The program with the same noise at every call, however often it is called."""

    @functools.wraps(program)
    def run(*args, **kwargs):
        pyro.set_rng_seed(seed)
        return program(*args, **kwargs)

    return run


def draw(guide, *args):
    """The guide's sample, by site."""
    return {
        name: site["value"].detach() for name, site in poutine.trace(guide).get_trace(*args).iter_stochastic_nodes()
    }


def log_likelihood(model, guide, *args):
    """E log p(x|z) at the guide's sample, the mean over the batch, from Pyro's own trace."""
    trace = poutine.trace(guide).get_trace(*args)
    replayed = poutine.trace(poutine.replay(model, trace=trace)).get_trace(*args)
    replayed.compute_log_prob(lambda name, site: site["is_observed"])
    return sum(float(site["log_prob_sum"]) for site in replayed.nodes.values() if "log_prob_sum" in site) / len(args[0])


class Mixture:
    """Groups of variables that are independent given some categories; a plain product where there are none.

    Args:
        given: variable to its table, [K of all categories ..., B, N].
        log_mass: of the combinations of categories, [K ..., 1 or B, N].
        categories: the names of the categorical variables, one for each K; "" for one that is no latent variable.
    """

    def __init__(self, given, log_mass=0.0, categories=()):
        self.given, self.log_mass, self.categories = given, torch.as_tensor(log_mass), categories

    def __call__(self, group):
        total = self.log_mass + sum(self.given[name] for name in group if name in self.given)
        for dim in reversed(range(len(self.categories))):
            if self.categories[dim] not in group:
                total = total.logsumexp(dim)
        return total if total.dim() > 1 else total.expand(1, 1)


class Product:
    """Several such objects over different variables that are independent of one another."""

    def __init__(self, *factors):
        self.factors = factors  # pairs: names, object

    def __call__(self, group):
        total = torch.zeros(1, 1)
        for names, factor in self.factors:
            inside = [name for name in group if name in names]
            if inside:
                table = factor(inside)
                lead = total.dim() - 2
                total = total[(..., *(None,) * (table.dim() - 2), slice(None), slice(None))] + table[(None,) * lead]
        return total


class Normal:
    """Groups of the variables of a multivariate normal.

    Args:
        names: of the V variables.
        value: [B, V].
        loc: [V] or [N, V].
        covariance: [V, V] or [N, V, V].
    """

    def __init__(self, names, value, loc, covariance):
        self.names, self.value = list(names), value
        self.loc, self.covariance = loc.reshape(-1, len(names)), covariance.reshape(-1, len(names), len(names))

    def __call__(self, group):
        index = [self.names.index(name) for name in group]
        normal = MultivariateNormal(self.loc[:, index], self.covariance[:, index][:, :, index])
        return normal.log_prob(self.value[:, None, index])


def variables(site, size):
    """What the library calls them."""
    return [f"{site}[{index}]" for index in range(size)] if size > 1 else [site]


def pairs(fn, value):
    """Tables of the V variables of a site, {index: [B, N]}: fn is univariate of batch shape [N, V] or [V]."""
    table = fn.log_prob(value[:, None])
    return [table[..., index] for index in range(table.shape[-1])]


def independent(site, fn, value):
    """A product of the univariate variables of one site; fn has the batch shape [N, V] or [V], value [B, V]."""
    tables = pairs(fn, value)
    return Mixture(dict(zip(variables(site, len(tables)), tables, strict=True)))


def reference_terms(blocks, posterior, prior):
    r"""The terms of blocks, name to variables, in nats per datum.

    With \hat q(z_G) = (1/N) Σ_n q(z_G|x_n), \hat p(z_G) = (1/N) Σ_n p(z_G|c_n), and E over the data and q(z|x):

        information(G)    = E log q(z_G|x) - E log \hat q(z_G)
        dependence(W; G.) = (E log \hat q(z_W) - Σ E log \hat q(z_G)) - (E log \hat p(z_W) - Σ E log \hat p(z_G))
        dimension         = Σ_e E log \hat q(z_e) - E log \hat p(z_e)
    """
    everything = [name for block in blocks.values() for name in block]

    @functools.cache
    def expectations(group):
        """E log q(z_G|x), E log q̂(z_G), E log p(z_G|c), E log p̂(z_G)."""
        of_posterior, of_prior = posterior(list(group)), prior(list(group))
        data = of_posterior.shape[-1]
        of_posterior = of_posterior.expand(*of_posterior.shape[:-2], data, data)
        own = torch.diagonal(of_posterior, dim1=-2, dim2=-1)  # [K ..., B]
        mass = own.flatten(0, -2).softmax(0).view(own.shape) if own.dim() > 1 else torch.ones_like(own)

        def mean(table):
            return float((mass * table).sum().detach() / own.shape[-1])

        def marginal(table):
            return table.logsumexp(-1) - math.log(table.shape[-1])

        same = of_prior.shape[-1] == 1
        own_prior = of_prior.expand(*of_prior.shape[:-2], data, of_prior.shape[-1])
        own_prior = own_prior[..., 0] if same else torch.diagonal(own_prior, dim1=-2, dim2=-1)
        return mean(own), mean(marginal(of_posterior)), mean(own_prior), mean(marginal(of_prior))

    def information(group):
        of_group = expectations(tuple(group))
        return of_group[0] - of_group[1]

    def dependence(whole, parts):
        joint, each = expectations(tuple(whole)), [expectations(tuple(part)) for part in parts]
        return (joint[1] - sum(part[1] for part in each)) - (joint[3] - sum(part[3] for part in each))

    def dimension(name):
        of_variable = expectations((name,))
        return of_variable[1] - of_variable[3]

    parts = {
        block: SimpleNamespace(
            mutual_information=information(names),
            within=dependence(names, [[name] for name in names]),
            dimension=sum(dimension(name) for name in names),
            variables={
                name: SimpleNamespace(mutual_information=information([name]), dimension=dimension(name))
                for name in names
            },
        )
        for block, names in blocks.items()
    }
    joint = expectations(tuple(everything))
    return SimpleNamespace(
        mutual_information=joint[0] - joint[1],
        prior_information=joint[2] - joint[3],
        between=dependence(everything, blocks.values()),
        within=sum(part.within for part in parts.values()),
        dimension=sum(part.dimension for part in parts.values()),
        divergence=joint[0] - joint[2],
        blocks=parts,
    )


def assert_terms(terms, reference, tolerance=ROUNDING, reconstruction=None, conditional=False):
    """The library's terms against those of :func:`reference_terms`, those of each block and variable among them.

    Variables are compared in order, so that only their number and their order count, not what they are called.
    """

    def close(given, right, what):
        assert float(given) == pytest.approx(float(right), abs=tolerance), f"{what}: {float(given)}, not {float(right)}"

    assert list(terms.blocks) == list(reference.blocks)
    for name, block in reference.blocks.items():
        assert len(terms.blocks[name].variables) == len(block.variables)
        for given, right in zip(terms.blocks[name].variables.values(), block.variables.values(), strict=True):
            close(given.mutual_information, right.mutual_information, f"information of a variable of {name}")
            close(given.dimension, right.dimension, f"dimension of a variable of {name}")
        for term in ("mutual_information", "within", "dimension"):
            close(getattr(terms.blocks[name], term), getattr(block, term), f"{term} of block {name}")
    for term in ("mutual_information", "between", "within", "dimension"):
        close(getattr(terms, term), getattr(reference, term), term)
    if conditional:
        close(terms.prior_information, reference.prior_information, "prior_information")
    if reconstruction is not None:
        close(terms.reconstruction, reconstruction, "reconstruction")
        globals_ = sum(float(term) for term in getattr(terms, "globals", {}).values())
        close(terms.elbo, float(reconstruction) - reference.divergence - globals_, "elbo")
