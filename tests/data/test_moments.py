"""Means and standard deviations block by block are those of the whole."""

import numpy as np
import pytest

from pyro_hfvae.data.moments import moments


@pytest.mark.parametrize("block", [1, 3, 100])
def test_blocks_give_what_the_whole_gives(block):
    random = np.random.default_rng(0)
    rows = random.normal(1e6, 1.0, (50, 4))
    rows[random.random(rows.shape) < 0.3] = np.nan
    rows[:, 2] = np.nan
    rows[7, 2] = 3.0
    rows[:, 3] = np.nan
    indices = random.permutation(50)[:31]
    found = moments(rows, np.append(indices, 7), block)
    chosen = rows[np.append(indices, 7)]
    for d in range(3):
        present = chosen[~np.isnan(chosen[:, d]), d]
        np.testing.assert_allclose(found.mean[d], present.mean(), rtol=1e-14)
        np.testing.assert_allclose(found.scale[d], present.std(), rtol=1e-8)  # 1e-16 × the mean, relative to the spread
    assert np.isnan(found.mean[3])
    assert np.isnan(found.scale[3])
    assert found.scale[2] == 0


def test_float32_rows_are_summed_in_float64():
    rows = np.full((100_000, 1), 0.1, dtype=np.float32)
    found = moments(rows, np.arange(100_000))
    assert found.mean[0] == pytest.approx(float(np.float32(0.1)), rel=1e-12)
