"""What holds for every decoder."""

import copy
import io

import pytest
import torch

from pyro_hfvae.models import (
    AdditiveDecoder,
    ConvDecoder,
    ConvSequenceDecoder,
    MLPDecoder,
    RecurrentDecoder,
    SpatialBroadcastDecoder,
    SubpixelDecoder,
    networks,
)

BLOCKS = {"a": 2, "b": 1}
DECODERS = {
    "convolutional": (lambda: ConvDecoder(3, 2, 4, 8, (16, 21)), (2, 16, 21)),
    "sub-pixel": (lambda: SubpixelDecoder(3, 2, 4, 8, (16, 21)), (2, 16, 21)),
    "broadcast": (lambda: SpatialBroadcastDecoder(3, 2, 4, 2, (16, 21)), (2, 16, 21)),
    "dense": (lambda: MLPDecoder(3, (2, 4, 5), (8,)), (2, 4, 5)),
    "recurrent": (lambda: RecurrentDecoder(3, 9, 2, 8), (9, 2)),
    "over time": (lambda: ConvSequenceDecoder(3, 9, 2, 4, 8), (9, 2)),
    "sum": (lambda: AdditiveDecoder(3, BLOCKS, lambda size: MLPDecoder(size, (2, 4, 5), (8,))), (2, 4, 5)),
    "log-sum-exp": (
        lambda: AdditiveDecoder(3, BLOCKS, lambda size: MLPDecoder(size, (2, 4, 5), (8,)), "logsumexp"),
        (2, 4, 5),
    ),
}


@pytest.fixture(params=DECODERS.values(), ids=DECODERS)
def each(request):
    """What makes a decoder of 3 latents, and the shape of its output."""
    torch.manual_seed(0)
    return request.param


def test_all_are_here():
    assert {type(make()).__name__ for make, _ in DECODERS.values()} == set(networks.__all__)


@pytest.mark.parametrize("leading", [(), (1,), (4,), (2, 3), (1, 1, 2)])
def test_leading_dimensions_are_kept(each, leading):
    make, shape = each
    network, z = make().double(), torch.randn(*leading, 3).double()
    assert network(z).shape == (*leading, *shape)
    one_by_one = torch.stack([network(row) for row in z.reshape(-1, 3)]).reshape(*leading, *shape)
    torch.testing.assert_close(network(z), one_by_one)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_precisions(each, dtype):
    make, _ = each
    network, z = make().double(), torch.randn(4, 3)
    expected = network(z.double())
    found = network.to(dtype)(z.to(dtype))
    assert found.dtype == dtype
    found.square().sum().backward()
    assert all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in network.parameters())
    error = (found.double() - expected).norm() / expected.norm()
    assert error < {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.05}[dtype]  # a bfloat16 has 8 bits


def test_the_same_seed_is_the_same_network(each):
    make, _ = each
    torch.manual_seed(0)
    one = make()
    torch.manual_seed(0)
    other, z = make(), torch.randn(2, 3)
    assert torch.equal(one(z), other(z))


def test_every_parameter_has_a_gradient(each):
    make, _ = each
    network = make().double()
    network(torch.randn(50, 3).double()).square().sum().backward()
    assert all(p.grad.any() for p in network.parameters())


def test_copies_and_states(each):
    make, _ = each
    network, z = make(), torch.randn(4, 3)
    copied = copy.deepcopy(network)
    assert torch.equal(copied(z), network(z))
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    torch.manual_seed(1)
    other = make()
    assert not torch.equal(other(z), network(z))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(z), network(z))


def test_a_graph_can_be_exported(each):
    make, shape = each
    network, z = make().eval(), torch.randn(4, 3)
    sizes = ({0: torch.export.Dim("batch", min=1, max=1024)},)
    graph = torch.export.export(network, (z,), dynamic_shapes=sizes).module()
    for batch in (4, 7):
        z = torch.randn(batch, 3)
        assert graph(z).shape == (batch, *shape)
        torch.testing.assert_close(graph(z), network(z))
