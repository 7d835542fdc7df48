r"""Keeps objectives with structured priors bounded: the normalisers of their divergences.

For groups G_j of variables that depend on one another in the prior, the dependence term is the divergence of q from

.. math:: r(z) = \prod_j q(z_{G_j}) \, \frac{p(z)}{\prod_j p(z_{G_j})}, \qquad
    Z = E_{\prod_j q(z_{G_j})}\left[\frac{p(z)}{\prod_j p(z_{G_j})}\right],

which does not integrate to one but to Z: the term may fall to -log Z, and a weight that charges it more than others
pays a guide for leaving the prior, without end. Term + log Z is a divergence, 0 or more. With m the least of the
weights w of the dependence and dimension terms, the objective charges

.. math:: \sum_t w_t T_t + (w_t - m) \log Z_t = m\, KL(q(z) \| p(z)) + \sum_t (w_t - m) (T_t + \log Z_t) \ge 0.

Equal weights, 1 among them, leave log Z out: the ELBO stays the ELBO.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Size, Tensor

from pyro_hfvae.blocks import Group, Node, Variable
from pyro_hfvae.infer.ancestors import Ancestral
from pyro_hfvae.infer.sample import Sample
from pyro_hfvae.infer.structured import whole
from pyro_hfvae.infer.tables import Samples, masses_of_groups
from pyro_hfvae.sites import Site

__all__ = ["dependent_in_prior", "log_normalisers"]

EXCHANGES = 8
"""Exchanges of the groups between the data of a batch, R."""


def dependent_in_prior(sample: Sample, groups: Sequence[Iterable[Variable]]) -> bool:
    """Whether the prior has a dependence between some of the groups."""
    sites = [{variable.site for variable in group} for group in groups]
    for component in sample.dependence.components:
        if sum(bool(names & component.descendants.keys()) for names in sites) > 1:
            return True
    loose = [name for name, site in sample.priors.items() if not site.independent]
    return any(sum(name in names for names in sites) > 1 for name in loose)


def log_normalisers(sample: Sample, tree: Node, samples: Samples) -> dict[str, Tensor]:
    r"""log Z of each group and block whose parts depend on one another in the prior, scalars in nats, by name.

    .. math:: \log Z \approx \log \frac{1}{S R B} \sum_{b} \sum_y \prod_j q(y_{G_j}|x^{\pi_j(b)}, z'_{G_j})
        \frac{p(z', y)}{\prod_j p(z'_{G_j}, y_{G_j})}, \qquad z'_{G_j} = z_{G_j}^{\pi_j(b)}

    with π_j a permutation of the batch for each group, drawn anew R times, and all categories of discrete variables,
    whose masses depend on the continuous variables of their group where the guide's sites depend on one another.

    Args:
        sample: of a batch.
        tree: of blocks.
        samples: of ancestors.
    """
    wanted: dict[str, list[Group]] = {
        node.name: [frozenset(c.variables) for c in node.children] for node in tree.groups()
    }
    wanted |= {name: [frozenset({v}) for v in variables] for name, variables in tree.blocks.items()}
    found = {}
    with torch.autocast(sample.log_likelihood.device.type, enabled=False):
        for name, groups in wanted.items():
            if len(groups) > 1 and dependent_in_prior(sample, groups):
                found[name] = _log_normaliser(sample, groups, samples).to(sample.log_likelihood)
    return found


Categorical = tuple[str, int]
"""A site, and which of its categoricals."""

Place = Mapping[tuple[str, int], Tensor]
"""Of each variable, site and index: the order in which its group takes the data, [S R, B]."""


def _log_normaliser(sample: Sample, groups: Sequence[Group], samples: Samples) -> Tensor:
    particles, batch = sample.shape
    repeated = Size([EXCHANGES * particles, batch])
    device = sample.log_likelihood.device
    order = torch.rand(len(groups), *repeated, device=device).argsort(-1)
    kept = torch.arange(batch, device=device).expand(repeated)
    place = {(site.name, index): kept for site in sample.posteriors.values() for index in range(site.variables)}
    place |= {(v.site, v.index): order[j] for j, group in enumerate(groups) for v in group}
    values = whole(sample.posteriors, sample.shape)
    exchanged = {name: _exchanged(site, place) for name, site in values.items()}
    ratios = list(_log_ratios(sample, exchanged, repeated, groups, samples.prior))
    dependent = {name for names, _, _ in ratios for name in names}
    inside = [_in(group, dependent) for group in groups]
    masses = masses_of_groups(sample, inside, samples.guide)
    tables = [(table, keys) for _, table, keys in ratios]
    if sample.structured:  # one sum for all: given the datum, categories of one may depend on values of another
        tables = [_product(tables)]
    log_ratio = sample.log_likelihood.new_zeros(repeated)
    for table, keys in tables:
        for j, group in enumerate(inside):
            own = [key for key in keys if key in {(v.site, v.index) for v in group}]
            if own:
                mass = masses(group, own)  # [K ..., S, B]
                flat = mass.flatten(0, -3).repeat(1, EXCHANGES, 1)
                moved = flat.gather(-1, order[j].expand_as(flat))
                log_mass = moved.clamp_min(torch.finfo(moved.dtype).tiny).log()
                table = table + _aligned(log_mass.reshape(*mass.shape[:-2], *repeated), own, keys)
        log_ratio = log_ratio + (table.flatten(0, -3).logsumexp(0) if keys else table)
    return log_ratio.flatten().logsumexp(0) - math.log(log_ratio.numel())


def _aligned(table: Tensor, own: Sequence[Categorical], keys: Sequence[Categorical]) -> Tensor:
    """A table [K of each of its own categoricals ..., S, B] with 1 for each further categorical."""
    sizes = (table.shape[own.index(key)] if key in own else 1 for key in keys)
    return table.reshape(*sizes, *table.shape[-2:])


def _product(tables: Sequence[tuple[Tensor, list[Categorical]]]) -> tuple[Tensor, list[Categorical]]:
    """The sum of log-tables, over all of their categoricals."""
    keys = [key for _, own in tables for key in own]
    first, *more = (_aligned(table, own, keys) for table, own in tables)
    return sum(more, start=first), keys


def _log_ratios(
    sample: Sample, exchanged: Mapping[str, Site], shape: Size, groups: Sequence[Group], prior_samples: int
) -> Iterator[tuple[frozenset[str], Tensor, list[Categorical]]]:
    """log p(z')/Π_j p(z'_j) of sites that depend on one another, [K ..., S R, B], and their categoricals in order."""
    every = sample.dependence.components
    for component in every:
        inside = [part for group in groups if (part := _in(group, component.descendants))]
        if len(inside) > 1:
            union = frozenset[Variable]().union(*inside)
            table = Ancestral(component, sample.model, exchanged, shape, prior_samples, shared=True)
            found = table.log_densities(list(dict.fromkeys([union, *inside])))
            keys = table.categoricals(union)
            ratio = found[union]
            for group in inside:
                ratio = ratio - _aligned(found[group], table.categoricals(group), keys)
            yield frozenset(component.descendants), ratio, keys
    done = {name for component in every for name in component.descendants}
    for name, prior in sample.priors.items():
        inside = [part for group in groups if (part := _in(group, [name]))]
        if name not in done and not prior.independent and len(inside) > 1:
            value = exchanged[name].value.unflatten(0, (EXCHANGES, -1))  # [R, S, B, *event]
            site = prior.at(prior.fn, value)
            ratio = site.log_prob(sorted(v.index for group in inside for v in group))
            for group in inside:
                ratio = ratio - site.log_prob(sorted(v.index for v in group))
            yield frozenset({name}), ratio.expand(value.shape[:3]).flatten(0, 1), []


def _in(group: Iterable[Variable], names: Iterable[str]) -> Group:
    inside = frozenset(names)
    return frozenset(variable for variable in group if variable.site in inside)


def _exchanged(site: Site, place: Place) -> Site:
    """A site with each variable's samples in the order of its group, [S R, B, *event]."""
    value = site.value.repeat(EXCHANGES, *(1,) * (site.value.dim() - 1))
    if site.discrete:
        return site.at(site.fn, value)
    flat = value.reshape(*value.shape[:2], site.variables, -1)  # [S R, B, V, *]
    stays = torch.arange(flat.shape[1], device=value.device).expand(flat.shape[:2])  # of variables in no group
    rows = torch.stack([place.get((site.name, index), stays) for index in range(site.variables)], -1)  # [S R, B, V]
    return site.at(site.fn, flat.gather(1, rows[..., None].expand_as(flat)).reshape(value.shape))
