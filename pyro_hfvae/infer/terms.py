"""The information-theoretic terms of the ELBO as a named result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["BlockTerms", "GroupTerms", "Terms", "VariableTerms", "mean_terms"]

ACTIVE = 0.01
"""Nats of I(x; z) above which a variable or a block counts as active."""

SHOWN = ("mutual_information", "within", "dimension")
"""Terms of a block that are printed."""


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
    conditional_information: Tensor
    """I(x; z_d | the blocks before it): discrete blocks come first, then the others, as the layout orders them.

    With a prior that is conditional on covariates, less the information that this prior has."""
    within: Tensor
    """Total correlation of the block's variables."""
    dimension: Tensor
    """Σ_e KL(q(z_e) || p(z_e)) over the block's variables."""
    variables: Mapping[str, VariableTerms]
    """The terms of each variable."""
    discrete: bool
    """Whether all its variables are categoricals."""
    prior_information: Tensor = field(default_factory=lambda: torch.zeros(()))
    """E[log p(z_d|c) - log p̂(z_d)], the information of a prior about the block given covariates c; 0 without."""
    largest_divergence: Tensor = field(default_factory=lambda: torch.tensor(float("inf")))
    """The largest KL(q(z_d|x) || p(z_d)) of a discrete block, Σ_e log K_e for uniform priors; else infinite."""
    log_normaliser: Tensor = field(default_factory=lambda: torch.zeros(()))
    """log Z, so that within + log Z is a divergence, 0 or more; 0 if the variables are independent in the prior, or if
    the weights do not ask for it."""

    @property
    def divergence(self) -> Tensor:
        """KL(q(z_d|x) || p(z_d|c)), the block's contribution to the ordinary ELBO."""
        return self.mutual_information - self.prior_information + self.within + self.dimension


@dataclass(frozen=True)
class GroupTerms:
    """Terms of a group of blocks, scalars in nats per datum."""

    between: Tensor
    """Total correlation of the groups or blocks that it is made of."""
    level: int
    """Groups above it, that of everything included: 1 or more."""
    log_normaliser: Tensor = field(default_factory=lambda: torch.zeros(()))
    """log Z, as of :class:`BlockTerms`."""


@dataclass(frozen=True)
class Terms:
    r"""The ELBO split as in Esmaeili et al. (AISTATS 2019); scalars in nats per datum.

    .. math:: \mathrm{ELBO} = E[\log p(x|z)] - I(x; z) - A - \sum_g A_g - \sum_d i_d
        - \sum_{d,e} KL(q(z_{d,e}) \| p(z_{d,e}))

    The sum over g is there where blocks form groups. The information of a prior that is conditional on covariates is
    added, and what is there once for the data set is taken off, divided by N.

    All but ``reconstruction`` are costs: in expectation 0 or more where the inference marginal is exact and the prior
    independent in its variables, and possibly below where the marginal is estimated from a batch. A prior's own
    dependence is taken off A and i, which may then be negative too.
    """

    reconstruction: Tensor
    """E[log p(x|z)]."""
    mutual_information: Tensor
    """I(x; z) under the data and the guide."""
    between: Tensor
    """A, the total correlation of the blocks: KL(q(z) || Π_d q(z_d)) for a prior with independent blocks.

    Where blocks form groups, that of the groups at the top.
    """
    within: Tensor
    """i, the total correlations of the variables of each block, summed over the blocks."""
    dimension: Tensor
    """ii, Σ KL(q(z_e) || p(z_e)) over all variables."""
    blocks: Mapping[str, BlockTerms]
    """The same for each block."""
    groups: Mapping[str, GroupTerms] = field(default_factory=dict)
    """The groups below that of everything that are no blocks; none in a tree of two levels."""
    penalties: Mapping[str, Tensor] = field(default_factory=dict)
    """What the objective's penalties measured, by name, unweighted; no part of the ELBO."""
    globals: Mapping[str, Tensor] = field(default_factory=dict)
    """KL(q || p) of each latent outside the plate of the data, once per data set: divided by N."""
    prior_information: Tensor = field(default_factory=lambda: torch.zeros(()))
    """E[log p(z|c) - log p̂(z)], what a prior that is conditional on covariates c knows about z; 0 without.

    p̂(z) = (1/N) Σ_n p(z|c_n) is the aggregate prior, against which all divergences are taken."""
    conditional: bool = False
    """Whether the prior is conditional on covariates."""
    log_normaliser: Tensor = field(default_factory=lambda: torch.zeros(()))
    """log Z of A, as of :class:`BlockTerms`."""

    @property
    def elbo(self) -> Tensor:
        """The evidence lower bound; a categorical enters by its exact KL."""
        costs = self.mutual_information - self.prior_information + self.between + self.within + self.dimension
        costs = costs + sum(group.between for group in self.groups.values()) + sum(self.globals.values())
        return self.reconstruction - costs

    @property
    def active_units(self) -> int:
        """Variables with I(x; z_e) above .01 nats.

        After Burda et al., Importance Weighted Autoencoders (ICLR 2016), who ask for a variance of the posterior mean
        above .01, which is I(x; z_e) above .005 nats; information serves categoricals as well.
        """
        return sum(_is_active(variable) for block in self.blocks.values() for variable in block.variables.values())

    def __str__(self) -> str:
        """A line for everything, for each block, and for each variable of a block that has several."""
        lines = [_line("", self.scalars())]
        for name, block in self.blocks.items():
            lines.append(_line(f"{name}: ", {key: getattr(block, key) for key in SHOWN}))
            if len(block.variables) > 1:
                lines += [_line(f"  {variable}: ", vars(terms)) for variable, terms in block.variables.items()]
        return "\n".join(lines)

    def scalars(self) -> dict[str, Tensor]:
        """The whole-model terms by name."""
        names = ("elbo", "reconstruction", "mutual_information", "between", "within", "dimension")
        return (
            {name: getattr(self, name) for name in names}
            | ({"prior_information": self.prior_information} if self.conditional else {})
            | {f"between/{name}": group.between for name, group in self.groups.items()}
            | {f"global/{name}": divergence for name, divergence in self.globals.items()}
            | {f"penalty/{name}": penalty for name, penalty in self.penalties.items()}
        )

    def numbers(self) -> dict[str, object]:
        """All terms as plain numbers, nested like the attributes, and which blocks and variables are active: for JSON.

        ``active`` is whether I(x; z) of a block or variable is above ``active_above``, .01 nats. A metric that reads
        posterior means cannot show it: a regressor sees no scale, and reads factors off traces of 1e-4.
        """
        return {name: value.item() for name, value in self.scalars().items()} | {
            "active_units": self.active_units,
            "active_above": ACTIVE,
            "blocks": {
                name: {
                    "active": _is_active(block),
                    "mutual_information": block.mutual_information.item(),
                    "conditional_information": block.conditional_information.item(),
                    "within": block.within.item(),
                    "dimension": block.dimension.item(),
                    "variables": {
                        variable: {"active": _is_active(terms)}
                        | {key: value.item() for key, value in vars(terms).items()}
                        for variable, terms in block.variables.items()
                    },
                }
                for name, block in self.blocks.items()
            },
        }


def _line(name: str, values: Mapping[str, Tensor]) -> str:
    return name + ", ".join(f"{key} {value.item():z.2f}" for key, value in values.items())


def _is_active(part: BlockTerms | VariableTerms) -> bool:
    return bool(part.mutual_information > ACTIVE)


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
    if is_dataclass(first) and not isinstance(first, type):
        return type(first)(**{name: _mean([getattr(part, name) for part in parts]) for name in vars(first)})
    return first
