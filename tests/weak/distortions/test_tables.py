"""Rows with missing cells: at their rate, the others unchanged, and nothing found that was missing."""

import math

import pytest
import torch

from pyro_hfvae.weak.distortions import ColumnDropout


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_cells_are_missing_at_their_rate(rate):
    x = torch.randn(2000, 20)
    x[:, 3] = math.nan
    before = x.clone()
    copies = ColumnDropout(rate)(x, generator())
    missing = copies.isnan()
    assert missing[:, 3].all()
    kept = ~missing
    assert copies[kept].equal(x[kept])
    assert x[:, :3].equal(before[:, :3])
    share = missing[:, [*range(3), *range(4, 20)]].double().mean(0)
    # 2,000 draws for each column, 38,000 in all.
    assert ((share - rate).abs() < 5 * math.sqrt(rate * (1 - rate) / 2000)).all()
    assert (share.mean() - rate).abs() < 5 * math.sqrt(rate * (1 - rate) / 38_000)
    assert missing.equal(ColumnDropout(rate)(x, generator()).isnan())
    assert not missing.equal(ColumnDropout(rate)(x, generator(4)).isnan())


def test_what_does_not_fit():
    for rate in (0, 1, -0.1):
        with pytest.raises(ValueError, match=f"rate of ColumnDropout must be above 0 and below 1, got {rate}"):
            ColumnDropout(rate)
    with pytest.raises(ValueError, match=r"ColumnDropout distorts tables \[B, D\], but the data are \[2, 1, 4, 4\]"):
        ColumnDropout(0.5)(torch.zeros(2, 1, 4, 4), generator())
