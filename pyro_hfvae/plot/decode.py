"""Images that a model makes of chosen latents: reconstructions, samples from the prior, traversals."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor
from torch.nn.functional import one_hot

from pyro_hfvae.blocks import Variable
from pyro_hfvae.infer.latents import Discrete, Gaussian, read_posteriors

__all__ = ["decode", "posterior_modes", "sample", "traverse"]

Program = Callable[..., Any]
Values = Mapping[str, Tensor]
"""Site name to its value for each of B data, [B, ...]."""


@torch.no_grad()
def posterior_modes(guide: Program, x: Tensor) -> tuple[dict[str, Tensor], set[str]]:
    """The most likely value of every latent site: the mean of a Gaussian, the one-hot of the likeliest category.

    Args:
        guide: the inference program.
        x: its data, [B, ...].

    Returns:
        The values by site, [B, ...], and which of the sites are discrete.
    """
    trace = poutine.trace(guide).get_trace(x)
    modes, discrete = {}, set()
    for name, site in read_posteriors(trace).items():
        value = cast(Tensor, trace.nodes[name]["value"])
        if not isinstance(site, Discrete):
            mode = site.loc if isinstance(site, Gaussian) else site.mean
        elif value.numel() < site.log_mass.numel():
            mode = site.log_mass.argmax(-1).to(site.log_mass.dtype)  # relaxed Bernoullis: 0 or 1
        else:
            mode = one_hot(site.log_mass.argmax(-1), site.log_mass.shape[-1]).to(site.log_mass.dtype)
            discrete.add(name)
        modes[name] = mode.reshape(value.shape)
    return modes, discrete


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


@torch.no_grad()
def sample(model: Program, x: Tensor) -> Tensor:
    """Means of the images of draws from the prior, [B, C, H, W], as many as x has data."""
    return _image(poutine.trace(model).get_trace(x), {})


def traverse(
    model: Program, guide: Program, x: Tensor, variables: Sequence[Variable], steps: Sequence[float]
) -> tuple[list[str], list[Tensor]]:
    """Pictures of what each variable of a block does, all else fixed.

    A Gaussian variable gives one row: the most typical datum of x with the variable set to each of the steps. A
    categorical gives a row for each category: that category with the other latents of one datum per column.

    Args:
        model: the generative program.
        guide: the inference program.
        x: data to start from, [B, C, H, W], at least as many as steps.
        variables: of the block.
        steps: values of a Gaussian variable, Q of them.

    Returns:
        Labels of the rows, and the rows, each [Q, C, H, W].
    """
    modes, discrete = posterior_modes(guide, x)
    gaussian = [value.reshape(len(value), -1) for name, value in modes.items() if name not in discrete]
    typical = int(torch.cat(gaussian, 1).square().sum(1).argmin()) if gaussian else 0
    labels, rows, count = [], [], len(steps)
    for variable in variables:
        if variable.site in discrete:
            for category in range(modes[variable.site].shape[-1]):
                values = {name: value[:count].clone() for name, value in modes.items()}
                chosen = values[variable.site].view(count, -1, modes[variable.site].shape[-1])
                chosen[:, variable.index] = 0
                chosen[:, variable.index, category] = 1
                labels.append(f"{variable.name} = {category}")
                rows.append(decode(model, values, x[:count]))
        else:
            values = {name: value[typical].expand(count, *value.shape[1:]).clone() for name, value in modes.items()}
            values[variable.site].view(count, -1)[:, variable.index] = torch.tensor(steps, device=x.device)
            labels.append(variable.name)
            rows.append(decode(model, values, x[:count]))
    return labels, rows


def _image(trace: Trace, given: Values) -> Tensor:
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and site["is_observed"] and name not in given:
            mean = getattr(site["fn"], "mean", None)
            if isinstance(mean, Tensor) and mean.dim() == 4:
                return mean
    raise ValueError("none of the model's observed sites is an image with a mean of shape [B, C, H, W]")
