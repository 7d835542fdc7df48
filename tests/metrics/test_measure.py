import doctest
import importlib
import json
import warnings

import numpy as np
import pytest

from pyro_hfvae.metrics import Codes, Factors, block_factor, dci, measure, mig, supervised_scores
from pyro_hfvae.plot import summary_lines


def data(n=500, seed=0):
    rng = np.random.default_rng(seed)
    values = np.stack([rng.integers(0, 3, n), rng.integers(0, 6, n), rng.integers(0, 8, n)], axis=1)
    columns = np.hstack([rng.normal(size=(n, 3)), rng.dirichlet(np.ones(3), size=n)])
    columns[:, 1] += values[:, 1]
    columns[np.arange(n), 3 + values[:, 0]] += 1.0
    codes = Codes(
        columns,
        ("style[0]", "style[1]", "style[2]", "digit"),
        ((0,), (1,), (2,), slice(3, 6)),
        {"style": (0, 1, 2), "digit": (3,)},
    )
    return codes, Factors(values, ("shape", "scale", "turn"), ("categorical", "ordinal", "circular"))


@pytest.fixture(scope="module")
def measured():
    return measure(*data())


def assert_plain(value):
    """Only what JSON has: no numpy scalar, no tuple, no NaN."""
    assert value is None or type(value) in (dict, list, str, float, int)
    for inner in value.values() if type(value) is dict else value if type(value) is list else ():
        assert_plain(inner)


def test_is_json(measured):
    assert_plain(measured)
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured


def test_a_category_that_tells_nothing_warns_of_nothing(recwarn):
    """Its masses are all but collinear, and the lasso's path does not converge on them."""
    codes, factors = data(200)
    rng = np.random.default_rng(0)
    mass = 1 / 3 + 1e-5 * rng.normal(size=(200, 1)) * [[0.6, 0.3, -0.9]] + 1e-8 * rng.normal(size=(200, 3))
    columns = np.hstack([codes.columns[:, :3], mass])
    codes = Codes(columns, codes.variables, codes.variable_columns, codes.blocks)
    dci(codes, factors, reader="lasso")
    measure(codes, factors)
    assert not recwarn.list


def test_layout(measured):
    result = measured
    factors, variables = ["shape", "scale", "turn"], ["style[0]", "style[1]", "style[2]", "digit"]
    assert list(result) == [
        *("scores", "permutations", "notes", "dci", "mig", "block_factor"),
        *("clustering", "active_units", "total_correlation"),
    ]
    assert result["permutations"] == 0
    assert all(score["chance"] is score["low"] is score["high"] is None for score in result["scores"].values())
    assert result["clustering"]["blocks"] == ["digit"]
    assert list(result["active_units"]["variables"]) == variables
    assert list(result["total_correlation"]["within"]) == ["style", "digit"]
    assert list(result["dci"]["per_factor_informativeness"]) == factors
    assert list(result["mig"]["per_factor"]) == factors
    for matrix in (result["dci"]["importance"], result["mig"]["mutual_information"]):
        assert matrix["variables"] == variables
        assert matrix["factors"] == factors
        assert np.shape(matrix["matrix"]) == (4, 3)
    table = result["block_factor"]
    assert table["blocks"] == ["style", "digit"]
    assert table["factors"] == factors
    assert table["measure"] == ["accuracy", "r2", "r2"]
    assert np.shape(table["score"]) == (2, 3)
    assert len(table["all"]) == len(table["chance"]) == 3


def test_is_the_metrics_themselves():
    codes, factors = data(150)
    result = measure(codes, factors, seed=2)
    by_dci, by_mig, table = (metric(codes, factors, seed=2) for metric in (dci, mig, block_factor))
    assert result["dci"]["disentanglement"] == by_dci.disentanglement
    assert result["dci"]["completeness"] == by_dci.completeness
    assert result["dci"]["informativeness"] == by_dci.informativeness
    assert list(result["dci"]["per_factor_informativeness"].values()) == by_dci.factor_informativeness.tolist()
    assert list(result["dci"]["per_factor_score"].values()) == by_dci.score.tolist()
    assert result["dci"]["importance"]["matrix"] == by_dci.importance.tolist()
    assert result["mig"]["mig"] == by_mig.mig
    assert list(result["mig"]["per_factor"].values()) == by_mig.factor_gap.tolist()
    assert result["mig"]["mutual_information"]["matrix"] == by_mig.mutual_information.tolist()
    assert result["block_factor"]["score"] == table.score.tolist()
    assert {name: score["value"] for name, score in result["scores"].items()} == supervised_scores(
        codes, factors, seed=2
    )
    assert result["scores"]["dci.disentanglement"]["value"] == by_dci.disentanglement
    assert result["scores"]["mig"]["value"] == by_mig.mig
    assert result["block_factor"]["all"] == table.all.tolist()
    assert result["block_factor"]["chance"] == table.chance.tolist()


def test_same_seed_same_result():
    first, again, other = (measure(*data(100), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_nothing_is_fitted_twice(monkeypatch):
    module = importlib.import_module("pyro_hfvae.metrics.regressors")
    make, made = module._forest, []
    monkeypatch.setattr(module, "_forest", lambda kind, **options: made.append(kind) or make(kind, **options))
    measure(*data(100))
    assert made == ["categorical", "ordinal", "circular"] * 3  # all codes, style, digit


def test_chance_is_below_codes_that_tell_and_around_codes_that_do_not():
    codes, factors = data(200)
    result = measure(codes, factors, permutations=3)
    assert_plain(result)
    assert result["permutations"] == 3
    for name in ("dci.informativeness", "mig", "sap", "factor_vae_score", "infomec.explicitness"):
        score = result["scores"][name]
        assert score["low"] <= score["chance"] <= score["high"] < score["value"], name
    noise = Codes(
        np.random.default_rng(5).normal(size=codes.columns.shape), codes.variables, codes.variable_columns, codes.blocks
    )
    scores = measure(noise, factors, permutations=3)["scores"].values()
    # 95 % of scores fall in their interval, if they were independent and normal.
    assert np.mean([score["low"] - 1e-9 <= score["value"] <= score["high"] + 1e-9 for score in scores]) > 0.8


@pytest.mark.parametrize("permutations", [1, -3])
def test_permutations_that_make_no_interval(permutations):
    with pytest.raises(ValueError, match=f"permutations must be 0, or at least 2 for an interval; got {permutations}"):
        measure(*data(60), permutations=permutations)


def test_too_few_data_for_groups():
    """Five rows to score, each with its own value: no factor can be fixed."""
    values = np.arange(20)[:, None]
    codes = Codes(values * 0.1, ("z",), ((0,),), {"z": (0,)})
    result = measure(codes, Factors(values, ("x",), ("ordinal",)), permutations=2)
    assert_plain(result)
    for name in ("beta_vae_score", "factor_vae_score"):
        assert result["scores"][name] == {"value": None, "chance": None, "low": None, "high": None}
    assert result["scores"]["sap"]["value"] > 0.9


def test_shared_blocks_have_no_total_correlation():
    codes, factors = data(60)
    both = Codes(codes.columns, codes.variables, codes.variable_columns, {**codes.blocks, "all": (0, 1, 2, 3)})
    assert measure(both, factors)["total_correlation"] is None


def test_infinite_total_correlation_is_none():
    codes, factors = data(60)
    columns = codes.columns.copy()
    columns[:, 2] = columns[:, 1]
    copied = Codes(columns, codes.variables, codes.variable_columns, codes.blocks)
    found = measure(copied, factors)["total_correlation"]
    assert found["within"]["style"] is None
    assert found["between"] >= 0


def test_mnist_shape():
    """One factor, a dead style, and a digit variable."""
    labels = np.maximum(np.arange(210) % 14 - 4, 0)  # zero is the commonest
    columns = np.hstack([np.zeros((210, 2)), np.eye(10)[labels]])
    codes = Codes(columns, ("a", "b", "digit"), ((0,), (1,), slice(2, 12)), {"style": (0, 1), "digit": (2,)})
    result = measure(codes, Factors(labels[:, None], ("digit",), ("categorical",)))
    assert result["dci"]["disentanglement"] == result["dci"]["completeness"] == 1.0
    assert result["mig"]["mig"] == pytest.approx(1.0)
    assert result["block_factor"]["score"][1] == [1.0]
    assert result["block_factor"]["score"][0] == result["block_factor"]["chance"]


def test_docstring_example():
    module = importlib.import_module("pyro_hfvae.metrics.codes")
    assert doctest.testmod(module).failed == 0


# ------------------------------------------------------------------------------------------------------ what is refused

GOOD_CODES = {
    "columns": np.zeros((5, 3)),
    "variables": ("z", "digit"),
    "variable_columns": ((0,), (1, 2)),
    "blocks": {"style": (0,), "digit": (1,)},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": np.zeros(5)}, r"codes must be a float array \[n, C\]; got float64 of shape \(5,\)"),
        ({"columns": np.zeros((5, 3), dtype=int)}, r"codes must be a float array \[n, C\]; got int64"),
        ({"columns": np.zeros((0, 3))}, r"codes are empty: their shape is \(0, 3\)"),
        ({"columns": np.array([[0.0, 0.0, np.nan]])}, "the codes of variable 'digit' contain NaN or infinity"),
        ({"columns": np.array([[np.inf, 0.0, 0.0]])}, "the codes of variable 'z' contain NaN or infinity"),
        ({"variables": ("z",)}, "1 variables are named, but columns are given for 2"),
        ({"variables": ("z", "z")}, r"variable names must differ; these occur twice: \['z'\]"),
        ({"variable_columns": ((), (1, 2))}, "variable 'z' has no columns"),
        ({"variable_columns": (slice(3, 9), (1, 2))}, "variable 'z' has no columns"),
        ({"variable_columns": ((3,), (1, 2))}, "variable 'z' names column 3; the codes have 3 columns"),
        ({"variable_columns": ((-1,), (1, 2))}, "variable 'z' names column -1; the codes have 3 columns"),
        ({"variable_columns": ((1,), (1, 2))}, "column 1 belongs to both 'z' and 'digit'"),
        ({"variable_columns": ((0,), (1,))}, r"columns \[2\] belong to no variable"),
        ({"blocks": {}}, "no blocks are given"),
        ({"blocks": {"style": ()}}, "block 'style' has no variables"),
        ({"blocks": {"style": (2,)}}, "block 'style' names variable 2; there are 2 variables"),
        ({"blocks": {"style": (0, 0)}}, r"block 'style' names a variable twice: \(0, 0\)"),
    ],
)
def test_codes_errors(change, message):
    Codes(**GOOD_CODES)
    with pytest.raises(ValueError, match=message):
        Codes(**(GOOD_CODES | change))


GOOD_FACTORS = {
    "values": np.array([[0, 1], [1, 0], [2, 0]]),
    "names": ("shape", "turn"),
    "kinds": ("categorical", "circular"),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros(3, dtype=int)}, r"factors must be an integer array \[n, F\]; got int64 of shape \(3,\)"),
        ({"values": np.zeros((3, 2))}, r"factors must be an integer array \[n, F\]; got float64"),
        ({"values": np.zeros((0, 2), dtype=int)}, r"factors are empty: their shape is \(0, 2\)"),
        ({"values": np.zeros((3, 0), dtype=int)}, r"factors are empty: their shape is \(3, 0\)"),
        ({"names": ("shape",)}, "there are 2 factors, but 1 names and 2 kinds"),
        ({"kinds": ("ordinal",)}, "there are 2 factors, but 2 names and 1 kinds"),
        ({"names": ("shape", "shape")}, r"factor names must differ; these occur twice: \['shape'\]"),
        ({"kinds": ("categorical", "round")}, "factor 'turn' is of kind 'round'; the kinds are .*'circular'"),
        ({"values": np.array([[4, 1], [4, 0]])}, r"factor 'shape' is constant \(value 4 in all 2 rows\): leave it out"),
        ({"values": np.array([[0, 0], [1, 0]])}, "factor 'turn' is constant"),
        ({"values": np.array([[0, -1], [1, 0]])}, "the values of circular factor 'turn' must not be negative"),
        (
            {"values": np.array([[0, 0.5], [1, 0]]), "kinds": ("continuous", "circular")},
            "the values of circular factor 'turn' must be whole numbers",
        ),
        (
            {"values": np.array([[0, np.nan], [1, 0]]), "kinds": ("categorical", "continuous")},
            "factor 'turn' contains NaN or infinity",
        ),
        ({"periods": {"shape": 3}}, r"a period is given for 'shape'; the circular factors are \('turn',\)"),
        ({"periods": {"turn": 1}}, "the period of factor 'turn' must be at least 2; got 1"),
        (
            {"values": np.array([[0, 0], [1, 4]]), "periods": {"turn": 4}},
            "factor 'turn' is constant",
        ),
    ],
)
def test_factors_errors(change, message):
    Factors(**GOOD_FACTORS)
    with pytest.raises(ValueError, match=message):
        Factors(**(GOOD_FACTORS | change))


def test_single_precision_and_small_integers_are_taken():
    codes = Codes(**(GOOD_CODES | {"columns": np.zeros((5, 3), dtype=np.float32)}))
    factors = Factors(**(GOOD_FACTORS | {"values": GOOD_FACTORS["values"].astype(np.uint8)}))
    assert codes.columns.dtype == np.float64
    assert factors.values.dtype == np.int64


def test_continuous_factors_are_kept_as_they_are():
    values = np.array([[0.25, 0], [0.5, 1], [1.25, 2]])
    factors = Factors(values, ("heat", "shape"), ("continuous", "categorical"))
    np.testing.assert_array_equal(factors.target(0), values[:, 0])
    np.testing.assert_array_equal(factors.target(1), [0, 1, 2])
    np.testing.assert_array_equal(factors.classes(0), [0, 1, 2])  # bins 0, 5 and 19, without gaps


def test_few_data_of_many_classes_are_named_and_no_library_warns():
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(40), 2)[:, None]
    columns = rng.normal(size=(40, 4))[person[:, 0]] + 0.1 * rng.normal(size=(80, 4))
    codes = Codes(columns, ("a", "b", "c", "d"), ((0,), (1,), (2,), (3,)), {"person": (0, 1), "rest": (2, 3)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = measure(codes, Factors(person, ("person",), ("categorical",)), permutations=2)
    assert measured["notes"] == [
        "person: 40 classes among 80 data, 2.0 of each, are too few to predict it from codes: its scores can be low "
        "whatever the codes hold"
    ]
    assert measured["notes"][0] in summary_lines({"disentanglement": measured})
