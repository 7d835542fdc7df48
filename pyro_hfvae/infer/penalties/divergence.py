"""The KL of the posterior from the prior, whole or of one block: what a capacity is set for."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyro_hfvae.infer.penalty import Penalty
from pyro_hfvae.infer.run import Run
from pyro_hfvae.infer.terms import Terms
from pyro_hfvae.infer.weights import Capacity, Weight
from pyro_hfvae.schedules import Schedule, value_at

__all__ = ["BlockDivergence", "Divergence"]


class Divergence(Penalty):
    r"""The KL of the whole posterior from the prior, in nats per datum.

    .. math:: E_x[KL(q(z|x) \| p(z))]

    Categoricals enter by their exact KL, normal variables by their sample. It is what all weighted terms of the ELBO
    save the reconstruction come to at weight 1, so an objective that charges it gives those the weight 0.
    """

    needs_split = False

    def __call__(self, run: Run, terms: Terms) -> Tensor:
        """The divergence."""
        return torch.stack([block.divergence for block in terms.blocks.values()]).sum()


class BlockDivergence(Penalty):
    r"""The KL of one block's posterior from its prior, in nats per datum.

    .. math:: E_x[KL(q(z_d|x) \| p(z_d))]

    The KL of a discrete block ends at Σ_e max_k(-log p_k) over its categoricals, which is Σ_e log K_e for uniform
    priors. A capacity above that counts as just that, as in Dupont (NeurIPS 2018), so that the distance
    from it can vanish.

    Args:
        block: its name.
        weight: a number, a schedule, or a capacity to be held at.
        others: the blocks that are charged by other penalties; a block that is none of these is refused on first use.
            None asks for nothing.

    Raises:
        ValueError: the weight is not finite; on first use, no block of the name, or a block that nobody charges.
    """

    needs_split = False

    def __init__(self, block: str, weight: Weight = 1.0, others: frozenset[str] | None = None) -> None:
        super().__init__(weight)
        self.block = block
        self.others = others
        self._given = weight

    def __call__(self, run: Run, terms: Terms) -> Tensor:
        """The divergence of the block."""
        known = ", ".join(f"'{name}'" for name in terms.blocks)
        if self.block not in terms.blocks:
            raise ValueError(f"a capacity is given for block '{self.block}', which is not there; the blocks: {known}")
        if self.others is not None:
            for name in terms.blocks:
                if name != self.block and name not in self.others:
                    raise ValueError(f"block '{name}' has no capacity; give one for each of: {known}")
        block = terms.blocks[self.block]
        if block.discrete and isinstance(self._given, Capacity):
            limit = sum(_largest_divergence(run, variable) for variable in block.variables)
            self.weight = replace(self._given, nats=_AtMost(self._given.nats, limit))
        return block.divergence


def _largest_divergence(run: Run, variable: str) -> float:
    """KL from its prior of the category that the prior holds least likely, in nats: log K where all are alike."""
    site, _, index = variable.partition("[")
    if site not in run.priors.independent:
        return math.inf  # a prior that depends on other sites has no one largest divergence
    log_prior = run.priors.independent[site][..., int(index.removesuffix("]") or 0), :]  # [S, B, K]
    return float(-log_prior.detach().amin(-1).mean())


@dataclass(frozen=True)
class _AtMost(Schedule):
    """A value or schedule that ends at a limit."""

    value: float | Schedule
    limit: float

    def __call__(self, step: int) -> float:
        return min(value_at(self.value, step), self.limit)
