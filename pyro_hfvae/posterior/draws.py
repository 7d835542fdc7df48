"""Draws of latents and data from a guide and a model, with their densities for each datum."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from torch import Tensor

from pyro_hfvae.infer.traces import DataPlate, broadcasts, latent_sites, log_likelihood, name_list
from pyro_hfvae.posterior.programs import Program, fix, fix_model, subsampled_plates
from pyro_hfvae.sites import read_site

__all__ = ["Draw", "Simulation", "draw_guide", "draw_log_weights", "predict", "simulate"]


@dataclass(frozen=True)
class Draw:
    r"""One draw of all latents of B data from the guide, z_n ~ q(z|x_n), and its densities under guide and model."""

    guide_trace: Trace
    """The guide; its sites hold the draw."""
    model_trace: Trace
    """The model, replayed against the guide."""
    log_q: Tensor
    """log q(z|x), [B], in nats."""
    log_prior: Tensor
    """log p(z), [B], in nats."""
    log_likelihood: Tensor
    """log p(x|z), [B], in nats."""

    @property
    def values(self) -> dict[str, Tensor]:
        """Latent site to its value, [B, ...]."""
        return {name: site["value"] for name, site in latent_sites(self.guide_trace).items()}

    @property
    def log_weight(self) -> Tensor:
        """The importance weight log p(x, z) - log q(z|x), [B]."""
        return self.log_prior + self.log_likelihood - self.log_q


@dataclass(frozen=True)
class Simulation:
    """One draw of latents and data from the model: z_n ~ p(z), x_n ~ p(x|z_n)."""

    trace: Trace
    """The model; its sites hold the draw."""
    latents: dict[str, Tensor]
    """Latent site to its value, [B, ...]."""
    observed: dict[str, Tensor]
    """Observed site to the value drawn for it, [B, ...]."""


@torch.no_grad()
def draw_guide(model: Program, guide: Program, *args: Any, **kwargs: Any) -> Draw:
    r"""Draws every latent of a batch from the guide, and scores the draw.

    Densities are those of the values as they were sampled. A Concrete site is scored on both sides by the density of
    its relaxed value, and the two temperatures may differ: the weight :math:`p(x, z) / q(z|x)` is then that of the
    relaxed program, which is the program that the model defines. Where the prior of another site depends on it, as in
    a mixture, it is sampled and scored as the categorical that it relaxes, in both programs. What plates or
    ``poutine.scale`` multiply densities by does not enter; masks do.

    Args:
        model: the generative program.
        guide: the inference program; it samples every latent site of the model and no other.
        args: arguments of both, one batch.
        kwargs: keyword arguments of both.

    Raises:
        ValueError: a latent site that only one of the two samples, or that is not sampled for each datum; names it.
        NotImplementedError: the guide has a point estimate (Delta) of a site; names it.
    """
    model, guide = fix(model, guide, *args, **kwargs)
    guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
    inferred = latent_sites(guide_trace)
    if strangers := [name for name in subsampled_plates(guide_trace).nodes if name not in model.subsample]:
        raise ValueError(
            f"the guide draws a subsample in plate '{strangers[0]}', and the model another one: give the plate of both "
            "one name, so that they are of the same data"
        )
    for name, site in inferred.items():
        if read_site(name, site["fn"]).point:
            raise NotImplementedError(
                f"site '{name}' is Delta in the guide, a point estimate, which has no density and so no importance "
                "weights: give the guide a distribution with a spread, or make the site pyro.deterministic in the model"
            )
    model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
    generated = latent_sites(model_trace)
    for name in generated:
        if name not in inferred:
            raise ValueError(
                f"the model samples site '{name}', which the guide does not; the guide samples: {name_list(inferred)}"
            )
    for name in inferred:
        if name not in generated:
            raise ValueError(
                f"the guide samples site '{name}', which the model does not; the model samples: {name_list(generated)}"
            )
    size, plate = _data_size(inferred, "guide"), DataPlate.of(model_trace, model_trace)
    return Draw(
        guide_trace=guide_trace,
        model_trace=model_trace,
        log_q=_log_density(inferred, size),
        log_prior=_log_density(generated, size),
        log_likelihood=log_likelihood(model_trace, torch.Size([1, size]), plate)[0].double(),
    )


def draw_log_weights(model: Program, guide: Program, *args: Any, draws: int, **kwargs: Any) -> Iterator[Tensor]:
    r"""The importance weights :math:`\log p(x, z_k) - \log q(z_k|x)`, [B] for each draw k, one after the other.

    Args:
        model: the generative program.
        guide: the inference program.
        args: arguments of both, one batch.
        draws: K.
        kwargs: keyword arguments of both.
    """
    if draws < 1:
        raise ValueError(f"the number of draws must be 1 or more, got {draws}")
    model, guide = fix(model, guide, *args, **kwargs)
    return (draw_guide(model, guide, *args, **kwargs).log_weight for _ in range(draws))


@torch.no_grad()
def simulate(model: Program, *args: Any, **kwargs: Any) -> Simulation:
    """Draws latents and data from the model; of the arguments only the shapes matter.

    Args:
        model: the generative program; it may observe its data by ``obs=…`` as in training.
        args: its arguments, one batch.
        kwargs: its keyword arguments.

    Raises:
        ValueError: the model observes nothing, or a latent site is not sampled for each datum; names it.
    """
    model = fix_model(model, *args, **kwargs)
    trace = poutine.trace(poutine.uncondition(model)).get_trace(*args, **kwargs)
    sites = latent_sites(trace)
    observed = {name: site["value"] for name, site in sites.items() if _was_observed(site)}
    if not observed:
        raise ValueError("the model observes nothing: give one of its sample sites obs=…")
    latents = {name: site for name, site in sites.items() if name not in observed}
    _data_size(latents, "model")
    return Simulation(trace, {name: site["value"] for name, site in latents.items()}, observed)


@torch.no_grad()
def predict(model: Program, latents: Trace, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
    """Draws the observed sites given the latents of a trace, x ~ p(x|z); site name to value, [B, ...]."""
    trace = poutine.trace(poutine.uncondition(poutine.replay(model, trace=latents))).get_trace(*args, **kwargs)
    return {name: site["value"] for name, site in latent_sites(trace).items() if _was_observed(site)}


def _was_observed(site: Mapping[str, Any]) -> bool:
    return bool((site["infer"] or {}).get("was_observed"))


def _data_size(sites: Mapping[str, Mapping[str, Any]], program: str) -> int:
    """B, which every latent site of the program must have as its batch shape."""
    if not sites:
        raise ValueError(f"the {program} samples no latent site")
    first, size = "", 0
    for name, site in sites.items():
        shape = site["fn"].batch_shape
        if len(shape) != 1:
            raise ValueError(
                f"site '{name}' has the batch shape {tuple(shape)} in the {program}; it must be (B,), one entry for "
                "each datum: declare inner dimensions with .to_event(n), and sample the site in a plate over the data"
            )
        if first and shape[0] != size:
            raise ValueError(f"site '{name}' is sampled for {shape[0]} data, but site '{first}' for {size}")
        first, size = name, shape[0]
    return size


def _log_density(sites: Mapping[str, Mapping[str, Any]], size: int) -> Tensor:
    """Sum of the sites' log-densities, [B], in float64: a sum over many sites and pixels loses digits in float32."""
    total = torch.zeros(size, dtype=torch.float64)
    for name, site in sites.items():
        log_prob = cast(Tensor, scale_and_mask(site["fn"].log_prob(site["value"]), mask=site["mask"]))
        if not broadcasts(log_prob.shape, torch.Size([size])):
            raise ValueError(
                f"site '{name}' has log-probabilities of shape {tuple(log_prob.shape)}, which is not one for each of "
                f"the {size} data; declare its other dimensions with .to_event(n)"
            )
        total = total.to(log_prob.device) + log_prob.double()
    return total
