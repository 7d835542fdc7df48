"""An encoder of sets: neither the order of the objects counts nor what is masked."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae.guides import SetEncoder

POOLINGS = ("sum", "mean", "max")
EACH = pytest.mark.parametrize("pooling", POOLINGS)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def small(pooling):
    return SetEncoder(2, (5, 4), 3, pooling).double()


@EACH
@settings(max_examples=25, deadline=None)
@given(batch=st.integers(1, 4), data=st.data(), count=st.integers(1, 9))
def test_the_order_of_the_objects_does_not_count(pooling, batch, count, data):
    network, x, mask = small(pooling), torch.randn(batch, count, 2).double(), torch.rand(batch, count) > 0.3
    order = torch.tensor(data.draw(st.permutations(range(count))))
    torch.testing.assert_close(network(x[:, order]), network(x))
    torch.testing.assert_close(network(x[:, order], mask=mask[:, order]), network(x, mask=mask))


@EACH
def test_by_hand(pooling):
    network, x = small(pooling), torch.randn(6, 7, 2).double()
    mask = torch.rand(6, 7) > 0.4
    mask[0] = False
    found = network(x, mask=mask)
    for row in range(6):
        objects = [network.of_object(x[row, i]) for i in range(7) if mask[row, i]]
        pooled = torch.zeros(4).double()
        if objects:
            stacked = torch.stack(objects)
            pooled = {"sum": stacked.sum(0), "mean": stacked.mean(0), "max": stacked.max(0).values}[pooling]
        torch.testing.assert_close(found[row], network.of_set(pooled))


@EACH
def test_what_is_masked_does_not_count(pooling):
    network, x = small(pooling), torch.randn(6, 7, 2).double()
    mask = torch.rand(6, 7) > 0.4
    other = x.clone()
    other[~mask] = torch.nan
    assert torch.equal(network(other, mask=mask), network(x, mask=mask))
    other.requires_grad_()
    network(other, mask=mask).sum().backward()
    assert not other.grad[~mask].any()
    assert other.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@EACH
def test_lengths_are_a_mask(pooling):
    network, x, lengths = small(pooling), torch.randn(4, 7, 2).double(), torch.tensor([1, 7, 3, 6])
    mask = torch.arange(7) < lengths[:, None]
    assert torch.equal(network(x, lengths), network(x, mask=mask))
    assert torch.equal(network(x, lengths, mask.float()), network(x, mask=mask))
    without_first = torch.ones(4, 7).bool()
    without_first[:, 0] = False
    assert torch.equal(network(x, lengths, without_first), network(x, mask=mask & without_first))
    for row, length in enumerate(lengths):
        torch.testing.assert_close(network(x, lengths)[row], network(x[row : row + 1, :length])[0])


def test_only_a_sum_counts_the_objects():
    x = torch.randn(1, 5, 2).double()
    twice = torch.cat([x, x], 1)
    for pooling in POOLINGS:
        network = small(pooling)
        assert torch.allclose(network(twice), network(x)) == (pooling != "sum")


@EACH
@settings(max_examples=15, deadline=None)
@given(batch=st.integers(1, 4), count=st.integers(1, 30), inputs=st.integers(1, 4))
def test_any_number_of_objects(pooling, batch, count, inputs):
    network = SetEncoder(inputs, (3,), 2, pooling)
    assert network(torch.randn(batch, count, inputs)).shape == (batch, 2) == (batch, network.features)


@EACH
def test_every_object_and_parameter_counts(pooling):
    network, x = small(pooling), torch.randn(20, 4, 2).double().requires_grad_()
    network(x).square().sum().backward()
    assert x.grad.any(-1).any(0).all()
    assert all(parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("x", "mask", "message"),
    [
        ((3, 4, 3), None, "the encoder takes sets [B, M, 2], got [3, 4, 3]"),
        ((3, 2), None, "the encoder takes sets [B, M, 2], got [3, 2]"),
        ((3, 4, 2), (3, 5), "mask must be [3, 4], as the objects are, got [3, 5]"),
        ((3, 4, 2), (4,), "mask must be [3, 4], as the objects are, got [4]"),
        ((3, 4, 2), (3, 4, 1), "mask must be [3, 4], as the objects are, got [3, 4, 1]"),
    ],
)
def test_shapes_that_do_not_fit(x, mask, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        small("sum")(torch.zeros(x).double(), mask=None if mask is None else torch.ones(mask))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": 0}, "inputs must be an integer of 1 or more, got 0"),
        ({"inputs": None}, "inputs must be an integer of 1 or more, got None"),
        ({"features": 0}, "features must be an integer of 1 or more, got 0"),
        ({"hidden": (3, 0)}, "each layer of hidden must have 1 unit or more, got [3, 0]"),
        ({"hidden": ()}, "hidden must have one layer or more, got none"),
        ({"pooling": "median"}, "pooling must be sum, mean or max, got 'median'"),
    ],
)
def test_options_that_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SetEncoder(**{"inputs": 2} | options)
