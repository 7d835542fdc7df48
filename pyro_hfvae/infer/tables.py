"""The tables that the terms are arithmetic on: expected log-densities of groups of variables, of guide and prior."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyro_hfvae.blocks import Group
from pyro_hfvae.infer.ancestors import Ancestral
from pyro_hfvae.infer.dependence import Component
from pyro_hfvae.infer.factorised import Factorised
from pyro_hfvae.infer.groups import expected_log_densities
from pyro_hfvae.infer.references import References, Sites
from pyro_hfvae.infer.sample import Sample
from pyro_hfvae.infer.structured import Masses, Structured, expected, whole

__all__ = ["Samples", "Tables", "masses_of_groups", "read_tables"]


@dataclass(frozen=True)
class Tables:
    r"""Expected log-densities of G groups of variables under the guide, [G] each, in nats.

    For q̂ and p̂ as estimated from the references; p̂(z) = (1/N) Σ_n p(z|c_n) is the prior itself, unless that is
    conditional on covariates c.
    """

    groups: Sequence[Group]
    log_q: Tensor
    """E log q(z_G|x)."""
    log_m: Tensor
    """E log q̂(z_G), the inference marginal."""
    log_p: Tensor
    """E log p̂(z_G), the aggregate prior."""
    log_c: Tensor
    """E log p(z_G|c), the prior of the datum."""

    @staticmethod
    def mean(tables: Sequence["Tables"], weights: Sequence[float]) -> "Tables":
        """The weighted mean of tables of the same groups."""

        def mean(name: str) -> Tensor:
            return torch.stack([w * getattr(table, name) for w, table in zip(weights, tables, strict=True)]).sum(0)

        return Tables(tables[0].groups, mean("log_q"), mean("log_m"), mean("log_p"), mean("log_c"))


@dataclass(frozen=True)
class Samples:
    """Numbers of ancestral samples."""

    prior: int
    guide: int


def read_tables(
    sample: Sample, every: Sequence[Sample], groups: Sequence[Group], references: References | None, samples: Samples
) -> Tables:
    """The tables of one batch.

    Args:
        sample: of the batch.
        every: what the references are made of: the batch alone, or all batches of a data set, in order.
        groups: of variables.
        references: the weights, and the number of the first datum of the batch among all. None: only sums of the terms
            in which the aggregates cancel are wanted; those of the guide are 0 then, and that of the prior is its own
            density, which costs nothing.
        samples: of ancestors.
    """
    with torch.autocast(sample.log_likelihood.device.type, enabled=False):
        if sample.structured:
            guide = _structured(sample, every, references, samples.guide, "guide")
            needed = [*groups, *_groups_of_priors(sample, groups)]
            tables = guide.tables(list(dict.fromkeys(needed)))
            masses: Masses | None = _masses(guide, tables)
            log_q, log_m = (guide.own(groups, tables), None) if references is None else guide.both(groups, tables)
        else:
            masses = None
            given = references and replace(references, parts=[one.posteriors for one in every])
            log_q, log_m = _factorised(sample, sample.posteriors, groups, given)
        log_c, log_p = _prior(sample, every, groups, references, samples.prior, masses)
    found = (log_q, torch.zeros_like(log_q) if log_m is None else log_m, log_p, log_c)
    # To the device and type of the program: not every device has float64, in which some of them are made.
    return Tables(groups, *(table.to(sample.log_likelihood) for table in found))


def _prior(
    sample: Sample,
    every: Sequence[Sample],
    groups: Sequence[Group],
    references: References | None,
    samples: int,
    masses: Masses | None,
) -> tuple[Tensor, Tensor]:
    """E log p(z_G|c) and E log p̂(z_G)."""
    dependent = any(sample.dependence.model.values())
    if sample.dependence.conditional and (dependent or masses is not None):
        structured = _structured(sample, every, references, samples, "model", masses)
        return structured.both(groups) if references is not None else (structured.own(groups),) * 2
    if sample.dependence.conditional:
        given = references and references.of_priors([one.priors for one in every])
        own, aggregate = _factorised(sample, sample.priors, groups, given)
        return own, own if aggregate is None else aggregate
    found = _unconditional(sample, groups, samples, masses)
    return found, found


def _factorised(
    sample: Sample, sites: Sites, groups: Sequence[Group], references: References | None
) -> tuple[Tensor, Tensor | None]:
    """E log r(z_G|x), and E log r̂(z_G) where there are references, of sites that are independent given the datum."""
    if references is None:
        return expected_log_densities(sites, sample.posteriors, groups), None
    table = Factorised(sites, sample.posteriors, references, sample.log_likelihood.dtype)
    return table.own(groups), table.aggregate(groups)


def _unconditional(sample: Sample, groups: Sequence[Group], samples: int, masses: Masses | None) -> Tensor:
    """E log p(z_G) of a prior that all data share: the sum over sites that are independent of one another."""
    of_groups = []  # by sites, [G] each
    for component in sample.dependence.components:
        sites, zero = whole(sample.posteriors, sample.shape), sample.log_likelihood.new_zeros(())
        inside = _restricted(groups, component.descendants)
        table = Ancestral(component, sample.model, sites, sample.shape, samples, shared=True)
        found = {}
        for group, log_density in table.log_densities(inside).items():
            keys = table.categoricals(group)
            given = masses(group, keys) if masses is not None and keys else _independent_masses(sample, keys)
            found[group] = expected(log_density, given)
        shares = (frozenset(v for v in group if v.site in component.descendants) for group in groups)
        of_groups.append(torch.stack([found[share] if share else zero for share in shares]))
    done = {name for component in sample.dependence.components for name in component.descendants}
    rest = {name: prior for name, prior in sample.priors.items() if name not in done}
    if rest:
        of_groups.append(expected_log_densities(rest, sample.posteriors, groups))
    return sum(of_groups[1:], start=of_groups[0])


def _structured(
    sample: Sample,
    every: Sequence[Sample],
    references: References | None,
    samples: int,
    role: str,
    masses: Masses | None = None,
) -> Structured:
    """The table of a guide, or of a prior given covariates, whose sites depend on one another."""

    def table(one: Sample) -> Ancestral:
        run = one.guide if role == "guide" else one.model
        parents = one.dependence.guide if role == "guide" else one.dependence.model
        component = Component.of(parents, list(parents))
        return Ancestral(component, run, whole(one.posteriors, one.shape), one.shape, samples)

    tables = [table(one) for one in every]
    given = _independent(sample) if role == "model" and masses is None else masses
    own = next(made for made, one in zip(tables, every, strict=True) if one is sample)
    return Structured(own, tables, references or References(own=0.0, other=0.0), given)


def _masses(guide: Structured, tables: Mapping[Group, Tensor]) -> Masses:
    """q(y_G|x, z_G) under a guide whose sites depend on one another."""

    def masses(group: Group, keys: Sequence[tuple[str, int]]) -> Tensor:
        own, table = guide.own_table.categoricals(group), tables[group]
        found = guide.masses(group, table)
        assert found is not None
        return found.permute(*(own.index(key) for key in keys), found.dim() - 2, found.dim() - 1)

    return masses


def masses_of_groups(sample: Sample, groups: Sequence[Group], samples: int) -> Masses:
    """q(y_G|x, z_G) of some groups under the guide, as a function of a group and its categoricals.

    Args:
        sample: of a batch.
        groups: those that may be asked for.
        samples: of the guide's ancestors.
    """
    if sample.structured:
        guide = _structured(sample, [sample], None, samples, "guide")
        return _masses(guide, guide.tables([group for group in dict.fromkeys(groups) if group]))
    return _independent(sample)


def _independent(sample: Sample) -> Masses:
    """q(y_G|x) under a guide whose sites are independent given the datum."""

    def independent(_: Group, keys: Sequence[tuple[str, int]]) -> Tensor:
        found = _independent_masses(sample, keys)
        assert found is not None
        return found

    return independent


def _independent_masses(sample: Sample, keys: Sequence[tuple[str, int]]) -> Tensor | None:
    """q(y_G|x) of independent categoricals, [K of each ..., S, B]; None where there are none."""
    if not keys:
        return None
    total: Tensor | None = None
    for name, index in keys:
        site = sample.posteriors[name]
        mass = site.mean.expand(*sample.shape, -1, -1)[:, :, index].movedim(-1, 0)  # [K, S, B]
        total = mass if total is None else total[..., None, :, :] * mass
    return total


def _groups_of_priors(sample: Sample, groups: Sequence[Group]) -> list[Group]:
    """What of the groups lies in each set of sites that depend on one another in the model."""
    found = sample.dependence.components
    return [group for component in found for group in _restricted(groups, component.descendants)]


def _restricted(groups: Iterable[Group], names: Iterable[str]) -> list[Group]:
    """What of each group lies in some sites."""
    inside = frozenset(names)
    found = (frozenset(v for v in group if v.site in inside) for group in groups)
    return [group for group in dict.fromkeys(found) if group]
