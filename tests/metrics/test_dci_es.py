import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from metric_tables import gaussian_codes, mixed

from pyro_hfvae.metrics import Factors, dci_es, loss_capacity_explicitness

CAPACITY = np.array([0.0, 1.0, 2.0, 4.0, 8.0])


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ([1.0, 0.0, 0.0, 0.0, 0.0], 1 - 0.5 / 4),  # at once: half of the first step is left
        ([1.0, 0.875, 0.75, 0.5, 0.0], 0.0),  # a straight line to the end
        ([1.0, 1.0, 1.0, 1.0, 0.0], 1 - (4 + 2) / 4),  # at the very end
        ([1.0, 0.5, 0.5, 0.5, 0.5], 1 - 0.25 / 2),  # the scale of the loss does not matter
        ([1.0, 1.0, 1.5, 1.0, 1.0], 0.0),  # nothing is read
    ],
)
def test_oracles(loss, expected):
    assert loss_capacity_explicitness(CAPACITY, np.array(loss)) == pytest.approx(expected)


@given(arrays(np.float64, 5, elements=st.integers(0, 2000).map(lambda step: step / 1000)))
@settings(max_examples=60, deadline=None)
def test_agrees_with_a_sum_of_trapezia(loss):
    curve, least = loss.tolist(), min(loss.tolist())
    if curve[0] == least:
        assert loss_capacity_explicitness(CAPACITY, loss) == 0.0
        return
    area = 0.0
    for t in range(1, curve.index(least) + 1):
        area += (0.5 * (curve[t - 1] + curve[t]) - least) * (CAPACITY[t] - CAPACITY[t - 1])
    expected = 1 - area / (0.5 * (CAPACITY[-1] - CAPACITY[0]) * (curve[0] - least))
    assert loss_capacity_explicitness(CAPACITY, loss) == pytest.approx(max(min(expected, 1), -1), rel=1e-6, abs=1e-9)


def test_capacity_that_a_code_needs():
    """Two values along a variable take one question; the parity of eight takes seven."""
    values = np.random.default_rng(0).integers(0, 8, 2000)
    codes = gaussian_codes(values[:, None].astype(float))
    factors = Factors(np.stack([values > 3, values % 2], axis=1).astype(int), ("half", "odd"), ("categorical",) * 2)
    result = dci_es(codes, factors)
    assert result.size == 2.0
    assert result.capacity[0] == 0.0
    np.testing.assert_allclose(result.loss[:, 0], 0.5, atol=0.05)  # a guess of one of two
    assert result.loss[0, 1] == 0.0
    assert (result.loss[1, 1:3] > 0.2).all()
    assert result.loss[1, -1] == 0.0
    assert result.factor_explicitness[0] == pytest.approx(1 - 0.5 / 6)
    assert result.factor_explicitness[1] < result.factor_explicitness[0] - 0.1


def test_loss_of_a_guess():
    codes, factors = mixed(400)
    result = dci_es(codes, factors)
    assert result.loss.shape == (4, len(result.capacity))
    np.testing.assert_allclose(result.loss[1:, 0], 1.0, atol=0.05)  # 1 - R² of the mean
    assert result.size == 4 / 6
