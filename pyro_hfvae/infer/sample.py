"""One run of guide and model on a batch, as the terms and the penalties see it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from pyro.poutine import Trace
from torch import Size, Tensor

from pyro_hfvae.infer import traces
from pyro_hfvae.infer.data_keys import keys_of
from pyro_hfvae.infer.dependence import Dependence
from pyro_hfvae.infer.enumeration import expected_log_likelihood
from pyro_hfvae.infer.latents import posterior_sites, prior_sites
from pyro_hfvae.infer.programs import Program, Run
from pyro_hfvae.infer.references import Sites, batch_of

__all__ = ["Sample", "read_sample"]


@dataclass(frozen=True)
class Sample:
    """The latents of S particles and B data, their priors, and the traces that they were read from."""

    guide: Run
    """The guide; the sites of its trace hold the samples."""
    model: Run
    """The model, replayed against the guide."""
    dependence: Dependence
    shape: Size
    """S, B."""
    posteriors: Sites
    """The local latents of the guide at their samples."""
    priors: Sites
    """The model's distributions of them, at the same samples."""
    log_likelihood: Tensor
    """Σ log p(x|z), [S, B]."""
    globals: Mapping[str, Tensor]
    """log q - log p of each latent outside the plate of the data, scalars in nats per data set."""
    observed_once: Tensor
    """log p of what is observed outside the plate of the data, a scalar in nats per data set."""
    scale: float | Tensor
    """What plates or ``poutine.scale`` multiply every site of the data by."""

    @property
    def variable_shapes(self) -> dict[str, Size]:
        """The shape of the variables of each site that both guide and prior have marginals of."""
        return {name: self.posteriors[name].shape_of(self.priors[name]) for name in self.posteriors}

    def without_traces(self) -> "Sample":
        """The same, with the traces, and the data in them, let go where no program is to be run again."""
        if self.structured or any(self.dependence.model.values()):
            return self
        guide, model = (replace(run, trace=Trace(), args=(), kwargs={}) for run in (self.guide, self.model))
        return replace(self, guide=guide, model=model)

    @cached_property
    def keys(self) -> Tensor | None:
        """A hash of each datum, [B], by which it is known again; made once, before a caller may change the data."""
        given = [*self.guide.args, *self.guide.kwargs.values()]
        return keys_of(given, self.shape[1], self.log_likelihood.device)

    @property
    def structured(self) -> bool:
        """Whether sites of the guide depend on one another."""
        return any(self.dependence.guide.values())


def read_sample(
    model: Program,
    guide: Program,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    model_trace: Trace,
    guide_trace: Trace,
    dependence: Dependence,
) -> Sample:
    """Reads a pair of traces.

    Raises:
        ValueError, NotImplementedError: programs that the terms are not defined for; names the site.
    """
    plate = dependence.plate
    posteriors = posterior_sites(guide_trace, model_trace, plate)
    priors = prior_sites(model_trace, posteriors, guide_trace, plate)
    counts = {name: min(posteriors[name].variables, priors[name].variables) for name in posteriors}
    posteriors, priors = ({name: sites[name].merged(counts[name]) for name in counts} for sites in (posteriors, priors))
    shape = batch_of(posteriors)
    messages = traces.latent_sites(model_trace)
    of_guide = {name: site for name, site in traces.latent_sites(guide_trace).items() if name not in plate.locals}
    globals_: dict[str, Tensor] = {}
    for name, site in of_guide.items():
        if name.removesuffix("_unconstrained") in plate.locals:
            continue
        density = traces.total_log_prob(site)
        target = name
        if traces.is_auxiliary(site):  # of an autoguide; the other half of its density is the Delta's
            target = name.removesuffix("_unconstrained")
        globals_[target] = globals_.get(target, torch.zeros_like(density)) + density
    for name in globals_:
        if name not in messages:
            known = traces.name_list(messages)
            raise ValueError(f"the guide samples site '{name}', which the model lacks; its latents: {known}")
        globals_[name] = globals_[name] - traces.total_log_prob(messages[name])
    once = traces.global_observed(model_trace, plate)
    log_likelihood = expected_log_likelihood(model_trace, posteriors, shape, plate)
    return Sample(
        guide=Run(guide, args, kwargs, guide_trace, plate, "guide"),
        model=Run(model, args, kwargs, model_trace, plate, "model"),
        dependence=dependence,
        shape=shape,
        posteriors=posteriors,
        priors=priors,
        log_likelihood=log_likelihood,
        globals=globals_,
        observed_once=sum(once.values(), start=log_likelihood.new_zeros(())),
        scale=traces.common_scale(guide_trace, model_trace, plate),
    )
