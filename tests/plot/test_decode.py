"""Pictures of chosen latents, by a decoder whose pictures are known."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.nn.functional import one_hot

from pyro_hfvae import Concrete
from pyro_hfvae.blocks import Variable, resolve_blocks
from pyro_hfvae.plot import decode, posterior_modes, sample, traverse

STEPS = [-2.0, 0.0, 1.0, 2.0]
X = torch.randn(7, 1, 2, 3, generator=torch.Generator().manual_seed(0))


def paint(z, w, kind):
    """An image [B, 1, 2, 3] with a pixel for each number: z and w above, the categories below."""
    return torch.cat([z, w, kind], -1).view(-1, 1, 2, 3)


def model(x):
    """Images are normal about what is painted."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        kind = pyro.sample("kind", Concrete(logits=torch.zeros(3)))
        pyro.sample("label", dist.Categorical(logits=torch.zeros(len(x), 4)), obs=torch.zeros(len(x)))
        pyro.sample("x", dist.Normal(paint(z, w[:, None], kind), 0.1).to_event(3), obs=x)


def guide(x):
    """Posterior means are pixels of the upper row, categories those of the lower; scales are large."""
    upper, lower = x.squeeze(1).unbind(1)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(upper[:, :2], 3.0).to_event(1))
        pyro.sample("w", dist.Normal(upper[:, 2], 3.0))
        pyro.sample("kind", Concrete(logits=lower))


def expected_modes(x):
    upper, lower = x.squeeze(1).unbind(1)
    return {"z": upper[:, :2], "w": upper[:, 2], "kind": one_hot(lower.argmax(-1), 3).float()}


def test_modes_are_means_and_likeliest_categories():
    modes, discrete = posterior_modes(guide, X)
    assert discrete == {"kind"}
    assert modes.keys() == expected_modes(X).keys()
    assert all(modes[name].equal(value) for name, value in expected_modes(X).items())


def test_reconstructions_are_the_mean_image_of_the_modes():
    modes, _ = posterior_modes(guide, X)
    upper, lower = decode(model, modes, X).squeeze(1).unbind(1)
    assert upper.equal(X[:, 0, 0])
    assert lower.equal(expected_modes(X)["kind"])


def test_the_image_does_not_depend_on_what_the_model_is_called_with():
    values = expected_modes(X)
    assert decode(model, values, X).equal(decode(model, values, torch.zeros_like(X)))


@pytest.mark.parametrize(
    ("place", "variable"), [(0, Variable("z", 0, "z[0]")), (1, Variable("z", 1, "z[1]")), (2, Variable("w", 0, "w"))]
)
def test_a_normal_variable_takes_the_steps_and_all_else_stays(place, variable):
    (label,), (row,) = traverse(model, guide, X, [variable], STEPS)
    assert label == variable.name
    assert row.shape == (4, 1, 2, 3)
    assert row[:, 0, 0, place].tolist() == STEPS
    typical = X[:, 0, 0].square().sum(1).argmin()  # the posterior means nearest to the prior's
    rest = [pixel for pixel in range(6) if pixel != place]
    shown = decode(model, expected_modes(X[typical : typical + 1]), X[:1]).flatten()
    assert row.flatten(1)[:, rest].equal(shown[rest].expand(4, -1))


def test_category_rows_change_only_the_category():
    labels, rows = traverse(model, guide, X, [Variable("kind", 0, "kind")], STEPS)
    assert labels == ["kind = 0", "kind = 1", "kind = 2"]
    for category, row in enumerate(rows):
        upper, lower = row.squeeze(1).unbind(1)
        assert upper.equal(X[:4, 0, 0])  # a datum for each column
        assert lower.equal(one_hot(torch.full((4,), category), 3).float())


def test_a_block_of_several_sites_has_the_rows_of_each():
    block = resolve_blocks({"a": ["w", "kind"], "b": ["z"]}, {"z": 2, "w": 1, "kind": 1}).blocks["a"]
    labels, rows = traverse(model, guide, X, block, STEPS)
    assert labels == ["w", "kind = 0", "kind = 1", "kind = 2"]
    assert rows[0][:, 0, 0, 2].tolist() == STEPS


def test_several_categoricals_of_one_site():
    """Of [B, 2, 3] one categorical is set, the other stays."""

    def pair_model(x):
        with pyro.plate("data", len(x)):
            kinds = pyro.sample("kinds", Concrete(logits=torch.zeros(2, 3)).to_event(1))
            pyro.sample("x", dist.Normal(kinds.unsqueeze(1), 0.1).to_event(3), obs=x)

    def pair_guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("kinds", Concrete(logits=x.squeeze(1)).to_event(1))

    labels, rows = traverse(pair_model, pair_guide, X, [Variable("kinds", 1, "kinds[1]")], STEPS)
    assert labels == ["kinds[1] = 0", "kinds[1] = 1", "kinds[1] = 2"]
    for category, row in enumerate(rows):
        assert row[:, 0, 0].equal(one_hot(X[:4, 0, 0].argmax(-1), 3).float())
        assert row[:, 0, 1].equal(one_hot(torch.full((4,), category), 3).float())


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
    assert not decode(model, posterior_modes(guide, x)[0], x).requires_grad
    assert not sample(model, x).requires_grad


@pytest.mark.parametrize("observed", [lambda x: x.flatten(1), lambda x: x[0, 0, 0, 0]])
def test_a_model_of_something_else_than_images(observed):
    def other(x):
        value = observed(x)
        pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
        pyro.sample("x", dist.Normal(torch.zeros_like(value), 1.0).to_event(value.dim()), obs=value)

    for pictures in (lambda: sample(other, X), lambda: decode(other, {"z": torch.zeros(7)}, X)):
        with pytest.raises(
            ValueError, match=r"none of the model's observed sites is an image with a mean of shape \[B"
        ):
            pictures()


def test_a_latent_of_four_dimensions_is_not_taken_for_the_image():
    def deep(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 1, 2, 3), 1.0).to_event(3))
        pyro.sample("x", dist.Normal(2 * z, 0.1).to_event(3), obs=x)

    assert decode(deep, {"z": X}, X).equal(2 * X)
