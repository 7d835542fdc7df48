"""An inference marginal that remembers: the posteriors of past batches beside those of the present one."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_hfvae.infer.estimators import Marginal, log_weight_of_others, refuse_batch
from pyro_hfvae.infer.marginals import Bank, Posteriors, References
from pyro_hfvae.infer.mixture import NOTHING, gaussian_parameters

__all__ = ["Memory"]

SYSTEMATIC, TAIL = 256, 64
"""References for the marginal of a single variable: about so many in equal steps, and so many at either end."""

SORTED = 4
"""The remembered data are sorted again after a batch or more, and when one part in so many may be another."""

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

    Old posteriors carry no gradient, those of the batch do; see the page on estimators for what that leaves out. A
    single variable is set against some hundreds of the remembered data, in the order of its means: 64 at either end
    and every k-th between them, which stands for k, beginning with another one at each step (a systematic sample).

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
        self._products: Tensor | None = None  # [3, D, M], of the slots' loc and scale; kept, as it takes time
        self._order: Tensor | None = None  # [D, H], the slots of the H data held when they were sorted, by each loc
        self._sorted = 0  # the time then
        self._partners: tuple[Tensor, Tensor, Tensor] | None = None  # the keys of the batch, and what _partner says
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
            ValueError: B > N; B = 1 < N before anything is remembered; or keys of other data than the batch.
            NotImplementedError: variables that are neither normal nor discrete.
        """
        if posteriors.other:
            raise NotImplementedError(
                "a memory remembers normal and discrete variables only; use marginal=Stratified() beside others"
            )
        batch = posteriors.value.shape[1]
        if keys is not None and len(keys) != batch:
            raise ValueError(
                f"a memory knows data again by the first argument of model and guide, which has {len(keys)} rows for a "
                f"batch of {batch}; give the batch itself, not data that a plate takes a subsample of"
            )
        if not self._slots or batch > data_size:
            refuse_batch(batch, data_size)
            return References(own=-math.log(data_size), other=log_weight_of_others(batch, data_size))
        self._move(posteriors.loc.device)
        slots = self._slots
        present = slots["time"] != _ABSENT
        if keys is not None:
            present = present & ~self._partner(keys)[1]
        count = present.sum()
        products = self._bank_products()
        masses = tuple(slots[f"log_mass{index}"] for index in range(len(posteriors.log_mass)))
        others = (batch - 1 + count).clamp_min(1).to(torch.float64)
        return References(
            own=-math.log(data_size),
            other=math.log(max(1, data_size - 1) / data_size) - others.log(),
            bank=Bank(products, masses, present, self._systematic_sample(products, present, count)),
        )

    def _systematic_sample(self, products: Tensor, present: Tensor, count: Tensor) -> Tensor | None:
        """Of every variable some of the sorted slots, [3, D, R], with the weights by which they stand for all."""
        held = 0 if self._order is None else self._order.shape[1]
        step = (held - 2 * TAIL) // SYSTEMATIC
        if self._order is None or step < 2:
            return None
        present, order = present.to(products.device), self._order.to(products.device)
        ranks = torch.arange(held, device=order.device)
        middle = ranks[TAIL + self._clock % step : held - TAIL : step]
        ranks = torch.cat([ranks[:TAIL], middle, ranks[held - TAIL :]])  # [R]
        weight = torch.ones_like(ranks, dtype=products.dtype)
        weight[TAIL:-TAIL] = step
        which = order[:, ranks]  # [D, R]
        weights = weight * present[which]
        weights = weights * (count / weights.sum(-1, keepdim=True).clamp_min(1.0))  # they sum to the count
        some = products.gather(2, which.expand(3, -1, -1))
        some[2] += torch.where(weights > 0, weights.log(), NOTHING)
        return some

    def _move(self, device: torch.device) -> None:
        """Takes what is remembered to the device of the batch, where it is not there yet."""
        if self._slots["loc"].device != device:
            self._slots = {name: part.to(device) for name, part in self._slots.items()}
            self._order = None if self._order is None else self._order.to(device)
            self._products = self._partners = None

    def _sort(self) -> None:
        slots = self._slots
        held = (slots["time"] != _ABSENT).nonzero()[:, 0]  # [H]
        # The stable order is the same on every machine.
        self._order = held[slots["loc"][held].argsort(dim=0, stable=True)].mT.contiguous()
        self._sorted = self._clock

    def _partner(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """For each slot a datum of the batch, and whether that is the one in the slot; found once for each batch."""
        if self._partners is None or self._partners[0] is not keys:
            self._partners = (keys, *_partner(self._slots["key"], keys))
        return self._partners[1:]

    @torch.no_grad()
    def record(self, posteriors: Posteriors, data_size: int, keys: Tensor | None = None) -> None:
        """Puts the posteriors of a batch into the memory, in place of their old ones and then of the oldest."""
        new = {"loc": posteriors.loc[0], "scale": posteriors.scale[0]}  # the particles of a datum share its posterior
        new |= {f"log_mass{index}": mass[0] for index, mass in enumerate(posteriors.log_mass)}
        none = torch.zeros(len(new["loc"]), dtype=torch.int64, device=new["loc"].device)
        new["key"] = none if keys is None else keys
        new["time"] = torch.full_like(new["key"], self._clock)
        self._clock += 1
        if not self._slots:
            self._allocate(new, min(self.size, data_size))
        self._move(new["loc"].device)
        slots = self._slots
        new = {name: part[: len(slots["time"])] for name, part in new.items()}
        place = self._places(new, keys)
        for name, part in new.items():
            slots[name][place] = part.to(slots[name].dtype)
        if self._products is not None:
            self._products[..., place] = _parameters(slots["loc"][place], slots["scale"][place])
        self._partners = None
        if self._order is None or (self._clock - self._sorted) * SORTED * len(place) >= self._order.shape[1]:
            self._sort()

    def _allocate(self, new: Mapping[str, Tensor], capacity: int) -> None:
        slots = {name: part.new_zeros(capacity, *part.shape[1:]) for name, part in new.items()}
        slots["time"].fill_(_ABSENT)
        slots["scale"].fill_(1.0)  # a weight of 0 does not undo the infinite density of a scale of 0
        slots["staleness"] = torch.tensor(math.nan)
        self._slots = slots

    def _places(self, new: Mapping[str, Tensor], keys: Tensor | None) -> Tensor:
        """The slot that each datum is to have, [B]: its own, so that the order lasts, or one of the oldest.

        Frees the slots that hold the data already, and measures the staleness.
        """
        slots, batch = self._slots, len(new["time"])
        place = torch.full_like(new["time"], -1)
        if keys is not None:
            partner, same = self._partner(keys)
            same = same & (slots["time"] != _ABSENT) & (partner < batch)
            place = _slots_of(partner, same, batch)
            slots["staleness"] = _mean_divergence(new, slots, place)
            slots["time"].masked_fill_(same, _ABSENT)
        known = place >= 0
        time = torch.cat([slots["time"], slots["time"].new_zeros(1)])
        time[place] = self._clock  # of the one that was added, where there is no place
        # The stable order makes which of the equally old are replaced the same on every machine.
        oldest = time[:-1].argsort(stable=True)[:batch]
        return torch.where(known, place, oldest[(~known).cumsum(0) - 1])

    def _bank_products(self) -> Tensor:
        if self._products is None:
            self._products = _parameters(self._slots["loc"], self._slots["scale"])
        return self._products

    def get_extra_state(self) -> dict[str, Any]:
        """What is remembered: tensors and numbers only, so that ``torch.load(weights_only=True)`` reads it."""
        slots = {name: part.clone() for name, part in self._slots.items()}
        order = None if self._order is None else self._order.clone()
        return {"clock": self._clock, "slots": slots, "order": order, "sorted": self._sorted}

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
        self._order = None if state["order"] is None else state["order"].clone()
        self._sorted = int(state["sorted"])
        self._products = self._partners = None


def _parameters(loc: Tensor, scale: Tensor) -> Tensor:
    if loc.device.type == "mps":  # has no float64
        loc, scale = loc.cpu(), scale.cpu()
    return gaussian_parameters(loc.double(), scale.double()).permute(2, 1, 0).contiguous()


def _partner(slots: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """For each slot a datum of the batch, and whether that is the one in the slot, both [M]."""
    ordered, order = keys.sort(stable=True)
    place = torch.searchsorted(ordered, slots).clamp_max(len(keys) - 1)
    return order[place], ordered[place] == slots


def _slots_of(partner: Tensor, same: Tensor, batch: int) -> Tensor:
    """The slot of each datum of the batch, [B], -1 where it has none; slots that are the ``same`` as their partner."""
    slot = partner.new_full((batch + 1,), -1)
    slot[torch.where(same, partner, batch)] = torch.arange(len(partner), device=partner.device)
    return slot[:-1]


def _mean_divergence(new: Mapping[str, Tensor], old: Mapping[str, Tensor], slot: Tensor) -> Tensor:
    """KL(new || old) of the data that have a slot, mean in nats."""
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
    raw = data.reshape(len(data), -1).contiguous().view(torch.uint8)  # [B, bytes]
    if raw.shape[1] % 8:
        raw = torch.nn.functional.pad(raw, (0, -raw.shape[1] % 8))
    elif raw.storage_offset() % 8:
        raw = raw.clone()  # where a word begins
    bits = raw.view(torch.int64)
    length = bits.shape[1]
    if length not in _multipliers:
        generator = torch.Generator().manual_seed(length)
        _multipliers[length] = torch.randint(-(2**62), 2**62, (length,), generator=generator) * 2 + 1
    # Round floating-point numbers end in zeros, which a product keeps: their high bits must reach the low ones first.
    mixed = bits * _MIXER
    mixed ^= mixed >> 32
    return mixed.mul_(_multipliers[length].to(bits.device)).sum(1)
