"""Gates on the gradients of latent blocks: a datum teaches the open blocks only (Gated-VAE)."""

import functools
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar, get_args, overload

import torch
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_hfvae.blocks import Layout
from pyro_hfvae.infer.notes import note_open
from pyro_hfvae.infer.programs import runs_again, samples_of_others
from pyro_hfvae.poutine.arguments import ArrayLike, as_masks, names_in_words
from pyro_hfvae.poutine.block_masks import along_event, blocks_at, variable_mask
from pyro_hfvae.poutine.gated_distribution import gate_distribution, gate_tensor
from pyro_hfvae.poutine.named_messenger import NamedMessenger
from pyro_hfvae.sites import read_site

__all__ = ["GateMessenger", "gate"]

Gated = Literal["parameters", "sample", "likelihood"]
"""What a closed gate holds back."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class GateMessenger(NamedMessenger):
    r"""Lets the gradient of each datum through the open blocks only; nothing that is computed changes, to the bit.

    .. math:: \mathrm{gate}(v, g) = g\, v + (1 - g)\, \mathrm{stop\_gradient}(v), \qquad g \in \{0, 1\}

    Vowels, Camgoz, Bowden, Gated Variational AutoEncoders (arXiv:1911.06443, 2019).

    Consider the following guide, with a mask that closes the block "pose" for the second datum:

        >>> loc = torch.zeros(2, requires_grad=True)
        >>> def guide():
        ...     with pyro.plate("data", 2):
        ...         return pyro.sample("pose", dist.Normal(loc, 1.0))

    ``gate`` keeps the gradient from what the closed block was made of:

        >>> with gate({"pose": torch.tensor([True, False])}):
        ...     guide().sum().backward()
        >>> loc.grad.tolist()
        [1.0, 0.0]

    It acts on sites that are sampled inside it, and leaves those alone whose value is given: observed, conditioned or
    replayed ones. So it may enclose the call of an objective, in which the guide samples and the model is replayed. Of
    a guide whose sites depend on one another an objective asks the densities of all data at given samples: the
    parameters of each are gated by the mask of their own datum, and a sample by that of the datum that it is of.

    A gate inside a gate: both must be open. Where a gate is closed the gradients are zero, but an optimiser with
    momentum or weight decay still moves parameters whose gradient is zero.

    Args:
        masks: block name to booleans, True where the block is open, [B], or [S, B] with vectorised particles. A block
            without a mask is open. With ``blocks`` a name may also be that of a group of blocks.
        blocks: which variables form which block, as of :func:`pyro_hfvae.blocks.resolve_blocks`. Each site by default.
        what: what a closed gate holds back.

            - ``"parameters"``: the distribution's parameters. The block feels neither the likelihood nor its
              divergence, information and total correlation.
            - ``"sample"``: the sample, not the distribution. Whatever is computed from the parameters alone, a
              divergence in closed form, is felt; one that is estimated from the sample is not.
            - ``"likelihood"``: what the programs compute from the sample. The densities see it whole, so that every
              divergence is felt. The gate must enclose guide and model; meant for models whose latent sites are
              independent, since a prior that is computed from the sample does not pass the gate either.

    Raises:
        TypeError: a mask is no boolean tensor.
        ValueError: a mask whose shape is not that of the batch, or for what is no block; on leaving, one for what was
            not sampled.
        NotImplementedError: a distribution that cannot be gated; names the site.
    """

    def __init__(
        self, masks: Mapping[str, ArrayLike], blocks: Layout | None = None, what: Gated = "parameters"
    ) -> None:
        if not isinstance(masks, Mapping):
            raise TypeError(f"a gate takes block name to boolean mask, got {type(masks).__name__}")
        super().__init__(masks)
        self.masks = as_masks(masks, blocks)
        for name, mask in self.masks.items():
            if not 1 <= mask.dim() <= 2:
                raise ValueError(
                    f"the mask of block '{name}' must have the shape (B,) or (S, B), got {tuple(mask.shape)}"
                )
        if what not in get_args(Gated):
            raise ValueError(f"what a gate holds back is one of {', '.join(map(repr, get_args(Gated)))}, got {what!r}")
        self.blocks = blocks
        self.what = what
        self._start()

    def _start(self) -> None:
        self._sites: list[str] = []  # all that were sampled inside
        self._pending: dict[str, Tensor] = {}  # masks of sites between the two halves of their message
        self._values: dict[str, Tensor] = {}  # samples whose use is gated
        self._replayed = False

    def __enter__(self) -> "GateMessenger":
        """Installs the gate."""
        self._start()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Removes the gate, and refuses masks that nothing was gated with."""
        self._values.clear()  # they hold a graph
        super().__exit__(kind, error, traceback)
        if kind is not None:
            return
        if self.what == "likelihood" and self.masks and not self._replayed:
            raise ValueError(
                "a gate with what='likelihood' must enclose guide and model, but no gated site was replayed inside it"
            )

    def _not_sampled(self, name: str) -> str:
        return (
            f"there is a mask for '{name}', but no such block was sampled inside the gate; "
            f"the sampled sites are: {names_in_words(dict.fromkeys(self._sites))}"
        )

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            return
        name = msg["name"]
        if msg["done"] or msg["value"] is not None:
            if name in self._values and self._values[name] is msg["value"]:  # the model replays the guide's sample
                self._replayed = True
                self._gate_use(msg)
            return
        self._sites.append(name)
        mask = self._event_mask(name, msg["fn"])
        if mask is None:
            return
        batch = mask.dim() - len(msg["fn"].event_shape)
        note_open(msg, mask.reshape(*mask.shape[:batch], -1))
        if self.what == "parameters":
            msg["fn"] = _gate_parameters(name, msg["fn"], mask)
        elif not msg["fn"].has_rsample:
            raise NotImplementedError(
                f"site '{name}' cannot be gated by its sample, which carries no gradient; gate its parameters"
            )
        elif runs_again():  # on samples that were gated when they were drawn
            return
        elif self.what == "sample":
            self._pending[name] = mask
        else:
            self._gate_use(msg)

    def _pyro_post_sample(self, msg: Any) -> None:
        mask = self._pending.pop(msg["name"], None)
        if mask is not None:
            msg["value"] = _gate_sample(msg["value"], mask)

    def _gate_use(self, msg: Any) -> None:
        """Gates what the program gets of a sample, after all that record it have seen it whole."""
        earlier = msg["continuation"]

        def gate_value(msg: Any) -> None:
            self._values[msg["name"]] = msg["value"]
            if earlier is not None:
                earlier(msg)
            mask = self._event_mask(msg["name"], msg["fn"])
            assert mask is not None
            msg["value"] = _gate_sample(msg["value"], mask)

        msg["continuation"] = gate_value

    def _event_mask(self, name: str, fn: Any) -> Tensor | None:
        """Which variables are open, [*batch, *event], of size 1 along dimensions that share a gate."""
        site = read_site(name, fn)
        here = blocks_at(site, self.masks, self.blocks)
        self._sampled.update(here)
        if not here:
            return None
        batch = fn.batch_shape
        for block in here:
            shape = self.masks[block].shape
            if len(shape) == 2 and (runs_again() or not torch.is_grad_enabled()):
                shape = torch.Size(shape[-1:])  # a run for its distributions alone may have no dimension for particles
            if shape != batch[len(batch) - len(shape) :]:
                raise ValueError(
                    f"the mask of block '{block}' has the shape {tuple(shape)}, but site '{name}' has the batch shape "
                    f"{tuple(batch)}: give one entry for each datum"
                )
        return along_event(variable_mask(site, here, self.masks), site)


def _gate_parameters(name: str, fn: Any, mask: Tensor) -> Any:
    if not torch.is_grad_enabled():
        return fn
    event = len(fn.event_shape)
    batch = torch.broadcast_shapes(mask.shape[: mask.dim() - event], fn.batch_shape)
    try:
        return gate_distribution(fn if batch == fn.batch_shape else fn.expand(batch), mask, samples_of_others())
    except NotImplementedError as error:
        raise NotImplementedError(f"site '{name}' cannot be gated: {error}") from None


def _gate_sample(value: Tensor, mask: Tensor) -> Tensor:
    gated = gate_tensor(value, mask)
    if hasattr(value, "_unquantize"):  # the soft value behind a straight-through sample, which its density asks for
        gated._unquantize = gate_tensor(value._unquantize, mask)  # type: ignore[attr-defined]
    return gated


@overload
def gate(
    fn: Mapping[str, ArrayLike], /, *, blocks: Layout | None = None, what: Gated = "parameters"
) -> GateMessenger: ...


@overload
def gate(
    fn: Callable[_P, _T], masks: Mapping[str, ArrayLike], *, blocks: Layout | None = None, what: Gated = "parameters"
) -> Callable[_P, _T]: ...


def gate(
    fn: Any, masks: Mapping[str, ArrayLike] | None = None, *, blocks: Layout | None = None, what: Gated = "parameters"
) -> Any:
    """Handler of :class:`GateMessenger`: ``with gate(masks): …`` or ``gate(guide, masks)``.

    Args:
        fn: a guide; or the masks, for a ``with`` statement or a decorator.
        masks: block name to boolean mask.
        blocks: as of :class:`GateMessenger`.
        what: as of :class:`GateMessenger`.

    Raises:
        TypeError: a guide without masks, or one that cannot be called.
    """
    if masks is None:
        return GateMessenger(fn, blocks, what)
    if not callable(fn):
        raise TypeError(f"gate(guide, masks) takes a guide that can be called, got {type(fn).__name__}")
    return functools.update_wrapper(GateMessenger(masks, blocks, what)(fn), fn, updated=())
