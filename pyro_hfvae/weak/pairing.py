"""What share of the pairs stands for which block, and how many are wrong."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from pyro_hfvae.schedules import Schedule, value_at
from pyro_hfvae.weak.sharing import SharedFactors, Sharing

__all__ = ["Pairing"]


@dataclass(frozen=True)
class Pairing:
    """How pairs (input x, target t) are drawn, and which blocks may learn from them.

    A pair of the mode of block d shares the factor of d and opens the gate of d alone. Other factors may agree by
    chance; their gates stay closed, because groups and lists of pairs do not show it, and a closed gate teaches
    nothing wrong. An identity pair, t = x, opens all gates, or those of the blocks that it is given. Without identity
    pairs the open block learns to cancel what the closed ones paint, so a third to a half of them is advised.

    Vowels, Camgoz, Bowden, Gated Variational AutoEncoders (arXiv:1911.06443, 2019).

    Args:
        blocks: block name to what its data share: names of known factors (all of them agree in a pair), or a
            :class:`~pyro_hfvae.weak.Sharing`; an empty list for a residual block, which is open in identity pairs only.
        identity: share of identity pairs, from 0 to 1; a schedule gives it for each batch. Few of them at first let the
            blocks that share something take their factors before a residual block can.
        identity_opens: names of the blocks that identity pairs open; all by default. A single image does not show
            what a block should leave out, so that where pairs swap, the residual blocks alone are enough.
        shares: block name to its part of the other pairs, in any unit; equal parts by default. Names each block that
            has a factor.
        wrong: rate, from 0 to 1, at which the target of a pair does not share the factor though the gate is open:
            noise, for studies.
        mixed: draw the mode for each datum; False draws one for each batch.
        gated: False leaves all gates open in every pair, whatever opens them: what the pairs alone do, for comparison.
        gated_from: number of the batch from which on pairs are gated; all gates are open before. A factor that takes
            long to be found is found earlier by pairs that teach all blocks, and the gates then clear its block.
        swap: let x and t take the block that they share from each other and explain each itself, instead of explaining
            t by x (:class:`~pyro_hfvae.weak.Swaps`).

    Raises:
        ValueError: a number outside its range, names that do not match, or a block that would never learn.
    """

    blocks: dict[str, list[str] | Sharing]
    identity: float | Schedule = 0.4
    identity_opens: list[str] | None = None
    shares: dict[str, float] | None = None
    wrong: float = 0.0
    mixed: bool = True
    gated: bool = True
    gated_from: int = 0
    swap: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.wrong <= 1:
            raise ValueError(f"pairs.wrong must be from 0 to 1, got {self.wrong}")
        if self.gated_from < 0:
            raise ValueError(f"pairs.gated_from must be 0 or more, got {self.gated_from}")
        self.identity_at(0)
        shared = list(self.sharing)
        if not shared:
            raise ValueError("pairs.blocks names no block with a factor to share: give one a list of factors")
        if self.shares is not None:
            if set(self.shares) != set(shared):
                expected, given = (", ".join(f"'{name}'" for name in names) for names in (shared, self.shares))
                raise ValueError(f"pairs.shares must name the blocks that share factors, {expected}; it names {given}")
            for name, share in self.shares.items():
                if not 0 <= share < math.inf:
                    raise ValueError(f"pairs.shares of block '{name}' must be 0 or more, got {share}")
            if not sum(self.shares.values()):
                raise ValueError("pairs.shares are all 0: give one block a part above 0")
        if unknown := set(self.identity_opens or ()) - set(self.blocks):
            given, known = (", ".join(f"'{name}'" for name in sorted(names)) for names in (unknown, self.blocks))
            raise ValueError(f"pairs.identity_opens names {given}; the blocks are {known}")
        for name, probability in self.open_rates().items():
            by_identity = name in self.opened_by_identity
            if not probability and not (by_identity and isinstance(self.identity, Schedule)):
                remedy = "set pairs.identity above 0" if by_identity else "name it in pairs.identity_opens"
                raise ValueError(f"block '{name}' would never learn: its gate is open in no pair; {remedy}")

    def warn_of_closed_blocks(self, count: int) -> None:
        """Warns of a block whose gate stays closed in each of so many batches: it would not learn."""
        never = {name for name, rate in self.open_rates(0).items() if not rate}
        for batch in range(count):
            if not never:
                return
            never &= {name for name, rate in self.open_rates(batch).items() if not rate}
        if never:
            warnings.warn(
                f"block '{min(never)}' does not learn: its gate is open in no pair of the {count:,} batches; let "
                "pairs.identity rise above 0 earlier, or train for longer",
                stacklevel=2,
            )

    @property
    def sharing(self) -> dict[str, Sharing]:
        """Blocks that share something; the residual ones are left out."""
        given = {name: shared for name, shared in self.blocks.items() if isinstance(shared, Sharing) or len(shared)}
        return {name: s if isinstance(s, Sharing) else SharedFactors(s) for name, s in given.items()}

    @property
    def opened_by_identity(self) -> tuple[str, ...]:
        """Blocks that learn from identity pairs."""
        return tuple(self.blocks if self.identity_opens is None else self.identity_opens)

    def identity_at(self, step: int) -> float:
        """The share of identity pairs in the batch of that number."""
        share = value_at(self.identity, step)
        if not 0 <= share <= 1:
            at = f" at batch {step}" if isinstance(self.identity, Schedule) else ""
            raise ValueError(f"pairs.identity must be from 0 to 1, got {share}{at}")
        return share

    def gated_at(self, step: int) -> bool:
        """Whether the batch of that number has gates that close."""
        return self.gated and step >= self.gated_from

    def rates(self, step: int = 0) -> list[float]:
        """Probability of each mode: identity, then the blocks that share something, in order."""
        shares: Mapping[str, float] = self.shares or dict.fromkeys(self.sharing, 1.0)
        identity, total = self.identity_at(step), sum(shares.values())
        return [identity, *((1 - identity) * shares[name] / total for name in self.sharing)]

    def open_rates(self, step: int = 0) -> dict[str, float]:
        """Share of the pairs in which each block is open, where every datum has a partner."""
        if not self.gated_at(step):
            return dict.fromkeys(self.blocks, 1.0)
        identity, *others = self.rates(step)
        by_block = dict(zip(self.sharing, others, strict=True))
        opened = self.opened_by_identity
        return {name: identity * (name in opened) + by_block.get(name, 0.0) for name in self.blocks}
