import tracemalloc

import numpy as np
import pytest
from scipy.stats import norm

from pyro_hfvae.metrics import Factors, PosteriorParameters, marginal_information
from pyro_hfvae.metrics import exact as implementation


def example(n=60, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 3, (n, 2))
    factors = Factors(values, ("x", "y"), ("categorical", "ordinal"))
    normal = {
        "a": (values[:, 0] + 0.3 * rng.normal(size=n), 0.2 + 0.3 * rng.random(n)),
        "b": (rng.normal(size=n), np.full(n, 0.7)),
    }
    mass = rng.dirichlet(np.ones(3), size=n) * 0.3 + 0.7 * np.eye(3)[values[:, 1]]
    return PosteriorParameters(normal, {"k": mass}, {"both": ("a", "b"), "mixed": ("a", "k"), "k": ("k",)}), factors


def by_quadrature(posteriors, factors, name):
    """I(z; v) = H(z) - H(z|v), each entropy an integral over a fine grid."""
    loc, scale = posteriors.normal[name]
    grid = np.linspace(-12, 14, 40_001)
    densities = norm.pdf(grid[:, None], loc, scale)

    def entropy(density):
        return -np.trapezoid(density * np.log(np.maximum(density, 1e-300)), grid)

    found = []
    for factor in range(len(factors.names)):
        classes = factors.classes(factor)
        given = sum((classes == v).mean() * entropy(densities[:, classes == v].mean(axis=1)) for v in set(classes))
        found.append(entropy(densities.mean(axis=1)) - given)
    return np.array(found)


def test_normal_variables_against_quadrature():
    """The mean over many draws of the samples; each has its own standard error, which the tolerance is 4 of."""
    posteriors, factors = example()
    results = [marginal_information(posteriors, factors, seed=seed) for seed in range(40)]
    for row, name in enumerate(("a", "b")):
        estimates = np.array([result.variable_information[row] for result in results])
        error = estimates.std(axis=0, ddof=1) / np.sqrt(len(results))
        assert (np.abs(estimates.mean(axis=0) - by_quadrature(posteriors, factors, name)) < 4 * error + 1e-6).all()


def test_category_by_enumeration():
    posteriors, factors = example()
    mass, expected = posteriors.categorical["k"], []
    for factor in range(2):
        classes, total = factors.classes(factor), 0.0
        for v in range(3):
            for k in range(3):
                given = mass[classes == v, k].mean()
                total += (classes == v).mean() * given * np.log(given / mass[:, k].mean())
        expected.append(total)
    result = marginal_information(posteriors, factors)
    np.testing.assert_allclose(result.variable_information[2], expected, atol=1e-12)
    np.testing.assert_allclose(result.block_information[2], expected, atol=1e-12)
    assert (result.variable_error[2] == 0).all()


@pytest.mark.parametrize("seed", range(10))
def test_a_category_of_noise_has_no_negative_information(seed):
    rng = np.random.default_rng(seed)
    mass = np.tile(rng.dirichlet(np.ones(7)), (60, 1))  # collapsed: the same for all data
    factors = Factors(rng.integers(0, 3, (60, 1)), ("x",), ("categorical",))
    result = marginal_information(PosteriorParameters({}, {"k": mass}, {"k": ("k",)}), factors)
    assert 0 <= result.block_lower[0, 0] < 1e-12  # rounding of sums of 60


def test_blocks_by_the_definition():
    """A Monte Carlo sum by plain loops over the data, with other samples of the same distribution."""
    posteriors, factors = example(30)
    rng, draws = np.random.default_rng(7), []
    for _ in range(60):
        for n in range(30):
            log_density = np.zeros(30)
            for name in ("a", "b"):
                loc, scale = posteriors.normal[name]
                log_density += norm.logpdf(rng.normal(loc[n], scale[n]), loc, scale)
            same = factors.values[:, 0] == factors.values[n, 0]
            draws.append(np.log(np.exp(log_density[same]).mean()) - np.log(np.exp(log_density).mean()))
    estimates = [marginal_information(posteriors, factors, seed=seed).block_information[0, 0] for seed in range(60)]
    error = np.hypot(np.std(estimates) / np.sqrt(60), np.std(draws) / np.sqrt(len(draws)))
    assert np.mean(estimates) == pytest.approx(np.mean(draws), abs=4 * error)


def test_lower_bound_by_the_definition():
    """Every datum gives its sample, so that the same generator gives the same samples to plain loops."""
    posteriors, factors = example(30)
    result = marginal_information(posteriors, factors, seed=3)
    rng = np.random.default_rng(3)
    drawn = rng.permutation(30)
    z = {name: loc[drawn] + scale[drawn] * rng.normal(size=30) for name, (loc, scale) in posteriors.normal.items()}
    for names, found in ((("a",), result.variable_lower[0]), (("a", "b"), result.block_lower[0])):
        scales = [posteriors.normal[name][1] for name in names]
        top = np.exp(sum(-np.log(np.sqrt(2 * np.pi) * scale).mean() for scale in scales))
        for factor in range(2):
            classes = factors.classes(factor)
            bounds = [0.0]
            for pseudo in (0.01, 0.1, 1, 10):
                told = []
                for row, n in enumerate(drawn):
                    density = np.prod([norm.pdf(z[name][row], *posteriors.normal[name]) for name in names], axis=0)
                    density[n] = 0.0  # not its own
                    share = (classes == classes[n]).mean()
                    guess = density[classes == classes[n]].sum() + pseudo * top * share
                    told.append(np.log(guess / (density.sum() + pseudo * top) / share))
                bounds.append(np.mean(told))
            assert found[factor] == pytest.approx(max(bounds), abs=1e-9)
    assert (result.variable_lower[2] == result.variable_information[2]).all()  # a categorical's is exact
    assert (result.block_lower[2] == result.block_information[2]).all()


def test_both_bounds_enclose_the_information_in_the_population():
    """Of v and z given v, normal about 2 v; over 60 sets of 300 data, 4 standard errors of their mean."""
    grid = np.linspace(-4, 8, 20_001)
    given = norm.pdf(grid[:, None], 2 * np.arange(3), np.hypot(0.5, 0.3))
    among = given.mean(axis=1)
    inside = given * (np.log(np.maximum(given, 1e-300)) - np.log(np.maximum(among, 1e-300))[:, None])
    truth = np.trapezoid(inside.mean(axis=1), grid)
    rng, lower, upper = np.random.default_rng(0), [], []
    for seed in range(60):
        values = rng.integers(0, 3, (300, 1))
        z = {"z": (2 * values[:, 0] + 0.5 * rng.normal(size=300), np.full(300, 0.3))}
        factors = Factors(values, ("x",), ("categorical",))
        result = marginal_information(PosteriorParameters(z, {}, {"z": ("z",)}), factors, seed=seed)
        lower.append(result.variable_lower[0, 0])
        upper.append(result.variable_information[0, 0])
    below, above = np.mean(lower), np.mean(upper)
    assert below < truth + 4 * np.std(lower) / np.sqrt(60)
    assert above > truth - 4 * np.std(upper) / np.sqrt(60)
    assert above - below < 0.05  # and that is how close they are with a hundred data of each value


def test_narrow_posteriors_tell_nothing_for_certain():
    rng = np.random.default_rng(0)
    factors = Factors(rng.integers(0, 4, (500, 1)), ("x",), ("categorical",))
    narrow = PosteriorParameters({"z": (rng.normal(size=500), np.full(500, 1e-5))}, {}, {"z": ("z",)})
    result = marginal_information(narrow, factors)
    assert result.variable_information[0, 0] > 0.95 * np.log(4)
    assert 0 <= result.variable_lower[0, 0] < 0.01
    # Three of them in a block: a density of e^980 times a typical one, which no float holds.
    extreme = (np.zeros(500), np.where(np.arange(500) == 0, 1e-140, 1e3))
    posteriors = PosteriorParameters(dict.fromkeys(("a", "b", "c"), extreme), {}, {"z": ("a", "b", "c")})
    assert 0 <= marginal_information(posteriors, factors).block_lower[0, 0] < 0.01


def test_standard_error_is_the_spread_over_samples():
    posteriors, factors = example(400)
    results = [marginal_information(posteriors, factors, samples=100, seed=seed) for seed in range(60)]
    spread = np.std([result.variable_information[0, 0] for result in results], ddof=1)
    claimed = np.mean([result.variable_error[0, 0] for result in results])
    # A deviation of 60 has a relative error of 9 %; 100 of 400 without replacement spread a little less than claimed.
    assert 0.6 < spread / claimed < 1.3


def test_pieces_change_nothing(monkeypatch):
    import importlib

    posteriors, factors = example()
    whole = marginal_information(posteriors, factors, seed=1)
    monkeypatch.setattr(importlib.import_module("pyro_hfvae.metrics.exact"), "PAIRS_AT_ONCE", 130)  # two rows a piece
    pieces = marginal_information(posteriors, factors, seed=1)
    np.testing.assert_allclose(pieces.variable_information, whole.variable_information, atol=1e-12)
    np.testing.assert_allclose(pieces.block_information, whole.block_information, atol=1e-12)
    np.testing.assert_allclose(pieces.block_lower, whole.block_lower, atol=1e-12)


def test_limits():
    """Posteriors far apart tell everything; posteriors that are all alike tell nothing, and a block adds nothing."""
    values = np.arange(40)[:, None] % 4
    factors = Factors(values, ("x",), ("ordinal",))
    apart = PosteriorParameters({"z": (np.arange(40.0) * 100, np.ones(40))}, {}, {"z": ("z",)})
    result = marginal_information(apart, factors)
    assert result.variable_information[0, 0] == pytest.approx(np.log(4), abs=1e-9)
    assert result.normalised[0, 0] == pytest.approx(1.0)
    alike = PosteriorParameters({"z": (np.zeros(40), np.ones(40))}, {"k": np.full((40, 2), 0.5)}, {"all": ("z", "k")})
    result = marginal_information(alike, factors)
    np.testing.assert_allclose(result.variable_information, 0.0, atol=1e-12)
    np.testing.assert_allclose(result.block_information, 0.0, atol=1e-12)


def test_categories_of_probability_zero():
    values = np.arange(30)[:, None] % 3
    hard = np.eye(3)[values[:, 0]]
    posteriors = PosteriorParameters({"z": (np.zeros(30), np.ones(30))}, {"k": hard}, {"all": ("z", "k")})
    result = marginal_information(posteriors, Factors(values, ("x",), ("categorical",)))
    np.testing.assert_allclose(result.variable_information[:, 0], [0.0, np.log(3)], atol=1e-12)
    np.testing.assert_allclose(result.block_information[0], np.log(3), atol=1e-12)
    # Nine others guess it with a hundredth of a datum without a factor, which weighs more where z is rare.
    assert np.log(3) - 0.005 < result.block_lower[0, 0] < np.log((9 * 3 + 0.01) / 9.01)


GOOD = {"normal": {"z": (np.zeros(3), np.ones(3))}, "categorical": {"k": np.full((3, 2), 0.5)}, "blocks": {"b": ("z",)}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normal": {}, "categorical": {}}, "there are no posteriors: give at least one variable"),
        ({"categorical": {"k": np.full((4, 2), 0.5)}}, "all variables must have the same number of data"),
        ({"normal": {"z": (np.zeros(3), np.ones(2))}}, "loc and scale of variable 'z' must be finite and of one shape"),
        ({"normal": {"z": (np.zeros(3), np.zeros(3))}}, "the scale of variable 'z' must be positive"),
        ({"categorical": {"k": np.ones((3, 2))}}, "the rows of categorical variable 'k' must be probabilities"),
        ({"categorical": {"z": np.full((3, 2), 0.5)}}, r"these variables are both normal and categorical: \['z'\]"),
        ({"blocks": {"b": ("w",)}}, r"block 'b' names \['w'\]; the variables are \['z', 'k'\]"),
        ({"blocks": {"b": ()}}, "block 'b' names no variables"),
    ],
)
def test_errors(change, message):
    PosteriorParameters(**GOOD)
    with pytest.raises(ValueError, match=message):
        PosteriorParameters(**(GOOD | change))


def test_more_errors():
    posteriors, factors = example()
    with pytest.raises(ValueError, match="posteriors have 60 rows, factors have 30"):
        marginal_information(posteriors, example(30)[1])
    with pytest.raises(ValueError, match="samples must be at least 2, for a standard error; got 1"):
        marginal_information(posteriors, factors, samples=1)


def test_memory_does_not_grow_with_the_variables(monkeypatch):
    rng = np.random.default_rng(0)
    n, names = 100, [f"z{place}" for place in range(60)]
    normal = {name: (rng.normal(size=n), np.ones(n)) for name in names}
    posteriors = PosteriorParameters(normal, {}, {"all": tuple(names)})
    factors = Factors(rng.integers(0, 2, (n, 1)), ("x",), ("categorical",))
    whole = marginal_information(posteriors, factors)
    monkeypatch.setattr(implementation, "VALUES_AT_ONCE", 2**14)  # 128 kB
    tracemalloc.start()
    pieces = marginal_information(posteriors, factors)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6  # all pairs of all variables are 4.8 MB
    np.testing.assert_allclose(pieces.block_information, whole.block_information, rtol=1e-9)
    np.testing.assert_allclose(pieces.variable_lower, whole.variable_lower, rtol=1e-9, atol=1e-12)
