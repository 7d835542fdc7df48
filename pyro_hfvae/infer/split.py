"""Splits the ELBO of a batch of latents into its terms."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.distributions import Normal

from pyro_hfvae.blocks import Blocks, Variable
from pyro_hfvae.infer.estimators import Marginal
from pyro_hfvae.infer.latents import Discrete, Gaussian, Latents
from pyro_hfvae.infer.marginals import Group, Posteriors, expected_log_marginals
from pyro_hfvae.infer.terms import BlockTerms, Terms, VariableTerms

__all__ = ["gather", "split_elbo"]


def split_elbo(
    latents: Latents,
    log_priors: Mapping[str, Tensor],
    log_likelihood: Tensor,
    blocks: Blocks,
    data_size: int,
    marginal: Marginal,
    keys: Tensor | None = None,
) -> Terms:
    r"""Terms of the ELBO of a batch, from its latents.

    With E over q(z|x^b) (one sample of each normal variable, all categories of each discrete one), q̂ the estimated
    inference marginal and a prior that is independent in its variables, the means over the batch of

    .. math::
        I(x; z) &= E[\log q(z|x) - \log \hat q(z)] \\
        A &= E[\log \hat q(z) - \textstyle\sum_d \log \hat q(z_d)] \\
        i_d &= E[\log \hat q(z_d) - \textstyle\sum_e \log \hat q(z_{d,e})] \\
        ii_{d,e} &= E[\log \hat q(z_{d,e}) - \log p(z_{d,e})]

    which telescope to E[log q(z|x) - log p(z)] whatever q̂ is. Esmaeili et al. (AISTATS 2019), eq. 5-8.

    Args:
        latents: of S particles and B data.
        log_priors: log p of each site, [S, B, V] at the sample or [S, B, V, K] of the categories.
        log_likelihood: Σ log p(x|z), [S, B].
        blocks: every variable in one block.
        data_size: N.
        marginal: the estimator of q̂.
        keys: by which the estimator knows the data again, [B].
    """
    with torch.autocast(log_likelihood.device.type, enabled=False):
        posteriors, position = gather(latents)
        log_conditional, log_prior = _expected_log_densities(latents, log_priors)

        def group(variables: Sequence[Variable]) -> Group:
            places = [position[variable.site, variable.index] for variable in variables]
            return Group(
                normal=tuple(place for kind, place in places if kind is Gaussian),
                discrete=tuple(place for kind, place in places if kind is Discrete),
            )

        singles = {variable: group([variable]) for variables in blocks.values() for variable in variables}
        joint = group(list(singles))
        groups = {name: group(variables) for name, variables in blocks.items()}
        distinct = list(dict.fromkeys([joint, *groups.values(), *singles.values()]))
        marginals = expected_log_marginals(posteriors, distinct, marginal.references(posteriors, data_size, keys))
        log_marginal = dict(zip(distinct, (value.mean() for value in marginals), strict=True))

    def variable_terms(variable: Variable) -> VariableTerms:
        key, marginal = (variable.site, variable.index), log_marginal[singles[variable]]
        return VariableTerms(mutual_information=log_conditional[key] - marginal, dimension=marginal - log_prior[key])

    def block_terms(name: str) -> BlockTerms:
        variables, marginal = blocks[name], log_marginal[groups[name]]
        parts = {variable.name: variable_terms(variable) for variable in variables}
        conditional = sum((log_conditional[v.site, v.index] for v in variables), start=torch.zeros_like(marginal))
        return BlockTerms(
            mutual_information=conditional - marginal,
            within=marginal - sum(log_marginal[singles[variable]] for variable in variables),
            dimension=sum((part.dimension for part in parts.values()), start=torch.zeros_like(marginal)),
            variables=parts,
        )

    by_block = {name: block_terms(name) for name in blocks}
    total = log_marginal[joint]
    return Terms(
        reconstruction=log_likelihood.mean(),
        mutual_information=sum(log_conditional.values(), start=torch.zeros_like(total)) - total,
        between=total - sum(log_marginal[groups[name]] for name in blocks),
        within=sum((block.within for block in by_block.values()), start=torch.zeros_like(total)),
        dimension=sum((block.dimension for block in by_block.values()), start=torch.zeros_like(total)),
        blocks=by_block,
    )


def gather(latents: Latents) -> tuple[Posteriors, dict[tuple[str, int], tuple[type, int]]]:
    """All posteriors side by side, and where each variable (site, index) stands: its kind and its place."""
    normal = {name: site for name, site in latents.items() if isinstance(site, Gaussian)}
    discrete = {name: site for name, site in latents.items() if isinstance(site, Discrete)}
    position: dict[tuple[str, int], tuple[type, int]] = {}
    for kind, sizes in (
        (Gaussian, {name: site.value.shape[2] for name, site in normal.items()}),
        (Discrete, {name: site.log_mass.shape[2] for name, site in discrete.items()}),
    ):
        keys = [(name, index) for name, size in sizes.items() for index in range(size)]
        position |= {key: (kind, place) for place, key in enumerate(keys)}

    def join(field: str) -> Tensor:
        if normal:
            return torch.cat([getattr(site, field) for site in normal.values()], -1)
        some = next(iter(discrete.values())).log_mass
        return some.new_zeros(*some.shape[:2], 0)

    masses = tuple(mass for site in discrete.values() for mass in site.log_mass.unbind(2))  # each [S, B, K]
    return Posteriors(join("value"), join("loc"), join("scale"), masses), position


def _expected_log_densities(
    latents: Latents, log_priors: Mapping[str, Tensor]
) -> tuple[dict[tuple[str, int], Tensor], dict[tuple[str, int], Tensor]]:
    """E[log q(z_e|x)] and E[log p(z_e)] of each variable (site, index), means over particles and batch."""
    log_conditional, log_prior = {}, {}
    for name, site in latents.items():
        if isinstance(site, Gaussian):
            conditional = Normal(site.loc, site.scale, validate_args=False).log_prob(site.value)  # [S, B, V]
            prior = log_priors[name]
        else:
            mass = site.log_mass.exp()
            conditional, prior = (mass * site.log_mass).sum(-1), (mass * log_priors[name]).sum(-1)
        for index, (q, p) in enumerate(zip(conditional.mean((0, 1)), prior.mean((0, 1)), strict=True)):
            log_conditional[name, index], log_prior[name, index] = q, p
    return log_conditional, log_prior
