"""Shares of features against the indices of functions whose integrals are known."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae.metrics import explained_share, feature_shares, measure_features

N = 4000
NAMES = ("a", "b", "c")
BLOCKS = {"first": ("a",), "second": ("b", "c")}


def exchange_of(function, z):
    """Exchanges columns of the latents z [n, V] and applies a function of them."""

    def exchange(variables, giving, rest):
        mixed = z[rest].copy()
        for variable in variables:
            mixed[:, NAMES.index(variable)] = z[giving, NAMES.index(variable)]
        return function(mixed)

    return exchange


def ishigami(z):
    """The function that sensitivity analysis is tested on, of uniform numbers from -π to π."""
    return (np.sin(z[:, 0]) + 7 * np.sin(z[:, 1]) ** 2 + 0.1 * z[:, 2] ** 4 * np.sin(z[:, 0]))[:, None]


def uniform(n=N, seed=0):
    return np.random.default_rng(seed).uniform(-np.pi, np.pi, (n, 3))


# Closed forms of its variance and of its parts (Ishigami and Homma 1990), with the constants 7 and .1.
V1, V2, V13 = (1 + 0.1 * np.pi**4 / 5) ** 2 / 2, 49 / 8, 0.01 * np.pi**8 * 8 / 225
VARIANCE = V1 + V2 + V13


def test_shares_are_sobol_indices():
    found = feature_shares(exchange_of(ishigami, uniform()), BLOCKS, {"y": [0]}, N)
    total, alone = np.array([V1 + V13, V2 + V13]) / VARIANCE, np.array([V1, V2]) / VARIANCE
    for value, error, exact in (
        (found.total[:, 0], found.total_error[:, 0], total),
        (found.alone[:, 0], found.alone_error[:, 0], alone),
    ):
        assert (error < 0.03).all()
        assert (abs(value - exact) < 4 * error).all()  # four standard errors
    assert found.blocks == ("first", "second")
    assert found.features == ("y",)


def test_standard_errors_are_the_spread_over_data():
    seeds = [feature_shares(exchange_of(ishigami, uniform(400, s)), BLOCKS, {"y": [0]}, 400, seed=s) for s in range(60)]
    for kind in ("total", "alone"):
        spread = np.std([getattr(found, kind)[:, 0] for found in seeds], axis=0, ddof=1)
        mean_error = np.mean([getattr(found, f"{kind}_error")[:, 0] for found in seeds], axis=0)
        # A spread of 60 runs has a relative standard error of 1 / sqrt(2 * 59) = .09.
        np.testing.assert_allclose(mean_error, spread, rtol=0.36)


def test_chance_is_the_mean_over_the_ways_to_deal_out_the_variables():
    z = uniform()
    found = feature_shares(exchange_of(ishigami, z), BLOCKS, {"y": [0]}, N, groupings=200)
    totals = np.array([V1 + V13, V2, V13]) / VARIANCE  # of each variable alone
    others = np.array([V2 + V13, V1 + V13, V1 + V2 + V13]) / VARIANCE  # of the other two together
    error = np.hypot(found.chance_error[:, 0], 0.02)
    assert (abs(found.chance[:, 0] - [totals.mean(), others.mean()]) < 4 * error).all()


def test_chance_by_the_size_of_a_block():
    """Of a sum of three like variables a block has as many thirds as variables, and so has a random one."""
    found = feature_shares(exchange_of(lambda z: z.sum(1, keepdims=True), uniform()), BLOCKS, {"y": [0]}, N)
    np.testing.assert_allclose(found.total[:, 0], [1 / 3, 2 / 3], atol=0.05)
    np.testing.assert_allclose(found.chance[:, 0], [1 / 3, 2 / 3], atol=0.05)
    single = feature_shares(exchange_of(lambda z: z, uniform(8)), BLOCKS, {"y": [0]}, 8, groupings=1)
    assert np.isnan(single.chance_error).all()


def test_a_block_that_decides_all_and_one_that_decides_nothing_have_exactly_1_and_0():
    z = np.random.default_rng(1).normal(size=(10, 3)).astype(np.float32)
    found = feature_shares(exchange_of(lambda z: z[:, :1] ** 3, z), BLOCKS, {"y": [0]}, 10)
    np.testing.assert_array_equal(found.total[:, 0], [1, 0])
    np.testing.assert_array_equal(found.alone[:, 0], [1, 0])
    np.testing.assert_array_equal(found.total_error, 0)


def test_numbers_of_a_feature_count_by_their_variances():
    """Two numbers, a and 2 b: the variances are one and four parts of five."""
    z = uniform()
    found = feature_shares(exchange_of(lambda z: z[:, :2] * [1, 2], z), BLOCKS, {"both": [0, 1], "b": [1]}, N)
    np.testing.assert_allclose(found.total[:, 0], [0.2, 0.8], atol=0.03)
    np.testing.assert_array_equal(found.total[:, 1], [0, 1])


def test_against_a_loop_over_the_pairs():
    n, rng = 9, np.random.default_rng(3)
    z = rng.normal(size=(n, 3))
    decoded = exchange_of(lambda z: np.stack([z[:, 0] * z[:, 1], z[:, 2] + z[:, 0], z[:, 1] ** 2], 1), z)
    seen = []

    def exchange(variables, giving, rest):
        seen.append((tuple(variables), giving.copy(), rest.copy()))
        return decoded(variables, giving, rest)

    found = feature_shares(exchange, BLOCKS, {"y": [0, 2]}, n, groupings=1)
    _, giving, rest = seen[0]
    assert len(set(rest)) == len(rest) == 8
    assert not (giving == rest).any()
    between, lost, kept = [], [], []
    for m, k in zip(giving, rest, strict=True):
        one, other = (decoded((), np.array([i]), np.array([i]))[0, [0, 2]] for i in (k, m))
        mixed = decoded(("a",), np.array([m]), np.array([k]))[0, [0, 2]]
        between.append(((one - other) ** 2).sum())
        lost.append(((one - mixed) ** 2).sum())
        kept.append(((other - mixed) ** 2).sum())
    np.testing.assert_allclose(found.total[0, 0], sum(lost) / sum(between))
    np.testing.assert_allclose(found.alone[0, 0], 1 - sum(kept) / sum(between))


def test_nothing_is_decoded_twice():
    calls, decode = [], exchange_of(lambda z: z, uniform(20))

    def exchange(variables, giving, rest):
        calls.append(frozenset(variables))
        return decode(variables, giving, rest)

    feature_shares(exchange, BLOCKS, {"a": [0]}, 20, groupings=50)
    assert len(calls) == len(set(calls)) == 7  # none, the three variables, and the three pairs


@given(st.integers(4, 30), st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_shapes_and_bounds_of_additive_decoders(n, count, seed):
    rng = np.random.default_rng(seed)
    z, weights = rng.normal(size=(n, 3)), rng.normal(size=(3, count))
    features = {f"y{at}": [at] for at in range(count)}
    blocks = {"x": ("a",), "y": ("b",), "z": ("c",)}
    found = feature_shares(exchange_of(lambda z: z @ weights, z), blocks, features, n, groupings=2, seed=seed)
    for value in (found.total, found.alone, found.total_error, found.alone_error, found.chance, found.chance_error):
        assert value.shape == (3, count)
        assert np.isfinite(value).all()
    assert (found.total >= 0).all()
    assert (found.alone <= 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_feature_that_does_not_vary_has_no_shares(dtype):
    """Rounding is no variation: a constant of a thousand with an error in its last digit."""
    z = uniform(50)

    def decode(z):
        noise = np.random.default_rng(0).integers(-1, 2, len(z)) * np.spacing(dtype(1000))
        return np.stack([1000 + noise, z[:, 0], 0 * z[:, 0]], 1).astype(dtype)

    found = feature_shares(exchange_of(decode, z), BLOCKS, {"k": [0], "a": [1], "zero": [2]}, 50)
    assert np.isnan(found.total[:, [0, 2]]).all()
    assert np.isnan(found.chance[:, [0, 2]]).all()
    np.testing.assert_array_equal(found.total[:, 1], [1, 0])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"blocks": {"all": NAMES}}, "an exchange of blocks needs two blocks or more; there is one"),
        ({"size": 3}, "shares of features need 4 data or more, got 3"),
        ({"groupings": 0}, "chance needs 1 random grouping or more, got 0"),
        ({"exchange": lambda *_: np.full((8, 1), np.nan)}, "what the model decodes is not finite"),
    ],
)
def test_what_cannot_be_measured(change, why):
    arguments = {"exchange": exchange_of(lambda z: z, uniform(8)), "blocks": BLOCKS, "features": {"a": [0]}, "size": 8}
    with pytest.raises(ValueError, match=why):
        feature_shares(**arguments | change)


def test_explained_share_against_a_loop():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 30, 4))
    x[rng.random(x.shape) < 0.3] = np.nan
    found = explained_share(x, y, {"one": [0], "two": [1, 3]})
    for value, places in zip(found, ([0], [1, 3]), strict=True):
        missed = varied = 0.0
        for m in places:
            known = [row for row in range(30) if not np.isnan(x[row, m])]
            mean = sum(x[row, m] for row in known) / len(known)
            missed += sum((x[row, m] - y[row, m]) ** 2 for row in known)
            varied += sum((x[row, m] - mean) ** 2 for row in known)
        assert value == pytest.approx(1 - missed / varied)


def test_explained_share_of_what_is_constant_or_missing():
    x = np.stack([np.ones(5), np.full(5, np.nan), np.arange(5.0)], 1)
    np.testing.assert_array_equal(explained_share(x, x, {"a": [0], "b": [1], "c": [2]}), [np.nan, np.nan, 1])
    with pytest.raises(ValueError, match=r"decoded must be \[5, 3\] as observed, got \[5, 2\]"):
        explained_share(x, x[:, :2], {"a": [0]})


def test_as_json():
    decode = exchange_of(lambda z: np.stack([z[:, 0], 0 * z[:, 0]], 1), uniform(20))
    features = {"a": [0], "nothing": [1]}
    found = measure_features(decode, BLOCKS, features, 20, explained=np.array([0.25, np.nan]), seed=3)
    same = feature_shares(decode, BLOCKS, features, 20, seed=3)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["data"], found["blocks"], found["features"]) == (20, ["first", "second"], ["a", "nothing"])
    assert found["total"] == [[1.0, None], [0.0, None]]
    assert [row[0] for row in found["chance"]] == same.chance[:, 0].tolist()
    assert found["explained"] == [0.25, None]
    assert measure_features(decode, BLOCKS, features, 20)["explained"] is None
