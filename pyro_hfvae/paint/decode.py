"""What a model makes of latent values, and of draws from the prior: the means that it decodes."""

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from pyro_hfvae.batch import Inputs, as_batch
from pyro_hfvae.paint.latent_values import LatentValues, Program, Values

__all__ = ["decode", "decode_latents", "sample"]


@torch.no_grad()
def decode(model: Program, values: Values, data: Inputs) -> Tensor:
    """Mean of the data that the model makes of given latents, [B, ...]: images [B, C, H, W], say.

    Args:
        model: the generative program.
        values: of all its latent sites.
        data: what the model is called with, [B, ...]; what it observes does not enter the result, covariates do.

    Raises:
        ValueError: none of the model's observed sites has a mean.
    """
    conditioned = poutine.trace(poutine.condition(model, data=dict(values)))
    return _mean(as_batch(data)(conditioned.get_trace), values)


def decode_latents(model: Program, latents: LatentValues, data: Inputs) -> Tensor:
    """Means of any number of latent values.

    Args:
        model: the generative program.
        latents: values of n data.
        data: what the model is called with: n data, or any number, of which the first is taken n times. What the model
            observes does not enter the result; covariates do.
    """
    batch = as_batch(data)
    if batch.size != latents.size:
        batch = batch.rows(torch.zeros(latents.size, dtype=torch.long, device=batch.x.device))
    return decode(model, latents.values, batch)


@torch.no_grad()
def sample(model: Program, data: Inputs) -> Tensor:
    """Means of draws from the prior, [B, ...], as many as there are data."""
    return _mean(as_batch(data)(poutine.trace(model).get_trace), {})


def _mean(trace: Trace, given: Values) -> Tensor:
    """The mean of the observed site, the one that is an image if there are several."""
    means = []
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and site["is_observed"] and name not in given:
            mean = getattr(site["fn"], "mean", None)
            if isinstance(mean, Tensor) and not mean.isnan().all():
                means.append(mean)
    if not means:
        raise ValueError("none of the model's observed sites has a mean")
    return next((mean for mean in means if mean.dim() == 4), means[0])
