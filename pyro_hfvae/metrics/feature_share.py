"""How much of each observed feature's variation a block decides in what the model decodes.

Shapes: `n` data, `M` decoded numbers of a datum, `F` features, `D` blocks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Exchange", "FeatureShares", "explained_share", "feature_shares"]

Exchange = Callable[[Sequence[str], NDArray[np.int64], NDArray[np.int64]], NDArray[Any]]
"""Decodes some variables of B data with all other variables of B others, ``[B, M]``.

Takes the names of the variables, the rows ``[B]`` of the data that give them, and those of the data that give the rest.
"""

FEWEST = 4
"""Data, in two pairs: a standard error needs two."""


@dataclass(frozen=True, eq=False)
class FeatureShares:
    """The result of `feature_shares` for ``D`` blocks and ``F`` features; NaN for a feature that does not vary.

    Attributes:
        blocks: the names of the rows.
        features: the names of the columns.
        total: share of the variation that goes when the block alone is taken from another datum ``[D, F]``.
        total_error: its standard error ``[D, F]``.
        alone: share of the variation that comes with the block when all else is taken from another datum ``[D, F]``.
        alone_error: its standard error ``[D, F]``.
        chance: mean total of a block of as many variables drawn at random ``[D, F]``.
        chance_error: its standard error ``[D, F]``; NaN of a single grouping.
    """

    blocks: tuple[str, ...]
    features: tuple[str, ...]
    total: NDArray[np.float64]
    total_error: NDArray[np.float64]
    alone: NDArray[np.float64]
    alone_error: NDArray[np.float64]
    chance: NDArray[np.float64]
    chance_error: NDArray[np.float64]


class _Shares(NamedTuple):
    """Total and alone of one set of variables, with their standard errors, ``[F]`` each."""

    total: NDArray[np.float64]
    total_error: NDArray[np.float64]
    alone: NDArray[np.float64]
    alone_error: NDArray[np.float64]


def feature_shares(
    exchange: Exchange,
    blocks: Mapping[str, Sequence[str]],
    features: Mapping[str, Sequence[int]],
    size: int,
    *,
    groupings: int = 10,
    seed: int = 0,
) -> FeatureShares:
    r"""Which block decides which feature: Sobol' indices of the blocks, by exchanging them between data.

    .. math::
        T_{df} = \frac{E |y_f(z_d', z_{-d}) - y_f(z_d, z_{-d})|^2}{E |y_f(z') - y_f(z)|^2}, \qquad
        S_{df} = 1 - \frac{E |y_f(z_d, z_{-d}') - y_f(z_d, z_{-d})|^2}{E |y_f(z') - y_f(z)|^2}

    where z and z' are the latents of two data and :math:`y_f` what is decoded of feature f. The denominator is twice
    the variance. Where the blocks are independent, T is the total and S the first-order index of the block: S counts
    what the block decides by itself, T also what it decides together with others, so that :math:`S \le T`, and the sum
    over the blocks is at most 1 for S, at least 1 for T. Blocks that depend on one another can make both larger.

    These are the estimators of Jansen (Computer Physics Communications 117, 1999; the table of Saltelli et al. 181,
    2010), of groups of variables (Sobol' 2001), and of features with several numbers, whose squares are summed (Gamboa
    et al., Electronic Journal of Statistics 8, 2014). The data are paired at random, each in one pair, and the two of a
    pair exchange the block; standard errors are those of a ratio of means over pairs.

    A large block decides much whatever it holds. So `chance` is the mean total of blocks of the same sizes when the
    variables are dealt out to them at random.

    Args:
        exchange: decodes the exchanges.
        blocks: block name to the names of its variables, two blocks or more.
        features: feature name to the numbers that it has among those decoded: one, or K of a category, or T of a
            channel over time.
        size: ``n``, the number of data that can be exchanged; the last one is left out if it is odd.
        groupings: how many times the variables are dealt out at random, 1 or more.
        seed: of the pairs and the groupings.

    Raises:
        ValueError: fewer than two blocks, fewer than 4 data, no grouping, or decoded numbers that are not finite.
    """
    if len(blocks) < 2:
        raise ValueError("an exchange of blocks needs two blocks or more; there is one")
    if size < FEWEST:
        raise ValueError(f"shares of features need {FEWEST} data or more, got {size}")
    if groupings < 1:
        raise ValueError(f"chance needs 1 random grouping or more, got {groupings}")
    rng = np.random.default_rng(seed)
    first, second = rng.permutation(size)[: size // 2 * 2].reshape(2, -1)
    pairs = np.concatenate([first, second]), np.concatenate([second, first])  # each with its partner, twice over
    found = _Exchanges(exchange, [np.asarray(places, int) for places in features.values()], *pairs)
    own = [found.shares(variables) for variables in blocks.values()]
    dealt = np.array([[one.total for one in grouping] for grouping in _random(found, blocks, groupings, rng)])
    error = dealt.std(0, ddof=1) / groupings**0.5 if groupings > 1 else np.full(dealt.shape[1:], np.nan)
    return FeatureShares(
        blocks=tuple(blocks),
        features=tuple(features),
        total=np.array([one.total for one in own]),
        total_error=np.array([one.total_error for one in own]),
        alone=np.array([one.alone for one in own]),
        alone_error=np.array([one.alone_error for one in own]),
        chance=dealt.mean(0),
        chance_error=error,
    )


def _random(
    found: "_Exchanges", blocks: Mapping[str, Sequence[str]], groupings: int, rng: np.random.Generator
) -> list[list[_Shares]]:
    """Of each grouping, the shares of its blocks."""
    variables = [variable for members in blocks.values() for variable in members]
    ends = np.cumsum([len(members) for members in blocks.values()])[:-1]
    return [
        [found.shares([variables[at] for at in block]) for block in np.split(rng.permutation(len(variables)), ends)]
        for _ in range(groupings)
    ]


class _Exchanges:
    """What exchanges between the data of each pair change, of any set of variables, each decoded once."""

    def __init__(
        self,
        exchange: Exchange,
        features: Sequence[NDArray[np.int64]],
        rest: NDArray[np.int64],
        giving: NDArray[np.int64],
    ) -> None:
        self._exchange, self._features, self._rest, self._giving = exchange, features, rest, giving
        self._known: dict[frozenset[str], _Shares] = {}
        self._plain = self._decoded([])
        self._others = np.roll(self._plain, len(rest) // 2, axis=0)  # of each datum its partner's
        self._between = self._squares(self._plain, self._others)  # [P, F]
        noise = 8 * self._rounding
        level = np.stack([np.square(self._plain[:, places]).sum(1).mean() for places in features])
        self._varies = self._between.mean(0) > noise**2 * level

    def shares(self, variables: Sequence[str]) -> _Shares:
        key = frozenset(variables)
        if key not in self._known:
            exchanged = self._decoded(variables)
            total, rest = (self._ratio(self._squares(exchanged, these)) for these in (self._plain, self._others))
            self._known[key] = _Shares(*total, 1 - rest[0], rest[1])
        return self._known[key]

    def _decoded(self, variables: Sequence[str]) -> NDArray[np.float64]:
        decoded = np.asarray(self._exchange(variables, self._giving, self._rest))
        self._rounding = float(np.finfo(np.result_type(decoded.dtype, np.float16)).eps)
        if not np.isfinite(decoded).all():
            raise ValueError("what the model decodes is not finite")
        return decoded.astype(np.float64)  # [n, M]

    def _squares(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        """Squared differences of each feature, the mean over the two data of each pair ``[P, F]``."""
        squares = np.square(a - b)
        by_feature = np.stack([squares[:, places].sum(1) for places in self._features], axis=1)  # [n, F]
        return np.asarray(by_feature.reshape(2, -1, len(self._features)).mean(0))

    def _ratio(self, squares: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A ratio of means over the pairs, and its standard error, ``[F]`` each."""
        whole = np.where(self._varies, self._between.mean(0), np.nan)
        ratio = squares.mean(0) / whole
        spread = (squares - ratio * self._between).std(0, ddof=1)
        return ratio, spread / whole / len(squares) ** 0.5


def explained_share(
    observed: NDArray[Any], decoded: NDArray[Any], features: Mapping[str, Sequence[int]]
) -> NDArray[np.float64]:
    r"""How much of the variation of each feature over the data the decoded means explain, R² ``[F]``.

    .. math:: R^2_f = 1 - \sum_n |x_{nf} - y_{nf}|^2 / \sum_n |x_{nf} - \bar x_f|^2

    Args:
        observed: the data ``[n, M]``, NaN where missing; of a category the indicators of its K values.
        decoded: what the model decodes of their latents ``[n, M]``.
        features: feature name to the numbers that it has.

    Returns:
        1 where a feature is rebuilt exactly, 0 for its mean, less for what is worse; NaN where it does not vary.

    Raises:
        ValueError: arrays of two shapes.
    """
    observed, decoded = np.asarray(observed, float), np.asarray(decoded, float)
    if observed.shape != decoded.shape:
        raise ValueError(f"decoded must be {list(observed.shape)} as observed, got {list(decoded.shape)}")
    known = np.isfinite(observed)
    count = known.sum(0)
    mean = np.where(known, observed, 0.0).sum(0) / np.maximum(count, 1)
    missed, varied = (np.where(known, np.square(observed - by), 0.0).sum(0) for by in (decoded, mean))  # [M]
    found = []
    for places in features.values():
        some = list(places)
        varies = varied[some].sum()
        found.append(1 - missed[some].sum() / varies if varies > 0 else np.nan)
    return np.array(found, float)
