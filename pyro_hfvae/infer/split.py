"""The terms of the ELBO: arithmetic on expected log-densities of groups of variables."""

from collections.abc import Iterable, Mapping
from itertools import accumulate
from operator import or_

import torch
from torch import Tensor

from pyro_hfvae.blocks import Group, Node
from pyro_hfvae.infer.sample import Sample
from pyro_hfvae.infer.tables import Tables
from pyro_hfvae.infer.terms import BlockTerms, GroupTerms, Terms, VariableTerms
from pyro_hfvae.sites import DiscreteSite

__all__ = ["groups_of_terms", "split_elbo"]


def split_elbo(
    sample: Sample, tree: Node, tables: Tables, data_size: int, normalisers: Mapping[str, Tensor] | None = None
) -> Terms:
    r"""Terms of the ELBO of a batch, Esmaeili et al. (AISTATS 2019), eq. 2 to 6.

    With E over q(z|x^b), q̂ and p̂ the aggregates of the guide and of the prior, for groups G, G_1 ... G_k of variables,

    .. math::
        I(x; z_G) &= E[\log q(z_G|x) - \log \hat q(z_G)] \\
        J(c; z_G) &= E[\log p(z_G|c) - \log \hat p(z_G)] \\
        K(G) &= E[\log \hat q(z_G) - \log \hat p(z_G)], \qquad ii_{d,e} = K(\{z_{d,e}\}) \\
        D(G; G_1 \dots G_k) &= K(G) - \textstyle\sum_j K(G_j)

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

    def by_group(values: Tensor) -> dict[Group, Tensor]:
        return dict(zip(tables.groups, values.unbind(), strict=True))

    information = tables.log_q - tables.log_m
    information_of_prior = tables.log_c - tables.log_p
    of_data, of_covariates, of_both = map(
        by_group, (information, information_of_prior, information - information_of_prior)
    )
    divergence = by_group(tables.log_m - tables.log_p)

    def dependence(whole: Group, parts: Iterable[Group]) -> Tensor:
        return divergence[whole] - torch.stack([divergence[part] for part in parts]).sum()

    def between(node: Node) -> Tensor:
        return dependence(node.group, [child.group for child in node.children])

    # The chain rule, I(x; y, z) = I(x; y) + I(x; z | y), over the blocks.
    prefixes = _prefixes(sample, tree)
    gathered = [of_both[prefix] for prefix in prefixes.values()]
    before = [torch.zeros_like(gathered[0]), *gathered]
    conditional = {name: after - given for name, after, given in zip(prefixes, gathered, before, strict=False)}
    blocks = {}
    for node in tree.nodes():
        if node.children:
            continue
        blocks[node.name] = BlockTerms(
            mutual_information=of_data[node.group],
            conditional_information=conditional[node.name],
            within=dependence(node.group, [variable.group for variable in node.variables]),
            dimension=torch.stack([divergence[variable.group] for variable in node.variables]).sum(),
            variables={v.name: VariableTerms(of_data[v.group], divergence[v.group]) for v in node.variables},
            discrete=_discrete(sample, node),
            prior_information=of_covariates[node.group],
            largest_divergence=_largest_divergence(sample, node),
            log_normaliser=log_z[node.name],
        )
    return Terms(
        reconstruction=sample.log_likelihood.mean() + sample.observed_once / data_size,
        mutual_information=of_data[tree.group],
        prior_information=of_covariates[tree.group],
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


def _largest_divergence(sample: Sample, block: Node) -> Tensor:
    """Σ_e max_k(-log p_k), the mean over the data; infinite unless all are categoricals with independent priors."""
    total = sample.log_likelihood.new_zeros(())
    for variable in block.variables:
        prior = sample.priors[variable.site]
        if not isinstance(prior, DiscreteSite) or any(
            variable.site in c.descendants for c in sample.dependence.components
        ):
            return torch.full_like(total, torch.inf)
        total = total - prior.log_mass.detach()[..., variable.index, :].amin(-1).mean()
    return total


def groups_of_terms(sample: Sample, tree: Node) -> list[Group]:
    """All groups of variables that the terms are made of, in an order that no process changes."""
    return list(dict.fromkeys([*tree.sets(), *_prefixes(sample, tree).values()]))


def _prefixes(sample: Sample, tree: Node) -> dict[str, Group]:
    """The variables of each block and of the blocks before it: discrete blocks first, each kind in the tree's order."""
    blocks = [node for node in tree.nodes() if not node.children]
    chain = sorted(blocks, key=lambda block: not _discrete(sample, block))
    return dict(zip((block.name for block in chain), accumulate((block.group for block in chain), or_), strict=True))


def _discrete(sample: Sample, block: Node) -> bool:
    return all(sample.posteriors[variable.site].discrete for variable in block.variables)
