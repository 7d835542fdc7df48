"""Swaps painted by hand: pictures whose pixels are known functions of the factors of the data that they are of."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

from pyro_hfvae.metrics import Factors, swap_scores
from pyro_hfvae.metrics.measure import measure_swaps
from pyro_hfvae.metrics.regressors import chance, split

N = 1200


def factors_of(n=N, seed=0):
    """A shape, a place and a turn: a factor of each kind that is read differently."""
    rng = np.random.default_rng(seed)
    values = np.stack([rng.integers(0, 3, n), rng.integers(0, 8, n), rng.integers(0, 12, n)], axis=1)
    return Factors(values, ("shape", "place", "turn"), ("categorical", "ordinal", "circular"))


def pixels(factors):
    """Columns that tell each factor: three, two and two of them."""
    angle = factors.angles(2)
    place = factors.values[:, 1].astype(float)
    return {
        "shape": np.eye(3)[factors.values[:, 0]],
        "place": np.stack([place, place**2], 1),
        "turn": np.stack([np.cos(angle), np.sin(angle)], 1),
    }


def painter(factors, decides):
    """Pictures [B, 1, 7, 1] whose columns of a factor are those of the block that decides it."""
    known = pixels(factors)

    def paint(block, giving, rest):
        columns = [known[name][giving if by == block else rest] for name, by in decides.items()]
        return np.concatenate(columns, axis=1)[:, None, :, None]

    return paint


EACH_ITS_OWN = {"shape": "kind", "place": "where", "turn": "where"}


def test_blocks_that_decide_their_factors():
    factors = factors_of()
    found = swap_scores(painter(factors, EACH_ITS_OWN), ["kind", "where"], factors)
    assert found.blocks == ("kind", "where")
    assert found.factors == ("shape", "place", "turn")
    assert found.measure == ("accuracy", "r2", "r2")
    np.testing.assert_allclose(found.unswapped, 1.0, atol=0.01)
    np.testing.assert_array_equal(found.chance, chance(factors))
    decided = np.array([[True, False, False], [False, True, True]])
    np.testing.assert_allclose(found.given[decided], 1.0, atol=0.01)
    np.testing.assert_allclose(found.kept[~decided], 1.0, atol=0.01)
    # What a block does not decide is that of the other datum, which is independent and of the same distribution: R² of
    # −1 in the mean with a standard error of about 2 / sqrt(300) = .12 for 300 data, accuracy 1/3 with .03.
    for shape, others in ((found.given[1, 0], found.given[0, 1:]), (found.kept[0, 0], found.kept[1, 1:])):
        assert shape == pytest.approx(1 / 3, abs=0.1)
        np.testing.assert_allclose(others, -1.0, atol=0.4)


def test_what_a_block_tells_does_not_matter_where_the_decoder_does_not_listen():
    factors = factors_of()
    everything_by_one = dict.fromkeys(EACH_ITS_OWN, "where")
    found = swap_scores(painter(factors, everything_by_one), ["kind", "where"], factors)
    np.testing.assert_allclose(found.given[1], 1.0, atol=0.01)
    np.testing.assert_allclose(found.kept[0], 1.0, atol=0.01)
    assert (found.given[0] < 0.45).all()


def test_a_factor_that_two_blocks_decide_together_is_between_the_two_data():
    factors = factors_of()
    known = pixels(factors)["place"][:, :1]
    found = swap_scores(lambda _, giving, rest: (known[giving] + known[rest]) / 2, ["one", "other"], factors)
    place = found.factors.index("place")
    assert found.unswapped[place] > 0.99
    for part in (found.given, found.kept):
        # y painted (y + y') / 2: the mean square error is that of (y' - y) / 2, half the variance of y, and R² is .5.
        # Its standard error from 300 data is about .04.
        np.testing.assert_allclose(part[:, place], 0.5, atol=0.15)


def test_against_loops():
    factors = factors_of(120)
    noise = np.random.default_rng(3).normal(scale=0.6, size=(120, 7))
    known = np.concatenate(list(pixels(factors).values()), axis=1) + noise
    first = np.arange(7) < 4

    def paint(block, giving, rest):
        return np.where(first if block == "a" else ~first if block == "b" else False, known[giving], known[rest])

    found = swap_scores(paint, ["a", "b"], factors, seed=4)
    train, test = split(120, seed=4)
    for factor, kind in enumerate(factors.kinds):
        make = ExtraTreesClassifier if kind == "categorical" else ExtraTreesRegressor
        target = factors.target(factor)
        trees = make(n_estimators=50, max_features="sqrt", random_state=4)
        trees.fit(known[train].astype(np.float32), target[train])
        for block, mine in enumerate((first, ~first)):
            givers = [test[place - 1] for place in range(len(test))]
            pictures = [
                [known[giver, c] if mine[c] else known[row, c] for c in range(7)]
                for giver, row in zip(givers, test, strict=True)
            ]
            predicted = trees.predict(np.array(pictures, dtype=np.float32))
            for rows, value in ((givers, found.given[block, factor]), (test, found.kept[block, factor])):
                if kind == "categorical":
                    expected = np.mean([p == target[row] for p, row in zip(predicted, rows, strict=True)])
                else:
                    missed = sum(((p - target[row]) ** 2).sum() for p, row in zip(predicted, rows, strict=True))
                    expected = 1 - missed / ((target[test] - target[test].mean(0)) ** 2).sum()
                assert value == pytest.approx(expected, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(8, 40), seed=st.integers(0, 5))
def test_who_gives_to_whom(n, seed):
    values = np.arange(2 * n).reshape(n, 2) % np.array([3, 5])
    factors = Factors(values, ("a", "b"), ("ordinal", "ordinal"))
    asked = []

    def paint(block, giving, rest):
        asked.append((block, giving, rest))
        return np.zeros((len(rest), 3, 2, 2), dtype=np.float32)

    found = swap_scores(paint, ["one", "two"], factors, seed=seed)
    assert found.given.shape == found.kept.shape == (2, 2)
    assert [block for block, _, _ in asked] == [None, None, "one", "two"]
    train, test = (rest for _, _, rest in asked[:2])
    assert sorted([*train, *test]) == list(range(n))
    for _, giving, rest in asked[2:]:
        np.testing.assert_array_equal(rest, test)
        np.testing.assert_array_equal(np.sort(giving), np.sort(test))  # each gives once, and nothing from training
        assert (giving != rest).all()


def test_the_result_is_a_function_of_the_seed_and_json_takes_it():
    factors = factors_of(200)
    one, again, other = (
        measure_swaps(painter(factors, EACH_ITS_OWN), ["kind", "where"], factors, seed=seed) for seed in (1, 1, 2)
    )
    assert one == again != other
    assert json.loads(json.dumps(one)) == one
    assert one["data"] == 200
    assert one["blocks"] == ["kind", "where"]
    assert np.shape(one["given"]) == np.shape(one["kept"]) == (2, 3)
    assert len(one["unswapped"]) == len(one["chance"]) == len(one["measure"]) == 3


def test_too_few_data_are_refused():
    factors = Factors(np.arange(7)[:, None], ("a",), ("ordinal",))
    with pytest.raises(ValueError, match="at least 8 are needed; got 7"):
        swap_scores(lambda *_: np.zeros((7, 1)), ["one", "two"], factors)
