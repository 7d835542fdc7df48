"""Splits the ELBO of a batch of latents into its terms."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, groupby
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import Normal

from pyro_hfvae.blocks import Node, Variable
from pyro_hfvae.infer.estimators import Marginal
from pyro_hfvae.infer.families import Continuous
from pyro_hfvae.infer.guides import StructuredPosterior, expected_log_densities
from pyro_hfvae.infer.latents import Discrete, Gaussian, Latents, variables_of
from pyro_hfvae.infer.marginals import Group, Posteriors, expected_log_marginals
from pyro_hfvae.infer.priors import Priors
from pyro_hfvae.infer.terms import BlockTerms, GroupTerms, Terms, VariableTerms

__all__ = ["gather", "groups_of_terms", "split_elbo"]

Variables = tuple[Variable, ...]
Position = tuple[type, Any]
"""Kind of a variable, and which of that kind it is: a number, or the number of its site and its index there."""


def split_elbo(
    latents: Latents,
    priors: Priors,
    log_likelihood: Tensor,
    tree: Node,
    data_size: int,
    marginal: Marginal,
    keys: Tensor | None = None,
    structured: Sequence[StructuredPosterior] = (),
    guide_samples: int = 1,
    cancels: bool = False,
) -> Terms:
    r"""Terms of the ELBO of a batch, from its latents.

    With E over q(z|x^b) (one sample of each normal variable, all categories of each discrete one), q̂ the estimated
    inference marginal and p the prior and its marginals, the means over the batch of

    .. math::
        I(x; z) &= E[\log q(z|x) - \log \hat q(z)] \\
        A_g &= E[\log \hat q(z_g) - \textstyle\sum_d \log \hat q(z_d)]
            - E[\log p(z_g) - \textstyle\sum_d \log p(z_d)] \\
        i_d &= E[\log \hat q(z_d) - \textstyle\sum_e \log \hat q(z_{d,e})]
            - E[\log p(z_d) - \textstyle\sum_e \log p(z_{d,e})] \\
        ii_{d,e} &= E[\log \hat q(z_{d,e}) - \log p(z_{d,e})]

    which telescope to E[log q(z|x) - log p(z)] whatever q̂ and the marginals of p are. Esmaeili et al. (AISTATS 2019),
    with A of every group of the tree over the groups or blocks d that it is made of.

    Args:
        latents: of S particles and B data.
        priors: log p of the latents and of their groups.
        log_likelihood: Σ log p(x|z), [S, B].
        tree: every variable in one block.
        data_size: N.
        marginal: the estimator of q̂.
        keys: by which the estimator knows the data again, [B].
        structured: the posteriors, in one part or more, of a guide whose sites depend on one another; none if they are
            independent given the data.
        guide_samples: P, ancestral samples for what such a guide's groups leave out.
        cancels: whether the terms are wanted for such a sum only. Every log q̂ is then 0, which costs nothing, and no
            term means anything by itself; guides whose sites depend on one another are as ever.
    """
    with torch.autocast(log_likelihood.device.type, enabled=False):
        posteriors, places = gather(latents)
        position = {variable: places[variable.site, variable.index] for variable in tree.variables}
        log_conditional, log_prior = _expected_log_densities(latents, priors, tree.variables)
        discrete, prefixes = _chain(latents, tree)
        chain = list(prefixes)
        sets = groups_of_terms(latents, tree)
        references = marginal.references(posteriors, data_size, keys)
        log_posteriors: dict[frozenset[Variable], Tensor] = {}
        if structured:
            found = expected_log_densities(structured, sets, references, guide_samples)
            log_posteriors = {group: own.to(log_likelihood.dtype) for group, (own, _) in found.items()}
            log_marginals = {group: mixture.to(log_likelihood.dtype) for group, (_, mixture) in found.items()}
        elif cancels:
            log_marginals = dict.fromkeys(sets, log_likelihood.new_zeros(()))
        else:
            marginals = expected_log_marginals(posteriors, [_group(group, position) for group in sets], references)
            log_marginals = dict(zip(sets, (value.mean() for value in marginals), strict=True))

    def log_marginal(variables: Iterable[Variable]) -> Tensor:
        return log_marginals[frozenset(variables)]

    def information(variables: Variables) -> Tensor:
        """E[log q(z_G|x) - log q̂(z_G)]; the variables of some sites are not independent given the datum."""
        if structured:
            return log_posteriors[frozenset(variables)] - log_marginal(variables)
        parts = [log_conditional[variable] for variable in variables if variable in log_conditional]
        rest = sorted((v.site, v.index) for v in variables if v not in log_conditional)
        for site, some in groupby(rest, lambda place: place[0]):
            own = cast(Continuous, latents[site]).part([index for _, index in some]).log_density
            parts.append(own.mean().to(log_likelihood.dtype))
        return torch.stack(parts).sum() - log_marginal(variables)

    def between(node: Node) -> Tensor:
        parts = [child.variables for child in node.children]
        product = torch.stack([log_marginal(variables) for variables in parts]).sum()
        return log_marginal(node.variables) - product - priors.dependence(parts)

    def block_terms(name: str, conditional_information: Tensor) -> BlockTerms:
        variables = tree.blocks[name]
        parts = {
            variable.name: VariableTerms(
                mutual_information=information((variable,)), dimension=log_marginal((variable,)) - log_prior[variable]
            )
            for variable in variables
        }
        return BlockTerms(
            mutual_information=information(variables),
            conditional_information=conditional_information,
            within=log_marginal(variables)
            - torch.stack([log_marginal((variable,)) for variable in variables]).sum()
            - priors.dependence((variable,) for variable in variables),
            dimension=torch.stack([part.dimension for part in parts.values()]).sum(),
            variables=parts,
            discrete=discrete[name],
        )

    # The chain rule, I(x; y, z) = I(x; y) + I(x; z | y), over the blocks.
    gathered = dict(zip(chain, (information(prefixes[name]) for name in chain), strict=True))
    before = dict(zip(chain, [torch.zeros(()), *gathered.values()], strict=False))
    blocks = {name: block_terms(name, gathered[name] - before[name].to(log_likelihood)) for name in tree.blocks}
    return Terms(
        reconstruction=log_likelihood.mean(),
        mutual_information=information(tree.variables),
        between=between(tree),
        within=torch.stack([block.within for block in blocks.values()]).sum(),
        dimension=torch.stack([block.dimension for block in blocks.values()]).sum(),
        blocks=blocks,
        groups={node.name: GroupTerms(between(node), node.level) for node in tree.groups() if node is not tree},
    )


def groups_of_terms(latents: Latents, tree: Node) -> list[frozenset[Variable]]:
    """All groups of variables whose marginals the terms are made of, in an order that no process changes."""
    return list(dict.fromkeys(frozenset(some) for some in [*tree.sets(), *_chain(latents, tree)[1].values()]))


def _chain(latents: Latents, tree: Node) -> tuple[dict[str, bool], dict[str, Variables]]:
    """Whether each block is discrete; and each block's variables with those of the blocks before it, discrete first."""
    discrete = {
        name: all(isinstance(latents[v.site], Discrete) for v in variables) for name, variables in tree.blocks.items()
    }
    chain = sorted(tree.blocks, key=lambda name: not discrete[name])  # stable: each kind stays in its order
    return discrete, dict(zip(chain, accumulate(tree.blocks[name] for name in chain), strict=True))


def _group(variables: Iterable[Variable], position: Mapping[Variable, Position]) -> Group:
    places = [position[variable] for variable in variables]
    other = sorted(place for kind, place in places if kind is Continuous)
    places = sorted((place for place in places if place[0] is not Continuous), key=lambda place: place[1])
    return Group(
        normal=tuple(place for kind, place in places if kind is Gaussian),
        discrete=tuple(place for kind, place in places if kind is Discrete),
        other=tuple((site, tuple(index for _, index in some)) for site, some in groupby(other, lambda place: place[0])),
    )


def gather(latents: Latents) -> tuple[Posteriors, dict[tuple[str, int], Position]]:
    """All posteriors side by side, and where each variable (site, index) stands: its kind, and which of those it is."""
    normal = {name: site for name, site in latents.items() if isinstance(site, Gaussian)}
    discrete = {name: site for name, site in latents.items() if isinstance(site, Discrete)}
    position: dict[tuple[str, int], Position] = {}
    for kind, sizes in (
        (Gaussian, {name: site.value.shape[2] for name, site in normal.items()}),
        (Discrete, {name: site.log_mass.shape[2] for name, site in discrete.items()}),
    ):
        keys = [(name, index) for name, size in sizes.items() for index in range(size)]
        position |= {key: (kind, place) for place, key in enumerate(keys)}
    other = {name: site for name, site in latents.items() if isinstance(site, Continuous)}
    for number, (name, site) in enumerate(other.items()):
        position |= {(name, index): (Continuous, (number, index)) for index in range(variables_of(site))}

    def join(field: str) -> Tensor:
        if normal:
            return torch.cat([getattr(site, field) for site in normal.values()], -1)
        some = next(iter(latents.values()))
        tensor = some.log_mass if isinstance(some, Discrete) else some.value
        return tensor.new_zeros(*tensor.shape[:2], 0)

    masses = tuple(mass for site in discrete.values() for mass in site.log_mass.unbind(2))  # each [S, B, K]
    return Posteriors(join("value"), join("loc"), join("scale"), masses, tuple(other.values())), position


def _expected_log_densities(
    latents: Latents, priors: Priors, variables: Sequence[Variable]
) -> tuple[dict[Variable, Tensor], dict[Variable, Tensor]]:
    """E[log q(z_e|x)] of normal and discrete variables, E[log p(z_e)] of all; means over particles and batch."""
    log_conditional, log_prior = {}, {}
    for name, site in latents.items():
        if isinstance(site, Gaussian):
            conditional = Normal(site.loc, site.scale, validate_args=False).log_prob(site.value)  # [S, B, V]
        elif isinstance(site, Discrete):
            mass = site.log_mass.exp()
            conditional = (mass * site.log_mass).sum(-1)
        if not isinstance(site, Continuous):
            log_conditional[name] = conditional.mean((0, 1))  # [V]
        if name in priors.independent:
            prior = priors.independent[name]
            log_prior[name] = ((mass * prior).sum(-1) if isinstance(site, Discrete) else prior).mean((0, 1))  # [V]
    return (
        {v: log_conditional[v.site][v.index] for v in variables if v.site in log_conditional},
        {v: log_prior[v.site][v.index] for v in variables if v.site in log_prior} | priors.of_variables(),
    )
