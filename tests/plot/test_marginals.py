"""The divergence of a marginal from its prior, against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae.plot import Marginal


def density(points, loc, scale):
    return np.exp(-0.5 * ((points - loc) / scale) ** 2) / (scale * math.sqrt(2 * math.pi))


@given(st.floats(-2, 2), st.floats(0.3, 1.5))
@settings(max_examples=20, deadline=None)
def test_the_divergence_of_normals(loc, scale):
    points = np.linspace(-14, 14, 4001)
    marginal = Marginal(points, density(points, loc, scale), density(points, 0, 1), discrete=False)
    exact = 0.5 * (loc**2 + scale**2 - 1) - math.log(scale)
    assert marginal.divergence() == pytest.approx(exact, abs=1e-6)


def test_the_divergence_of_masses():
    marginal = Marginal(np.arange(3.0), np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5]), discrete=True)
    assert marginal.divergence() == pytest.approx(math.log(2))


def test_what_is_no_marginal_is_refused():
    with pytest.raises(ValueError, match=r"points, posterior and prior must be \[G\] of 2 or more, got"):
        Marginal(np.zeros(3), np.zeros(2), np.zeros(3), discrete=False)
