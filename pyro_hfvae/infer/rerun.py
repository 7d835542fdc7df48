"""Runs of the model program on given latents, up to the last site that is asked for."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution

from pyro_hfvae.infer.latents import latent_sites

__all__ = ["MUST_KEEP", "Call", "check_leading_dimensions", "conditionals"]

MUST_KEEP = (
    "for its marginals, a prior that depends on other sites is run with leading dimensions before that of the data, "
    "which it must keep (write y[..., 0] for y[:, 0], flatten nothing)"
)
"""What a model must obey, for messages."""


@dataclass(frozen=True)
class Call:
    """A model program, what it is called with, and a trace of it that gives what it drew besides its latents."""

    model: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    trace: Trace


def conditionals(
    call: Call, value: Callable[[str, Distribution], Tensor], latents: Iterable[str], wanted: Iterable[str]
) -> dict[str, Distribution]:
    """The distributions of the wanted sites, with the model run on given values of all latents.

    Args:
        call: the model. What it draws besides its latents, the indices of a subsample, is as in the trace.
        value: of a latent site, from its name and distribution.
        latents: names of all latent sites.
        wanted: names of those that are asked for; the run ends at the last of them, before a decoder.
    """
    given = _Given(value, latents, wanted)
    try:
        with pyro.validation_enabled(False), given:
            poutine.replay(call.model, trace=call.trace)(*call.args, **call.kwargs)
    except _EnoughError:
        pass
    except NotImplementedError:
        raise
    except (RuntimeError, IndexError, ValueError) as error:
        if MUST_KEEP not in str(error):
            error.add_note(f"The model was run for the marginals of {', '.join(wanted)}: {MUST_KEEP}.")
        raise
    return given.met


def check_leading_dimensions(call: Call, wanted: Iterable[str]) -> None:
    """Runs the model on the latents of its trace, repeated along leading dimensions: it must say the same of them.

    Args:
        call: the model.
        wanted: names of the sites whose distributions are looked at.

    Raises:
        ValueError: it does not; names the site.
    """

    def repeated(name: str, _: object = None) -> Tensor:
        value = cast(Tensor, call.trace.nodes[name]["value"])
        return value.expand(2, 3, 1, *value.shape)

    sites = latent_sites(call.trace)
    for name, fn in conditionals(call, repeated, sites, wanted).items():
        expected = sites[name]["fn"].log_prob(cast(Tensor, sites[name]["value"]))
        try:
            same = torch.allclose(fn.log_prob(repeated(name)), expected, rtol=1e-3, atol=1e-3)
        except (RuntimeError, ValueError):  # shapes that do not fit
            same = False
        if not same:
            raise ValueError(
                f"the prior of site '{name}' changes where the latents get leading dimensions: {MUST_KEEP}"
            )


class _EnoughError(Exception):
    """Ends a run of the model: what comes after is a decoder, and costs most."""


class _Given(Messenger):
    """Gives every latent site a value, notes its distribution, and ends the run when all wanted sites were met."""

    def __init__(
        self, value: Callable[[str, Distribution], Tensor], latents: Iterable[str], wanted: Iterable[str]
    ) -> None:
        super().__init__()
        self.value = value
        self.latents = frozenset(latents)
        self.wanted = frozenset(wanted)
        self.met: dict[str, Distribution] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.latents:
            if name in self.wanted:
                self.met[name] = msg["fn"]
            msg["value"] = self.value(name, msg["fn"])
            msg["done"] = True

    def _pyro_post_sample(self, msg: Any) -> None:
        if self.met.keys() == self.wanted:
            raise _EnoughError
