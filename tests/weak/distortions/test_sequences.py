"""Distorted sequences: warping against interpolation by NumPy, sequence by sequence; what is beyond an end stays."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae.weak.distortions import Jitter, TimeWarp


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def sequences(count, steps, variables, lengths):
    x = torch.randn(count, steps, variables, generator=generator(0))
    return torch.where((torch.arange(steps) < lengths[:, None])[..., None], x, 0.0)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), count=st.integers(1, 4), steps=st.integers(1, 12), speed=st.sampled_from([0.1, 1.0, 5.0]),
       parts=st.integers(2, 5))  # fmt: skip
def test_warps_against_interpolation_by_numpy(data, count, steps, speed, parts):
    lengths = torch.tensor(data.draw(st.lists(st.integers(0, steps), min_size=count, max_size=count)))
    x = sequences(count, steps, 2, lengths)
    warped = TimeWarp(speed, parts)(x, generator(), lengths=lengths)
    most = math.log1p(speed)
    factors = np.exp(-most + 2 * most * torch.rand(count, parts, generator=generator()).double().numpy())
    for row, length in enumerate(lengths.tolist()):
        assert warped[row, length:].equal(x[row, length:])
        if length < 2:
            assert warped[row].equal(x[row])
            continue
        ends = np.concatenate([[0], factors[row].cumsum()]) / factors[row].sum()
        place = np.interp(np.linspace(0, 1, length), np.linspace(0, 1, parts + 1), ends) * (length - 1)
        for variable in range(2):
            expected = np.interp(place, np.arange(length), x[row, :length, variable].numpy())
            np.testing.assert_allclose(warped[row, :length, variable].numpy(), expected, atol=1e-4)
        np.testing.assert_allclose(warped[row, 0].numpy(), x[row, 0].numpy())
        np.testing.assert_allclose(warped[row, length - 1].numpy(), x[row, length - 1].numpy(), atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), count=st.integers(1, 4), steps=st.integers(1, 8))
def test_jitter(data, count, steps):
    lengths = torch.tensor(data.draw(st.lists(st.integers(0, steps), min_size=count, max_size=count)))
    x = sequences(count, steps, 3, lengths)
    noisy = Jitter(0.5)(x, generator(), lengths=lengths)
    expected = x + 0.5 * torch.randn(x.shape, generator=generator())
    for row, length in enumerate(lengths.tolist()):
        assert noisy[row, :length].equal(expected[row, :length])
        assert noisy[row, length:].equal(x[row, length:])
    assert Jitter(0.5)(x, generator()).equal(expected)


@pytest.mark.parametrize("distortion", [Jitter(0.1), TimeWarp(0.5)])
def test_a_function_of_data_and_generator(distortion):
    x = torch.randn(5, 7, 2)
    before, state = x.clone(), torch.get_rng_state()
    assert distortion(x, generator()).equal(distortion(x, generator()))
    assert not distortion(x, generator()).equal(distortion(x, generator(4)))
    assert distortion(x.double(), generator()).dtype == torch.float64
    assert x.equal(before)
    assert torch.get_rng_state().equal(state)
    with pytest.raises(ValueError, match=r"distorts sequences \[B, T, V\], but the data are \[5, 7\]"):
        distortion(x[..., 0], generator())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Jitter(0), "scale of Jitter must be above 0 and finite, got 0"),
        (lambda: TimeWarp(math.inf), "speed of TimeWarp must be above 0 and finite, got inf"),
        (lambda: TimeWarp(0.5, 1), "parts of TimeWarp must be 2 or more, got 1"),
    ],
)
def test_ranges(make, message):
    with pytest.raises(ValueError, match=message):
        make()
