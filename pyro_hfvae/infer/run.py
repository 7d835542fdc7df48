"""One run of guide and model on a batch, as the objective and its penalties see it."""

from dataclasses import dataclass

from pyro.poutine import Trace
from torch import Tensor

from pyro_hfvae.infer.guides import StructuredPosterior
from pyro_hfvae.infer.latents import Latents
from pyro_hfvae.infer.priors import Priors

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """The latents of S particles and B data, what the model says of them, and the traces they were read from."""

    latents: Latents
    """Site name to its posterior."""
    priors: Priors
    """log p of the latents and of the groups of them that the terms need."""
    log_likelihood: Tensor
    """Σ log p(x|z), [S, B]."""
    scale: float | Tensor
    """What plates or ``poutine.scale`` multiply every site by."""
    model_trace: Trace
    """The model, replayed against the guide."""
    guide_trace: Trace
    """The guide; its sites hold the samples."""
    structured: StructuredPosterior | None = None
    """The posterior of a guide whose sites depend on one another; None if they are independent given the data."""
