"""Densities of groups of variables of sites that depend on one another, from runs of their program."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from pyro_hfvae.blocks import Group
from pyro_hfvae.infer.categories import MAXIMUM_COMBINATIONS, one_hot_combinations
from pyro_hfvae.infer.dependence import Component
from pyro_hfvae.infer.programs import Run, conditionals
from pyro_hfvae.infer.references import Sites
from pyro_hfvae.infer.traces import broadcasts, latent_sites
from pyro_hfvae.sites import DiscreteSite, Site, read_site
from pyro_hfvae.sites.parameters import map_parameters

__all__ = ["Ancestral"]

MAXIMUM_NUMBERS = 2**28
"""Numbers that the density of one site may take: 1 GiB in float32."""


@dataclass(frozen=True)
class Ancestral:
    r"""log p(z_G, y_G) of variables of dependent sites, for every combination of the categories of y_G.

    .. math::
        \log p(z_G, y_G) = \log \sum_{y \notin G} \frac{1}{P} \sum_p \prod_s p(y_s | a_s)
        \prod_{s \in G} p(z_{s,G} | a_s)

    where z are continuous and y discrete sites, and a_s is what site s depends on: the given value for what is in G,
    one-hot vectors of every category for discrete sites, and P ancestral samples of the program for the rest, drawn
    given what of G stands above it. The density is unbiased (likelihood weighting), its logarithm biased downwards by
    about Var(p̂) / 2p², which falls as 1/P. It is exact where no continuous site outside G stands above a site of G.

    The cost is a run of the program, up to the last of these sites, for each set of G's variables that stand above
    others of G: a network in it sees K · P inputs for the groups of one site, and K · P · S · B where sites of G stand
    above others and something between them is drawn.
    """

    component: Component
    run: Run
    """The program."""
    sites: Sites
    """The given values, [S, B, *event]; of discrete sites no more is read than their sizes."""
    shape: Size
    """S, B; with further dimensions in front."""
    samples: int
    """P."""
    shared: bool = False
    """Whether all data have the same distributions, so that one ancestral sample may serve all."""
    paired: bool = False
    """Whether values are the same for all data: R samples that are set against M references, of shape R, S, M."""

    def log_densities(self, groups: Sequence[Group]) -> dict[Group, Tensor]:
        """[K of each categorical of G ..., S, B] by group; the categoricals in the order of the component's sites.

        Raises:
            ValueError: more than 4,096 combinations of categories, or more numbers than a GiB holds; names a site.
            NotImplementedError: an ancestor that has no reparameterised samples; names the site.
        """
        runs: dict[tuple[Group, int], list[Group]] = defaultdict(list)
        for group in groups:
            above, drawn = self._above(group)
            runs[above, self.samples if drawn else 1].append(group)
        found = {}
        for (above, count), wanted in runs.items():
            fns = self._conditionals(above, count)
            if self.shared and not above and count > 1:
                fns = {name: _of_first_datum(fn) for name, fn in fns.items()}
            with torch.autocast(self._device.type, enabled=False):
                read = {name: self._read(name, fn) for name, fn in fns.items()}
                masses = {name: self._log_mass(site) for name, site in read.items() if isinstance(site, DiscreteSite)}
                for group in wanted:
                    found[group] = self._log_density(group, read, masses)
        return found

    def categoricals(self, group: Group) -> list[tuple[str, int]]:
        """Site and index of the categoricals of a group, in the order of the component's sites."""
        names = [name for name in self.component.descendants if self.sites[name].discrete]
        found = ((v.site, v.index) for v in group if v.site in names)
        return sorted(found, key=lambda key: (names.index(key[0]), key[1]))

    @property
    def numbers(self) -> int:
        """Numbers that the largest site's density takes for one particle and one datum."""
        return self._numbers(self.samples)

    def _numbers(self, samples: int) -> int:
        largest = max(self.sites[name].fn.event_shape.numel() for name in self.component.descendants)
        return self._total * samples * largest

    @property
    def _device(self) -> torch.device:
        return next(iter(self.sites.values())).value.device

    @cached_property
    def _sizes(self) -> dict[str, tuple[int, int]]:
        """Number of categoricals V and of categories K of each discrete site."""
        found = {name: self.sites[name] for name in self.component.descendants}
        return {n: (site.variables, site.categories) for n, site in found.items() if isinstance(site, DiscreteSite)}

    @property
    def _total(self) -> int:
        """Ktot, the combinations of categories."""
        total: int = math.prod(categories**count for count, categories in self._sizes.values())
        return total

    @cached_property
    def _one_hot(self) -> dict[str, Tensor]:
        """Every combination of categories, [Ktot, V, K] of each discrete site."""
        return one_hot_combinations(self._sizes, self._device)

    def _check_combinations(self) -> None:
        """Refuses too many combinations of categories."""
        if self._total > MAXIMUM_COMBINATIONS:
            names = ", ".join(f"'{name}'" for name in self._sizes)
            raise ValueError(
                f"the {self.run.part} depends on {self._total:,} combinations of categories of the discrete sites "
                f"{names}, which are enumerated; at most {MAXIMUM_COMBINATIONS:,} can be"
            )

    def _above(self, group: Group) -> tuple[Group, bool]:
        """The continuous variables of a group that others of it depend on, and whether some are missing in it."""
        sites = {variable.site for variable in group}
        names = [n for n, below in self.component.descendants.items() if below & sites and not self.sites[n].discrete]
        above = frozenset(variable for variable in group if variable.site in names)
        return above, len(above) < sum(self.sites[name].variables for name in names)

    def _read(self, name: str, fn: Distribution) -> Site:
        site = self.sites[name]
        return read_site(name, fn, site.value).merged(site.variables)

    def _log_mass(self, site: DiscreteSite) -> Tensor:
        """log p(y_s | a_s) of each combination, [Ktot, P, S or 1, B or 1]."""
        mass, inner = site.log_mass, 1 + len(self.shape)
        mass = mass.reshape((1,) * (inner + 3 - mass.dim()) + mass.shape)  # [Ktot or 1, P or 1, S or 1, B or 1, V, K]
        one_hot = self._one_hot[site.name].to(mass)
        return (mass * one_hot.reshape(-1, *(1,) * inner, *one_hot.shape[1:])).sum((-1, -2))

    def _log_density(self, group: Group, read: Sites, masses: Mapping[str, Tensor]) -> Tensor:
        """log p(z_G, y_G), [K of each categorical of G ..., S, B]."""
        names = {variable.site for variable in group}
        log_joint: Tensor = torch.zeros((), device=self._device)
        for name, descendants in self.component.descendants.items():
            if name in names and name not in masses:
                indices = sorted(variable.index for variable in group if variable.site == name)
                log_joint = log_joint + self._of_variables(read[name], indices)
            elif name in names or (name in masses and descendants & names):
                log_joint = log_joint + masses[name]
            elif name in masses:
                # These categories are independent of the group: average over them uniformly.
                count, size = self._sizes[name]
                log_joint = log_joint - count * math.log(size)
        missing = 2 + len(self.shape) - log_joint.dim()
        log_joint = log_joint.reshape((1,) * missing + log_joint.shape)  # [Ktot, P, S, B], or 1
        log_joint = log_joint.expand(self._total, *log_joint.shape[1:])
        samples = log_joint.shape[1]
        log_density = log_joint.logsumexp(1) - math.log(samples) if samples > 1 else log_joint[:, 0]  # [Ktot, S, B]
        each = [(name, index) for name, (count, _) in self._sizes.items() for index in range(count)]
        log_density = log_density.unflatten(0, [self._sizes[name][1] for name, _ in each] or [1])
        inside = {(variable.site, variable.index) for variable in group}
        for place, key in reversed(list(enumerate(each))):  # from the last: the places before it stay
            if key not in inside:
                log_density = log_density.logsumexp(place)
        found: Tensor = log_density if each else log_density[0]
        return found.expand(*found.shape[: found.dim() - len(self.shape)], *self.shape)

    def _of_variables(self, site: Site, indices: Sequence[int]) -> Tensor:
        """Log-density of some variables of a continuous site, [..., S, B]."""
        batch = site.fn.batch_shape
        inner = len(self.shape)
        if self.paired and batch[-3:-1].numel() == 1:  # all samples, of any particle, have the same distributions
            own, size = site.value[:, :, :1], batch[-1]
        elif batch.numel() > batch[-inner:].numel() == 1:  # all data have
            own, size = site.value, 1
        else:
            return site.log_prob(indices)
        wide = site.at(site.fn, own).double()
        features, coefficients = wide.features(indices), wide.coefficients(indices)
        if features is None or coefficients is None:
            return site.log_prob(indices)
        # One matrix product for each group, where log_prob makes a number for each pair and variable.
        (f, h), (g, c) = features, coefficients  # [R, S, 1, F], [R, S, 1], [..., 1, 1, M, F], [..., 1, 1, M]
        lead = batch[:-inner]
        product = g.reshape(*lead, size, -1) @ f.reshape(-1, f.shape[-1]).mT  # [..., M, R S]
        if size > 1:
            product = product.mT
        product = product.reshape(*lead, *f.shape[: inner - 1], -1)
        found: Tensor = product + c + h
        return found

    def _conditionals(self, above: Group, samples: int) -> dict[str, Distribution]:
        """The distributions of the sites given what they depend on, of batch shape [Ktot, P, S or 1, B or 1]."""
        self._check_combinations()
        batch = self.shape[-1]
        if (numbers := self._numbers(samples) * self.shape.numel()) > MAXIMUM_NUMBERS:
            first = next(iter(self.component.descendants))
            model = self.run.role == "model"
            what, option = ("prior", "prior_samples") if model else ("guide", "guide_samples")
            raise ValueError(
                f"the marginals of the {what} below site '{first}' would take {numbers:,} numbers at once; "
                f"lower {option}, the batch, or the number of categories"
            )
        rows = 1 if self.shared and not above else batch
        shape = Size([self._total, samples, *(self.shape[:-1] if above else (1,) * (len(self.shape) - 1)), rows])
        return self._run(above, shape)

    def _run(self, above: Group, shape: Size) -> dict[str, Distribution]:
        """The distributions of the sites, with the program run on latents of shape [*shape, *event]."""
        known = latent_sites(self.run.trace)
        whole = shape[:2] + self.shape  # a handler may treat each particle in its own way, where a program does not

        def value(name: str, fn: Distribution) -> Tensor:
            event = self.run.plate.local(known[name]["fn"]).event_shape
            if fn.event_shape != event or not broadcasts(fn.batch_shape, whole):
                raise ValueError(
                    f"the {self.run.part} of site '{name}' has the batch shape {tuple(fn.batch_shape)} and the event "
                    f"shape {tuple(fn.event_shape)} where the latents that it may depend on have the batch shape "
                    f"{tuple(shape)}: {self.run.must_keep}"
                )
            site = self.sites[name]
            if isinstance(site, DiscreteSite) and name in self._sizes:
                vertex = site.vertex(self._one_hot[name]).to(site.value)  # [Ktot, *event]
                return vertex.reshape(-1, *(1,) * (len(shape) - 1), *event).expand(*shape, *event)
            given = sorted(variable.index for variable in above if variable.site == name)
            if site.discrete or not given:
                if not fn.has_rsample and self.component.descendants.get(name):
                    raise NotImplementedError(
                        f"the {self.run.part} of site '{name}' has no reparameterised samples, and other sites depend "
                        "on it: their marginals could not be differentiated"
                    )
                return read_site(name, fn, site.value).draw(shape)
            return self._read(name, fn).draw(shape, given)

        return conditionals(self.run, value, self.component.descendants)


def _of_first_datum(fn: Distribution) -> Distribution:
    """A distribution that is the same for all data, once: batch shape [..., 1]."""
    last = len(fn.batch_shape) - 1

    def first(tensor: Tensor, shape: Size, _: int) -> Tensor:
        dim = last - (len(shape) - tensor.dim())
        return tensor if dim < 0 else tensor.narrow(dim, 0, 1)

    try:
        return map_parameters(fn, first, Size([*fn.batch_shape[:last], 1]))
    except NotImplementedError:  # for the density's sake nothing is lost but time
        return fn
