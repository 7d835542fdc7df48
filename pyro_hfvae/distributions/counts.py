"""Counts whose total differs between the data."""

from collections.abc import Iterable
from typing import Any, cast

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

__all__ = ["MultinomialCounts"]


class MultinomialCounts(TorchDistribution):
    r"""A multinomial with a total of its own for each datum, which that of torch does not allow: words of documents.

    .. math:: \log p(x) = \log \Gamma(n + 1) - \sum_v \log \Gamma(x_v + 1) + \sum_v x_v \log \pi_v

    Args:
        total_count: n, whole numbers from 0, ``[...]``.
        logits: unnormalised log-probabilities of the V kinds, ``[..., V]``.
        validate_args: as in torch.
    """

    arg_constraints = {  # noqa: RUF012
        "total_count": constraints.nonnegative_integer,
        "logits": constraints.real_vector,
    }
    has_rsample = False

    def __init__(self, total_count: Tensor, logits: Tensor, validate_args: bool | None = None) -> None:
        batch = torch.broadcast_shapes(total_count.shape, logits.shape[:-1])
        self.total_count = total_count.expand(batch)
        self.logits = logits.log_softmax(-1).expand(*batch, -1)
        super().__init__(batch, logits.shape[-1:], validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Whole numbers from 0; that they sum to n is not asked."""
        return cast(constraints.Constraint, constraints.independent(constraints.nonnegative_integer, 1))

    @property
    def probs(self) -> Tensor:
        """Probabilities of the kinds, ``[..., V]``."""
        return self.logits.exp()

    @property
    def mean(self) -> Tensor:
        """n π, ``[..., V]``."""
        return self.total_count[..., None] * self.probs

    @property
    def variance(self) -> Tensor:
        """n π (1 - π), ``[..., V]``."""
        return self.mean * (1 - self.probs)

    def expand(self, batch_shape: Iterable[int], _instance: "MultinomialCounts | None" = None) -> "MultinomialCounts":
        """The same with another batch shape, which its own broadcasts to."""
        new = self._get_checked_instance(MultinomialCounts, _instance)
        shape = Size(batch_shape)
        new.total_count, new.logits = self.total_count.expand(shape), self.logits.expand(*shape, -1)
        super(MultinomialCounts, new).__init__(shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return cast(MultinomialCounts, new)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of counts, ``[..., V]``, whose sums must be n."""
        if self._validate_args:
            self._validate_sample(value)
        arrangements = torch.lgamma(value.sum(-1) + 1) - torch.lgamma(value + 1).sum(-1)
        logits = self.logits.masked_fill((value == 0) & (self.logits == -torch.inf), 0.0)
        return arrangements + (value * logits).sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Counts, ``[*sample_shape, *batch, V]``: kind by kind, a binomial of what is left."""
        shape = self._extended_shape(Size(sample_shape))
        left = self.total_count.expand(shape[:-1]).clone()
        rest = self.probs.flip(-1).cumsum(-1).flip(-1)  # the probability of this kind or a later one
        shares = (self.probs / rest.clamp_min(torch.finfo(rest.dtype).tiny)).clamp(0, 1)
        counts = []
        for share in shares[..., :-1].unbind(-1):
            counts.append(torch.binomial(left, share.expand_as(left)))
            left = left - counts[-1]
        return torch.stack([*counts, left], -1)
