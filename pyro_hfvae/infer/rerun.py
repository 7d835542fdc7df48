"""Runs of a program, model or guide, on given latents, up to the last site that is asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.distributions import Distribution, RelaxedOneHotCategorical

from pyro_hfvae.distributions import log_mass, unwrap
from pyro_hfvae.infer.latents import latent_sites

__all__ = ["Call", "buffers_kept", "check_leading_dimensions", "conditionals", "says_the_same"]


@dataclass(frozen=True)
class Call:
    """A program, what it is called with, and a trace of it that gives what it drew besides its latents."""

    program: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    trace: Trace
    role: Literal["model", "guide"] = "model"

    @property
    def part(self) -> str:
        """What the distribution of one of its sites is, for messages."""
        return "prior" if self.role == "model" else "guide's conditional"

    @property
    def must_keep(self) -> str:
        """What the program must obey, for messages."""
        if self.role == "model":
            return (
                "for its marginals, a prior that depends on other sites is run with leading dimensions before that of "
                "the data, which it must keep (write y[..., 0] for y[:, 0], flatten nothing)"
            )
        return (
            "for its marginals, a guide whose sites depend on one another is run again on samples with leading "
            "dimensions before that of the data, which it must keep (write y[..., 0] for y[:, 0], expand what is "
            "concatenated with y to y.shape[:-1], flatten nothing), and twice must say the same of the same samples"
        )


def conditionals(
    call: Call, value: Callable[[str, Distribution], Tensor], latents: Iterable[str], wanted: Iterable[str]
) -> dict[str, Distribution]:
    """The distributions of the wanted sites, with the program run on given values of all latents.

    Args:
        call: the program. What it draws besides its latents, the indices of a subsample, is as in the trace.
        value: of a latent site, from its name and distribution.
        latents: names of all latent sites.
        wanted: names of those that are asked for; the run ends at the last of them, before a decoder.
    """
    given = _Given(value, latents, wanted)
    try:
        with pyro.validation_enabled(False), buffers_kept(call.program), given:
            poutine.replay(call.program, trace=call.trace)(*call.args, **call.kwargs)
    except _EnoughError:
        pass
    except NotImplementedError:
        raise
    except (RuntimeError, IndexError, ValueError) as error:
        if call.must_keep not in str(error):
            error.add_note(f"The {call.role} was run for the marginals of {', '.join(wanted)}: {call.must_keep}.")
        raise
    return given.met


def check_leading_dimensions(call: Call, wanted: Iterable[str]) -> None:
    """Runs a program on the latents of its trace, repeated along leading dimensions: it must say the same of them.

    Args:
        call: the program.
        wanted: names of the sites whose distributions are looked at.

    Raises:
        ValueError: it does not; names the site.
    """

    def repeated(name: str, _: object = None) -> Tensor:
        value = cast(Tensor, call.trace.nodes[name]["value"])
        return value.expand(2, 3, 1, *value.shape)

    sites = latent_sites(call.trace)
    for name, fn in conditionals(call, repeated, sites, wanted).items():
        if not says_the_same(fn, sites[name]["fn"], cast(Tensor, sites[name]["value"])):
            raise ValueError(
                f"the {call.part} of site '{name}' changes where the latents get leading dimensions: {call.must_keep}"
            )


def says_the_same(one: Distribution, other: Distribution, value: Tensor) -> bool:
    """Whether two distributions of a site agree on its value, or, of a discrete site, on its categories.

    Args:
        one: its batch shape may have more dimensions, in front.
        other: the distribution that the value is of.
        value: of the site.
    """
    try:
        if isinstance(unwrap(other), RelaxedOneHotCategorical):
            found, expected = (log_mass(unwrap(fn)) for fn in (one, other))  # type: ignore[arg-type]
        else:
            found = one.log_prob(value.expand(*one.batch_shape, *other.event_shape))
            expected = other.log_prob(value)
        return torch.allclose(found, expected.expand_as(found), rtol=1e-3, atol=1e-3)
    except (RuntimeError, ValueError):  # shapes that do not fit
        return False


@contextmanager
def buffers_kept(*programs: Callable[..., Any]) -> Iterator[None]:
    """Running statistics of normalisation layers do not see a further run: a resumed run must equal a whole one."""
    buffers = [buffer for program in programs if isinstance(program, nn.Module) for buffer in program.buffers()]
    kept = [(buffer, buffer._version, buffer.clone()) for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, version, value in kept:
                if buffer._version != version:  # what a graph needs is not written to without need
                    buffer.copy_(value)


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
