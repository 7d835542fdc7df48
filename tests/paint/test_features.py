"""Features of models of each kind of data against what is put into their distributions."""

import math
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from any_data import OBSERVATIONS, data_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.poutine import mask

from pyro_hfvae.batch import Batch
from pyro_hfvae.distributions import ColumnLikelihoods, MultinomialCounts
from pyro_hfvae.models import Independent, StructuredModel
from pyro_hfvae.paint import Feature, decode_features, observed_features

NAMES = {"numbers": ("age", "height"), "colour": ("red", "green", "blue")}


class Program:
    """A model of a function that makes its observed sites of z, [B, 2]."""

    def __init__(self, observe, feature_names=None):
        self.observe = observe
        if feature_names is not None:
            self.feature_names = feature_names

    def __call__(self, x, **covariates):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            self.observe(z, x, **covariates)


def table(z, x):
    pyro.sample("numbers", dist.Normal(3 * z, 1.0).to_event(1), obs=x)
    pyro.sample("colour", dist.Categorical(logits=z @ torch.eye(2, 3)), obs=x[:, 0].abs().long().clamp(max=2))
    pyro.sample("flag", dist.Bernoulli(logits=z[:, 0]), obs=(x[:, 1] > 0).float())


Z = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
X = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))


def decoded(observe, names=None, x=X, **covariates):
    return decode_features(Program(observe, names), {"z": Z}, Batch(x=x, **covariates))


def test_each_site_of_a_table():
    found = decoded(table, NAMES)
    assert found.names == ("age", "height", "colour = red", "colour = green", "colour = blue", "flag")
    assert found.features == (
        Feature("age", (0,)),
        Feature("height", (1,)),
        Feature("colour", (2, 3, 4), ("red", "green", "blue")),
        Feature("flag", (5,)),
    )
    expected = torch.cat([3 * Z, (Z @ torch.eye(2, 3)).softmax(-1), Z[:, :1].sigmoid()], 1)
    torch.testing.assert_close(found.values, expected)
    torch.testing.assert_close(found.of(found.features[2]), expected[:, 2:5])


def test_names_where_the_model_has_none():
    assert decoded(table).names == ("numbers[0]", "numbers[1]", "colour = 0", "colour = 1", "colour = 2", "flag")


def test_the_data_in_the_same_form():
    x = torch.tensor([[0.5, -1.0], [-1.5, 2.0], [7.0, 0.0]])
    found = observed_features(Program(table, NAMES), Batch(x=x))
    assert found.names == decoded(table, NAMES).names
    assert found.values.tolist() == [[0.5, -1, 1, 0, 0, 0], [-1.5, 2, 0, 1, 0, 1], [7, 0, 0, 0, 1, 0]]


@pytest.mark.parametrize(
    ("fn", "mean", "counted"),
    [
        (lambda z: dist.Poisson(z.exp()).to_event(1), Z.exp(), True),
        (lambda z: dist.NegativeBinomial(2.0, logits=z).to_event(1), 2 * Z.exp(), True),
        (lambda z: dist.Multinomial(7, logits=z), 7 * Z.softmax(-1), True),
        (lambda z: dist.StudentT(3.0, z, 1.0).to_event(1), Z, False),
        (lambda z: dist.Bernoulli(logits=z).to_event(1), Z.sigmoid(), False),
        (lambda z: dist.OneHotCategorical(logits=z), Z.softmax(-1), False),
        (lambda z: dist.Normal(z, 1.0).mask(torch.zeros(1, 2, dtype=torch.bool)).to_event(1), Z, False),
    ],
)
def test_means_of_families(fn, mean, counted):
    def observe(z, x):
        made = fn(z)
        value = torch.nn.functional.one_hot(x.argmax(-1), 2).float() if "OneHot" in repr(made) else x.abs().round()
        pyro.sample("x", made, obs=value * (7 / value.sum(-1, keepdim=True) if "Multinomial" in repr(made) else 1))

    with pyro.validation_enabled(False):
        found = decoded(observe)
    torch.testing.assert_close(found.values, mean)
    assert all(feature.counted is counted for feature in found.features)


def columns(z):
    """Two columns of a table: a number, and a category of three."""
    return ColumnLikelihoods(
        [([0], dist.Normal(z[:, :1], 1.0)), ([1], dist.Categorical(logits=(z @ torch.eye(2, 3))[:, None]))]
    )


def test_the_columns_of_a_table():
    def observe(z, x):
        pyro.sample("x", columns(z), obs=x)

    x = torch.tensor([[0.3, 2.0], [math.nan, math.nan], [1.0, 0.0], [2.0, 1.0], [0.0, 0.0]])
    names = {"x": ("a = b", "colour = red", "colour = green", "colour = blue = cyan")}
    found = decoded(observe, names, x)
    assert found.names == names["x"]
    assert found.features == (Feature("a = b", (0,)), Feature("colour", (1, 2, 3), ("red", "green", "blue = cyan")))
    torch.testing.assert_close(found.values, torch.cat([Z[:, :1], (Z @ torch.eye(2, 3)).softmax(-1)], 1))
    assert decoded(observe, None, x).names == ("x[0]", "x[1]", "x[2]", "x[3]")
    seen = observed_features(Program(observe, names), Batch(x=x)).values
    expected = torch.tensor([[0.3, 0, 0, 1], [math.nan] * 4, [1, 1, 0, 0], [2, 0, 1, 0], [0, 1, 0, 0]])
    torch.testing.assert_close(seen, expected, equal_nan=True)


def test_totals_of_multinomial_counts_are_those_of_the_data():
    def observe(z, x):
        pyro.sample("x", MultinomialCounts(x.sum(-1), z), obs=x)

    x = torch.tensor([[1.0, 2], [0, 0], [3, 4], [5, 0], [0, 1]])
    found = decoded(observe, x=x)
    torch.testing.assert_close(found.values, x.sum(1, keepdim=True) * Z.softmax(-1))
    assert all(feature.counted for feature in found.features)


def test_names_of_the_data_where_the_model_has_none():
    program = Program(table)
    found = decode_features(program, {"z": Z}, X, ("a", "b"))
    assert found.names[:2] == ("a", "b")
    assert found.names[2:5] == ("colour = 0", "colour = 1", "colour = 2")
    assert decode_features(program, {"z": Z}, X, ("a", "b", "c")).names[:2] == ("numbers[0]", "numbers[1]")


def test_places_by_name():
    """Of two features of a name the second has a number."""
    found = decode_features(Program(table, {"numbers": ("colour", "age")}), {"z": Z}, X)
    assert found.by_name == {"colour": (0,), "age": (1,), "colour (2)": (2, 3, 4), "flag": (5,)}


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_channels_of_a_sequence(size, steps, width):
    mean = torch.arange(float(size * steps * width)).view(size, steps, width)
    lengths = torch.arange(size) % steps + 1

    def observe(z, x, lengths):
        inside = torch.arange(steps) < lengths[:, None]  # [B, T]
        pyro.sample("x", dist.Normal(mean, 1.0).to_event(1).mask(inside).to_event(1), obs=x)

    batch, names = Batch(x=mean + 1, lengths=lengths), tuple("abc"[:width])
    program = Program(observe, {"x": names})
    found = decode_features(program, {"z": torch.zeros(size, 2)}, batch)
    assert tuple(feature.name for feature in found.features) == names
    for at, feature in enumerate(found.features):
        assert feature.over_time is (steps > 1)
        assert found.of(feature).equal(mean[..., at])
    assert found.names[:2] == (("a[0]", "b[0]") if width > 1 else ("a[0]", "a[1]"))[:2] if steps > 1 else names[:2]
    seen = observed_features(program, batch)
    for at, feature in enumerate(seen.features):
        for row in range(size):
            own = seen.of(feature)[row]
            assert own[: lengths[row]].equal(mean[row, : lengths[row], at] + 1)
            assert own[lengths[row] :].isnan().all()


def test_a_mask_around_the_program():
    program = mask(Program(table, NAMES), mask=torch.tensor([True, False, True, True, True]))
    program.feature_names = NAMES
    assert observed_features(program, Batch(x=X)).values[1].isnan().all()


def test_several_categoricals_in_one_site():
    def observe(z, x):
        logits = torch.zeros(2, 3).expand(len(x), 2, 3)
        pyro.sample("kinds", dist.Categorical(logits=logits).to_event(1), obs=torch.tensor([[0, 2]]).expand(5, 2))

    names = {"kinds": ("left", "right")}
    assert [feature.name for feature in decoded(observe).features] == ["kinds[0]", "kinds[1]"]
    assert decoded(observe, names).features[1] == Feature("right", (3, 4, 5), ("0", "1", "2"))
    assert observed_features(Program(observe, names), Batch(x=X)).values[0].tolist() == [1, 0, 0, 0, 0, 1]


def test_covariates_reach_the_model():
    def observe(z, x, library):
        pyro.sample("x", dist.Poisson(library[:, None] * z.exp()).to_event(1), obs=x.abs().round())

    library = torch.arange(1.0, 6)
    torch.testing.assert_close(decoded(observe, library=library).values, library[:, None] * Z.exp())


def test_a_program_without_plates():
    def program(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(torch.tensor([1.0, 2.0]), 1.0).to_event(1), obs=x)
        pyro.factor("penalty", z.sum())

    found = decode_features(program, {"z": Z}, Batch(x=X))
    assert found.values.equal(torch.tensor([[1.0, 2.0]]).expand(5, 2))
    assert observed_features(program, Batch(x=X)).values.equal(X)


def test_units_of_the_columns():
    columns = [SimpleNamespace(name=name, mean=mean, scale=2.0) for name, mean in (("age", 40.0), ("colour", 9.0))]
    found = decoded(table, NAMES)
    expected = found.values.double()
    expected[:, 0] = 40 + 2 * expected[:, 0]
    torch.testing.assert_close(found.in_units(columns).values, expected)
    (now,) = [SimpleNamespace(name="age", mean=1.7e9, scale=60.0)]  # a time in seconds, to the second
    expected[:, 0] = 1.7e9 + 60 * found.values[:, 0].double()
    torch.testing.assert_close(found.in_units([now]).values[:, 0], expected[:, 0], rtol=0, atol=0.01)
    assert found.values[:, 0].equal(3 * Z[:, 0])  # as it was


SHIPPED = {
    "columns": ["height", "colour", "smokes", "visits", "weight", "year", "city", "children"],
    **{"words": list("abcde"), "genes": list("abcde"), "series": list("uvw")},
}


@pytest.mark.parametrize("kind", SHIPPED)
def test_shipped_observation_parts(kind):
    """Names and shapes are those of the data; what is observed is read as it stands."""
    data = data_of(kind)
    program = StructuredModel(Independent({"z": 2}, {}), OBSERVATIONS[kind](), data)
    batch = data.batch(torch.arange(len(data)))
    found = decode_features(program, {"z": torch.randn(len(data), 2)}, batch)
    assert [feature.name for feature in found.features] == SHIPPED[kind]
    assert found.values.isfinite().all()
    assert all(feature.over_time for feature in found.features) == (kind == "series")
    assert all(feature.counted for feature in found.features) == (kind in ("words", "genes"))
    seen = observed_features(program, batch)
    assert seen.features == found.features
    if kind == "columns":
        assert found.features[1].labels == ("red", "green", "blue")
        assert found.of(found.features[1]).sum(1).allclose(torch.ones(len(data)))
        height, colour = batch.x[:, 0], batch.x[:, 1]
        assert seen.values[:, 0].allclose(height, equal_nan=True)
        known = colour.isfinite()
        assert seen.of(seen.features[1])[known].argmax(1).equal(colour[known].long())
    elif kind == "series":
        here = torch.arange(4) < batch["lengths"][:, None]
        for at, feature in enumerate(seen.features):
            assert seen.of(feature)[here].equal(batch.x[..., at][here])
            assert seen.of(feature)[~here].isnan().all()
    else:
        assert seen.values.equal(batch.x)


def test_images_have_no_features():
    def observe(z, x):
        pyro.sample("x", dist.Normal(torch.zeros(5, 1, 2, 2), 1.0).to_event(3), obs=torch.zeros(5, 1, 2, 2))

    with pytest.raises(ValueError, match=r"none of the model's observed sites has features: a mean of shape \[B\]"):
        decoded(observe)


def test_names_that_do_not_fit():
    with pytest.raises(ValueError, match="model.feature_names has 1 names for site 'numbers', which has 2 features"):
        decoded(table, {"numbers": ("age",)})


def test_a_mean_that_is_not_known():
    flow = dist.TransformedDistribution(dist.Normal(torch.zeros(5), 1.0), dist.transforms.TanhTransform())
    with pytest.raises(ValueError, match="the mean of observed site 'x', TransformedDistribution, is not known"):
        decoded(lambda z, x: pyro.sample("x", flow, obs=x[:, 0].tanh()))
