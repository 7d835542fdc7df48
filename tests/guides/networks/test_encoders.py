"""What holds for every encoder."""

import copy
import io
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import nn

from pyro_hfvae.guides import (
    ConvEncoder,
    ConvSequenceEncoder,
    MLPEncoder,
    RecurrentEncoder,
    SetEncoder,
    SubpixelEncoder,
    networks,
)


class Case(NamedTuple):
    """A network, the shape of a datum, and whether it takes lengths."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    lengths: bool = False


ENCODERS = {
    "convolutional": Case(lambda: ConvEncoder(2, 4, 8, (16, 21)), (2, 16, 21)),
    "sub-pixel": Case(lambda: SubpixelEncoder(2, 4, 8, size=(16, 21)), (2, 16, 21)),
    "dense": Case(lambda: MLPEncoder((2, 4, 5), (8,)), (2, 4, 5)),
    "recurrent": Case(lambda: RecurrentEncoder(2, 8), (9, 2), True),
    "over time": Case(lambda: ConvSequenceEncoder(2, 9, 4, 8), (9, 2), True),
    "set, sum": Case(lambda: SetEncoder(2, (5,), 4), (9, 2), True),
    "set, mean": Case(lambda: SetEncoder(2, (5,), 4, "mean"), (9, 2), True),
    "set, max": Case(lambda: SetEncoder(2, (5,), 4, "max"), (9, 2), True),
}


@pytest.fixture(params=ENCODERS.values(), ids=ENCODERS)
def each(request):
    torch.manual_seed(0)
    return request.param


def arguments(case, batch, dtype=torch.float64):
    x = torch.rand(batch, *case.shape, dtype=dtype)
    return (x, torch.randint(1, 10, (batch,))) if case.lengths else (x,)


def test_all_are_here():
    assert {type(case.make()).__name__ for case in ENCODERS.values()} == set(networks.__all__) - {"Encoder"}


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_data_are_encoded_apart(each, batch):
    network, given = each.make().double(), arguments(each, batch)
    features = network(*given)
    assert type(network.features) is int
    assert features.shape == (batch, network.features)
    one_by_one = torch.cat([network(*(a[i : i + 1] for a in given)) for i in range(batch)])
    torch.testing.assert_close(features, one_by_one)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_precisions(each, dtype):
    network, (x, *others) = each.make().double(), arguments(each, 4)
    expected = network(x, *others)
    found = network.to(dtype)(x.to(dtype), *others)
    assert found.dtype == dtype
    found.square().sum().backward()
    assert all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in network.parameters())
    error = (found.double() - expected).norm() / expected.norm()
    assert error < {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.05}[dtype]  # a bfloat16 has 8 bits


def test_copies_and_states(each):
    network, given = each.make().double(), arguments(each, 4)
    copied = copy.deepcopy(network)
    assert torch.equal(copied(*given), network(*given))
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    torch.manual_seed(1)
    other = each.make().double()
    assert not torch.equal(other(*given), network(*given))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(*given), network(*given))


def test_every_parameter_has_a_gradient(each):
    network = each.make().double()
    network(*arguments(each, 50)).square().sum().backward()
    assert all(p.grad.any() for p in network.parameters())


def test_a_graph_can_be_exported(each):
    """Packing by lengths depends on them, so a recurrent encoder is exported for whole sequences only."""
    network, given = each.make().eval(), arguments(each, 4, torch.float32)
    if isinstance(network, RecurrentEncoder):
        given = given[:1]
    batch = torch.export.Dim("batch", min=1, max=1024)
    graph = torch.export.export(network, given, dynamic_shapes=tuple({0: batch} for _ in given)).module()
    for size in (4, 7):
        other = arguments(each, size, torch.float32)[: len(given)]
        torch.testing.assert_close(graph(*other), network(*other))
