"""An inference marginal that remembers: the posteriors of past batches beside those of the present one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import kl_divergence

from pyro_hfvae.infer.estimators import Marginal, log_weight_of_others, refuse_batch
from pyro_hfvae.infer.references import Bank, References, Sites
from pyro_hfvae.infer.sample import Sample
from pyro_hfvae.infer.structured import NO_MEMORY
from pyro_hfvae.sites import NOTHING, DiscreteSite, Site, Univariate

__all__ = ["Memory"]

SYSTEMATIC, TAIL = 256, 64
"""References for the marginal of a single variable: about so many in equal steps, and so many at either end."""

SORTED = 4
"""Re-sort once at least 1/SORTED of the slots may have changed."""

_ABSENT = -1
"""The time of a slot that holds nothing."""

PRIOR = "prior of "
"""Before the name of a site whose prior is remembered."""


class Memory(Marginal):
    r"""The batch, and the posteriors that the last M data had when they were last seen.

    .. math:: \hat q(z^b) = \frac{1}{N} q(z^b|x^b) + \frac{N-1}{N (R-1)} \Big(
        \sum_{b' \ne b} q(z^b|x^{b'}) + \sum_{m} q_\mathrm{old}(z^b|x^m) \Big)

    with m over the remembered data that are not in the batch, and R the number of references, batch and memory
    together. A datum is known again by the bytes of the first argument of model and guide, a tensor or a dictionary of
    tensors: its old posterior makes place for the new one, so that it counts once, and a memory of M ≥ N holds every
    datum and gives the exact marginal, but for the age of the posteriors. Data that never come back the same (augmented
    anew each time) are remembered as so many different ones, up to M. Sites of any family are remembered, by the
    parameters of their distributions (a flow that all data share is evaluated as it is now); with priors that are
    conditional on covariates, the priors too.

    Old posteriors carry no gradient, those of the batch do; see the page on estimators for what that leaves out.
    Marginals of single univariate variables use a systematic sample of the memory: sorted by posterior mean, the 64
    lowest and highest, and every k-th in between with weight k; the offset changes each step.

    The memory is filled by training steps, never by ``terms``; it is part of the ``state_dict``, and starts empty, as
    :class:`~pyro_hfvae.infer.estimators.Minibatch`.

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
        self._order: dict[str, Tensor] = {}  # [V, H] by site: the H slots held when they were sorted, by each mean
        self._sorted = 0  # the time then
        self._clock = 0
        self._known: tuple[Tensor, Tensor, Tensor] | None = None  # of the batch whose keys it begins with
        self._products: dict[str, Tensor] = {}  # coefficients of univariate sites, [M, 3, V]; made when first needed

    def __len__(self) -> int:
        """Data remembered."""
        return int((self._slots["time"] != _ABSENT).sum()) if self._slots else 0

    @property
    def staleness(self) -> Tensor:
        """KL of the new from the remembered posteriors, mean over the data of the last batch that were known again.

        In nats per datum, over all variables; NaN where none was, or a family has no KL in closed form. What it is for
        a group of variables bounds how far the age of the references moves E[log q̂] of that group up from what fresh
        ones give, to first order.
        """
        return self._slots["staleness"] if self._slots else torch.tensor(math.nan)

    def reference_count(self, batch: int, data_size: int) -> int:
        """R: batch and memory together, N at most."""
        return min(batch + len(self), data_size)

    def references(self, sample: Sample, data_size: int) -> References:
        """The batch, and the remembered data that are not in it.

        Raises:
            ValueError: B > N; B = 1 < N before anything is remembered; or data of another size than the batch.
            NotImplementedError: a guide, or a conditional prior, whose sites depend on one another, or a distribution
                whose parameters cannot be taken out of it.
        """
        batch = sample.shape[1]
        dependence = sample.dependence
        if sample.structured or (dependence.conditional and any(dependence.model.values())):
            raise NotImplementedError(NO_MEMORY)
        keys = sample.keys
        if not self._slots or batch > data_size:
            refuse_batch(batch, data_size)
            return References(own=-math.log(data_size), other=log_weight_of_others(batch, data_size))
        self._move(sample.log_likelihood.device)
        present = self._slots["time"] != _ABSENT
        if keys is not None:
            present = present & ~self._partners(keys)[1]
        count = present.sum()
        others = (batch - 1 + count).clamp_min(1).to(torch.float64)
        remembered = self._sites(sample)
        priors = {name: site for name, site in remembered.items() if name.startswith(PRIOR)}
        names = [name for name in self._order if name not in priors]
        thinned = {
            name: found for name in names if (found := self._thinned(remembered[name], present, count)) is not None
        }
        bank = Bank(
            sites={name: site for name, site in remembered.items() if name not in priors},
            priors={name.removeprefix(PRIOR): site for name, site in priors.items()},
            present=present,
            thinned={name: site for name, (site, _) in thinned.items()},
            thin_weights={name: weights for name, (_, weights) in thinned.items()},
        )
        return References(
            own=-math.log(data_size),
            other=math.log(max(1, data_size - 1) / data_size) - others.log(),
            bank=bank,
        )

    def _sites(self, sample: Sample) -> dict[str, Site]:
        """The remembered posteriors and priors as sites, [M]."""
        found: dict[str, Site] = {}
        for name, site in _remembered(sample).items():
            tensors = [self._slots[_slot(name, place)] for place in range(len(_parameters(site)))]
            if isinstance(site, DiscreteSite):
                found[name] = site.of_masses(tensors[0])
                continue
            held = site.at(site.with_parameters(tensors, tensors[0].shape[:1]), site.value)
            if isinstance(held, Univariate):
                if name not in self._products:
                    wide = held.double()
                    assert isinstance(wide, Univariate)
                    self._products[name] = wide.coefficients_of_each.clone()
                held.set_coefficients(self._products[name])
            found[name] = held
        return found

    def _thinned(self, site: Site, present: Tensor, count: Tensor) -> tuple[Site, Tensor] | None:
        """Some of the sorted slots of each variable, and the logarithms of how many each stands for, [V, R]."""
        order = self._order[site.name]
        held = order.shape[1]
        step = (held - 2 * TAIL) // SYSTEMATIC
        if step < 2:
            return None
        ranks = torch.arange(held, device=order.device)
        middle = ranks[TAIL + self._clock % step : held - TAIL : step]
        ranks = torch.cat([ranks[:TAIL], middle, ranks[held - TAIL :]])  # [R]
        weight = torch.ones_like(ranks, dtype=torch.float64)
        weight[TAIL:-TAIL] = step
        which = order[:, ranks]  # [V, R]
        weights = weight * present[which]
        weights = weights * (count / weights.sum(-1, keepdim=True).clamp_min(1.0))  # they sum to the count
        tensors = [part.flatten(1).gather(0, which.mT).view(-1, *part.shape[1:]) for part in site.parameters()]
        some = site.at(site.with_parameters(tensors, Size([which.shape[1]])), site.value)
        return some, torch.where(weights > 0, weights.log(), NOTHING)

    def _move(self, device: torch.device) -> None:
        """Takes what is remembered to the device of the batch, where it is not there yet."""
        if self._slots["time"].device != device:
            self._forget_derived()
            self._slots = {name: part.to(device) for name, part in self._slots.items()}
            self._order = {name: order.to(device) for name, order in self._order.items()}

    def _partners(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """For each slot a datum of the batch, and whether that is the one in the slot, both [M]; made once a step."""
        if self._known is None or self._known[0] is not keys:
            ordered, order = keys.sort(stable=True)
            place = torch.searchsorted(ordered, self._slots["key"]).clamp_max(len(keys) - 1)
            self._known = keys, order[place], ordered[place] == self._slots["key"]
        return self._known[1:]

    def _sort(self, sample: Sample) -> None:
        held = (self._slots["time"] != _ABSENT).nonzero()[:, 0]  # [H]
        for name, site in self._sites(sample).items():
            if isinstance(site, Univariate) and site.grain == 1:
                mean = site.mean.reshape(len(self._slots["time"]), -1)[held]
                # The stable order is the same on every machine.
                self._order[name] = held[mean.mT.argsort(stable=True)]
        self._sorted = self._clock

    @torch.no_grad()
    def record(self, sample: Sample, data_size: int) -> None:
        """Puts the posteriors of a batch into the memory, in place of their old ones and then of the oldest."""
        keys = sample.keys
        new: dict[str, Tensor] = {}
        for name, site in _remembered(sample).items():
            for place, tensor in enumerate(_parameters(site)):
                new[_slot(name, place)] = tensor.detach()
        batch, device = sample.shape[1], sample.log_likelihood.device
        new["key"] = torch.zeros(batch, dtype=torch.int64, device=device) if keys is None else keys
        new["time"] = torch.full_like(new["key"], self._clock)
        self._clock += 1
        if self._slots and any(
            name not in self._slots or self._slots[name].shape[1:] != new[name].shape[1:] for name in new
        ):
            raise ValueError(
                "the memory holds posteriors of other sites than this guide's: a memory serves one model and guide"
            )
        if not self._slots:
            self._allocate(new, min(self.size, data_size))
        self._move(device)
        slots = self._slots
        new = {name: part[: len(slots["time"])] for name, part in new.items()}
        places = self._places(new, keys, sample)
        self._known = None
        for name, part in new.items():
            slots[name][places] = part.to(slots[name].dtype)
        for name, site in _remembered(sample).items():
            if name in self._products:
                made = site.double().coefficients_of_each  # type: ignore[attr-defined]
                rows = made[0] if made.dim() == 4 else made  # the particles of a datum share its posterior
                self._products[name][places] = rows[: len(places)]
        held = next((order.shape[1] for order in self._order.values()), 0)
        if not self._order or (self._clock - self._sorted) * SORTED * len(places) >= held:
            self._sort(sample)

    def _allocate(self, new: Mapping[str, Tensor], capacity: int) -> None:
        # Empty slots hold the parameters of some datum: a weight of 0 does not undo an infinite density.
        slots = {name: part[:1].expand(capacity, *part.shape[1:]).clone() for name, part in new.items()}
        slots["time"].fill_(_ABSENT)
        slots["key"].zero_()
        slots["staleness"] = torch.tensor(math.nan)
        self._slots = slots
        self._forget_derived()

    def _forget_derived(self) -> None:
        """Lets go of what is made from the slots."""
        self._known = None
        self._products = {}

    def _places(self, new: Mapping[str, Tensor], keys: Tensor | None, sample: Sample) -> Tensor:
        """The slot that each datum is to have, [B]: its own, so that the order lasts, or one of the oldest.

        Frees the slots that hold the data already, and measures the staleness.
        """
        slots, batch = self._slots, len(new["time"])
        place = torch.full_like(new["time"], -1)
        if keys is not None:
            partner, same = self._partners(keys)
            same = same & (slots["time"] != _ABSENT) & (partner < batch)
            place = _slots_of(partner, same, batch)
            slots["staleness"] = self._mean_divergence(sample, place)
            slots["time"].masked_fill_(same, _ABSENT)
        known = place >= 0
        time = torch.cat([slots["time"], slots["time"].new_zeros(1)])
        time[place] = self._clock  # of the one that was added, where there is no place
        # The stable order makes which of the equally old are replaced the same on every machine.
        oldest = time[:-1].argsort(stable=True)[:batch]
        return torch.where(known, place, oldest[(~known).cumsum(0) - 1])

    def _mean_divergence(self, sample: Sample, slot: Tensor) -> Tensor:
        """KL(new || old) of the data that have a slot, mean in nats."""
        known, rows = slot >= 0, slot.clamp_min(0)
        total = torch.zeros(len(slot), dtype=torch.float64, device=slot.device)
        for name, site in sample.posteriors.items():
            new = [tensor[: len(slot)] for tensor in _parameters(site)]
            old = [self._slots[_slot(name, place)][rows] for place in range(len(new))]
            total = total + _divergence(site, new, old)
        return torch.where(known, total, 0.0).sum() / known.sum()

    def get_extra_state(self) -> dict[str, Any]:
        """What is remembered: tensors and numbers only, so that ``torch.load(weights_only=True)`` reads it."""
        slots = {name: part.clone() for name, part in self._slots.items()}
        order = {name: part.clone() for name, part in self._order.items()}
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
        self._order = {name: part.clone() for name, part in state["order"].items()}
        self._sorted = int(state["sorted"])
        self._forget_derived()


def _remembered(sample: Sample) -> Sites:
    """What is remembered of a batch: its posteriors, and its priors where they are conditional on covariates."""
    found = dict(sample.posteriors)
    if sample.dependence.conditional:
        found |= {PRIOR + name: site for name, site in sample.priors.items()}
    return found


def _slot(name: str, place: int) -> str:
    return f"{name}/{place}"


def _parameters(site: Site) -> list[Tensor]:
    """The parameters of a site, [B, ...]; the particles of a datum share its posterior."""
    try:
        found = site.parameters()
    except NotImplementedError as error:
        raise NotImplementedError(f"a memory cannot keep site '{site.name}': {error}") from None
    return [tensor[0] if len(site.fn.batch_shape) == 2 else tensor for tensor in found]


def _divergence(site: Site, new: Sequence[Tensor], old: Sequence[Tensor]) -> Tensor:
    """KL of the posteriors of a batch from older ones of the same data, [B]; NaN where it has no closed form."""
    if site.discrete:
        return (new[0].exp() * (new[0] - old[0])).sum((-1, -2)).double()
    batch = new[0].shape[:1]
    try:
        kl: Tensor = kl_divergence(site.with_parameters(new, batch), site.with_parameters(old, batch))
    except NotImplementedError:
        return torch.full(batch, math.nan, dtype=torch.float64, device=new[0].device)
    return kl.double()


def _slots_of(partner: Tensor, same: Tensor, batch: int) -> Tensor:
    """The slot of each datum of the batch, [B], -1 where it has none; slots that are the ``same`` as their partner."""
    slot = partner.new_full((batch + 1,), -1)
    slot[torch.where(same, partner, batch)] = torch.arange(len(partner), device=partner.device)
    return slot[:-1]
