"""An inference marginal that remembers: the posteriors of past batches beside those of the present one."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_hfvae.infer.estimators import Marginal, log_weight_of_others, refuse_batch
from pyro_hfvae.infer.marginals import Bank, Posteriors, References
from pyro_hfvae.infer.mixture import gaussian_parameters

__all__ = ["Memory"]

SINGLE_REFERENCES = 1024
"""References for the marginal of a single variable, whose bias goes with e^I(x; z_e) over their number."""

_ABSENT = -1
"""The time of a slot that holds nothing."""


class Memory(Marginal):
    r"""The batch, and the posteriors that the last M data had when they were last seen.

    .. math:: \hat q(z^b) = \frac{1}{N} q(z^b|x^b) + \frac{N-1}{N (R-1)} \Big(
        \sum_{b' \ne b} q(z^b|x^{b'}) + \sum_{m} q_\mathrm{old}(z^b|x^m) \Big)

    with m over the remembered data that are not in the batch, and R the number of references, batch and memory
    together. A datum is known again by the bytes of the first argument of model and guide: its old posterior makes
    place for the new one, so that it counts once, and a memory of M ≥ N holds every datum and gives the exact
    marginal, but for the age of the posteriors. Data that never come back the same (augmented anew each time) are
    remembered as so many different ones, up to M.

    Old posteriors carry no gradient, those of the batch do; see the page on estimators for what that leaves out. Single
    variables are set against about 1,024 references, another part of the memory at every step.

    The memory is filled by training steps (:meth:`~pyro_hfvae.infer.HierarchicalELBO.training_terms` and the losses,
    where gradients are enabled), never by ``terms``; it is part of the ``state_dict``, and starts empty, as
    :class:`~pyro_hfvae.infer.estimators.Stratified`.

    Args:
        size: M, data to remember; more than N are never held. Cost and storage grow with M.

    Raises:
        ValueError: size below 1.
    """

    def __init__(self, size: int = 4096) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"the memory's size must be 1 or more, got {size}")
        self.size = size
        self._slots: dict[str, Tensor] = {}  # [M, ...] each; none before the first batch
        self._products: Tensor | None = None  # [M, D, 3], of the slots' loc and scale; kept, as it takes time
        self._clock = 0

    def __len__(self) -> int:
        """Data remembered."""
        return int((self._slots["time"] != _ABSENT).sum()) if self._slots else 0

    @property
    def staleness(self) -> Tensor:
        """KL of the new from the remembered posteriors, mean over the data of the last batch that were known again.

        In nats per datum, over all variables; NaN where none was. What it is for a group of variables bounds how far
        the age of the references moves E[log q̂] of that group up from what fresh ones give, to first order.
        """
        return self._slots["staleness"] if self._slots else torch.tensor(math.nan)

    def reference_count(self, batch: int, data_size: int) -> int:
        """R: batch and memory together, N at most."""
        return min(batch + len(self), data_size)

    def keys(self, data: object) -> Tensor | None:
        """A hash of the bytes of each datum, [B]; None where data is no tensor with a batch dimension."""
        return _hash_rows(data.detach()) if isinstance(data, Tensor) and data.dim() > 0 else None

    def references(self, posteriors: Posteriors, data_size: int, keys: Tensor | None = None) -> References:
        """The batch, and the remembered data that are not in it.

        Raises:
            ValueError: B > N; or B = 1 < N before anything is remembered.
            NotImplementedError: variables that are neither normal nor discrete.
        """
        if posteriors.other:
            raise NotImplementedError(
                "a memory remembers normal and discrete variables only; use marginal=Stratified() beside others"
            )
        batch = posteriors.value.shape[1]
        if not self._slots or batch > data_size:
            refuse_batch(batch, data_size)
            return References(own=-math.log(data_size), other=log_weight_of_others(batch, data_size))
        slots = self._slots
        present = slots["time"] != _ABSENT
        if keys is not None:
            present = present & ~_partner(slots["key"], keys)[1]
        parts = max(1, len(present) // SINGLE_REFERENCES)
        part = self._clock % parts
        some = slice(len(present) * part // parts, len(present) * (part + 1) // parts)
        single = self._of(posteriors, data_size, present, some)
        return self._of(posteriors, data_size, present, slice(None), single)

    def _of(
        self, posteriors: Posteriors, data_size: int, present: Tensor, which: slice, single: References | None = None
    ) -> References:
        batch = posteriors.value.shape[1]
        slots = self._slots
        masses = tuple(slots[f"log_mass{index}"][which] for index in range(len(posteriors.log_mass)))
        others = (batch - 1 + present[which].sum()).clamp_min(1).to(torch.float64)
        return References(
            own=-math.log(data_size),
            other=math.log(max(1, data_size - 1) / data_size) - others.log(),
            bank=Bank(self._bank_products()[which], masses, present[which]),
            single=single,
        )

    @torch.no_grad()
    def record(self, posteriors: Posteriors, data_size: int, keys: Tensor | None = None) -> None:
        """Puts the posteriors of a batch into the memory, in place of their old ones and then of the oldest."""
        new = {"loc": posteriors.loc[0], "scale": posteriors.scale[0]}  # the particles of a datum share its posterior
        new |= {f"log_mass{index}": mass[0] for index, mass in enumerate(posteriors.log_mass)}
        batch, device = len(new["loc"]), new["loc"].device
        new["key"] = torch.zeros(batch, dtype=torch.int64, device=device) if keys is None else keys
        new["time"] = torch.full((batch,), self._clock, dtype=torch.int64, device=device)
        self._clock += 1
        slots = self._slots
        if not slots:
            capacity = min(self.size, data_size)
            slots.update({name: part.new_zeros(capacity, *part.shape[1:]) for name, part in new.items()})
            slots["time"].fill_(_ABSENT)
            slots["scale"].fill_(1.0)  # a weight of 0 does not undo the infinite density of a scale of 0
            slots["staleness"] = torch.tensor(math.nan)
        elif slots["loc"].device != device:
            slots.update({name: part.to(device) for name, part in slots.items()})
            self._products = None
        if keys is not None:
            partner, same = _partner(slots["key"], keys)
            same &= slots["time"] != _ABSENT
            slots["staleness"] = _mean_divergence(new, slots, partner, same)
            slots["time"].masked_fill_(same, _ABSENT)
        # The stable order makes which of the equally old are replaced the same on every machine.
        place = slots["time"].argsort(stable=True)[: min(batch, len(slots["time"]))]
        for name, part in new.items():
            slots[name][place] = part[: len(place)].to(slots[name].dtype)
        if self._products is not None:
            self._products[place] = _parameters(slots["loc"][place], slots["scale"][place])

    def _bank_products(self) -> Tensor:
        if self._products is None:
            self._products = _parameters(self._slots["loc"], self._slots["scale"])
        return self._products

    def get_extra_state(self) -> dict[str, Any]:
        """What is remembered: tensors and numbers only, so that ``torch.load(weights_only=True)`` reads it."""
        return {"clock": self._clock, "slots": {name: part.clone() for name, part in self._slots.items()}}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Takes up what was remembered.

        Raises:
            ValueError: it has more slots than this memory's size.
        """
        slots = state["slots"]
        if slots and len(slots["time"]) > self.size:
            raise ValueError(f"a memory of {len(slots['time'])} data does not fit into one of size={self.size}")
        self._clock = int(state["clock"])
        self._slots = {name: part.clone() for name, part in slots.items()}
        self._products = None


def _parameters(loc: Tensor, scale: Tensor) -> Tensor:
    if loc.device.type == "mps":  # has no float64
        loc, scale = loc.cpu(), scale.cpu()
    return gaussian_parameters(loc.double(), scale.double())


def _partner(slots: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """For each slot a datum of the batch, and whether that is the one in the slot, both [M]."""
    ordered, order = keys.sort(stable=True)
    place = torch.searchsorted(ordered, slots).clamp_max(len(keys) - 1)
    return order[place], ordered[place] == slots


def _mean_divergence(new: Mapping[str, Tensor], old: Mapping[str, Tensor], partner: Tensor, same: Tensor) -> Tensor:
    """KL(new || old) of the data in both, mean in nats; slots that are the ``same`` as their ``partner`` count."""
    batch = len(new["loc"])
    slot = partner.new_full((batch + 1,), -1)
    slot[torch.where(same, partner, batch)] = torch.arange(len(partner), device=partner.device)
    slot = slot[:-1]
    known = slot >= 0
    loc, scale = old["loc"][slot], old["scale"][slot]  # [B, D]; of the last slot where none is known
    ratio = (new["scale"] / scale).square()
    divergence = 0.5 * (ratio + ((new["loc"] - loc) / scale).square() - 1 - ratio.log()).sum(-1)  # [B]
    for name in new:
        if name.startswith("log_mass"):
            divergence = divergence + (new[name].exp() * (new[name] - old[name][slot])).sum(-1)
    return torch.where(known, divergence, 0.0).sum() / known.sum()


_MIXER = -7046029254386353131  # 2^64 over the golden ratio, odd, as a signed integer
_multipliers: dict[int, Tensor] = {}


def _hash_rows(data: Tensor) -> Tensor:
    """An int64 for each row, the same for the same bytes, whatever else is in the batch and on every device.

    A sum of the row's mixed words times fixed odd numbers, modulo 2^64: integers, because the last bits of a
    floating-point sum depend on the order in which it is made.
    """
    if data.dtype.is_complex:
        data = torch.view_as_real(data)
    words = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[data.element_size()]
    bits = data.reshape(len(data), -1).contiguous().view(words).to(torch.int64)
    length = bits.shape[1]
    if length not in _multipliers:
        generator = torch.Generator().manual_seed(length)
        _multipliers[length] = torch.randint(-(2**62), 2**62, (length,), generator=generator) * 2 + 1
    # Round floating-point numbers end in zeros, which a product keeps: their high bits must reach the low ones first.
    mixed = bits * _MIXER
    mixed = mixed ^ (mixed >> 32)
    return (mixed * _multipliers[length].to(bits.device)).sum(1)
