"""The KL of the posterior from the prior, whole or of one block: what a capacity is set for."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pyro_hfvae.infer.penalty import Penalty
from pyro_hfvae.infer.sample import Sample
from pyro_hfvae.infer.terms import Terms
from pyro_hfvae.infer.weights import Capacity, Weight
from pyro_hfvae.schedules import value_at

__all__ = ["BlockDivergence", "Divergence"]


class Divergence(Penalty):
    r"""The KL of the whole posterior from the prior, in nats per datum.

    .. math:: E_x[KL(q(z|x) \| p(z))]

    Categoricals enter by their exact KL, normal variables by their sample. It is what all weighted terms of the ELBO
    save the reconstruction come to at weight 1, so an objective that charges it gives those the weight 0.
    """

    needs_split = False

    def forward(self, samples: Sequence[Sample], terms: Terms) -> Tensor:
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

    def forward(self, samples: Sequence[Sample], terms: Terms) -> Tensor:
        """The divergence of the block."""
        known = ", ".join(f"'{name}'" for name in terms.blocks)
        if self.block not in terms.blocks:
            raise ValueError(f"a capacity is given for block '{self.block}', which is not there; the blocks: {known}")
        if self.others is not None:
            for name in terms.blocks:
                if name != self.block and name not in self.others:
                    raise ValueError(f"block '{name}' has no capacity; give one for each of: {known}")
        return terms.blocks[self.block].divergence

    def cost(self, measure: Tensor, terms: Terms, step: int) -> Tensor:
        """The weighted divergence, or its weighted distance from the capacity, which ends at the largest divergence."""
        if not isinstance(self.weight, Capacity):
            return super().cost(measure, terms, step)
        largest = terms.blocks[self.block].largest_divergence
        nats = largest.clamp_max(value_at(self.weight.nats, step))
        return value_at(self.weight.weight, step) * (measure - nats).abs()
