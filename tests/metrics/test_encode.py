"""The codes of a guide: posterior means and category probabilities, in the columns and blocks that are said."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_hfvae import Concrete
from pyro_hfvae.metrics import encode, encode_posteriors

X = torch.randn(11, 6, generator=torch.Generator().manual_seed(0))


def guide(x):
    """Means are the first columns, categories the last; scales are large, so that a sample would be seen."""
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x[:, :2], 5.0).to_event(1))
        pyro.sample("kind", Concrete(logits=x[:, 3:]))
        pyro.sample("w", dist.Normal(x[:, 2], 5.0))


def test_each_site_is_a_block_by_default():
    codes = encode(guide, [(X,)])
    assert codes.variables == ("z[0]", "z[1]", "kind", "w")
    assert codes.variable_columns == (slice(0, 1), slice(1, 2), slice(2, 5), slice(5, 6))
    assert codes.blocks == {"z": (0, 1), "kind": (2,), "w": (3,)}
    assert codes.block_columns("kind") == (2, 3, 4)


def test_columns_are_means_and_probabilities():
    columns = encode(guide, [(X,)]).columns
    assert columns.dtype == np.float64
    expected = torch.cat([X[:, :2], X[:, 3:].softmax(-1), X[:, 2:3]], -1)
    np.testing.assert_allclose(columns, expected, rtol=1e-6)


def test_a_layout_orders_the_variables_by_block():
    codes = encode(guide, [(X,)], {"late": ["w", "z[1]"], "early": ["kind", "z[0]"]})
    assert codes.variables == ("w", "z[1]", "kind", "z[0]")
    assert codes.blocks == {"late": (0, 1), "early": (2, 3)}
    assert codes.block_columns("late") == (0, 1)
    assert codes.block_columns("early") == (2, 3, 4, 5)
    expected = torch.cat([X[:, 2:3], X[:, 1:2], X[:, 3:].softmax(-1), X[:, :1]], -1)
    np.testing.assert_allclose(codes.columns, expected, rtol=1e-6)


@pytest.mark.parametrize("sizes", [[11], [4, 4, 3], [5, 5, 1], [1] * 11])
def test_batches_are_joined_in_order(sizes):
    codes = encode(guide, ((batch,) for batch in X.split(sizes)))
    np.testing.assert_array_equal(codes.columns[:, :2], X[:, :2])
    assert codes.columns.shape == (11, 6)


def test_several_categoricals_of_one_site():
    def pairs(x):
        with pyro.plate("data", len(x)):
            pyro.sample("kinds", Concrete(logits=x.view(-1, 2, 3)).to_event(1))

    codes = encode(pairs, [(X,)])
    assert codes.variables == ("kinds[0]", "kinds[1]")
    assert codes.variable_columns == (slice(0, 3), slice(3, 6))
    np.testing.assert_allclose(codes.columns, X.view(-1, 2, 3).softmax(-1).flatten(1), rtol=1e-6)


def test_every_argument_reaches_the_guide():
    def shifted(x, y):
        pyro.sample("z", dist.Normal(x[:, 0] + y, 1.0))

    np.testing.assert_allclose(encode(shifted, [(X, 3.0)]).columns[:, 0], X[:, 0] + 3, rtol=1e-6)


def test_parameters_get_no_gradient_and_may_need_one():
    weight = torch.ones(2, requires_grad=True)

    def learned(x):
        pyro.sample("z", dist.Normal(x[:, :2] * weight, 1.0).to_event(1))

    np.testing.assert_array_equal(encode(learned, [(X,)]).columns, X[:, :2])
    assert weight.grad is None


def test_a_layout_that_does_not_fit():
    with pytest.raises(ValueError, match="site 'w' has variables in no block: w"):
        encode(guide, [(X,)], {"a": ["z", "kind"]})


def test_posterior_parameters_are_those_of_the_guide():
    posteriors = encode_posteriors(
        guide, ((batch,) for batch in X.split(4)), {"late": ["w", "z[1]"], "early": ["kind", "z[0]"]}
    )
    assert posteriors.blocks == {"late": ("w", "z[1]"), "early": ("kind", "z[0]")}
    np.testing.assert_allclose(posteriors.normal["z[1]"][0], X[:, 1], rtol=1e-6)
    np.testing.assert_array_equal(posteriors.normal["w"][1], 5.0)
    np.testing.assert_allclose(posteriors.categorical["kind"], X[:, 3:].softmax(-1), rtol=1e-6)


def test_other_posteriors_have_no_parameters_here():
    def gamma(x):
        with pyro.plate("data", len(x)):
            pyro.sample("g", dist.Gamma(x[:, 0].exp(), 1.0))

    with pytest.raises(ValueError, match="site 'g' is neither normal nor categorical"):
        encode_posteriors(gamma, [(X,)])


def test_posteriors_that_depend_on_a_sample_have_no_parameters_here():
    """N(z; x + y, 1) with a drawn y is not q(z|x), which is wider."""

    def chained(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Normal(x[:, 0], 1.0))
            pyro.sample("z", dist.Normal(x[:, 1] + y, 1.0))

    with pytest.raises(ValueError, match="site 'z' of the guide depends on 'y': its parameters at one sample are not"):
        encode_posteriors(chained, [(X,)])


def test_looking_for_dependence_draws_nothing_from_the_random_stream():
    torch.manual_seed(3)
    encode_posteriors(guide, [(X,)])
    after = torch.rand(1)
    torch.manual_seed(3)
    encode(guide, [(X,)])
    assert after == torch.rand(1)
