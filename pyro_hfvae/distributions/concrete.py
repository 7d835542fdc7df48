"""The Concrete distribution as a latent site needs it: safe samples and the exact mass of each category."""

from typing import cast

import torch
from pyro.distributions import RelaxedOneHotCategorical, Unit
from torch import Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical, constraints
from torch.distributions import RelaxedOneHotCategorical as TorchRelaxedOneHotCategorical
from torch.distributions.kl import register_kl
from torch.nn.functional import one_hot

__all__ = [
    "Concrete",
    "ConcreteDensity",
    "StraightThroughConcrete",
    "is_factor",
    "log_mass",
    "nearest_category",
    "unwrap",
]

DEFAULT_TEMPERATURE = 0.66


class Concrete(RelaxedOneHotCategorical):
    r"""A relaxed one-hot categorical that keeps the mass of its categories in reach.

    .. math:: y = \mathrm{softmax}((\log \pi + g) / \tau), \qquad g_k \sim \mathrm{Gumbel}(0, 1)

    Maddison et al., The Concrete Distribution (ICLR 2017), and Jang et al., Categorical Reparameterization with
    Gumbel-Softmax (ICLR 2017). What differs from the class of torch and Pyro: samples are drawn in float32 or wider,
    outside autocast, and stay off the vertices of the simplex, so that ``log_prob`` of a sample is finite at any
    temperature; a value that is no interior point is refused with the reason; :attr:`log_mass` is the exact
    log-probability of each category, and ``kl_divergence`` is that of the categoricals, not of the densities.

    Args:
        temperature: relaxation temperature, > 0, a scalar; at least .3 is advised (lower ones give steep gradients).
        probs: category probabilities, [..., K].
        logits: unnormalised log-probabilities, [..., K]; give one of the two.
        validate_args: as in torch.

    Raises:
        ValueError: the temperature is not above zero.
    """

    arg_constraints = {  # noqa: RUF012
        "probs": constraints.simplex,
        "logits": constraints.real_vector,
        "temperature": constraints.positive,
    }
    support = constraints.simplex

    def __init__(
        self,
        temperature: float | Tensor = DEFAULT_TEMPERATURE,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        given = logits if logits is not None else probs
        if given is None or (logits is not None and probs is not None):
            raise ValueError("Concrete takes either probs or logits")
        dtype = torch.promote_types(given.dtype, torch.float32)  # bf16 samples do not sum to one
        if isinstance(temperature, float | int) and not temperature > 0:
            raise ValueError(
                f"Concrete temperature must be above 0, got {temperature:g} (the default is {DEFAULT_TEMPERATURE})"
            )
        temperature = torch.as_tensor(temperature, dtype=dtype, device=given.device)
        if temperature.dim():
            raise ValueError(f"Concrete takes one temperature for all, got the shape {tuple(temperature.shape)}")
        super().__init__(
            temperature,
            None if probs is None else probs.to(dtype),
            None if logits is None else logits.to(dtype),
            validate_args=validate_args,
        )

    def expand(self, batch_shape: torch.Size, _instance: "Concrete | None" = None) -> "Concrete":
        """Returns the distribution with its batch shape expanded to ``batch_shape``."""
        expanded = super().expand(batch_shape, _instance=self._get_checked_instance(Concrete, _instance))
        return cast(Concrete, expanded)

    @property
    def log_mass(self) -> Tensor:
        """Log-probability of each category, [..., K], normalised."""
        return log_mass(self)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """A reparameterised sample, ``[*sample_shape, ..., K]``, in the interior of the simplex."""
        with torch.autocast(self.logits.device.type, enabled=False):
            limits = torch.finfo(self.logits.dtype)
            uniform = torch.rand(self._extended_shape(sample_shape), dtype=self.logits.dtype, device=self.logits.device)
            gumbel = -(-uniform.clamp(limits.tiny, 1 - limits.eps).log()).log()
            # A coordinate that underflows to 0 would put the sample on the boundary, where the density is undefined.
            return cast(Tensor, ((self.logits + gumbel) / self.temperature).softmax(-1).clamp_min(limits.tiny))

    def _validate_sample(self, value: Tensor) -> None:
        """Refuses values outside the open simplex; the rounding of a sum over K terms is no reason to refuse."""
        if (value <= 0).any():
            raise ValueError(
                "a value of Concrete has a coordinate of 0 or less (an exact one-hot, perhaps): the density is not "
                "defined there; for the probability of a category use log_mass"
            )
        tolerance = 8 * value.shape[-1] * torch.finfo(value.dtype).eps
        if ((value.sum(-1) - 1).abs() > tolerance).any():
            raise ValueError("a value of Concrete must sum to 1 over its last dimension")


class StraightThroughConcrete(Concrete):
    r"""A Concrete whose samples are one-hot, with the gradient of the relaxed sample.

    .. math:: y_\mathrm{hard} = \mathrm{onehot}(\arg\max_k y_k), \qquad
        \nabla y_\mathrm{hard} := \nabla y

    Jang et al., Categorical Reparameterization with Gumbel-Softmax (ICLR 2017), the straight-through estimator. The
    decoder sees an exact draw of the category; the gradient that it sends back is biased. ``log_prob`` of a one-hot is
    the log-mass of its category. Unlike ``RelaxedOneHotCategoricalStraightThrough`` of Pyro, which works as well, it
    keeps nothing beside the sample's value that the next operation would lose.
    """

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """A one-hot sample, ``[*sample_shape, ..., K]``."""
        soft = super().rsample(sample_shape)
        hard = torch.nn.functional.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft)
        return hard + (soft - soft.detach())  # the bracket is 0 exactly

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-mass of the category of a one-hot value, [...]."""
        if self._validate_args:
            self._validate_sample(value)
        return (value * self.log_mass).sum(-1)

    def _validate_sample(self, value: Tensor) -> None:
        if not constraints.one_hot.check(value).all():
            raise ValueError("a value of StraightThroughConcrete must be one-hot over its last dimension")


class ConcreteDensity(Concrete):
    r"""A Concrete that enters the terms by the density of its relaxed sample, for comparison with code that does so.

    .. math:: \log q(y) = \log \Gamma(K) + (K - 1) \log \tau + \sum_k \big( \log \pi_k - (\tau + 1) \log y_k \big)
        - K \log \sum_k \pi_k y_k^{-\tau}

    Maddison et al., The Concrete Distribution (ICLR 2017). **This is no probability of a category**: it grows without
    bound towards the vertices, depends on the temperature, and the mutual information, divergences and total
    correlations made of it are those of a point on the simplex. As the posterior of a guide it counts as one continuous
    variable. Everywhere else it is a Concrete.
    """


def log_mass(distribution: TorchRelaxedOneHotCategorical | OneHotCategorical) -> Tensor:
    """Log-probability of each category, [..., K], of a Concrete, relaxed or plain one-hot categorical.

    Categories of zero mass get -1e30, not -inf, so that 0 · log 0 is 0 and its gradient too.
    """
    logits = distribution.logits.to(torch.promote_types(distribution.logits.dtype, torch.float32))
    return logits.clamp_min(-1e30).log_softmax(-1)


def nearest_category(value: Tensor) -> Tensor:
    r"""The category of a relaxed sample: the vertex of the simplex next to it, with the gradient of the sample.

    .. math:: \mathrm{onehot}(\arg\max_k y_k), \qquad \partial := \partial y

    It is distributed as the categorical, exactly (Gumbel-max); the straight-through gradient is biased. A guide whose
    other sites depend on a discrete one reads this of its sample (see :class:`pyro_hfvae.guides.StructuredGuide`).

    Args:
        value: of a Concrete site, [..., K].
    """
    vertex = one_hot(value.argmax(-1), value.shape[-1]).to(value)
    return vertex + (value - value.detach())  # the bracket is 0, to the bit


@register_kl(Concrete, OneHotCategorical)
@register_kl(Concrete, TorchRelaxedOneHotCategorical)
@register_kl(TorchRelaxedOneHotCategorical, Concrete)
@register_kl(Concrete, Concrete)
def _kl_of_the_categories(p: Concrete, q: Concrete) -> Tensor:
    """KL of the categoricals, Σ_k p_k (log p_k - log q_k), exact."""
    log_p, log_q = log_mass(p), log_mass(q)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def unwrap(fn: Distribution) -> Distribution:
    """The distribution under ``.to_event``."""
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return fn


def is_factor(fn: Distribution) -> bool:
    """Whether a site is ``pyro.factor``, a number that is added to the log-probability."""
    return isinstance(unwrap(fn), Unit)
