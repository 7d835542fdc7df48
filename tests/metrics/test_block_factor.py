import numpy as np
import pytest

from pyro_hfvae.metrics import Codes, Factors, block_factor, dci


def digits(n=1200, seed=0):
    """A style block of two columns (x, orientation by its angle) and a digit block of three probabilities."""
    rng = np.random.default_rng(seed)
    values = np.stack([rng.choice(3, n, p=[0.5, 0.3, 0.2]), rng.integers(0, 8, n), rng.integers(0, 12, n)], axis=1)
    factors = Factors(values, ("digit", "x", "turn"), ("categorical", "ordinal", "circular"))
    columns = np.hstack([values[:, 1:] + rng.normal(scale=0.1, size=(n, 2)), np.eye(3)[values[:, 0]]])
    codes = Codes(columns, ("style[0]", "style[1]", "digit"), ((0,), (1,), (2, 3, 4)), {"style": (0, 1), "digit": (2,)})
    return codes, factors


@pytest.fixture(scope="module")
def result():
    return block_factor(*digits())


def test_perfect_blocks(result):
    assert result.blocks == ("style", "digit")
    assert result.factors == ("digit", "x", "turn")
    assert result.measure == ("accuracy", "r2", "r2")
    np.testing.assert_allclose(result.all, 1.0, atol=0.05)
    np.testing.assert_allclose(result.score[1, 0], 1.0)
    np.testing.assert_allclose(result.score[0, 1:], 1.0, atol=0.05)
    assert result.score[0, 0] < result.chance[0] + 0.1
    assert (result.score[1, 1:] < 0.1).all()


def test_chance(result):
    assert result.chance[0] == pytest.approx(0.5, abs=0.06)
    np.testing.assert_array_equal(result.chance[1:], 0.0)


def test_chance_is_of_the_train_splits_commonest_class():
    """Dead codes: the forest answers the commonest class, so its score is chance exactly."""
    _, factors = digits()
    result = block_factor(Codes(np.zeros((1200, 1)), ("z",), ((0,),), {"z": (0,)}), factors)
    assert result.score[0, 0] == result.chance[0]
    np.testing.assert_allclose(result.score[0, 1:], 0.0, atol=0.05)


def test_permuted_rows_are_chance():
    codes, factors = digits()
    order = np.random.default_rng(1).permutation(1200)
    shuffled = Codes(codes.columns[order], codes.variables, codes.variable_columns, codes.blocks)
    result = block_factor(shuffled, factors)
    assert (result.all < result.chance + 0.1).all()
    assert (result.score < result.chance + 0.1).all()


def test_all_is_the_score_of_dci_and_of_a_block_of_everything():
    codes, factors = digits(400)
    whole = Codes(codes.columns, codes.variables, codes.variable_columns, {"whole": (2, 0, 1), "digit": (2,)})
    result = block_factor(whole, factors, seed=5)
    np.testing.assert_array_equal(result.all, dci(codes, factors, seed=5).score)
    np.testing.assert_array_equal(result.score[0], result.all)


def test_dead_columns_disturb_nothing():
    codes, factors = digits(400)
    wider = Codes(
        np.hstack([codes.columns, np.ones((400, 1))]),
        (*codes.variables, "dead"),
        (*codes.variable_columns, (5,)),
        {"style": (0, 1, 3), "digit": (2,), "dead": (3,)},
    )
    expected, result = block_factor(codes, factors), block_factor(wider, factors)
    np.testing.assert_array_equal(result.score[:2], expected.score)
    assert np.isfinite(result.score).all()


def test_entangled_blocks_both_read():
    """A factor that leaks to the other block is seen there."""
    codes, factors = digits(800)
    leaking = codes.columns.copy()
    leaking[:, 2:] += 0.2 * leaking[:, :1]
    leaky = Codes(leaking, codes.variables, codes.variable_columns, codes.blocks)
    assert block_factor(leaky, factors).score[1, 1] > 0.8


def test_seed():
    codes, factors = digits(100)
    first, again, other = (block_factor(codes, factors, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.score, again.score)
    assert (first.score != other.score).any()


def test_rows_must_match():
    codes, _ = digits(20)
    with pytest.raises(ValueError, match="codes have 20 rows, factors have 30"):
        block_factor(codes, digits(30)[1])
