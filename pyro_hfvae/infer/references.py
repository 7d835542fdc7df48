"""The weighted posteriors that stand for an aggregate, q(z) = (1/N) Σ_n q(z|x_n)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Size, Tensor

from pyro_hfvae.sites import Site

__all__ = ["Bank", "References", "Sites", "batch_of"]

Sites = Mapping[str, Site]
"""Site name to the site, of one batch."""


@dataclass(frozen=True)
class Bank:
    """Posteriors of M data that are not in the batch, without gradient."""

    sites: Sites
    """Posteriors, of batch shape [M]; their values are of no use."""
    priors: Sites
    """Priors of the same data, where those are conditional on covariates; else none."""
    present: Tensor
    """[M], False where the slot is to be left out."""
    thinned: Sites = field(default_factory=dict)
    """Of sites of univariate distributions, R references for each variable by itself, of other data for each variable;
    single variables of a site that is not here have all M."""
    thin_weights: Mapping[str, Tensor] = field(default_factory=dict)
    """The logarithms of how many data each of those stands for, [V, R]."""


@dataclass(frozen=True)
class References:
    r"""The posteriors that an aggregate is made of: those of the batch, or of all data, and those of a bank.

    .. math:: \hat q(z^b) = w_\mathrm{own}\, q(z^b|x^b) + w_\mathrm{other}
        \Big( \sum_{m \ne b} q(z^b|x^m) + \sum_{m \in \mathrm{bank}} q(z^b|x^m) \Big)
    """

    own: float
    """log w_own."""
    other: float | Tensor
    """log w_other; a scalar."""
    parts: Sequence[Sites] = ()
    """The posteriors in their order, in one piece or more."""
    first: int = 0
    """The own posterior of sample b is number first + b."""
    bank: Bank | None = None

    def of_priors(self, parts: Sequence[Sites]) -> "References":
        """The priors in the place of the posteriors, those of the batch and those of the bank."""
        bank = None if self.bank is None else Bank(self.bank.priors, {}, self.bank.present)
        return replace(self, parts=parts, bank=bank)


def batch_of(sites: Sites) -> Size:
    """S, B of a batch, S = 1 without vectorised particles."""
    shape = next(iter(sites.values())).fn.batch_shape
    return Size((1,) * (2 - len(shape)) + tuple(shape))
