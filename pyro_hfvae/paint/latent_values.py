"""Values of the latent variables: the modes and draws of a guide's posteriors, and the modes of a model's prior."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.nn.functional import one_hot

from pyro_hfvae.batch import Inputs, as_batch
from pyro_hfvae.blocks import Variable
from pyro_hfvae.infer.latents import posterior_sites
from pyro_hfvae.infer.traces import DataPlate, latent_sites
from pyro_hfvae.sites import DiscreteSite, Site, describe, read_site

__all__ = ["LatentValues", "Program", "Values", "posterior_draws", "posterior_modes", "prior_modes"]

Program = Callable[..., Any]
Values = Mapping[str, Tensor]
"""Site name to its value for each of B data, [B, ...]."""


@dataclass(frozen=True)
class LatentValues:
    """A value of every latent site for each of B data."""

    values: Values
    """Site name to values, [B, ...]."""
    widths: Mapping[str, int]
    """Numbers of each variable of a site: K of a categorical, whose value is a one-hot, or of a simplex, else 1."""

    @property
    def size(self) -> int:
        """B."""
        return len(next(iter(self.values.values())))

    def of(self, variable: Variable) -> Tensor:
        """The values of one variable: [B], or [B, K] of a categorical or a simplex."""
        numbers = self._numbers(variable.site)[:, variable.index]  # [B, width]
        return numbers if self.widths[variable.site] > 1 else numbers[:, 0]

    def rows(self, indices: Tensor) -> "LatentValues":
        """Those of some of the data, in the order given, repeats allowed."""
        return LatentValues({name: value[indices] for name, value in self.values.items()}, self.widths)

    def replaced(self, values: Mapping[Variable, Tensor]) -> "LatentValues":
        """The same with other values of some variables, each [B], or [B, K] of a categorical or a simplex."""
        changed = {name: value.clone() for name, value in self.values.items()}
        for variable, value in values.items():
            width = self.widths[variable.site]
            numbers = changed[variable.site].view(self.size, -1, width)  # [B, V, width]
            numbers[:, variable.index] = value.reshape(self.size, width).to(numbers)
        return LatentValues(changed, self.widths)

    def _numbers(self, site: str) -> Tensor:
        return self.values[site].reshape(self.size, -1, self.widths[site])  # [B, V, width]

    @staticmethod
    def joined(parts: "Iterable[LatentValues]") -> "LatentValues":
        """Those of several batches, one after the other."""
        batches = list(parts)
        names = batches[0].values
        return LatentValues(
            {name: torch.cat([part.values[name] for part in batches]) for name in names}, batches[0].widths
        )


@torch.no_grad()
def posterior_modes(guide: Program, data: Inputs) -> LatentValues:
    """The most likely value of every latent site: the mean of a Gaussian, the one-hot of the likeliest category.

    Args:
        guide: the inference program.
        data: its arguments, [B, ...].
    """
    return _read(as_batch(data)(poutine.trace(guide).get_trace), drawn=False)


@torch.no_grad()
def posterior_draws(guide: Program, data: Inputs) -> LatentValues:
    r"""One draw from the posterior of each datum, :math:`z_n \sim q(z|x_n)`: together, draws of the aggregate q(z).

    Of a Concrete site the category next to the sample is taken, which is a draw of the categorical (Gumbel-max).

    Args:
        guide: the inference program.
        data: its arguments, [B, ...].
    """
    return _read(as_batch(data)(poutine.trace(guide).get_trace), drawn=True)


@torch.no_grad()
def prior_modes(model: Program, data: Inputs) -> LatentValues:
    """The middle of the prior: the mean of each continuous site and the first of the likeliest categories.

    A site that depends on others is taken given theirs.

    Args:
        model: the generative program.
        data: what it is called with, [B, ...]; of what it observes only the shape matters.

    Raises:
        ValueError: a site whose distribution has no mean; names it.
    """
    batch = as_batch(data)
    with _Modes():
        trace = batch(poutine.trace(model).get_trace)
    values, widths = {}, {}
    for name, message in latent_sites(trace).items():
        values[name] = message["value"].expand(batch.size, *message["fn"].event_shape)
        widths[name] = _width(read_site(name, message["fn"], message["value"]))
    return LatentValues(values, widths)


class _Modes(Messenger):
    """Puts the mode or mean of its distribution in the place of every latent sample."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or site_is_subsample(msg):
            return
        fn = cast(Any, msg["fn"])
        site = read_site(msg["name"], fn, fn.sample())
        try:
            mode = _mode(site) if isinstance(site, DiscreteSite) else fn.mean
        except NotImplementedError:
            raise ValueError(
                f"site '{msg['name']}' is {describe(fn)} in the model, whose mean is not known: the prior has no "
                "middle to start from; start from an image"
            ) from None
        msg["value"] = mode.expand(fn.batch_shape + fn.event_shape)
        msg["done"] = True


def _read(trace: Trace, drawn: bool) -> LatentValues:
    values, widths = {}, {}
    for name, site in posterior_sites(trace, None, DataPlate.of(trace)).items():
        value = cast(Tensor, trace.nodes[name]["value"])
        sampled = site.nearest if isinstance(site, DiscreteSite) else value
        chosen = sampled if drawn else _mode(site)
        values[name] = chosen.to(value.dtype).reshape(value.shape)
        widths[name] = _width(site)
    return LatentValues(values, widths)


def _mode(site: Site) -> Tensor:
    """The mean of a continuous site, the likeliest category of a discrete one, [*batch, *event]."""
    if not isinstance(site, DiscreteSite):
        return site.mean
    return site.vertex(one_hot(site.log_mass.argmax(-1), site.categories).to(site.log_mass))


def _width(site: Site) -> int:
    """Numbers of the value that one variable has."""
    return site.fn.event_shape.numel() // site.variables
