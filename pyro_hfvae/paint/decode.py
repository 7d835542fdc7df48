"""Images of latent values, and of draws from the prior: the means that a model decodes."""

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from pyro_hfvae.paint.latent_values import LatentValues, Program, Values

__all__ = ["decode", "decode_latents", "sample"]


@torch.no_grad()
def decode(model: Program, values: Values, x: Tensor) -> Tensor:
    """Mean of the image that the model makes of given latents, [B, C, H, W].

    Args:
        model: the generative program.
        values: of all its latent sites.
        x: what the model is called with, [B, ...]; it does not enter the picture.

    Raises:
        ValueError: none of the model's observed sites is an image.
    """
    return _image(poutine.trace(poutine.condition(model, data=dict(values))).get_trace(x), values)


def decode_latents(model: Program, latents: LatentValues, x: Tensor) -> Tensor:
    """Means of the images of any number of latent values; of x, [B, ...], only the shape of a datum matters."""
    return decode(model, latents.values, x[:1].expand(latents.size, *x.shape[1:]))


@torch.no_grad()
def sample(model: Program, x: Tensor) -> Tensor:
    """Means of the images of draws from the prior, [B, C, H, W], as many as x has data."""
    return _image(poutine.trace(model).get_trace(x), {})


def _image(trace: Trace, given: Values) -> Tensor:
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and site["is_observed"] and name not in given:
            mean = getattr(site["fn"], "mean", None)
            if isinstance(mean, Tensor) and mean.dim() == 4:
                return mean
    raise ValueError("none of the model's observed sites is an image with a mean of shape [B, C, H, W]")
