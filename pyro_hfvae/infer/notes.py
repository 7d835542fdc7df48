"""What handlers note at the guide's sites for penalties: partners, open gates, and posteriors before they were swapped.

The notes stand in the ``infer`` of a site's message, and so in the trace that a penalty reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Distribution

from pyro_hfvae.infer.traces import Message, latent_sites

__all__ = [
    "Partners",
    "has_partners",
    "note_open",
    "note_own",
    "note_partners",
    "open_gates",
    "own_posterior",
    "partners_of",
]

_PARTNERS, _OPEN, _OWN = "_partners", "_open", "_own"


@dataclass(frozen=True)
class Partners:
    """Who is whose partner, and which blocks at a site they share."""

    places: Tensor
    """For each datum the place of its partner in the batch, int64, ``[B]``."""
    shared: Mapping[str, Tensor]
    """Block name to whether a datum shares it with its partner, bool, ``[B]``."""
    variables: Mapping[str, list[int]]
    """Block name to its variables at the site."""


def note_partners(msg: Message, partners: Partners) -> None:
    """Notes who shares what at a site."""
    _note(msg, _PARTNERS, partners)


def partners_of(site: Message) -> Partners | None:
    """Who shares what at a site of a trace; None where nobody noted it."""
    return cast("Partners | None", _noted(site, _PARTNERS))


def has_partners(trace: Trace) -> bool:
    """Whether partners were noted at any site of a trace."""
    return any(partners_of(site) is not None for site in latent_sites(trace).values())


def note_open(msg: Message, mask: Tensor) -> None:
    """Notes a gate, ``[*batch, V]`` or ``[*batch, 1]``; where there are several, all must be open."""
    before = _noted(msg, _OPEN)
    _note(msg, _OPEN, mask if before is None else mask & before)


def open_gates(site: Message) -> Tensor | None:
    """Which variables of a site of a trace may learn, ``[*batch, V]`` or ``[*batch, 1]``; None without a gate."""
    return cast("Tensor | None", _noted(site, _OPEN))


def note_own(msg: Message, fn: Distribution) -> None:
    """Notes the posteriors that the data have of their own, before they are swapped for the first time."""
    if _noted(msg, _OWN) is None:
        _note(msg, _OWN, fn)


def own_posterior(site: Message) -> Distribution:
    """The distribution of a site of a trace before any swap."""
    own = _noted(site, _OWN)
    return cast(Distribution, site["fn"] if own is None else own)


def _note(msg: Message, key: str, value: Any) -> None:
    msg["infer"] = {**(msg["infer"] or {}), key: value}  # a copy: the program may give the same to every run


def _noted(msg: Message, key: str) -> Any:
    return (msg["infer"] or {}).get(key)
