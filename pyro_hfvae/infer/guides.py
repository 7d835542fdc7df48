r"""log q of groups of latents where sites of the guide depend on one another, from further runs of the guide.

For a guide q(y|x) q(z|x, y), the posterior of another datum at the sample of the datum b is

.. math:: q(z^b, y^b|x^{b'}) = q(y^b|x^{b'})\, q(z^b|x^{b'}, y^b), \qquad
    q(z^b|x^{b'}) = E_{q(y|x^{b'})}[q(z^b|x^{b'}, y)],

and never q(z^b|x^b', y^b'), which pairs the sample with a y of another datum and is the density of nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_hfvae.blocks import Variable
from pyro_hfvae.infer.ancestors import Component, categoricals, log_marginals, number_of_values
from pyro_hfvae.infer.densities import PairedNormal, SiteDensity
from pyro_hfvae.infer.latents import Discrete, Latents, Posterior, latent_shape
from pyro_hfvae.infer.marginals import References
from pyro_hfvae.infer.mixture import NOTHING
from pyro_hfvae.infer.rerun import Call

__all__ = ["StructuredPosterior", "expected_log_densities", "log_sums_of_others", "read_structured_posterior"]

Group = frozenset[Variable]

CHUNK_NUMBERS = 2**23
"""Numbers that the density of one site takes at once where no gradient is asked for: 32 MiB in float32."""


@dataclass(frozen=True)
class StructuredPosterior:
    r"""The posteriors of B data under a guide whose sites depend on one another, with a sample of each.

    Expectations over the categories of discrete variables are given the sample of the continuous ones of the group,

    .. math:: E_{q(z_G, y_G|x)}[f] = E_{q(z_G|x)} \Big[ \sum_{y_G} q(y_G|x, z_G) f(z_G, y_G) \Big], \qquad
        q(y_G|x, z_G) = \frac{q(z_G, y_G|x)}{\sum_{y'} q(z_G, y'|x)},

    which is q(y_G|x) where z_G does not depend on them.
    """

    call: Call
    """The guide."""
    component: Component
    """All its sites."""
    latents: Latents
    """Their samples; of the discrete sites q(y|x), with what stands above them averaged out."""
    log_density: Mapping[Group, Tensor]
    """log q(z_G^b, y_G|x^b) by group, [K of each categorical of G ..., S, B]."""

    def masses(self, group: Group, keys: Sequence[tuple[str, int]]) -> Tensor:
        """q(y_G|x, z_G) of the combinations of categories, [K of each ..., S, B].

        Args:
            group: of variables.
            keys: site and index of each of its categoricals, in the order of the dimensions.
        """
        own = categoricals(self.component, group, self.latents)
        masses = _masses(self.log_density[group])
        order = [own.index(key) for key in keys]
        return masses.permute(*order, masses.dim() - 2, masses.dim() - 1)


def read_structured_posterior(
    call: Call, latents: Latents, parents: Mapping[str, frozenset[str]], groups: Sequence[Group], guide_samples: int
) -> StructuredPosterior:
    r"""log q(z_G, y_G|x^b) of the data's own posteriors, at their own samples.

    It is exact where all continuous sites above those of G are in G: discrete ones are summed out. Else it is the mean
    over P ancestral samples of the guide on x^b, drawn afresh, because those that z^b came from would favour it:

    .. math:: \hat q(z_G|x^b) = \frac{1}{P} \sum_p q(z_G^b|x^b, u_p), \qquad u_p \sim q(u|x^b)

    This is without bias, its logarithm low by about Var(q̂) / 2q².

    Args:
        call: the guide and its trace.
        latents: what was read off that trace.
        parents: of every site of the guide, in its order, those that it depends on directly.
        groups: what is asked for, every variable by itself among them.
        guide_samples: P.
    """
    component = Component.of(parents, list(parents))
    found = log_marginals(component, call, latents, groups, guide_samples, shared=False)

    def marginal(name: str, site: Posterior) -> Posterior:
        if not isinstance(site, Discrete):
            return site
        each = [found[group] for index in range(site.log_mass.shape[2]) for group in groups if _is(group, name, index)]
        return Discrete(torch.stack([table.log_softmax(0).movedim(0, -1) for table in each], 2))  # [S, B, V, K]

    return StructuredPosterior(
        call, component, {name: marginal(name, site) for name, site in latents.items()}, dict(found)
    )


def log_sums_of_others(
    parts: Sequence[StructuredPosterior], groups: Sequence[Group], guide_samples: int
) -> dict[Group, Tensor]:
    r"""log Σ_{b' ≠ b} q(z_G^b, y_G|x^b') over all data of all parts, [K of each categorical of G ..., S, B].

    The guide is run on the data of each part with the samples in leading dimensions: its encoder sees each datum once a
    run, its conditionals see every pair of a sample and a datum (of one category of y and a datum where z depends on
    discrete sites only). What stands above G and outside it is drawn anew for each reference b', ⌈P / (B - 1)⌉ times,
    so that all references together have as many ancestral samples as the own datum.

    Without gradients the samples are taken in pieces, and memory is bounded whatever B is; each piece is a run.

    Args:
        parts: of one guide, on different data.
        groups: what is asked for.
        guide_samples: P.

    Raises:
        ValueError: more numbers than a GiB holds, where gradients are asked for.
    """
    others = sum(latent_shape(part.latents)[1] for part in parts) - 1
    if not others:
        return {group: torch.full_like(parts[0].log_density[group], NOTHING) for group in groups}
    samples = math.ceil(guide_samples / others)
    pieces: dict[Group, list[Tensor]] = {group: [] for group in groups}
    for part in parts:
        particles, batch = latent_shape(part.latents)
        for start, stop in _pieces(parts, part, samples):
            sums: dict[Group, list[Tensor]] = {group: [] for group in groups}
            for reference in parts:
                latents = _paired(part.latents, slice(start, stop), latent_shape(reference.latents)[1])
                tables = log_marginals(part.component, reference.call, latents, groups, samples, False, _paired_density)
                for group, table in tables.items():
                    pairs = table.unflatten(-2, (particles, stop - start))  # [K ..., S, R, M]
                    if reference is part:
                        own = torch.eye(batch, dtype=torch.bool, device=pairs.device)[start:stop]
                        pairs = pairs.masked_fill(own, NOTHING)
                    sums[group].append(pairs.logsumexp(-1))  # [K ..., S, R]
            for group in groups:
                pieces[group].append(torch.stack(sums[group]).logsumexp(0))
    return {group: torch.cat(some, -1) for group, some in pieces.items()}


def expected_log_densities(
    parts: Sequence[StructuredPosterior], groups: Sequence[Group], references: References, guide_samples: int
) -> dict[Group, tuple[Tensor, Tensor]]:
    r"""E[log q(z_G|x)] and E[log q̂(z_G)] of every group, scalars in nats: means over particles and data.

    .. math:: \hat q(z^b_G, y_G) = w_\mathrm{own}\, q(z^b_G, y_G|x^b)
        + w_\mathrm{other} \sum_{b' \ne b} q(z^b_G, y_G|x^{b'})

    Args:
        parts: of one guide, on different data.
        groups: what is asked for.
        references: the weights of the posteriors.
        guide_samples: P.

    Raises:
        NotImplementedError: references that are not among the data.
    """
    if references.bank is not None:
        raise NotImplementedError(NO_MEMORY)
    others = log_sums_of_others(parts, groups, guide_samples)
    found = {}
    for group in groups:
        own = torch.cat([part.log_density[group] for part in parts], -1)
        masses = _masses(own)
        mixture = torch.logaddexp((references.own + own).to(others[group]), references.other + others[group])
        found[group] = _mean(masses * own), _mean(masses * mixture)
    return found


NO_MEMORY = (
    "a memory keeps posteriors without their data, and a guide whose sites depend on one another must be run again on "
    "the data of each posterior; use marginal=Stratified() with a larger batch"
)
"""Why a memory does not serve such a guide."""


def _mean(weighted: Tensor) -> Tensor:
    """The sum over the categories and the mean over particles and data of [K ..., S, B]."""
    return weighted.sum() / weighted.shape[-2:].numel()


def _masses(log_density: Tensor) -> Tensor:
    """q(y_G|x, z_G), from log q(z_G, y_G|x), [K ..., S, B]."""
    if log_density.dim() == 2:
        return torch.ones_like(log_density)
    return log_density.flatten(0, -3).softmax(0).view(log_density.shape)


def _is(group: Group, name: str, index: int) -> bool:
    return len(group) == 1 and all((variable.site, variable.index) == (name, index) for variable in group)


def _pieces(parts: Sequence[StructuredPosterior], part: StructuredPosterior, samples: int) -> list[tuple[int, int]]:
    """First and last of the samples of a part that are set against all references at once."""
    particles, batch = latent_shape(part.latents)
    rows = batch
    if not torch.is_grad_enabled():
        largest = max(latent_shape(reference.latents)[1] for reference in parts)
        numbers = number_of_values(part.component, part.latents, samples) * particles * largest
        rows = max(1, CHUNK_NUMBERS // numbers)
    return [(start, min(start + rows, batch)) for start in range(0, batch, rows)]


def _paired_density(fn: Distribution, value: Tensor) -> PairedNormal | SiteDensity:
    return PairedNormal(fn, value) if PairedNormal.fits(fn) else SiteDensity(fn, value)


def _paired(latents: Latents, rows: slice, references: int) -> Latents:
    """Some samples against M references: latents of S·R particles and M data, each particle one value for all data.

    Only values, and the shapes of discrete sites, are meant; the parameters that stay are of no use.
    """

    def pair(tensor: Tensor) -> Tensor:
        some = tensor[:, rows].flatten(0, 1)[:, None]  # [S·R, 1, ...]
        return some.expand(-1, references, *some.shape[2:])

    return {
        name: Discrete(pair(site.log_mass)) if isinstance(site, Discrete) else replace(site, value=pair(site.value))
        for name, site in latents.items()
    }
