"""Blocks are decoded apart and pooled."""

import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from torch import nn

from pyro_hfvae.factories import make
from pyro_hfvae.models import AdditiveDecoder, ConvDecoder, MLPDecoder, RecurrentDecoder

POOLINGS = ("sum", "logsumexp")
EACH = pytest.mark.parametrize("pooling", POOLINGS)
PIXELS = (1, 4, 5)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def dense(size):
    return MLPDecoder(size, PIXELS, (6,)).double()


def exchanged(network, sizes, which):
    """What a decoder gives for two latents, and for the two that have one block exchanged."""
    one, other = torch.randn(2, 7, sum(sizes.values())).double()
    place = list(sizes).index(which)
    chosen = torch.cat([torch.full((size,), i == place) for i, size in enumerate(sizes.values())])
    return [network(z) for z in (one, other, other.where(chosen, one), one.where(chosen, other))]


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4), data=st.data())
def test_sums_are_additive(sizes, data):
    r"""f(a, b) + f(a', b') = f(a, b') + f(a', b), for any of the blocks exchanged."""
    blocks = {f"block {i}": size for i, size in enumerate(sizes)}
    network = AdditiveDecoder(sum(sizes), blocks, dense)
    a_b, other, a_other, other_b = exchanged(network, blocks, data.draw(st.sampled_from(list(blocks))))
    torch.testing.assert_close(a_b + other, a_other + other_b, rtol=0, atol=1e-13)


def test_exponentials_are_additive_under_log_sum_exp():
    blocks = {"a": 2, "b": 1, "c": 3}
    a_b, other, a_other, other_b = exchanged(AdditiveDecoder(6, blocks, dense, "logsumexp"), blocks, "b")
    torch.testing.assert_close(a_b.exp() + other.exp(), a_other.exp() + other_b.exp())
    assert not torch.allclose(a_b + other, a_other + other_b)


def test_another_decoder_is_not_additive():
    blocks = {"a": 2, "b": 1, "c": 3}
    a_b, other, a_other, other_b = exchanged(dense(6), blocks, "b")
    assert not torch.allclose(a_b + other, a_other + other_b)


@EACH
def test_each_block_has_its_decoder(pooling):
    network, z = AdditiveDecoder(6, {"a": 2, "b": 1, "c": 3}, dense, pooling), torch.randn(4, 3, 6).double()
    a, b, c = network.blocks["a"](z[..., :2]), network.blocks["b"](z[..., 2:3]), network.blocks["c"](z[..., 3:])
    expected = a + b + c if pooling == "sum" else (a.exp() + b.exp() + c.exp()).log()
    assert network(z).shape == (4, 3, *PIXELS)
    torch.testing.assert_close(network(z), expected)


@EACH
def test_with_one_block_it_is_its_decoder(pooling):
    network, z = AdditiveDecoder(3, {"z": 3}, dense, pooling), torch.randn(4, 3).double()
    torch.manual_seed(0)
    assert torch.equal(network(z), dense(3)(z))


@EACH
def test_a_block_trains_its_decoder_alone(pooling):
    network, z = AdditiveDecoder(3, {"a": 2, "b": 1}, dense, pooling), torch.randn(4, 3).double().requires_grad_()
    network.blocks["a"].requires_grad_(False)
    network(z).sum().backward()
    assert z.grad.any(0).all()
    assert all(p.grad.any() for p in network.blocks["b"].parameters())
    assert all(p.grad is None for p in network.blocks["a"].parameters())


def test_the_sizes_reach_the_decoders_of_the_blocks():
    blocks = {"a": 2, "b": 1}
    network = AdditiveDecoder(3, blocks, ConvDecoder, channels=3, size=(16, 20))
    assert network(torch.zeros(2, 3)).shape == (2, 3, 16, 20)
    network = AdditiveDecoder(3, blocks, MLPDecoder, channels=3, size=(16, 20), image_shape=(3, 16, 20))
    assert network(torch.zeros(2, 3)).shape == (2, 3, 16, 20)
    network = AdditiveDecoder(3, blocks, RecurrentDecoder, length=7, outputs=4)
    assert network(torch.zeros(2, 3)).shape == (2, 7, 4)
    network = AdditiveDecoder(3, blocks, lambda size: nn.Linear(size, 4), length=7, outputs=5)
    assert network(torch.zeros(2, 3)).shape == (2, 4)


class Program(nn.Module):
    """A program that knows its blocks and the size of its images."""

    def __init__(self, decoder: Callable[[int], nn.Module] = ConvDecoder):
        super().__init__()
        self.decoder = make(decoder, 5, blocks={"z": 2, "y": 3}, channels=2, size=(16, 20))


@pytest.mark.parametrize("given", [{}, {"blocks": {"all": 5}, "channels": 3}])
def test_by_a_configuration(given):
    """Blocks and sizes are those of the program where the configuration does not give them."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Program, "program")
    inner = {"class_path": "pyro_hfvae.models.ConvDecoder", "init_args": {"width": 2, "hidden": 3}}
    options = {"decoder": inner, "pooling": "logsumexp", **given}
    outer = {"class_path": "pyro_hfvae.models.AdditiveDecoder", "init_args": options}
    decoder = parser.instantiate(parser.parse_object({"program": {"decoder": outer}})).program.decoder
    assert type(decoder) is AdditiveDecoder
    assert decoder.pooling == "logsumexp"
    assert decoder.sizes == given.get("blocks", {"z": 2, "y": 3})
    assert decoder(torch.zeros(2, 5)).shape == (2, given.get("channels", 2), 16, 20)
    assert all(block.layers[0].out_features == 3 for block in decoder.blocks.values())


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"a": 2, "b": 2}, "the sizes of the blocks {'a': 2, 'b': 2} must add up to 3, the latent vector's"),
        ({"a": 3, "b": 0}, "block 'b' must have 1 variable or category or more, got 0"),
        ({"a.b": 3}, "'a.b' cannot name a block: it is empty, has a dot or is a name of torch's own"),
        ({}, "blocks must name each block of the latent vector with its size, got none"),
        (None, "blocks must name each block of the latent vector with its size, got none"),
    ],
)
def test_blocks_that_are_refused(blocks, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        AdditiveDecoder(3, blocks, dense)


def test_a_pooling_that_is_none():
    with pytest.raises(ValueError, match=r"^pooling must be sum or logsumexp, got 'max'$"):
        AdditiveDecoder(3, {"a": 3}, dense, "max")


def test_decoders_of_different_shapes_are_not_broadcast():
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        AdditiveDecoder(3, {"a": 2, "b": 1}, lambda size: nn.Linear(size, size))(torch.zeros(2, 3))
