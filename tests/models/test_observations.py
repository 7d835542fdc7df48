"""Observation parts against closed forms, and what does not fit."""

import math

import numpy as np
import pyro
import pytest
import torch
from any_data import COLUMNS, Column, Given, data_of, small, small_images, table
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from scipy import stats
from torch.nn.functional import softplus

from pyro_hfvae.models import Columns, GeneCounts, Independent, Pixels, Series, StructuredModel, WordCounts

SIZES = {"z": 2}


@pytest.fixture(autouse=True)
def _fresh():
    pyro.clear_param_store()
    torch.manual_seed(0)


def composed(observation, data):
    return StructuredModel(Independent(SIZES, {}), observation, data)


def observed(model, batch):
    """The observed site, in float64, and the decoder's output there."""
    model = model.double()
    values = {name: value.double() for name, value in batch.items()}
    outputs = []
    hook = model.observation.decoder.register_forward_hook(lambda *call: outputs.append(call[-1].detach()))
    trace = poutine.trace(model).get_trace(values.pop("x"), **values)
    hook.remove()
    trace.compute_log_prob()
    return trace.nodes["x"], outputs[0]


def scale(parameter, floor=0.01):
    return (softplus(parameter) + floor).detach().numpy()


FAMILIES = {"weight": "student_t", "children": "poisson"}


@settings(deadline=None, max_examples=15)
@given(size=st.integers(1, 5), seed=st.integers(0, 99), missing=st.sampled_from([0.0, 0.3, 1.0]))
def test_each_column_has_the_likelihood_of_its_kind(size, seed, missing):
    """One by one by SciPy; a missing cell has none."""
    torch.manual_seed(seed)
    x = table(size, missing, seed)
    observation = Columns(small, FAMILIES)
    site, f = observed(composed(observation, Given(x, COLUMNS)), Given(x, COLUMNS).batch(torch.arange(size)))
    free = {name: scale(parameter) for name, parameter in observation.free.items()}
    df = 2 + scale(observation.free["degrees_of_freedom"], 0)
    logits = {"colour": f[:, 1:4].log_softmax(-1).numpy(), "city": f[:, 8:10].log_softmax(-1).numpy()}
    f = f.numpy()
    theta, rate = free["negative_binomial"], np.exp(f[:, 5])
    by_column = {
        "height": lambda b, v: stats.norm.logpdf(v, f[b, 0], free["normal"][0]),
        "colour": lambda b, v: logits["colour"][b, int(v)],
        "smokes": lambda b, v: stats.bernoulli.logpmf(v, 1 / (1 + math.exp(-f[b, 4]))),
        "visits": lambda b, v: stats.nbinom.logpmf(v, theta[0], theta[0] / (theta[0] + rate[b])),
        "weight": lambda b, v: stats.t.logpdf(v, df[0], f[b, 6], free["student_t"][0]),
        "year": lambda b, v: stats.norm.logpdf(v, f[b, 7], free["normal"][1]),
        "city": lambda b, v: logits["city"][b, int(v)],
        "children": lambda b, v: stats.poisson.logpmf(v, math.exp(f[b, 10])),
    }
    cells = [
        [0.0 if math.isnan(v) else float(by_column[c.name](b, v)) for c, v in zip(COLUMNS, row, strict=True)]
        for b, row in enumerate(x.tolist())
    ]
    expected = torch.tensor(cells, dtype=torch.float64)
    torch.testing.assert_close(site["fn"].cell_log_prob(x.double()), expected, rtol=1e-6, atol=1e-6)  # x is float32
    torch.testing.assert_close(site["log_prob"], expected.sum(1), rtol=1e-6, atol=1e-6)


def test_genes_are_negative_binomial_with_the_library_as_total():
    data = data_of("genes")
    observation = GeneCounts(small)
    with_library = composed(observation, data)
    with torch.no_grad():
        observation.dispersion.normal_()
    batch = data.batch(torch.arange(6))
    site, logits = observed(with_library, batch)
    mean = batch["library"][:, None].double() * logits.softmax(-1)
    theta = scale(observation.dispersion, 1e-6)
    expected = stats.nbinom.logpmf(batch.x.numpy(), theta, theta / (theta + mean.numpy())).sum(1)
    np.testing.assert_allclose(site["log_prob"].detach(), expected, rtol=1e-9)
    torch.testing.assert_close(site["fn"].mean, mean)
    np.testing.assert_allclose(site["fn"].variance.detach(), (mean + mean**2 / torch.tensor(theta)).numpy())
    del batch["library"]
    torch.manual_seed(0)
    by_sum, logits = observed(with_library, batch)
    torch.testing.assert_close(by_sum["fn"].mean, batch.x.sum(-1, keepdim=True) * logits.softmax(-1))


def test_an_empty_cell_has_a_finite_density():
    data = Given(torch.zeros(2, 5), library=torch.zeros(2))
    for observation in (GeneCounts(small), WordCounts(small)):
        model = composed(observation, data)
        site, _ = observed(model, data.batch([0, 1]))
        assert site["log_prob"].isfinite().all()
        site["log_prob"].sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_words_are_multinomial():
    data = data_of("words")
    site, logits = observed(composed(WordCounts(small), data), data.batch(torch.arange(6)))
    x = data.batch(torch.arange(6)).x.numpy()
    expected = [
        stats.multinomial.logpmf(row, row.sum(), p) for row, p in zip(x, logits.softmax(-1).numpy(), strict=True)
    ]
    np.testing.assert_allclose(site["log_prob"].detach(), expected, rtol=1e-9)


@settings(deadline=None, max_examples=15)
@given(size=st.integers(1, 4), steps=st.integers(1, 5), variables=st.integers(1, 3), seed=st.integers(0, 99))
def test_sequences_count_up_to_their_length(size, steps, variables, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, steps, variables, generator=generator)
    lengths = torch.randint(1, steps + 1, (size,), generator=generator)
    missing = torch.rand(x.shape, generator=generator) < 0.2
    data = Given(x.masked_fill(missing, torch.nan), lengths=lengths)
    observation = Series(small)
    model = composed(observation, data)
    site, means = observed(model, data.batch(torch.arange(size)))
    here = (torch.arange(steps) < lengths[:, None])[..., None] & ~missing
    each = stats.norm.logpdf(x.numpy(), means.numpy(), scale(observation.scales))
    np.testing.assert_allclose(site["log_prob"].detach(), np.where(here, each, 0.0).sum((1, 2)), rtol=1e-5, atol=1e-5)
    site["log_prob"].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_sequences_without_lengths_are_whole():
    data = Given(torch.randn(3, 4, 2))
    observation = Series(small)
    site, means = observed(composed(observation, data), data.batch([0, 1, 2]))
    each = stats.norm.logpdf(data.batch([0, 1, 2]).x.numpy(), means.numpy(), scale(observation.scales))
    np.testing.assert_allclose(site["log_prob"].detach(), each.sum((1, 2)), rtol=1e-6)


@pytest.mark.parametrize("kind", [WordCounts, GeneCounts, Columns, Series, Pixels])
def test_the_decoder_is_given_covariates(kind):
    name = {"WordCounts": "words", "GeneCounts": "genes", "Columns": "columns", "Series": "series"}
    data = data_of(name.get(kind.__name__, "pixels"))
    made = {}

    def images(latent_size, blocks, image_shape):
        made.update(blocks)
        return small_images(latent_size, image_shape)

    def dense(latent_size, blocks, outputs, length=None):
        made.update(blocks)
        return small(latent_size, outputs, length)

    model = composed(kind(images if kind is Pixels else dense, given=["batch"]), data)
    assert made == {"z": 2, "batch": 2}
    batch = data.batch([0, 0])
    batch["batch"] = torch.eye(2)
    values = {"z": torch.zeros(2, 2)}
    outputs = model.observation.decode(values, batch.others)
    assert not outputs[0].equal(outputs[1])
    particles = model.observation.decode({"z": torch.zeros(3, 2, 2)}, batch.others)
    torch.testing.assert_close(particles[1], outputs)


def test_feature_names():
    assert composed(WordCounts(small), data_of("words")).feature_names == {"x": tuple("abcde")}
    assert composed(Series(small), data_of("series")).feature_names == {"x": tuple("uvw")}
    assert composed(WordCounts(small), Given(torch.ones(2, 3))).feature_names == {}
    assert composed(Pixels(small_images), data_of("pixels")).feature_names == {}


@pytest.mark.parametrize(
    ("observation", "data", "message"),
    [
        (lambda: Pixels(small), "genes", r"Pixels are for images \[C, H, W\], but a datum has the shape \(5,\)"),
        (lambda: Series(small), "pixels",
         r"Series need data that are sequences \[T, V\], got a datum of the shape \(2, 3, 4\)"),
        (lambda: Series(small), None, r"Series need data that are sequences \[T, V\], got none"),
        (lambda: WordCounts(small), "series",
         r"WordCounts need data that are counts \[V\], got a datum of the shape \(4, 3\)"),
        (lambda: GeneCounts(small), None, r"GeneCounts need data that are counts \[V\], got none"),
        (lambda: Columns(small), "genes",
         "a likelihood for each column needs data with columns, a table; got Given, a datum of which has the shape "
         r"\(5,\)"),
        (lambda: Columns(small), None, "a likelihood for each column needs data with columns, a table; got no data"),
        (
            lambda: Columns(small, {"size": "poisson"}),
            "columns",
            "likelihoods name the column 'size', which is not there; those are: height, colour, smokes, visits, "
            "weight, year, city, children",
        ),
        (
            lambda: Columns(small, {"smokes": "normal"}),
            "columns",
            "column 'smokes' is a flag and cannot be 'normal'; it can be: bernoulli",
        ),
        (lambda: Pixels(small_images, given=["age"]), "pixels", "the data have no covariate 'age'; they have: batch"),
        (lambda: Pixels(lambda size: None), "pixels", "the decoder must make a torch.nn.Module, got NoneType"),
    ],
)  # fmt: skip
def test_data_that_do_not_fit(observation, data, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        composed(observation(), data and data_of(data))


def test_a_covariate_with_the_name_of_a_site():
    message = "^the covariate 'batch' has the name of a latent site: rename the site$"
    with pytest.raises(ValueError, match=message):
        StructuredModel(Independent({"batch": 2}, {}), GeneCounts(small, ["batch"]), data_of("genes"))


def test_a_column_of_an_unknown_kind():
    data = Given(torch.zeros(2, 1), (Column("name", "text"),))
    with pytest.raises(
        ValueError, match=r"^column 'name' is of the kind 'text'; known are: number, time, flag, category"
    ):
        composed(Columns(small), data)


@pytest.mark.parametrize(
    ("kind", "observation", "other", "message"),
    [
        ("pixels", lambda: Pixels(lambda size: small_images(size, (1, 3, 4))), None,
         r"the decoder's output has the shape \(1, 3, 4\), but data of the shape \(2, 3, 4\) need \(2, 3, 4\)"),
        ("pixels", lambda: Pixels(small_images), (6, 1, 3, 4),
         r"the decoder's output has the shape \(2, 3, 4\), but data of the shape \(1, 3, 4\) need \(1, 3, 4\)"),
        ("columns", lambda: Columns(lambda size: small(size, 3)), None,
         r"the decoder's output has the shape \(3,\), but data of the shape \(8,\) need \(11,\)"),
        ("columns", lambda: Columns(small), (6, 7), "the model is of 8 columns, but the data have 7"),
        ("words", lambda: WordCounts(small), (6, 4),
         r"the decoder's output has the shape \(5,\), but data of the shape \(4,\)"),
        ("series", lambda: Series(small), (6, 5, 3),
         r"the decoder's output has the shape \(4, 3\), but data of the shape \(5, 3\) need \(5, 3\)"),
    ],
)  # fmt: skip
def test_decoders_and_batches_of_another_shape(kind, observation, other, message):
    """A decoder of one channel would train on colour images in silence, were it not for this."""
    data = data_of(kind)
    model = composed(observation(), data)
    x = data.batch(torch.arange(6)).x if other is None else torch.zeros(other)
    with pytest.raises(ValueError, match=f"^{message}"):
        model(x)
