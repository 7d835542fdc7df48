"""Latents of images and images of latents, by a decoder whose pictures are known."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from painting import WIDTHS, X, expected_modes, guide, model

from pyro_hfvae import Concrete
from pyro_hfvae.blocks import Variable
from pyro_hfvae.models import CorrelatedModel, MixtureModel, MLPDecoder
from pyro_hfvae.paint import (
    LatentValues,
    decode,
    posterior_draws,
    posterior_modes,
    prior_modes,
    sample,
)


def test_modes_are_means_and_likeliest_categories():
    modes = posterior_modes(guide, X)
    assert modes.widths == WIDTHS
    assert modes.size == 7
    assert modes.values.keys() == expected_modes(X).keys()
    assert all(modes.values[name].equal(value) for name, value in expected_modes(X).items())


def test_reconstructions_are_the_mean_image_of_the_modes():
    upper, lower = decode(model, posterior_modes(guide, X).values, X).squeeze(1).unbind(1)
    assert upper.equal(X[:, 0, 0])
    assert lower.equal(expected_modes(X)["kind"])


def test_the_image_does_not_depend_on_what_the_model_is_called_with():
    values = expected_modes(X)
    assert decode(model, values, X).equal(decode(model, values, torch.zeros_like(X)))


def test_draws_are_those_of_the_posterior():
    torch.manual_seed(0)
    x = X[:1].expand(20_000, *X.shape[1:])
    draws = posterior_draws(guide, x)
    assert draws.widths == WIDTHS
    assert set(draws.values["kind"].unique().tolist()) == {0.0, 1.0}
    assert draws.values["kind"].sum(1).eq(1).all()
    mass = X[0, 0, 1].softmax(-1)
    error = (mass * (1 - mass) / len(x)).sqrt()
    assert ((draws.values["kind"].mean(0) - mass).abs() < 4 * error).all()  # four standard errors
    assert ((draws.values["z"].mean(0) - X[0, 0, 0, :2]).abs() < 4 * 3 / len(x) ** 0.5).all()
    assert ((draws.values["z"].std(0) - 3).abs() < 4 * 3 / (2 * len(x)) ** 0.5).all()


@pytest.mark.parametrize("relaxed", [True, False])
def test_bernoullis_are_0_or_1(relaxed):
    kind = (lambda p: dist.RelaxedBernoulli(torch.tensor(0.5), probs=p)) if relaxed else (lambda p: dist.Bernoulli(p))

    def switches(x):
        with pyro.plate("data", len(x)):
            pyro.sample("on", kind(x).to_event(1))

    x = torch.tensor([[0.2, 0.9]]).expand(4000, 2)
    assert posterior_modes(switches, x).values["on"][0].tolist() == [0.0, 1.0]
    torch.manual_seed(0)
    draws = posterior_draws(switches, x)
    assert draws.widths == {"on": 1}
    assert set(draws.values["on"].unique().tolist()) == {0.0, 1.0}
    assert ((draws.values["on"].mean(0) - x[0]).abs() < 4 * 0.5 / 4000**0.5).all()


def test_a_simplex_is_one_variable():
    def topics(x):
        with pyro.plate("data", len(x)):
            pyro.sample("topic", dist.Dirichlet(x))

    x = torch.tensor([[1.0, 2.0, 5.0]])
    modes = posterior_modes(topics, x)
    assert modes.widths == {"topic": 3}
    torch.testing.assert_close(modes.of(Variable("topic", 0, "topic")), x / 8)
    assert prior_modes(topics, x).widths == {"topic": 3}


def test_the_middle_of_the_prior():
    def prior(x):
        with pyro.plate("data", len(x)):
            scale = pyro.sample("scale", dist.LogNormal(torch.zeros(2), 1.0).to_event(1))
            kind = pyro.sample("kind", Concrete(logits=torch.tensor([0.0, 2.0, 1.0])))
            on = pyro.sample("on", dist.Bernoulli(torch.tensor([0.3, 0.6])).to_event(1))
            z = pyro.sample("z", dist.Normal(kind @ torch.tensor([1.0, 5.0, 9.0]) + on.sum(-1), 1.0))
            pyro.sample("x", dist.Normal(z + scale.sum(-1), 1.0), obs=x)

    middle = prior_modes(prior, torch.zeros(2))
    assert middle.widths == {"scale": 1, "kind": 3, "on": 1, "z": 1}
    torch.testing.assert_close(middle.values["scale"], torch.full((2, 2), 0.5).exp())
    assert middle.values["kind"].tolist() == [[0.0, 1.0, 0.0]] * 2
    assert middle.values["on"].tolist() == [[0.0, 1.0]] * 2
    assert middle.values["z"].tolist() == [6.0, 6.0]  # given the others: 5 + 1


def test_the_middle_of_a_prior_that_is_not_expanded_to_the_data():
    def prior(x):
        z = pyro.sample("z", dist.Normal(torch.tensor([1.0, 2.0]), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    assert prior_modes(prior, torch.zeros(3)).values["z"].tolist() == [[1.0, 2.0]] * 3


@pytest.mark.parametrize("kind", [MixtureModel, CorrelatedModel])
def test_the_middle_of_structured_priors(kind):
    torch.manual_seed(0)
    options = {"given": {"z": "y"}} if kind is MixtureModel else {}
    program = kind({"z": 2}, {"y": 3}, decoder=lambda size: MLPDecoder(size, (1, 2, 3), [4]), **options)
    middle = prior_modes(program, X[:1])
    expected = program.latents.means["z"][0] if kind is MixtureModel else torch.zeros(2)  # the first of like categories
    assert middle.values["z"][0].equal(expected.detach())
    assert decode(program, middle.values, X[:1]).shape == (1, 1, 2, 3)


def test_a_prior_without_a_known_mean():
    def prior(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.TransformedDistribution(dist.Normal(0.0, 1.0), dist.transforms.TanhTransform()))

    with pytest.raises(ValueError, match="site 'z' is TransformedDistribution in the model, whose mean is not known"):
        prior_modes(prior, torch.zeros(2))


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_values_of_variables_are_taken_and_replaced(size, count, width, seed):
    generator = torch.Generator().manual_seed(seed)
    site = torch.randn(size, count, width, generator=generator)
    plain = torch.randn(size, generator=generator)
    before = LatentValues({"s": site.squeeze(-1) if width == 1 else site, "p": plain}, {"s": width, "p": 1})
    index = seed % count
    variable = Variable("s", index, "s")
    assert before.of(variable).equal(site[:, index].squeeze(-1) if width == 1 else site[:, index])
    new = torch.randn(before.of(variable).shape, generator=generator)
    after = before.replaced({variable: new})
    assert after.of(variable).equal(new)
    for other in range(count):
        if other != index:
            assert after.of(Variable("s", other, "")).equal(before.of(Variable("s", other, "")))
    assert after.values["p"].equal(plain)
    assert before.values["s"].equal(site.reshape(before.values["s"].shape))  # as it was
    order = torch.randint(size, (3,), generator=generator)
    assert before.rows(order).of(variable).equal(before.of(variable)[order])
    assert LatentValues.joined([before, after]).of(variable).equal(torch.cat([before.of(variable), new]))


def test_samples_are_mean_images_of_the_prior():
    x = torch.zeros(4000, 1, 2, 3)
    torch.manual_seed(0)
    upper, lower = sample(model, x).squeeze(1).unbind(1)
    assert upper.mean(0).abs().max() < 0.1
    assert (upper.std(0) - 1).abs().max() < 0.1
    torch.testing.assert_close(lower.sum(1), torch.ones(4000))
    assert (lower.mean(0) - 1 / 3).abs().max() < 0.05


def test_nothing_is_differentiated():
    x = X.clone().requires_grad_()
    assert not decode(model, posterior_modes(guide, x).values, x).requires_grad
    assert not sample(model, x).requires_grad


def test_a_model_of_rows_of_numbers():
    def rows(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 1), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.expand(-1, 6), 1.0).to_event(1), obs=x.flatten(1))

    z = torch.arange(7.0)[:, None]
    assert decode(rows, {"z": z}, X).equal(z.expand(-1, 6))
    assert sample(rows, X).shape == (7, 6)


def test_a_model_without_a_mean():
    def label(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
        pyro.sample("x", dist.Categorical(logits=z[:, None].expand(-1, 3)), obs=torch.zeros(len(x)))

    for pictures in (lambda: sample(label, X), lambda: decode(label, {"z": torch.zeros(7)}, X)):
        with pytest.raises(ValueError, match="none of the model's observed sites has a mean"):
            pictures()


def test_a_latent_of_four_dimensions_is_not_taken_for_the_image():
    def deep(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 1, 2, 3), 1.0).to_event(3))
        pyro.sample("x", dist.Normal(2 * z, 0.1).to_event(3), obs=x)

    assert decode(deep, {"z": X}, X).equal(2 * X)
