"""log p of the latents and of every group of them: in closed form where there is one, else from the model program."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Dirichlet,
    Distribution,
    OneHotCategorical,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)

from pyro_hfvae.blocks import Node, Variable
from pyro_hfvae.distributions import StraightThroughConcrete, unwrap
from pyro_hfvae.infer import densities
from pyro_hfvae.infer.ancestors import Masses, components, expected_log_marginals
from pyro_hfvae.infer.families import ConcreteSimplex, Continuous, Simplex
from pyro_hfvae.infer.latents import (
    Discrete,
    Gaussian,
    Latents,
    Posterior,
    by_variable,
    describe,
    latent_shape,
    latent_sites,
    log_masses,
    name_list,
)
from pyro_hfvae.infer.rerun import Call

__all__ = ["DependentPrior", "Priors", "concatenate_priors", "groups_of_priors", "read_priors"]

Group = frozenset[Variable]


@dataclass(frozen=True)
class DependentPrior:
    """Variables that depend on one another in the prior: of one multivariate normal, or of sites that depend so."""

    variables: Group
    """All of them."""
    log_density: Mapping[Group, Tensor]
    """E[log p(z_G)] of those groups of them that the terms need, [S, B]; over discrete variables under the guide."""


@dataclass(frozen=True)
class Priors:
    """What the prior says of the latents of S particles and B data, in nats."""

    independent: Mapping[str, Tensor]
    """log p of each site of independent variables: at the sample, [S, B, V]; of its categories, [S, B, V, K]."""
    dependent: Sequence[DependentPrior] = ()
    """All other variables, in parts that are independent of each other."""

    def of_variables(self) -> dict[Variable, Tensor]:
        """E[log p(z_e)] of every variable of the dependent parts, scalars: means over particles and batch."""
        return {v: part.log_density[frozenset({v})].mean() for part in self.dependent for v in part.variables}

    def dependence(self, parts: Iterable[Iterable[Variable]]) -> Tensor | float:
        r"""How far the prior of some variables is from the product over their parts, a scalar in nats.

        .. math:: E_q\left[\log \frac{p(z)}{\prod_d p(z_d)}\right]

        Esmaeili et al. (AISTATS 2019). It is 0 where no two parts depend on one another.
        """
        groups = [frozenset(part) for part in parts]
        total: Tensor | float = 0.0
        for part in self.dependent:
            inside = [shared for group in groups if (shared := group & part.variables)]
            if len(inside) > 1:
                product = torch.stack([part.log_density[group].mean() for group in inside]).sum()
                total = total + part.log_density[frozenset().union(*inside)].mean() - product
        return total


def read_priors(
    call: Call,
    guide_trace: Trace,
    latents: Latents,
    tree: Node,
    parents: Mapping[str, frozenset[str]],
    prior_samples: int,
    masses: Masses | None = None,
) -> Priors:
    """log p of every latent site, variable and group of the tree.

    Sites of independent variables are read off the model's trace, as are those of one multivariate normal, whose
    groups have sub-matrices of its covariance. The marginals of sites that depend on others take further runs of the
    model (:func:`pyro_hfvae.infer.ancestors.expected_log_marginals`).

    Args:
        call: the model and its trace, replayed against the guide.
        guide_trace: the guide's trace.
        latents: what :func:`pyro_hfvae.infer.latents.read_posteriors` read of it.
        tree: of blocks.
        parents: latent sites that each latent site of the model depends on.
        prior_samples: P.
        masses: of the categories of the groups of :func:`groups_of_priors`, where the guide's sites depend on one
            another.

    Raises:
        ValueError: sites that model and guide do not share, or whose event shapes differ; names the site.
        NotImplementedError: a prior whose marginals are not known here; names the site.
    """
    sites = latent_sites(call.trace)
    posteriors = latent_sites(guide_trace)
    for name in latents:
        if name not in sites:
            raise ValueError(f"the guide samples site '{name}', which the model lacks; its latents: {name_list(sites)}")
    for name in sites:
        if name not in latents:
            raise ValueError(f"the guide lacks the model's latent site '{name}'; it samples: {name_list(latents)}")
        _check(name, posteriors[name]["fn"], sites[name]["fn"], latents[name])
    wanted = _wanted(tree)
    parts: list[DependentPrior] = []
    for component in components({name: parents.get(name, frozenset()) for name in sites}):
        for name in component.descendants:
            base = unwrap(posteriors[name]["fn"])
            if isinstance(latents[name], Simplex) or isinstance(base, RelaxedBernoulli | Bernoulli):
                raise NotImplementedError(
                    f"site '{name}' is {describe(posteriors[name]['fn'])} in the guide, and its prior depends on other "
                    "sites or others on it: their marginals are not known here"
                )
        variables, groups = _within(wanted, component.descendants)
        log_density = expected_log_marginals(component, call, latents, groups, prior_samples, masses)
        parts.append(DependentPrior(variables, log_density))
    done = {variable.site for part in parts for variable in part.variables}
    independent = {}
    for name, site in latents.items():
        if name in done:
            continue
        fn = sites[name]["fn"]
        if not isinstance(site, Discrete) and densities.correlated(fn):
            variables, groups = _within(wanted, [name])
            parts.append(DependentPrior(variables, _of_groups(fn, groups, site)))
        else:
            independent[name] = _of_site(fn, posteriors[name]["value"], site)
    return Priors(independent, parts)


def groups_of_priors(tree: Node, parents: Mapping[str, frozenset[str]]) -> list[Group]:
    """The groups of variables of sites that depend on one another in the model, whose marginals the terms need."""
    parts = [_within(_wanted(tree), component.descendants)[1] for component in components(parents)]
    return [group for groups in parts for group in groups]


def concatenate_priors(parts: Sequence[Priors]) -> Priors:
    """Joins the priors of several batches, in order, along B."""
    first = parts[0]
    return Priors(
        {name: torch.cat([part.independent[name] for part in parts], 1) for name in first.independent},
        [
            DependentPrior(
                some.variables,
                {
                    group: torch.cat([part.dependent[place].log_density[group] for part in parts], 1)
                    for group in some.log_density
                },
            )
            for place, some in enumerate(first.dependent)
        ],
    )


def _wanted(tree: Node) -> list[Group]:
    """All groups that the terms set against each other, in an order that does not change from process to process."""
    return list(dict.fromkeys(frozenset(variables) for variables in tree.sets()))


def _within(wanted: Iterable[Group], sites: Iterable[str]) -> tuple[Group, list[Group]]:
    """All variables of some sites, and what of them is in the groups."""
    names = frozenset(sites)
    parts = [frozenset(variable for variable in group if variable.site in names) for group in wanted]
    return frozenset[Variable]().union(*parts), [part for part in dict.fromkeys(parts) if part]


def _check(name: str, posterior: Distribution, prior: Distribution, site: Posterior) -> None:
    if prior.event_shape != posterior.event_shape:
        raise ValueError(
            f"site '{name}' has the event shape {tuple(posterior.event_shape)} in the guide but "
            f"{tuple(prior.event_shape)} in the model"
        )
    base = unwrap(prior)
    if isinstance(site, Discrete):
        if isinstance(unwrap(posterior), RelaxedBernoulli | Bernoulli):
            fits, known = isinstance(base, RelaxedBernoulli | Bernoulli), "RelaxedBernoulli or Bernoulli"
        else:
            fits = isinstance(base, RelaxedOneHotCategorical | OneHotCategorical)
            known = "Concrete, RelaxedOneHotCategorical or OneHotCategorical"
        if not fits:
            raise NotImplementedError(
                f"site '{name}' is discrete in the guide but {describe(prior)} in the model; its prior must be {known}"
            )
    elif isinstance(site, ConcreteSimplex):
        if not isinstance(base, RelaxedOneHotCategorical) or isinstance(base, StraightThroughConcrete):
            raise NotImplementedError(
                f"site '{name}' enters by its density in the guide (ConcreteDensity) but is {describe(prior)} in the "
                "model; its prior must have such a density too: ConcreteDensity, Concrete or RelaxedOneHotCategorical"
            )
    elif isinstance(site, Simplex):
        if not isinstance(base, Dirichlet) or len(prior.event_shape) != 1:
            raise NotImplementedError(
                f"site '{name}' is a Dirichlet in the guide but {describe(prior)} in the model; "
                "its prior must be a Dirichlet"
            )
    elif (base.event_shape or isinstance(base, dist.MaskedDistribution)) and not densities.correlated(prior):
        raise NotImplementedError(
            f"site '{name}' is {describe(prior)} in the model; its prior must be independent in its variables (a "
            "univariate distribution with .to_event(n)), or one MultivariateNormal or LowRankMultivariateNormal"
        )


def _of_site(prior: Distribution, value: Any, site: Posterior) -> Tensor:
    """log p of independent variables: at the sample, [S, B, V]; of the categories, [S, B, V, K]."""
    base, shape = unwrap(prior), latent_shape({"": site})
    if isinstance(site, Discrete):
        return log_masses(base, shape, prior.event_shape)
    if isinstance(site, Simplex):
        return by_variable(base.log_prob(value)[..., None], shape, torch.Size([1]))
    return by_variable(base.log_prob(value), shape, prior.event_shape)


def _of_groups(prior: Distribution, groups: Iterable[Group], site: Gaussian | Continuous) -> dict[Group, Tensor]:
    """log p of groups of variables of one multivariate normal, each [S, B]."""
    with torch.autocast(site.value.device.type, enabled=False):
        log_density = densities.SiteDensity(prior, site.value)
        indices = {group: sorted(variable.index for variable in group) for group in groups}
        return {group: log_density(some).expand(site.value.shape[:2]) for group, some in indices.items()}
