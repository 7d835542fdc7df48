"""Mutual information of variables and blocks with factors, from posterior parameters and not from their means."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyro_hfvae.metrics.codes import Factors
from pyro_hfvae.metrics.information import factor_entropies

__all__ = ["MarginalInformation", "PosteriorParameters", "marginal_information"]

PAIRS_AT_ONCE = 2**18
"""Pairwise numbers held at once for a variable: 2 MB."""
VALUES_AT_ONCE = 2**23
"""The same for all variables: 64 MB."""
PSEUDO_DATA = (0.01, 0.1, 1.0, 10.0)
"""Data without a factor that are added to the others, to smooth the guess of a lower bound."""


@dataclass(frozen=True, eq=False)
class PosteriorParameters:
    """``q(z|x_n)`` of ``n`` data: normal and categorical variables, independent given the datum, in named blocks.

    Attributes:
        normal: name of a variable to its loc and scale, each ``[n]``.
        categorical: name of a variable to the probabilities of its ``K`` categories ``[n, K]``.
        blocks: block name to the names of its variables.
    """

    normal: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    categorical: Mapping[str, NDArray[np.float64]]
    blocks: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        lengths = {name: np.shape(loc) for name, (loc, _) in self.normal.items()}
        lengths |= {name: np.shape(mass)[:1] for name, mass in self.categorical.items()}
        if not lengths:
            raise ValueError("there are no posteriors: give at least one variable")
        if len(set(lengths.values())) > 1 or any(len(shape) != 1 for shape in lengths.values()):
            raise ValueError(f"all variables must have the same number of data; their shapes are {lengths}")
        for name, (loc, scale) in self.normal.items():
            if np.shape(scale) != np.shape(loc) or not (np.isfinite(loc).all() and np.isfinite(scale).all()):
                raise ValueError(f"loc and scale of variable {name!r} must be finite and of one shape")
            if (np.asarray(scale) <= 0).any():
                raise ValueError(f"the scale of variable {name!r} must be positive")
        for name, mass in self.categorical.items():
            mass = np.asarray(mass)
            if mass.ndim != 2 or (mass < 0).any() or not np.allclose(mass.sum(axis=1), 1.0, atol=1e-5):
                raise ValueError(
                    f"the rows of categorical variable {name!r} must be probabilities [n, K] that sum to 1"
                )
        twice = set(self.normal) & set(self.categorical)
        if twice:
            raise ValueError(f"these variables are both normal and categorical: {sorted(twice)}")
        for block, names in self.blocks.items():
            missing = [name for name in names if name not in lengths]
            if missing or not names:
                raise ValueError(
                    f"block {block!r} names {missing or 'no variables'}; the variables are {list(lengths)}"
                )

    @property
    def variables(self) -> tuple[str, ...]:
        """The names, normal ones first."""
        return (*self.normal, *self.categorical)

    @property
    def size(self) -> int:
        """n."""
        name = self.variables[0]
        return len(self.normal[name][0] if name in self.normal else self.categorical[name])


@dataclass(frozen=True, eq=False)
class MarginalInformation:
    """The result of `marginal_information` for ``V`` variables in ``D`` blocks and ``F`` factors, in nats.

    Attributes:
        variables: the names of the ``V`` variables.
        blocks: the names of the ``D`` blocks.
        variable_information: ``I(z_i; v_j)`` ``[V, F]``.
        variable_error: its standard error; 0 for a categorical variable, whose value is exact ``[V, F]``.
        variable_lower: a lower bound of the same in the population that the data are from; the value itself for a
            categorical variable ``[V, F]``.
        block_information: ``I(z_d; v_j)`` ``[D, F]``.
        block_error: its standard error ``[D, F]``.
        block_lower: its lower bound ``[D, F]``.
        normalised: ``I(z_d; v_j) / H(v_j)`` of blocks ``[D, F]``.
    """

    variables: tuple[str, ...]
    blocks: tuple[str, ...]
    variable_information: NDArray[np.float64]
    variable_error: NDArray[np.float64]
    variable_lower: NDArray[np.float64]
    block_information: NDArray[np.float64]
    block_error: NDArray[np.float64]
    block_lower: NDArray[np.float64]
    normalised: NDArray[np.float64]


def marginal_information(
    posteriors: PosteriorParameters, factors: Factors, *, samples: int = 2_000, seed: int = 0
) -> MarginalInformation:
    r"""``I(z; v) = H(z) - H(z|v) = E[log q(z|v) - log q(z)]`` with the exact inference marginals of the data given.

    ``q(z) = (1/n) Σ_n q(z|x_n)``, and ``q(z|v)`` the same over the data with the value ``v``, as in the appendix of
    Chen et al., Isolating Sources of Disentanglement in VAEs, NeurIPS 2018. All ``n`` data enter each marginal; they
    are gone through in pieces, so that memory does not grow with ``n``. The outer expectation is a mean over samples of
    ``z``, each from the posterior of another datum, and comes with its standard error; a categorical variable alone is
    summed exactly. Where posteriors are much narrower than the distance between data, every datum is known from ``z``
    and all information tends to ``H(v)``, whether or not a reader could use it. For data that stand for more than
    themselves it is too much, then. So there is a lower bound as well, from a guess of a datum's factor that knows the
    posteriors of all other data and not its own,

    .. math::
        I(z; v) \ge E\left[\log \frac{\hat p(v_n | z)}{p(v_n)}\right], \qquad \hat p(v | z) =
        \frac{\sum_{m \ne n} q(z | x_m) [v_m = v] + \kappa c\, p(v)}{\sum_{m \ne n} q(z | x_m) + \kappa c}

    (Barber and Agakov, The IM Algorithm: A Variational Approach to Information Maximization, NeurIPS 2003), where c is
    the density of a typical posterior at its top, so that κ is a number of data without a factor. The best of κ = .01,
    .1, 1, 10 and infinity is taken, the last of which gives 0; among so few that adds next to nothing to the bound.

    Args:
        posteriors: of ``n`` data.
        factors: the factors of the same data; a continuous one is put in 20 bins.
        samples: how many data give a sample of ``z``, drawn without replacement; all, if there are fewer.
        seed: of the draws.

    Returns:
        The matrices of variables and of blocks. An estimate may be negative by its standard error, a bound is not.
    """
    n = posteriors.size
    if n != len(factors.values):
        raise ValueError(f"posteriors have {n} rows, factors have {len(factors.values)}")
    if samples < 2:
        raise ValueError(f"samples must be at least 2, for a standard error; got {samples}")
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(n)[:samples]
    groups: dict[tuple[str, str], tuple[str, ...]] = {("variable", name): (name,) for name in posteriors.variables}
    groups |= {("block", block): names for block, names in posteriors.blocks.items()}
    sampled = {key: names for key, names in groups.items() if names[0] in posteriors.normal or len(names) > 1}
    gains = {key: np.empty((len(drawn), len(factors.names))) for key in sampled}
    guesses = {key: np.empty((len(drawn), len(factors.names), len(PSEUDO_DATA))) for key in sampled}
    tops = _log_tops(posteriors)
    labels = [factors.classes(factor) for factor in range(len(factors.names))]
    members = [np.eye(int(label.max()) + 1)[label] for label in labels]  # each [n, K]
    shares = [member.mean(axis=0) for member in members]  # p(v), each [K]
    values = _samples(posteriors, drawn, rng)
    step = max(1, min(PAIRS_AT_ONCE // n, VALUES_AT_ONCE // (n * len(posteriors.variables))))
    for start in range(0, len(drawn), step):
        rows = slice(start, start + step)
        by_variable = _log_densities(posteriors, {name: value[rows] for name, value in values.items()})
        for key, names in sampled.items():
            pairs = np.sum([by_variable[name] for name in names], axis=0)  # [R, n]
            top = pairs.max(axis=1, keepdims=True)
            relative = np.exp(pairs - top)
            total = relative.sum(axis=1)
            itself = np.take_along_axis(relative, drawn[rows, None], axis=1)[:, 0]
            # Within what a float holds: beyond, the pseudo-data outweigh all posteriors, or all but its own.
            typical = np.exp(np.clip(sum(tops[name] for name in names) - top[:, 0], -300.0, 300.0))
            added = typical[:, None] * np.array(PSEUDO_DATA)  # [R, κ]
            for factor, label in enumerate(labels):
                own = label[drawn[rows]]
                share = shares[factor][own]
                # The sum over the data of the sample's own value; it has the sample's own datum, so is not empty.
                sums = np.take_along_axis(relative @ members[factor], own[:, None], axis=1)[:, 0]
                gains[key][rows, factor] = np.log(np.maximum(sums, np.finfo(float).tiny) / share) - np.log(total)
                same, others = (np.maximum(part - itself, 0.0)[:, None] for part in (sums, total))
                guesses[key][rows, factor] = np.log((same / share[:, None] + added) / (others + added))
    information = {key: gain.mean(axis=0) for key, gain in gains.items()}
    error = {key: gain.std(axis=0, ddof=1) / np.sqrt(len(gain)) for key, gain in gains.items()}
    lower = {key: guess.mean(axis=0).max(axis=-1, initial=0.0) for key, guess in guesses.items()}
    for key, names in groups.items():
        if key not in sampled:
            information[key] = lower[key] = _exact(posteriors.categorical[names[0]], members)
            error[key] = np.zeros(len(factors.names))

    def table(found: dict[tuple[str, str], NDArray[np.float64]], kind: str) -> NDArray[np.float64]:
        return np.array([value for (which, _), value in ((key, found[key]) for key in groups) if which == kind])

    return MarginalInformation(
        variables=posteriors.variables,
        blocks=tuple(posteriors.blocks),
        variable_information=table(information, "variable"),
        variable_error=table(error, "variable"),
        variable_lower=table(lower, "variable"),
        block_information=table(information, "block"),
        block_error=table(error, "block"),
        block_lower=table(lower, "block"),
        normalised=table(information, "block") / factor_entropies(factors),
    )


def _log_tops(posteriors: PosteriorParameters) -> dict[str, float]:
    """Logarithm of the density of a typical posterior at its top, with the constant of `_log_densities`."""
    tops = {name: float(-np.log(scale).mean()) for name, (_, scale) in posteriors.normal.items()}
    return tops | {name: float(np.log(mass.max(axis=1)).mean()) for name, mass in posteriors.categorical.items()}


def _samples(
    posteriors: PosteriorParameters, drawn: NDArray[np.int64], rng: np.random.Generator
) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
    """One value of each variable for each datum that was drawn ``[S]``; the category of a categorical one."""
    values: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {}
    for name, (loc, scale) in posteriors.normal.items():
        values[name] = loc[drawn] + scale[drawn] * rng.normal(size=len(drawn))
    for name, mass in posteriors.categorical.items():
        below = np.cumsum(mass[drawn], axis=1)[:, :-1]
        values[name] = (rng.random(len(drawn))[:, None] > below).sum(axis=1)
    return values


def _log_densities(
    posteriors: PosteriorParameters, values: dict[str, NDArray[np.float64] | NDArray[np.int64]]
) -> dict[str, NDArray[np.float64]]:
    """``log q(z|x_n)`` of each variable, up to a constant that all data share, ``[R, n]``."""
    found = {}
    for name, (loc, scale) in posteriors.normal.items():
        found[name] = -0.5 * ((values[name][:, None] - loc) / scale) ** 2 - np.log(scale)
    with np.errstate(divide="ignore"):
        for name, mass in posteriors.categorical.items():
            found[name] = np.log(mass[:, values[name]]).T
    return found


def _exact(mass: NDArray[np.float64], members: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """``Σ_kv p(v) q(k|v) log q(k|v) / q(k)`` for each factor ``[F]``."""
    marginal = mass.mean(axis=0)
    found = np.zeros(len(members))
    for factor, member in enumerate(members):
        joint = member.T @ mass / len(mass)  # p(v) q(k|v), [K of the factor, K]
        seen = joint > 0
        independent = np.outer(member.mean(axis=0), marginal)
        found[factor] = max((joint[seen] * np.log(joint[seen] / independent[seen])).sum(), 0.0)
    return found
