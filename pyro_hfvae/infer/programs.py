"""Runs of a program, guide or model, on given latents, up to the last site that is asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.block_messenger import BlockMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_hfvae.infer.traces import DataPlate, latent_sites
from pyro_hfvae.sites import DiscreteSite, read_site

__all__ = [
    "Run",
    "buffers_kept",
    "check_leading_dimensions",
    "conditionals",
    "runs_again",
    "same_distribution",
    "samples_of_others",
]

Program = Callable[..., Any]


@dataclass(frozen=True)
class Run:
    """A program, what it was called with, and the trace of it, which holds what it drew besides its local latents."""

    program: Program
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    trace: Trace
    plate: DataPlate
    role: Literal["model", "guide"]

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
            "concatenated with y to y.shape[:-1], flatten nothing) and must be deterministic given the samples (no "
            "dropout)"
        )

    @property
    def latents(self) -> list[str]:
        """Names of the local latents, in the order of the program."""
        return [name for name in latent_sites(self.trace) if name in self.plate.locals]


def conditionals(
    run: Run, value: Callable[[str, Distribution], Tensor], wanted: Iterable[str]
) -> dict[str, Distribution]:
    """The distributions of the wanted sites, with the program run on given values of all local latents.

    Handlers around the call act on a guide as they did when it was run first: gates gate its parameters, partners swap.

    Args:
        run: the program. What it draws besides its local latents is as in the trace.
        value: of a latent site, from its name and its distribution, both with the dimensions to the right of the data
            declared as event dimensions.
        wanted: names of those that are asked for; the run ends at the last of them, before a decoder.
    """
    given = _Given(run, value, wanted)
    try:
        with pyro.validation_enabled(False), buffers_kept(run.program), given.installed():
            poutine.replay(run.program, trace=_without(run.trace, run.latents))(*run.args, **run.kwargs)
    except _EnoughError:
        pass
    except NotImplementedError:
        raise
    except (RuntimeError, IndexError, ValueError) as error:
        if run.must_keep not in str(error):
            error.add_note(f"The {run.role} was run for the marginals of {', '.join(wanted)}: {run.must_keep}.")
        raise
    return given.met


def runs_again() -> bool:
    """Whether a program is now being run again, on given latents; for handlers that act on samples."""
    return any(isinstance(handler, _Given) for handler in _PYRO_STACK)


def samples_of_others() -> list[Tensor]:
    """What of the given latents of a guide that is being run again is set against all data, and of one of them."""
    return [value for handler in _PYRO_STACK if isinstance(handler, _Given) for value in handler.of_others]


def check_leading_dimensions(run: Run, wanted: Iterable[str]) -> None:
    """Runs a program on the latents of its trace, repeated along leading dimensions: nothing else may change.

    Args:
        run: the program.
        wanted: names of the sites whose distributions are compared.

    Raises:
        ValueError: a distribution does change; names the site.
    """
    sites = latent_sites(run.trace)

    def repeated(name: str, _: object = None) -> Tensor:
        value = cast(Tensor, run.trace.nodes[name]["value"])
        return value.expand(2, 3, 1, *value.shape)

    for name, fn in conditionals(run, repeated, wanted).items():
        if not same_distribution(fn, run.plate.local(sites[name]["fn"]), cast(Tensor, sites[name]["value"])):
            raise ValueError(
                f"the {run.part} of site '{name}' changes where the latents get leading dimensions: {run.must_keep}"
            )


def same_distribution(one: Distribution, other: Distribution, value: Tensor, tolerance: float | None = None) -> bool:
    """Whether two distributions of a site agree on a value, or, of a discrete site, on the masses of its categories.

    Args:
        one: its batch shape may have more dimensions, in front.
        other: the distribution that the value is of.
        value: of the site.
        tolerance: relative and absolute; by default what the rounding of the value's precision explains, also under
            autocast.
    """
    if tolerance is None:
        narrow = value.dtype in (torch.bfloat16, torch.float16) or torch.is_autocast_enabled(value.device.type)
        tolerance = 0.1 if narrow else 1e-3
    try:
        sites = [read_site("", fn, value) for fn in (one, other)]
        if isinstance(sites[0], DiscreteSite) and isinstance(sites[1], DiscreteSite):
            found, expected = (site.log_mass.exp() for site in sites)  # type: ignore[attr-defined]
        else:
            values = range(sites[1].variables)
            found, expected = (
                site.log_prob(values).expand(fn.batch_shape) for site, fn in zip(sites, (one, other), strict=True)
            )
        return torch.allclose(found, expected.expand_as(found), rtol=tolerance, atol=tolerance)
    except (RuntimeError, ValueError, IndexError):  # shapes that do not fit
        return False


@contextmanager
def buffers_kept(*programs: Program) -> Iterator[None]:
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


def _without(trace: Trace, names: Iterable[str]) -> Trace:
    """A copy of a trace that gives other sites their values, not these."""
    left_out = frozenset(names)
    kept = Trace()
    kept.nodes.update({name: node for name, node in trace.nodes.items() if name not in left_out})
    return kept


class _EnoughError(Exception):
    """Ends a run of the model: what comes after is a decoder, and costs most."""


class _Given(Messenger):
    """Gives every local latent a value, notes its distribution, and ends the run when all wanted sites were met."""

    def __init__(self, run: Run, value: Callable[[str, Distribution], Tensor], wanted: Iterable[str]) -> None:
        super().__init__()
        self.run = run
        self.value = value
        self.latents = frozenset(run.latents)
        self.wanted = frozenset(wanted)
        self.met: dict[str, Distribution] = {}
        self.of_others: list[Tensor] = []

    @contextmanager
    def installed(self) -> Iterator[None]:
        """In force: around a model as its innermost handler, around a guide outside of those that act on its sites.

        A handler then finds a guide's site without value and changes its distribution, before this one gives the value.
        """
        place = len(_PYRO_STACK)
        if self.run.role == "guide":
            blocks = [place for place, handler in enumerate(_PYRO_STACK) if isinstance(handler, BlockMessenger)]
            place = blocks[-1] + 1 if blocks else 0
        _PYRO_STACK.insert(place, self)
        try:
            yield
        finally:
            _PYRO_STACK.remove(self)

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.latents:
            fn = self.run.plate.local(msg["fn"])
            if name in self.wanted:
                self.met[name] = fn
            value = self.value(name, fn)
            repeated = value.stride(value.dim() - len(fn.event_shape) - 1) == 0
            if value.requires_grad and repeated and self.run.role == "guide":
                self.of_others.append(value)
            msg["value"] = value
            msg["done"] = True

    def _pyro_post_sample(self, msg: Any) -> None:
        if self.met.keys() == self.wanted:
            raise _EnoughError
