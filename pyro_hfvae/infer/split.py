"""The terms of the ELBO: arithmetic on expected log-densities of groups of variables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from operator import or_

import torch
from torch import Tensor

from pyro_hfvae.blocks import Group, Node
from pyro_hfvae.infer.references import Sites
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
    every = torch.cat([tables.log_q, tables.log_m, tables.log_p, tables.log_c])
    formulas = _formulas(tree, _discrete_sites(sample.posteriors), every.dtype, every.device)
    # No matrix product, which autocast would make in bfloat16.
    value = dict(zip(formulas.names, (formulas.coefficients * every).sum(-1).unbind(), strict=True))
    infinite = torch.full_like(log_z[tree.name], torch.inf)
    blocks = {
        node.name: BlockTerms(
            mutual_information=value["information", node.name],
            conditional_information=value["conditional", node.name],
            within=value["within", node.name],
            dimension=value["dimension", node.name],
            variables={
                v.name: VariableTerms(value["information of", v.name], value["dimension of", v.name])
                for v in node.variables
            },
            discrete=node.name in formulas.discrete,
            prior_information=value["prior", node.name],
            largest_divergence=_largest_divergence(sample, node) if node.name in formulas.discrete else infinite,
            log_normaliser=log_z[node.name],
        )
        for node in tree.nodes()
        if not node.children
    }
    return Terms(
        reconstruction=sample.log_likelihood.mean() + sample.observed_once / data_size,
        mutual_information=value["information", tree.name],
        prior_information=value["prior", tree.name],
        between=value["between", tree.name],
        within=value["within", ""],
        dimension=value["dimension", ""],
        blocks=blocks,
        groups={
            node.name: GroupTerms(value["between", node.name], node.level, log_z[node.name])
            for node in tree.groups()
            if node is not tree
        },
        conditional=sample.dependence.conditional,
        log_normaliser=log_z[tree.name],
        globals={name: divergence / data_size for name, divergence in sample.globals.items()},
    )


@dataclass(frozen=True)
class _Formulas:
    """The terms as linear functions of the four tables, one behind the other."""

    groups: Sequence[Group]
    discrete: frozenset[str]
    """The blocks all of whose variables are categoricals."""
    names: Sequence[tuple[str, str]]
    """What the term is, and of which block or variable; "" for the sum over all blocks."""
    coefficients: Tensor  # [terms, 4 G]


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept from an evaluation is used in training too
def _formulas(tree: Node, discrete: frozenset[str], dtype: torch.dtype, device: torch.device) -> _Formulas:
    """The formulas of :func:`split_elbo`, taken on one unit vector for each entry of the tables.

    Args:
        tree: every variable in one block.
        discrete: sites of categoricals.
        dtype: of the tables.
        device: of the tables.
    """
    leaves = [node for node in tree.nodes() if not node.children]
    of_categoricals = frozenset(node.name for node in leaves if all(v.site in discrete for v in node.variables))
    # Discrete blocks first, each kind in the tree's order.
    chain = sorted(leaves, key=lambda block: block.name not in of_categoricals)
    prefixes = list(accumulate((block.group for block in chain), or_))
    # From the smallest: the order in which their densities are made.
    groups = sorted(dict.fromkeys([*tree.sets(), *prefixes]), key=len)
    units = torch.eye(4 * len(groups), dtype=dtype, device=device).split(len(groups))
    log_q, log_m, log_p, log_c = (dict(zip(groups, rows.unbind(), strict=True)) for rows in units)
    information = {group: log_q[group] - log_m[group] for group in groups}
    of_prior = {group: log_c[group] - log_p[group] for group in groups}
    divergence = {group: log_m[group] - log_p[group] for group in groups}

    def dependence(whole: Group, parts: Iterable[Group]) -> Tensor:
        found: Tensor = divergence[whole] - torch.stack([divergence[part] for part in parts]).sum(0)
        return found

    terms = {("information", tree.name): information[tree.group], ("prior", tree.name): of_prior[tree.group]}
    for node in tree.groups():
        terms["between", node.name] = dependence(node.group, [child.group for child in node.children])
    # The chain rule, I(x; y, z) = I(x; y) + I(x; z | y), over the blocks.
    before = torch.zeros_like(terms["information", tree.name])
    for block, prefix in zip(chain, prefixes, strict=True):
        gathered = information[prefix] - of_prior[prefix]
        terms["conditional", block.name], before = gathered - before, gathered
    for block in leaves:
        variables = [variable.group for variable in block.variables]
        terms["information", block.name], terms["prior", block.name] = information[block.group], of_prior[block.group]
        terms["within", block.name] = dependence(block.group, variables)
        terms["dimension", block.name] = torch.stack([divergence[variable] for variable in variables]).sum(0)
        for variable in block.variables:
            terms["information of", variable.name] = information[variable.group]
            terms["dimension of", variable.name] = divergence[variable.group]
    for what in ("within", "dimension"):
        terms[what, ""] = torch.stack([terms[what, block.name] for block in leaves]).sum(0)
    return _Formulas(groups, of_categoricals, list(terms), torch.stack(list(terms.values())))


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


def groups_of_terms(sample: Sample, tree: Node) -> Sequence[Group]:
    """All groups of variables that the terms are made of, in an order that no process changes."""
    numbers = sample.log_likelihood
    return _formulas(tree, _discrete_sites(sample.posteriors), numbers.dtype, numbers.device).groups


def _discrete_sites(sites: Sites) -> frozenset[str]:
    return frozenset(name for name, site in sites.items() if site.discrete)
