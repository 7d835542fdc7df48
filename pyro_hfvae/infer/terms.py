"""The information-theoretic terms of the ELBO as a named result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["BlockTerms", "Terms", "VariableTerms", "mean_terms"]


@dataclass(frozen=True)
class VariableTerms:
    """Terms of one latent variable, scalars in nats per datum."""

    mutual_information: Tensor
    """I(x; z_e)."""
    dimension: Tensor
    """KL(q(z_e) || p(z_e))."""


@dataclass(frozen=True)
class BlockTerms:
    """Terms of one block, scalars in nats per datum."""

    mutual_information: Tensor
    """I(x; z_d)."""
    within: Tensor
    """Total correlation of the block's variables."""
    dimension: Tensor
    """Σ_e KL(q(z_e) || p(z_e)) over the block's variables."""
    variables: Mapping[str, VariableTerms]
    """The terms of each variable."""


@dataclass(frozen=True)
class Terms:
    r"""The ELBO split as in Esmaeili et al. (AISTATS 2019), eq. 5-8; scalars in nats per datum.

    .. math:: \mathrm{ELBO} = E[\log p(x|z)] - I(x; z) - A - \sum_d i_d - \sum_{d,e} KL(q(z_{d,e}) \| p(z_{d,e}))

    All but ``reconstruction`` are costs: in expectation 0 or more where the inference marginal is exact, and possibly
    below where it is estimated from a batch.
    """

    reconstruction: Tensor
    """E[log p(x|z)]."""
    mutual_information: Tensor
    """I(x; z) under the data and the guide."""
    between: Tensor
    """A, the total correlation of the blocks: KL(q(z) || Π_d q(z_d)) for a prior with independent blocks."""
    within: Tensor
    """i, the total correlations of the variables of each block, summed over the blocks."""
    dimension: Tensor
    """ii, Σ KL(q(z_e) || p(z_e)) over all variables."""
    blocks: Mapping[str, BlockTerms]
    """The same for each block."""

    @property
    def elbo(self) -> Tensor:
        """The evidence lower bound; a categorical enters by its exact KL."""
        return self.reconstruction - self.mutual_information - self.between - self.within - self.dimension

    def scalars(self) -> dict[str, Tensor]:
        """The whole-model terms by name."""
        names = ("elbo", "reconstruction", "mutual_information", "between", "within", "dimension")
        return {name: getattr(self, name) for name in names}

    def numbers(self) -> dict[str, object]:
        """All terms as plain numbers, nested like the attributes: for JSON."""
        return {name: value.item() for name, value in self.scalars().items()} | {
            "blocks": {
                name: {
                    "mutual_information": block.mutual_information.item(),
                    "within": block.within.item(),
                    "dimension": block.dimension.item(),
                    "variables": {
                        variable: {key: value.item() for key, value in vars(terms).items()}
                        for variable, terms in block.variables.items()
                    },
                }
                for name, block in self.blocks.items()
            }
        }


def mean_terms(parts: Sequence[Terms]) -> Terms:
    """The means of every term over several results with the same blocks."""
    return _mean(parts)  # type: ignore[no-any-return]


def _mean(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.stack(list(parts)).mean(0)
    if isinstance(first, Mapping):
        return {key: _mean([part[key] for part in parts]) for key in first}
    return type(first)(**{field: _mean([getattr(part, field) for part in parts]) for field in vars(first)})
