"""Decoders of sequences."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pyro_hfvae.models import ConvSequenceDecoder, RecurrentDecoder

DECODERS = (RecurrentDecoder, ConvSequenceDecoder)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("decoder", DECODERS)
@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 300), outputs=st.integers(1, 4), batch=st.integers(1, 3))
def test_any_length(decoder, length, outputs, batch):
    network = decoder(2, length, outputs, 3)
    assert network(torch.randn(batch, 2)).shape == (batch, length, outputs)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("length", [1, 7, 8, 9, 31, 100])
def test_every_step_depends_on_the_latents(decoder, length):
    network = decoder(2, length, 3, 8).double()
    z = torch.randn(20, 2).double().requires_grad_()
    for step in network(z).abs().sum((0, 2)):
        (gradient,) = torch.autograd.grad(step, z, retain_graph=True)
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("leading", [(), (1,), (0,), (3, 2), (2, 1, 4)])
def test_leading_dimensions(decoder, leading):
    network, z = decoder(2, 9, 3, 4).double(), torch.randn(*leading, 2).double()
    steps = network(z)
    assert steps.shape == (*leading, 9, 3)
    torch.testing.assert_close(steps, network(z.reshape(-1, 2)).reshape(steps.shape))


def test_a_recurrent_decoder_is_its_recurrence():
    """Cho et al. (2014), as in the documentation of ``torch.nn.GRU``, step by step."""
    network = RecurrentDecoder(2, 5, 3, 4).double()
    z = torch.randn(6, 2).double()
    gru = network.recurrent
    state, found = torch.tanh(z @ network.first.weight.T + network.first.bias), network(z)
    for step in range(5):
        of_z = (z @ gru.weight_ih_l0.T + gru.bias_ih_l0).chunk(3, 1)
        of_state = (state @ gru.weight_hh_l0.T + gru.bias_hh_l0).chunk(3, 1)
        reset, update = ((a + b).sigmoid() for a, b in zip(of_z[:2], of_state[:2], strict=True))
        state = (1 - update) * torch.tanh(of_z[2] + reset * of_state[2]) + update * state
        torch.testing.assert_close(found[:, step], state @ network.last.weight.T + network.last.bias)


def test_a_convolutional_decoder_is_its_layers():
    network = ConvSequenceDecoder(2, 21, 3, 4, 5)
    kinds = [type(layer) for layer in network.layers]
    dense = [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Unflatten]
    assert kinds == [*dense, nn.ConvTranspose1d, nn.ReLU, nn.ConvTranspose1d, nn.ReLU, nn.Conv1d]
    whole = network.layers(torch.ones(1, 2))
    assert whole.shape == (1, 3, 24)  # 6 places, doubled twice
    assert torch.equal(network(torch.ones(2))[:, 1], whole[0, 1, :21])


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", ["latent_size", "length", "outputs", "hidden"])
@pytest.mark.parametrize("size", [0, 2.0, None])
def test_sizes_that_are_refused(decoder, name, size):
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name} must be an integer of 1 or more, got {size}')}$"):
        decoder(**{"latent_size": 2, "length": 9, "outputs": 3, name: size})
