"""The terms of the ELBO: arithmetic on expected log-densities of groups of variables."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from pyro_hfvae.blocks import Group, Node, Variable
from pyro_hfvae.infer.ancestors import components
from pyro_hfvae.infer.sample import Sample
from pyro_hfvae.infer.tables import Tables
from pyro_hfvae.infer.terms import BlockTerms, GroupTerms, Terms, VariableTerms
from pyro_hfvae.sites import DiscreteSite

__all__ = ["groups_of_terms", "split_elbo"]

Variables = Iterable[Variable]


def split_elbo(
    sample: Sample, tree: Node, tables: Tables, data_size: int, normalisers: Mapping[str, Tensor] | None = None
) -> Terms:
    r"""Terms of the ELBO of a batch, Esmaeili et al. (AISTATS 2019), eq. 2 to 6.

    With E over q(z|x^b), q̂ and p̂ the aggregates of the guide and of the prior, for groups G, G_1 ... G_k of variables,

    .. math::
        I(x; z_G) &= E[\log q(z_G|x) - \log \hat q(z_G)] \\
        D(G; G_1 \dots G_k) &= E\big[\log \hat q(z_G) - \textstyle\sum_j \log \hat q(z_{G_j})\big]
            - E\big[\log \hat p(z_G) - \textstyle\sum_j \log \hat p(z_{G_j})\big] \\
        ii_{d,e} &= E[\log \hat q(z_{d,e}) - \log \hat p(z_{d,e})] \\
        J(c; z) &= E[\log p(z|c) - \log \hat p(z)]

    A is D of everything over the groups or blocks at the top, A_g that of each group over what it is made of, i_d that
    of each block over its variables. They telescope to E[log q(z|x) - log p(z|c)] whatever q̂ and p̂ are.

    Args:
        sample: of the batch.
        tree: every variable in one block.
        tables: of all groups of :func:`groups_of_terms`.
        data_size: N, by which what is there once for the data set is divided.
        normalisers: log Z of groups and blocks by name, where wanted.
    """
    log_z = dict.fromkeys([*tree.blocks, *(node.name for node in tree.groups())], sample.log_likelihood.new_zeros(()))
    log_z |= normalisers or {}
    log_q, log_m, log_p, log_c = tables.log_q, tables.log_m, tables.log_p, tables.log_c

    def information(group: Variables) -> Tensor:
        return log_q[frozenset(group)] - log_m[frozenset(group)]

    def information_of_prior(group: Variables) -> Tensor:
        return log_c[frozenset(group)] - log_p[frozenset(group)]

    def dependence(whole: Variables, groups: Iterable[Variables]) -> Tensor:
        parts = [frozenset(group) for group in groups]
        of_guide = log_m[frozenset(whole)] - torch.stack([log_m[part] for part in parts]).sum()
        return of_guide - (log_p[frozenset(whole)] - torch.stack([log_p[part] for part in parts]).sum())

    def dimension(variable: Variable) -> Tensor:
        return log_m[frozenset({variable})] - log_p[frozenset({variable})]

    def between(node: Node) -> Tensor:
        return dependence(node.variables, (child.variables for child in node.children))

    discrete, prefixes = _chain(sample, tree)
    gathered = {name: information(prefix) - information_of_prior(prefix) for name, prefix in prefixes.items()}
    # The chain rule, I(x; y, z) = I(x; y) + I(x; z | y), over the blocks.
    before = dict(zip(gathered, [sample.log_likelihood.new_zeros(()), *gathered.values()], strict=False))
    blocks = {}
    for name, variables in tree.blocks.items():
        terms = {v.name: VariableTerms(information((v,)), dimension(v)) for v in variables}
        blocks[name] = BlockTerms(
            mutual_information=information(variables),
            conditional_information=gathered[name] - before[name],
            within=dependence(variables, ((variable,) for variable in variables)),
            dimension=torch.stack([term.dimension for term in terms.values()]).sum(),
            variables=terms,
            discrete=discrete[name],
            prior_information=information_of_prior(variables),
            largest_divergence=_largest_divergence(sample, variables),
            log_normaliser=log_z[name],
        )
    return Terms(
        reconstruction=sample.log_likelihood.mean() + sample.observed_once / data_size,
        mutual_information=information(tree.variables),
        prior_information=information_of_prior(tree.variables),
        between=between(tree),
        within=torch.stack([block.within for block in blocks.values()]).sum(),
        dimension=torch.stack([block.dimension for block in blocks.values()]).sum(),
        blocks=blocks,
        groups={
            node.name: GroupTerms(between(node), node.level, log_z[node.name])
            for node in tree.groups()
            if node is not tree
        },
        conditional=sample.dependence.conditional,
        log_normaliser=log_z[tree.name],
        globals={name: divergence / data_size for name, divergence in sample.globals.items()},
    )


def _largest_divergence(sample: Sample, variables: Variables) -> Tensor:
    """Σ_e max_k(-log p_k), the mean over the data; infinite unless all are categoricals with independent priors."""
    dependent = {name for component in components(sample.dependence.model) for name in component.descendants}
    total = sample.log_likelihood.new_zeros(())
    for variable in variables:
        prior = sample.priors[variable.site]
        if not isinstance(prior, DiscreteSite) or variable.site in dependent:
            return torch.full_like(total, torch.inf)
        total = total - prior.log_mass.detach()[..., variable.index, :].amin(-1).mean()
    return total


def groups_of_terms(sample: Sample, tree: Node) -> list[Group]:
    """All groups of variables that the terms are made of, in an order that no process changes."""
    return list(dict.fromkeys(frozenset(some) for some in [*tree.sets(), *_chain(sample, tree)[1].values()]))


def _chain(sample: Sample, tree: Node) -> tuple[dict[str, bool], dict[str, Sequence[Variable]]]:
    """Whether each block is discrete; and each block's variables with those of the blocks before it, discrete first."""
    discrete = {
        name: all(sample.posteriors[v.site].discrete for v in variables) for name, variables in tree.blocks.items()
    }
    chain = sorted(tree.blocks, key=lambda name: not discrete[name])  # stable: each kind stays in its order
    return discrete, dict(zip(chain, accumulate(tree.blocks[name] for name in chain), strict=True))
