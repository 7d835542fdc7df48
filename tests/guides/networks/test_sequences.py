"""Encoders of sequences: what lies beyond the end of each does not count."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv1d

from pyro_hfvae.guides import ConvSequenceEncoder, RecurrentEncoder

NETWORKS = {
    "recurrent": lambda inputs, length: RecurrentEncoder(inputs, 3),
    "convolutional": lambda inputs, length: ConvSequenceEncoder(inputs, length, 4, 5),
}
EACH = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@EACH
@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 200), inputs=st.integers(1, 4), batch=st.integers(1, 3))
def test_any_length(make, length, inputs, batch):
    network, x = make(inputs, length), torch.randn(batch, length, inputs)
    lengths = torch.randint(1, length + 1, (batch,))
    assert (
        network(x).shape == network(x, lengths).shape == network(x, lengths=lengths).shape == (batch, network.features)
    )


@EACH
@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 11), min_size=1, max_size=5))
def test_what_lies_beyond_the_end_does_not_count(make, lengths):
    network, lengths = make(2, 11).double(), torch.tensor(lengths)
    zeros, random, nan = torch.randn(3, len(lengths), 11, 2).double()
    for row, length in enumerate(lengths):
        random[row, :length] = nan[row, :length] = zeros[row, :length]
        zeros[row, length:], nan[row, length:] = 0.0, torch.nan
    expected = network(zeros, lengths)
    assert torch.equal(network(random, lengths), expected)
    assert torch.equal(network(nan, lengths), expected)
    nan.requires_grad_()
    network(nan, lengths).square().sum().backward()
    assert nan.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    for row, length in enumerate(lengths):
        assert not nan.grad[row, length:].any()


@EACH
def test_every_step_before_the_end_counts(make):
    network, lengths = make(2, 21).double(), torch.tensor([1, 2, 20, 21])
    x = torch.randn(4, 21, 2).double().requires_grad_()
    for parameter in network.parameters():
        parameter.data.abs_().add_(0.01)  # nothing cancels, and no rectifier is closed
    network(x.abs(), lengths).sum().backward()
    assert torch.equal(x.grad.any(-1), torch.arange(21) < lengths[:, None])


@EACH
def test_the_data_of_a_batch_are_read_apart(make):
    network, x, lengths = make(2, 11).double(), torch.randn(5, 11, 2).double(), torch.tensor([3, 11, 1, 7, 7])
    one_by_one = torch.cat([network(x[i : i + 1], lengths[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(network(x, lengths), one_by_one)


@EACH
def test_lengths_of_t_are_none(make):
    network, x = make(2, 11).double(), torch.randn(5, 11, 2).double()
    torch.testing.assert_close(network(x, torch.full((5,), 11)), network(x))


@EACH
def test_the_order_and_the_length_count(make):
    network, x = make(2, 11).double(), torch.randn(5, 11, 2).double()
    assert not torch.isclose(network(x.flip(1)), network(x)).all(-1).any()
    zeros = torch.zeros(2, 11, 2).double()
    assert not torch.allclose(*network(zeros, torch.tensor([5, 9])))


def test_the_last_states_are_those_of_each_sequence_alone():
    """Cho et al. (2014), as in the documentation of ``torch.nn.GRU``, step by step, forwards and backwards."""
    network, lengths = RecurrentEncoder(2, 3).double(), torch.tensor([4, 1, 6])
    x, gru = torch.randn(3, 6, 2).double(), network.recurrent
    for row, length in enumerate(lengths):
        states = []
        for suffix, steps in (("l0", x[row, :length]), ("l0_reverse", x[row, :length].flip(0))):
            w_x, w_h, b_x, b_h = (
                getattr(gru, f"{n}_{suffix}") for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            state = torch.zeros(3).double()
            for step in steps:
                of_x, of_h = (w_x @ step + b_x).chunk(3), (w_h @ state + b_h).chunk(3)
                reset, update = (of_x[0] + of_h[0]).sigmoid(), (of_x[1] + of_h[1]).sigmoid()
                state = (1 - update) * torch.tanh(of_x[2] + reset * of_h[2]) + update * state
            states.append(state)
        torch.testing.assert_close(network(x, lengths)[row], torch.cat(states))


def test_convolutions_by_hand():
    network, lengths = ConvSequenceEncoder(2, 9, 3, 4).double(), torch.tensor([5, 9])
    x = torch.randn(2, 9, 2).double()
    steps = torch.zeros(2, 3, 9).double()
    for row, length in enumerate(lengths):
        steps[row, :2, :length], steps[row, 2, :length] = x[row, :length].T, 1.0
    first, _, second, _, _, dense, _ = network.layers
    steps = conv1d(steps, first.weight, first.bias, padding=1).relu()
    steps = conv1d(steps, second.weight, second.bias, stride=2, padding=1).relu()  # [2, 3, 4]
    expected = (steps.flatten(1) @ dense.weight.T + dense.bias).relu()
    torch.testing.assert_close(network(x, lengths), expected)


@EACH
@pytest.mark.parametrize("shape", [(2, 11, 3), (2, 11), (2, 1, 11, 2)])
def test_sequences_of_another_shape_are_refused(make, shape):
    message = rf"^the encoder takes sequences \[B, (T|11), 2\], got {re.escape(str(list(shape)))}$"
    with pytest.raises(ValueError, match=message):
        make(2, 11)(torch.zeros(shape))


def test_sequences_of_another_length_are_refused_by_convolutions():
    with pytest.raises(ValueError, match=r"^the encoder takes sequences \[B, 11, 2\], got \[3, 12, 2\]$"):
        ConvSequenceEncoder(2, 11)(torch.zeros(3, 12, 2))
    assert RecurrentEncoder(2, 4)(torch.zeros(3, 12, 2)).shape == (3, 8)


@EACH
@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([0, 3], "lengths must be from 1 to 11, got 0 to 3"),
        ([1, 12], "lengths must be from 1 to 11, got 1 to 12"),
        ([1, 2, 3], "lengths must be [2], one for each sequence, got [3]"),
    ],
)
def test_lengths_that_do_not_fit(make, lengths, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make(2, 11)(torch.zeros(2, 11, 2), torch.tensor(lengths))


@pytest.mark.parametrize(
    ("encoder", "names"),
    [(RecurrentEncoder, ["inputs", "hidden"]), (ConvSequenceEncoder, ["inputs", "length", "width", "hidden"])],
)
def test_sizes_that_are_refused(encoder, names):
    sizes = dict.fromkeys(names, 3)
    for name in names:
        with pytest.raises(ValueError, match=f"^{name} must be an integer of 1 or more, got 0$"):
            encoder(**sizes | {name: 0})
    with pytest.raises(ValueError, match=r"^inputs must be an integer of 1 or more, got None$"):
        encoder()
