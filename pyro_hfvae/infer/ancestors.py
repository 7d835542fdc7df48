"""Marginals of sites that depend on one another, from runs of their program: the model, or the guide."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_hfvae.blocks import Variable
from pyro_hfvae.distributions import log_mass, unwrap
from pyro_hfvae.infer import densities
from pyro_hfvae.infer.combinations import MAXIMUM_COMBINATIONS, one_hot_combinations
from pyro_hfvae.infer.latents import Discrete, Latents, Posterior, broadcasts, latent_shape, latent_sites
from pyro_hfvae.infer.rerun import Call, conditionals

__all__ = [
    "Component",
    "Masses",
    "categoricals",
    "components",
    "expected_log_marginals",
    "log_marginals",
    "number_of_values",
]

MAXIMUM_NUMBERS = 2**28
"""Numbers that the density of one site may take: 1 GiB in float32."""

Group = frozenset[Variable]

Density = Callable[[Sequence[int]], Tensor]
"""From some variables of a site to their log-density."""

Masses = Callable[[Group, Sequence[tuple[str, int]]], Tensor]
"""Of a group and of its categoricals (site, index) in some order: q of their categories, [K of each ..., S, B]."""


@dataclass(frozen=True)
class Component:
    """Latent sites that depend on one another in a program, and on no other latent."""

    descendants: Mapping[str, frozenset[str]]
    """Of every site, those that depend on it, directly or not; in the program's order."""

    @staticmethod
    def of(parents: Mapping[str, frozenset[str]], part: Sequence[str]) -> "Component":
        """Some sites, and no other site that depends on one of them.

        Args:
            parents: of every site, in the order in which the program samples them, those that it depends on directly.
            part: names of the sites.
        """
        descendants: dict[str, frozenset[str]] = {}
        for name in reversed([name for name in parents if name in part]):
            children = [child for child in part if name in parents[child]]
            descendants[name] = frozenset(children).union(*(descendants[child] for child in children))
        return Component(dict(reversed(descendants.items())))


def components(parents: Mapping[str, frozenset[str]]) -> list[Component]:
    """The sites that depend on others or have others depend on them, in as many separate parts as there are.

    Args:
        parents: of every site, in the order in which the model samples them, those that it depends on directly.
    """
    parts: list[list[str]] = []
    for name in parents:
        touched = [part for part in parts if parents[name] & set(part)]
        parts = [part for part in parts if part not in touched]
        parts.append([other for part in touched for other in part] + [name])
    return [Component.of(parents, part) for part in parts if len(part) > 1]


def expected_log_marginals(
    component: Component,
    call: Call,
    latents: Latents,
    groups: Sequence[Group],
    prior_samples: int,
    masses: Masses | None = None,
) -> dict[Group, Tensor]:
    r"""E[log p(z_G)] under the guide for groups G of variables of dependent sites, each [S, B], in nats.

    .. math::
        \log p(z_G, y_G) = \log \sum_{y \notin G} \frac{1}{P} \sum_p \prod_s p(y_s | a_s)
        \prod_{s \in G} p(z_{s,G} | a_s), \qquad E = \sum_{y_G} q(y_G | x^b) \log p(z^b_G, y_G)

    where z are continuous and y discrete sites, and a_s is what site s depends on: the guide's sample for what is in G,
    one-hot vectors of every category for discrete sites, and P ancestral samples of the model for the rest, drawn
    given what of G stands above it. The density is unbiased (likelihood weighting), its logarithm biased downwards by
    about Var(p̂) / 2p², which falls as 1/P. It is exact where no continuous site outside G stands above a site of G.

    The cost is a run of the model, up to the last of these sites, for each set of G's variables that stand above
    others of G: a network in it sees K · P inputs for the groups of one site, and K · P · S · B where sites of G stand
    above others and something between them is drawn.

    Args:
        component: the sites.
        call: the model.
        latents: q(z|x) and the samples, of S particles and B data.
        groups: what is asked for.
        prior_samples: P.
        masses: q(y_G|x^b, z_G^b) of a guide whose discrete sites depend on others or others on them; q(y_G|x^b) of the
            latents by default.

    Raises:
        ValueError: more than 4,096 combinations of categories, or more numbers than a GiB holds; names a site.
        NotImplementedError: an ancestor that has no reparameterised samples; names the site.
    """
    found = log_marginals(component, call, latents, groups, prior_samples)
    with torch.autocast(_device(latents), enabled=False):
        return {group: _expected(component, group, table, latents, masses) for group, table in found.items()}


def log_marginals(
    component: Component,
    call: Call,
    latents: Latents,
    groups: Sequence[Group],
    samples: int,
    shared: bool = True,
    density: Callable[[Distribution, Tensor], Density] = densities.SiteDensity,
) -> dict[Group, Tensor]:
    """log p(z_G, y_G) at the samples, for every combination of categories of y_G; see :func:`expected_log_marginals`.

    Args:
        component: the sites.
        call: their program.
        latents: their values, of S particles and B data; of discrete sites no more is read than their sizes.
        groups: what is asked for.
        samples: P, ancestral samples.
        shared: whether one ancestor may serve all data if it has the same distribution for all.
        density: makes the density of a continuous site from its distribution and its value.

    Returns:
        [K of each categorical of G ..., S, B] by group; the categoricals in the order of the component's sites.
    """
    categories = _Categories.of(component, latents, call.part)
    runs: dict[tuple[Group, int], list[Group]] = defaultdict(list)
    for group in groups:
        above, drawn = _above(component, latents, group)
        runs[above, samples if drawn else 1].append(group)
    found = {}
    for (above, count), wanted in runs.items():
        sites = _conditionals(component, call, latents, categories, above, count, shared)
        with torch.autocast(_device(latents), enabled=False):
            masses = {name: categories.log_mass(name, fn) for name, fn in sites.items() if name in categories.sizes}
            log_density = {
                name: density(sites[name], site.value)
                for name, site in latents.items()
                if name in sites and not isinstance(site, Discrete)
            }
            for group in wanted:
                found[group] = _log_marginal(component, group, log_density, masses, latents, categories)
    return found


def number_of_values(component: Component, latents: Latents, samples: int) -> int:
    """Numbers that the largest site's density takes for one particle and one datum."""
    largest = max(_numbers(latents[name]) for name in component.descendants)
    total: int = math.prod(k**count for count, k in _sizes(component, latents).values())
    return total * samples * largest


def _device(latents: Latents) -> str:
    site = next(iter(latents.values()))
    return (site.log_mass if isinstance(site, Discrete) else site.value).device.type


def _sizes(component: Component, latents: Latents) -> dict[str, tuple[int, int]]:
    """Number of categoricals V and of categories K of each discrete site."""
    sites = {name: site for name in component.descendants if isinstance(site := latents[name], Discrete)}
    return {name: (site.log_mass.shape[2], site.log_mass.shape[3]) for name, site in sites.items()}


def _numbers(site: Posterior) -> int:
    """Numbers that one value of a site has."""
    return (site.log_mass if isinstance(site, Discrete) else site.value).shape[2:].numel()


def _above(component: Component, latents: Latents, group: Group) -> tuple[Group, bool]:
    """The continuous variables of a group that others of it depend on, and whether such are missing in the group."""
    sites = {variable.site for variable in group}
    names = [
        name
        for name, below in component.descendants.items()
        if below & sites and not isinstance(latents[name], Discrete)
    ]
    above = frozenset(variable for variable in group if variable.site in names)
    return above, len(above) < sum(_numbers(latents[name]) for name in names)


@dataclass(frozen=True)
class _Categories:
    """Every combination of the categories of a component's discrete sites, Ktot of them."""

    sizes: Mapping[str, tuple[int, int]]
    """Number of categoricals V and of categories K of each site."""
    one_hot: Mapping[str, Tensor]
    """Of each site, [Ktot, V, K]."""

    @staticmethod
    def of(component: Component, latents: Latents, part: str) -> "_Categories":
        sizes = _sizes(component, latents)
        total = math.prod(categories**count for count, categories in sizes.values())
        if total > MAXIMUM_COMBINATIONS:
            names = ", ".join(f"'{name}'" for name in sizes)
            raise ValueError(
                f"the {part} depends on {total:,} combinations of categories of the discrete sites {names}, which are "
                f"enumerated; at most {MAXIMUM_COMBINATIONS:,} can be"
            )
        masses = {name: cast(Discrete, latents[name]).log_mass for name in sizes}
        device = next((mass.device for mass in masses.values()), torch.device("cpu"))
        one_hot = one_hot_combinations(sizes, device)
        return _Categories(sizes, {name: one_hot[name].to(mass) for name, mass in masses.items()})

    @property
    def total(self) -> int:
        return next((len(value) for value in self.one_hot.values()), 1)

    def log_mass(self, name: str, fn: Distribution) -> Tensor:
        """log p(y_s | a_s) of each combination, [Ktot, P, S or 1, B or 1]."""
        mass = log_mass(unwrap(fn))  # type: ignore[arg-type]  # [..., *event]
        mass = mass.reshape(*mass.shape[: mass.dim() - len(fn.event_shape)], *self.sizes[name])
        mass = mass.expand(*(1,) * (6 - mass.dim()), *mass.shape[-6:])  # [Ktot or 1, P or 1, S or 1, B or 1, V, K]
        return (mass * self.one_hot[name][:, None, None, None]).sum((-1, -2))


def _log_marginal(
    component: Component,
    group: Group,
    log_density: Mapping[str, Density],
    masses: Mapping[str, Tensor],
    latents: Latents,
    categories: _Categories,
) -> Tensor:
    """log p(z_G, y_G), [K of each categorical of G ..., S, B]."""
    names = {variable.site for variable in group}
    log_joint: Tensor | float = 0.0
    for name in component.descendants:
        if name in names and name in log_density:
            indices = sorted(variable.index for variable in group if variable.site == name)
            log_joint = log_joint + log_density[name](indices)
        elif name in names or (name in masses and component.descendants[name] & names):
            log_joint = log_joint + masses[name]
        elif name in masses:
            # The group knows nothing of these categories, each of which is one more sample of what it does know.
            count, size = categories.sizes[name]
            log_joint = log_joint - count * math.log(size)
    assert isinstance(log_joint, Tensor)
    log_joint = log_joint.expand(*(1,) * (4 - log_joint.dim()), *log_joint.shape)  # [Ktot or 1, P, S or 1, B or 1]
    log_joint = log_joint.expand(categories.total, *log_joint.shape[1:])
    samples = log_joint.shape[1]
    log_marginal = log_joint.logsumexp(1) - math.log(samples) if samples > 1 else log_joint[:, 0]  # [Ktot, S, B]
    shape = latent_shape(latents)
    each = [(name, index) for name, (count, _) in categories.sizes.items() for index in range(count)]
    log_marginal = log_marginal.unflatten(0, [categories.sizes[name][1] for name, _ in each] or [1])
    inside = {(variable.site, variable.index) for variable in group}
    for place, key in reversed(list(enumerate(each))):  # from the last: the places before it stay
        if key not in inside:
            log_marginal = log_marginal.logsumexp(place)
    found: Tensor = log_marginal if each else log_marginal[0]
    return found.expand(*found.shape[:-2], *shape)


def categoricals(component: Component, group: Group, latents: Latents) -> list[tuple[str, int]]:
    """Site and index of the categoricals of a group, in the order of the component's sites."""
    names = [name for name in component.descendants if isinstance(latents[name], Discrete)]
    return sorted(((v.site, v.index) for v in group if v.site in names), key=lambda key: (names.index(key[0]), key[1]))


def _expected(
    component: Component, group: Group, log_marginal: Tensor, latents: Latents, masses: Masses | None
) -> Tensor:
    """E[log p(z_G)], [S, B]."""
    inside = categoricals(component, group, latents)
    if masses is not None and inside:
        return (masses(group, inside) * log_marginal).flatten(0, -3).sum(0)
    expected = log_marginal
    for name, index in reversed(inside):
        site = latents[name]
        assert isinstance(site, Discrete)
        mass = site.log_mass[:, :, index].exp().movedim(-1, 0)  # [K, S, B]
        expected = (mass * expected).sum(-3)
    return expected


def _conditionals(
    component: Component,
    call: Call,
    latents: Latents,
    categories: _Categories,
    above: Group,
    samples: int,
    shared: bool,
) -> dict[str, Distribution]:
    """The distributions of a component's sites given what they depend on, of batch shape [Ktot, P, S or 1, B]."""
    particles, batch = latent_shape(latents)
    if (numbers := number_of_values(component, latents, samples) * particles * batch) > MAXIMUM_NUMBERS:
        first = next(iter(component.descendants))
        what, option = ("prior", "prior_samples") if call.role == "model" else ("guide", "guide_samples")
        raise ValueError(
            f"the marginals of the {what} below site '{first}' would take {numbers:,} numbers at once; "
            f"lower {option}, the batch, or the number of categories"
        )
    sites: dict[str, Distribution] = {}
    # One ancestor serves all data where the prior is the same for all; a prior that depends on the datum shows.
    for rows in (batch,) if above or not shared else (1, batch):
        shape = torch.Size([categories.total, samples, particles if above else 1, rows])
        sites = _run(component, call, latents, categories, above, shape)
        if rows == batch or not any(densities.varies(fn) for fn in sites.values()):
            break
    return sites


def _run(
    component: Component, call: Call, latents: Latents, categories: _Categories, above: Group, shape: torch.Size
) -> dict[str, Distribution]:
    """The distributions of a component's sites, with the model run on latents of shape [*shape, *event]."""

    def value(name: str, fn: Distribution) -> Tensor:
        site = latents[name]
        if fn.event_shape != known[name]["fn"].event_shape or not broadcasts(fn.batch_shape, whole):
            raise ValueError(
                f"the {call.part} of site '{name}' has the batch shape {tuple(fn.batch_shape)} and the event shape "
                f"{tuple(fn.event_shape)} where the latents that it may depend on have the batch shape {tuple(shape)}: "
                + call.must_keep
            )
        if name in categories.one_hot:
            one_hot = categories.one_hot[name][:, None, None, None]
            return one_hot.expand(*shape, *one_hot.shape[-2:]).reshape(*shape, *fn.event_shape)
        given = sorted(variable.index for variable in above if variable.site == name)
        if isinstance(site, Discrete) or not given:
            if not fn.has_rsample and component.descendants.get(name):
                raise NotImplementedError(
                    f"the {call.part} of site '{name}' has no reparameterised samples, and other sites depend on it: "
                    "their marginals could not be differentiated"
                )
            return densities.draw(fn, shape)
        return densities.draw_given(fn, given, site.value, shape)

    known = latent_sites(call.trace)
    whole = shape[:-1] + latent_shape(latents)[1:]
    return conditionals(call, value, latents, component.descendants)
