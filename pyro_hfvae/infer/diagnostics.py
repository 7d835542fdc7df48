"""Warns, once each, if estimates suggest that they are unreliable, or that an optimiser exploits them."""

import math
import warnings

import torch

from pyro_hfvae.infer.terms import Terms

__all__ = ["EstimateMonitor", "EstimateWarning", "predicted_bias"]

CEILING_MARGIN = 0.05
"""Nats below log N from which on I(x; z) counts as being there."""

TOLERATED_BIAS = 0.1
"""Nats that the blocks' and the variables' log q̂ may be low by, together."""

OUT_OF_BOUNDS = 0.5
"""Nats below its bound from which on an estimated divergence counts as exploited."""

INTERVAL = 100
"""Training steps between two checks, each of which waits for the device."""


class EstimateWarning(UserWarning):
    """Estimated terms are unreliable: I(x; z) is at its ceiling, A and i are biased, or a divergence is negative."""


def predicted_bias(mutual_information: float, references: int, data_size: int) -> float:
    r"""By how much E[log q̂(z_G)] is low for a group of variables, to the first order in 1/R; in nats, 0 or more.

    .. math:: \min\Big( \frac{e^{I} - 1}{2} \Big( \frac{1}{R - 1} - \frac{1}{N - 1} \Big), \; \log N - I \Big)

    The logarithm of a mean of R - 1 densities drawn without replacement from N - 1 is low by half their squared
    coefficient of variation, which for z ~ q(z) is E[q(z|x) / q(z)] - 1 ≥ e^I - 1 on average (Jensen). It is low by no
    more than log N - I, since the own posterior is in the sum with its exact weight.

    Args:
        mutual_information: I(x; z_G), in nats.
        references: R, the own among them.
        data_size: N.
    """
    ceiling = max(0.0, math.log(data_size) - mutual_information)
    if references >= data_size:
        return 0.0
    if references < 2:
        return ceiling
    first = 0.5 * math.expm1(min(mutual_information, 700.0)) * (1 / (references - 1) - 1 / (data_size - 1))
    return min(max(0.0, first), ceiling)


class EstimateMonitor:
    """Checks estimates of the terms and warns, once of each fault.

    Args:
        data_size: N.
    """

    def __init__(self, data_size: int) -> None:
        self.data_size = data_size
        self._ceiling = self._bias = self._bound = False

    def check(self, terms: Terms, references: int | None) -> None:
        """Warns if I(x; z) is at log N, the predicted bias is above .1 nats, or a divergence is below its bound.

        Args:
            terms: an estimate.
            references: M; None if the estimate is not in true nats, which is not checked.
        """
        if references is None:
            return
        self._check_bounds(terms)
        if self._ceiling and self._bias:
            return
        informations = [terms.mutual_information]
        for block in terms.blocks.values():
            informations.append(block.mutual_information)
            if len(block.variables) > 1:
                informations += [variable.mutual_information for variable in block.variables.values()]
        total, *of_groups = torch.stack(informations).detach().tolist()
        if not self._ceiling and total > math.log(self.data_size) - CEILING_MARGIN:
            self._ceiling = True
            warnings.warn(
                f"I(x; z) is estimated at its ceiling log N = {math.log(self.data_size):.2f} nats: there its weight "
                "has no effect, and that of the total correlation between blocks acts on I(x; z) of each block",
                EstimateWarning,
                stacklevel=2,
            )
        bias = sum(predicted_bias(value, references, self.data_size) for value in of_groups)
        if not self._bias and bias > TOLERATED_BIAS:
            self._bias = True
            warnings.warn(
                f"the split between 'between' and 'within' cannot be trusted: with {references} references of "
                f"{self.data_size} data the marginals of blocks and variables are low by about {bias:.2f} nats in all; "
                "use larger batches or marginal=Memory(size)",
                EstimateWarning,
                stacklevel=2,
            )

    def _check_bounds(self, terms: Terms) -> None:
        """Warns if a KL, or a dependence with its normaliser, is estimated well below 0."""
        if self._bound:
            return
        bounded = {f"the dimension term of block '{name}'": block.dimension for name, block in terms.blocks.items()}
        known = {
            f"the within term of block '{name}' with its normaliser": block.within + block.log_normaliser
            for name, block in terms.blocks.items()
            if float(block.log_normaliser.detach()) != 0.0
        }
        if float(terms.log_normaliser.detach()) != 0.0:
            known["the between term with its normaliser"] = terms.between + terms.log_normaliser
        bounded |= known
        name, least = min(((name, float(value.detach())) for name, value in bounded.items()), key=lambda item: item[1])
        if least < -OUT_OF_BOUNDS:
            self._bound = True
            warnings.warn(
                f"{name} is estimated at {least:.2f} nats, but cannot be below 0: the optimiser exploits the error of "
                "the estimate; use marginal=Memory(size), larger batches, or weights nearer to one another",
                EstimateWarning,
                stacklevel=2,
            )
