import numpy as np
import pytest
from metric_tables import gaussian_codes, mixed

from pyro_hfvae.metrics import Factors, beta_vae_score, factor_vae_score
from pyro_hfvae.metrics.fixed_factor import GROUP, GROUPS, _groups
from pyro_hfvae.metrics.regressors import split


def grid(n=1200, seed=0):
    values = np.random.default_rng(seed).integers(0, 6, (n, 3))
    return values, Factors(values, ("x", "y", "w"), ("ordinal", "circular", "categorical"))


@pytest.mark.parametrize("pairs", [False, True])
def test_groups_share_what_is_fixed(pairs):
    values, factors = grid(300)
    rows = split(300)[1]
    fixed, first, second = _groups(factors, rows, np.random.default_rng(0), pairs=pairs)
    assert first.shape == (GROUPS, GROUP)
    assert set(first.ravel()) <= set(rows)
    own = values[first, fixed[:, None]]
    if pairs:
        np.testing.assert_array_equal(own, values[second, fixed[:, None]])
        assert (own != own[:, :1]).any()  # each pair has its own value
    else:
        assert (own == own[:, :1]).all()
    other = values[first, (fixed[:, None] + 1) % 3]
    assert (other != other[:, :1]).any(axis=1).all()
    # Values come as often as they are: 800 groups, so 800 draws or more, standard error .013.
    drawn = np.bincount(own[:, 0], minlength=6) / GROUPS
    np.testing.assert_allclose(drawn, 1 / 6, atol=0.07)


def test_perfect_codes():
    values, factors = grid()
    codes = gaussian_codes(values.astype(float))
    assert factor_vae_score(codes, factors).score == 1.0
    assert beta_vae_score(codes, factors).score > 0.99
    votes = factor_vae_score(codes, factors).votes
    assert (votes[~np.eye(3, dtype=bool)] == 0).all()
    assert votes.sum() == GROUPS


def test_factor_vae_score_by_a_loop():
    """The same groups, gone through one by one."""
    codes, factors = mixed(400, noise=1.0)
    rng, votes, scores = np.random.default_rng(0), {}, []
    for learning, rows in zip((True, False), split(400), strict=True):
        fixed, members, _ = _groups(factors, rows, rng, pairs=False)
        for j, group in zip(fixed.tolist(), members, strict=True):
            ratios = []
            for variable in range(6):
                columns = codes.columns[:, list(codes.columns_of(variable))]
                ratios.append(
                    np.trace(np.atleast_2d(np.cov(columns[group].T, ddof=0)))
                    / np.trace(np.atleast_2d(np.cov(columns.T, ddof=0)))
                )
            winner = ratios.index(min(ratios))
            if learning:
                votes.setdefault(winner, [0] * 4)[j] += 1
            else:
                counts = votes.get(winner, [0] * 4)
                scores.append(sum(counts) > 0 and counts.index(max(counts)) == j)
    result = factor_vae_score(codes, factors)
    assert result.score == pytest.approx(np.mean(scores))
    np.testing.assert_array_equal(result.votes, [votes.get(i, [0] * 4) for i in range(6)])
    assert 0.3 < result.score < 1.0  # an example where the score is not trivial


def test_rotation_costs_the_factor_vae_score():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, (1500, 2))
    factors = Factors(values, ("x", "y"), ("ordinal", "ordinal"))
    rotated = gaussian_codes((values - 2.5) @ np.array([[1.0, 1.0], [-1.0, 1.0]]) + 0.01 * rng.normal(size=(1500, 2)))
    assert factor_vae_score(rotated, factors).score < 0.8


def test_dead_variables_never_vote():
    values, factors = grid(600)
    columns = np.hstack([np.zeros((600, 1)), values.astype(float)])
    result = factor_vae_score(gaussian_codes(columns), factors)
    assert (result.votes[0] == 0).all()
    assert result.score == 1.0


def test_chance():
    _, factors = grid(2000)
    codes = gaussian_codes(np.random.default_rng(1).normal(size=(2000, 4)))
    # 800 groups: a standard error of .017.
    assert factor_vae_score(codes, factors).score == pytest.approx(1 / 3, abs=0.07)
    assert beta_vae_score(codes, factors).score == pytest.approx(1 / 3, abs=0.07)


def test_score_is_the_mean_of_its_factors():
    codes, factors = mixed(400, noise=1.0)
    for metric in (beta_vae_score, factor_vae_score):
        result = metric(codes, factors)
        assert min(result.factor_score) - 1e-9 <= result.score <= max(result.factor_score) + 1e-9


def test_no_two_rows_alike():
    factors = Factors(np.arange(40)[:, None], ("id",), ("categorical",))
    with pytest.raises(ValueError, match="no two rows of a split share a value of factor 'id': give more data, or"):
        factor_vae_score(gaussian_codes(np.zeros((40, 1))), factors)
