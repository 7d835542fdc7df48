"""Which latent sites of a program depend on which: read off the graph of tensors, and found by changing samples."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.inspect import TrackProvenance
from pyro.ops.provenance import get_provenance
from pyro.poutine import Trace
from torch import Size, Tensor, nn
from torch.distributions import Distribution, Transform, biject_to

from pyro_hfvae.infer.programs import (
    Program,
    Run,
    buffers_kept,
    check_leading_dimensions,
    conditionals,
    same_distribution,
)
from pyro_hfvae.infer.traces import DataPlate, latent_sites, observed_sites
from pyro_hfvae.sites import DiscreteSite, describe, map_parameters, read_site
from pyro_hfvae.sites.site import unvalidated

__all__ = [
    "Component",
    "Dependence",
    "Parents",
    "components",
    "evaluating",
    "read_dependence",
    "read_guide_dependence",
]

Parents = Mapping[str, frozenset[str]]
"""Of every local latent, in the order of the program, those whose samples its distribution depends on directly."""

PERTURBATION = 2.0
"""Standard deviation of the noise on the unconstrained values of a site."""


@dataclass(frozen=True)
class Component:
    """Latent sites that depend on one another in a program, and on no other local latent."""

    descendants: Mapping[str, frozenset[str]]
    """Of every site, those that depend on it, directly or not; in the program's order."""

    @staticmethod
    def of(parents: Parents, names: Sequence[str]) -> "Component":
        """Some sites, and no other site that depends on one of them."""
        descendants: dict[str, frozenset[str]] = {}
        for name in reversed([name for name in parents if name in names]):
            children = [child for child in names if name in parents[child]]
            descendants[name] = frozenset(children).union(*(descendants[child] for child in children))
        return Component(dict(reversed(descendants.items())))


def components(parents: Parents) -> list[Component]:
    """The sites that depend on others or have others depend on them, in as many separate components as there are."""
    found: list[list[str]] = []
    for name in parents:
        touched = [names for names in found if parents[name] & set(names)]
        found = [names for names in found if names not in touched]
        found.append([other for names in touched for other in names] + [name])
    return [Component.of(parents, names) for names in found if len(names) > 1]


@dataclass(frozen=True)
class Dependence:
    """What depends on what in a guide and a model."""

    plate: DataPlate
    guide: Parents
    model: Parents
    conditional: bool
    """Whether the prior is conditional on covariates, which differ between the data."""

    @cached_property
    def components(self) -> list[Component]:
        """The sites of the model that depend on one another."""
        return components(self.model)


def read_dependence(
    model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Dependence, Trace, Trace]:
    """Which local latents the distributions of guide and model depend on directly.

    Provenance of tensors (``pyro.infer.inspect``) sees what a network that starts at 0 hides. What it does not see,
    assembly in place or ``vmap``, changing the samples of one site at a time shows.

    Returns:
        What depends on what, and a trace of guide and model each.

    Raises:
        ValueError: a program whose sites depend on one another does not keep leading dimensions, or is random besides
            its sites; an observed site outside the plate of the data depends on a latent in it; names the site.
        NotImplementedError: a site of the guide depends on the relaxed sample of a discrete one, or is discrete and not
            relaxed while others depend on it; names the site.
    """
    with torch.random.fork_rng(), torch.no_grad(), pyro.validation_enabled(False), buffers_kept(model, guide):
        with TrackProvenance():
            tracked = _traces(model, guide, args, kwargs)
        plate = DataPlate.of(*tracked)
        guide_trace, model_trace = _traces(model, guide, args, kwargs)
        runs = [
            Run(guide, args, kwargs, guide_trace, plate, "guide"),
            Run(model, args, kwargs, model_trace, plate, "model"),
        ]
        found = []
        for run, trace in zip(runs, tracked, strict=True):
            changed = _found_by_change(run)
            found.append({name: (_upstream(trace, name) & plate.locals) | changed[name] for name in run.latents})
        _refuse_observed_outside(tracked[1], plate)
        of_guide, of_model = found
        if any(of_guide.values()):
            _check_structured_guide(runs[0], of_guide)
        dependent = [name for name in of_model if of_model[name] or any(name in above for above in of_model.values())]
        if dependent:
            check_leading_dimensions(runs[1], dependent)
        return Dependence(plate, of_guide, of_model, _conditional(runs[1])), guide_trace, model_trace


def read_guide_dependence(guide: Program, *args: Any, **kwargs: Any) -> Parents:
    """The same for a guide alone."""
    with torch.random.fork_rng(), torch.no_grad(), pyro.validation_enabled(False), buffers_kept(guide):
        with TrackProvenance():
            tracked = poutine.trace(guide).get_trace(*args, **kwargs)
        plate = DataPlate.of(tracked)
        run = Run(guide, args, kwargs, poutine.trace(guide).get_trace(*args, **kwargs), plate, "guide")
        changed = _found_by_change(run)
        return {name: (_upstream(tracked, name) & plate.locals) | changed[name] for name in run.latents}


def _traces(model: Program, guide: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Trace, Trace]:
    guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
    return guide_trace, poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)


def _found_by_change(run: Run) -> Parents:
    """What else changes when the sample of one site does, all other samples being as they were."""
    sites = latent_sites(run.trace)
    values: dict[str, Tensor] = {name: sites[name]["value"] for name in run.latents}
    found: dict[str, set[str]] = {name: set() for name in values}
    if len(values) < 2:
        return {name: frozenset() for name in values}
    with evaluating(run.program):
        plain = _seeded(run, values)
        if any(
            not _same(fn, again, values[name])
            for (name, fn), again in zip(plain.items(), _seeded(run, values).values(), strict=True)
        ):
            return {name: frozenset() for name in values}
        for name, value in list(values.items())[:-1]:
            changed = _perturbed(name, run.plate.local(sites[name]["fn"]), value)
            for other, fn in _seeded(run, values | {name: changed}).items():
                if other != name and not _same(fn, plain[other], values[other]):
                    found[other].add(name)
    return {name: frozenset(above) for name, above in found.items()}


def _seeded(run: Run, values: Mapping[str, Tensor]) -> dict[str, Distribution]:
    """The distributions of all local latents at some samples, with the same randomness each time."""
    torch.manual_seed(0)
    return conditionals(run, lambda name, _: values[name], values)


def _same(one: Distribution, other: Distribution, value: Tensor) -> bool:
    return one.batch_shape == other.batch_shape and same_distribution(one, other, value, tolerance=1e-6)


def _perturbed(name: str, fn: Distribution, value: Tensor) -> Tensor:
    """Another value of a site, within its support."""
    site = read_site(name, fn, value)
    if isinstance(site, DiscreteSite):
        drawn = torch.randint(site.categories, (*fn.batch_shape, site.variables), device=value.device)
        return site.vertex(torch.nn.functional.one_hot(drawn, site.categories).to(value.dtype)).to(value)
    try:
        transform = biject_to(fn.support)
        free = transform.inv(value)
        return transform(free + PERTURBATION * torch.randn_like(free))  # type: ignore[no-any-return]
    except NotImplementedError:
        return fn.sample()


def _refuse_observed_outside(model_trace: Trace, plate: DataPlate) -> None:
    for name, site in observed_sites(model_trace).items():
        above = _upstream(model_trace, name) & plate.locals
        if not plate.holds(site) and above:
            raise ValueError(
                f"the observed site '{name}' is outside the plate of the data, '{plate.name}', and depends on the "
                f"latent '{min(above)}' in it: sample it in the plate, so that each datum has a likelihood of its own"
            )


def _check_structured_guide(run: Run, parents: Parents) -> None:
    sites = latent_sites(run.trace)
    read = {name: read_site(name, run.plate.local(sites[name]["fn"]), sites[name]["value"]) for name in run.latents}
    above = frozenset[str]().union(*parents.values())
    for name, site in read.items():
        if isinstance(site, DiscreteSite) and not site.relaxed and name in above:
            raise NotImplementedError(
                f"site '{name}' is {describe(site.fn)} in a guide whose sites depend on it: what depends on it cannot "
                "be summed over its categories; use Concrete and pyro_hfvae.distributions.nearest_category"
            )
    check_leading_dimensions(run, run.latents)
    discrete = {name: site for name, site in read.items() if isinstance(site, DiscreteSite) and site.relaxed}

    def vertex(name: str, _: object = None) -> Tensor:
        return discrete[name].nearest if name in discrete else read[name].value

    for name, fn in conditionals(run, vertex, run.latents).items():
        relaxed = sorted(parents[name] & discrete.keys())
        if relaxed and not same_distribution(fn, read[name].fn, read[name].value):
            raise NotImplementedError(
                f"site '{name}' of the guide depends on the relaxed sample of site '{relaxed[0]}', whose density is "
                "not known; let it read the category, pyro_hfvae.distributions.nearest_category(y), which is one-hot "
                "and lets the gradient through"
            )


def _conditional(run: Run) -> bool:
    """Whether the prior of a local latent differs between the data although all latents have the same values."""
    sites = latent_sites(run.trace)

    def shared(name: str, _: object = None) -> Tensor:
        value: Tensor = sites[name]["value"]
        event = len(run.plate.local(sites[name]["fn"]).event_shape)
        return value.narrow(value.dim() - event - 1, 0, 1)

    def repeated(name: str, fn: object = None) -> Tensor:
        return shared(name).expand_as(sites[name]["value"])

    with torch.enable_grad():
        try:
            found = conditionals(run, shared, run.latents)
        except (RuntimeError, IndexError, ValueError):  # what is concatenated with a latent has an entry for each datum
            found = conditionals(run, repeated, run.latents)
            return any(_varies(fn, repeated(name), exact=True) for name, fn in found.items())
    return any(_varies(fn, repeated(name)) for name, fn in found.items())


def _varies(fn: Distribution, value: Tensor, exact: bool = False) -> bool:
    """Whether a parameter differs along the last batch dimension, or is learned and has an entry for each datum.

    Args:
        fn: the distribution.
        value: of it, the same for all data, [..., B, *event].
        exact: whether entries that are equal now count as equal for ever.
    """
    batch = len(fn.batch_shape)
    found = False

    def look(tensor: Tensor, shape: Size, events: int) -> Tensor:
        nonlocal found
        dim = tensor.dim() - (len(shape) - batch + 1)
        if dim >= 0 and tensor.shape[dim] > 1 and tensor.stride(dim) != 0:
            found |= (tensor.requires_grad and not exact) or not bool((tensor == tensor.narrow(dim, 0, 1)).all())
        return tensor

    try:
        map_parameters(fn, look)
    except NotImplementedError:  # its parameters are not to be seen: compare densities of the same value
        log_prob = unvalidated(fn).log_prob(value)
        return not torch.allclose(log_prob, log_prob[..., :1].expand_as(log_prob), rtol=1e-4, atol=1e-4)
    return found


@contextmanager
def evaluating(program: Program) -> Iterator[None]:
    """A program that is a module is in evaluation mode for a while."""
    modules = list(program.modules()) if isinstance(program, nn.Module) else []
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def _upstream(trace: Trace, name: str) -> frozenset[str]:
    """The other sites whose samples the parameters of a site come from."""
    parts = [get_provenance(tensor) for tensor in _tensors(trace.nodes[name]["fn"], set())]
    return frozenset[str]().union(*parts) - {name}


def _tensors(holder: object, seen: set[int]) -> Iterator[Tensor]:
    """Every tensor that a distribution holds, those of the distributions and transforms that it is made of included."""
    seen.add(id(holder))  # a transform and its inverse hold each other
    for attribute, value in vars(holder).items():
        if attribute == "_cached_x_y":  # of another use of the transform
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, Tensor):
                yield item
            elif isinstance(item, Distribution | Transform) and id(item) not in seen:
                yield from _tensors(item, seen)
