"""Programs as the checks run them: one subsample for all draws, and exact categories where a mixture needs them."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_hfvae.infer.traces import latent_sites
from pyro_hfvae.sites import DiscreteSite, read_site

__all__ = ["FixedProgram", "Program", "fix", "fix_model", "subsampled_plates"]

Program = Callable[..., Any]

LARGEST_SHIFT = 8
"""A category is replaced by so many others, one after the other, to see whether a prior depends on it."""


@dataclass(frozen=True)
class FixedProgram:
    """A program whose subsampling plates hold the same data at each call, with some relaxed sites as categorical."""

    program: Program
    subsample: Trace
    """Subsampling plates with the indices that they have drawn."""
    categorical: frozenset[str]
    """Relaxed latent sites that are sampled and scored as the categories that they relax."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the program."""
        with _Categories(self.categorical):
            return poutine.replay(self.program, trace=self.subsample)(*args, **kwargs)


@torch.no_grad()
def fix_model(model: Program, *args: Any, **kwargs: Any) -> FixedProgram:
    """A model with the subsample that one run of it draws; one that is fixed already stays as it is.

    A Concrete or RelaxedBernoulli site on which the prior of another site depends becomes the categorical that it
    relaxes: p(z|y) of a mixture is trained for categories y, and has no meaning between them.
    """
    if isinstance(model, FixedProgram):
        return model
    trace = poutine.trace(model).get_trace(*args, **kwargs)
    return FixedProgram(model, subsampled_plates(trace), _categorical(model, trace, args, kwargs))


def fix(model: Program, guide: Program, *args: Any, **kwargs: Any) -> tuple[FixedProgram, FixedProgram]:
    """The same for a model and a guide, which share subsample and categories."""
    model = fix_model(model, *args, **kwargs)
    if not isinstance(guide, FixedProgram):
        guide = FixedProgram(guide, model.subsample, model.categorical)
    return model, guide


def subsampled_plates(trace: Trace) -> Trace:
    """The plates of a trace that draw fewer rows than there are."""
    found = Trace()
    for name, site in trace.nodes.items():
        if site["type"] != "sample" or not site_is_subsample(site):
            continue
        if len(cast(Tensor, site["value"])) < cast(Any, site["fn"]).size:
            found.add_node(name, **site)
    return found


def _categorical(model: Program, trace: Trace, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> frozenset[str]:
    """The relaxed latent sites on which the prior of another latent site depends.

    Each is set to other categories while all other latents keep their values: operations in place or ``vmap`` hide a
    dependence from what tracks tensors, but not from this.
    """
    latents = latent_sites(trace)
    found = set()
    for name, message in latents.items() if len(latents) > 1 else ():
        site = read_site(name, message["fn"], message["value"])
        if not isinstance(site, DiscreteSite) or not site.scored_by_density:
            continue
        before = _log_priors(model, trace, {}, args, kwargs)
        for value in _other_categories(site):
            after = _log_priors(model, trace, {name: value}, args, kwargs)
            if any(not _same(before[other], after.get(other)) for other in before if other != name):
                found.add(name)
                break
    return frozenset(found)


def _other_categories(site: DiscreteSite) -> list[Tensor]:
    if site.binary:
        return [1 - site.value]
    return [site.value.roll(shift, -1) for shift in range(1, min(site.categories - 1, LARGEST_SHIFT) + 1)]


def _log_priors(
    model: Program, trace: Trace, changed: Mapping[str, Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Log-prior of the value of each latent site, with some of the values changed."""
    values = {name: changed.get(name, cast(Tensor, site["value"])) for name, site in latent_sites(trace).items()}
    given = _GivenLatents(values)
    # The same random numbers each time: dropout, say, is no dependence.
    with torch.random.fork_rng(), pyro.validation_enabled(False), given:
        torch.manual_seed(0)
        with suppress(_AllMetError):
            poutine.replay(model, trace=subsampled_plates(trace))(*args, **kwargs)
    return given.log_priors


def _same(one: Tensor, other: Tensor | None) -> bool:
    return other is not None and one.shape == other.shape and torch.allclose(one, other, 1e-6, 1e-6, equal_nan=True)


class _AllMetError(Exception):
    """Ends a run of the model before its decoder."""


class _GivenLatents(Messenger):
    """Gives every latent site a value, and notes its log-prior."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values
        self.log_priors: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values:
            msg["value"], msg["done"] = self.values[msg["name"]], True

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] in self.values:
            self.log_priors[msg["name"]] = msg["fn"].log_prob(msg["value"])
            if self.log_priors.keys() == self.values.keys():
                raise _AllMetError


class _Categories(Messenger):
    """Puts the categorical in the place of a relaxed site's distribution."""

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__()
        self.names = names

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.names:
            site = read_site(msg["name"], msg["fn"])
            msg["fn"] = site.unrelaxed if isinstance(site, DiscreteSite) else msg["fn"]
