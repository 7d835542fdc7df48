"""Swaps: every pair is there once, its two data are each other's partners and share what the open block stands for."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae.weak import Pairing, PairSampler, as_swaps

NAMES = ("yaw", "pitch", "expression")
GRID = torch.cartesian_prod(torch.arange(4), torch.arange(3), torch.arange(5)).repeat(5, 1)  # [300, 3]
BLOCKS = {"pose": ["yaw", "pitch"], "expression": ["expression"], "residual": []}
COLUMNS = {"pose": [0, 1], "expression": [2]}


def drawn(step, size, **options):
    sampler = PairSampler(Pairing(BLOCKS, swap=True, **options), torch.arange(300), GRID, NAMES, seed=3)
    inputs = torch.randperm(300, generator=torch.Generator().manual_seed(step))[:size]
    return sampler.pairs(inputs, step)


@settings(deadline=None)
@given(step=st.integers(0, 500), size=st.integers(1, 20), identity=st.floats(0.01, 1), gated=st.booleans())
def test_partners_gates_and_blocks(step, size, identity, gated):
    pairs = drawn(step, size, identity=identity, gated=gated)
    swaps = as_swaps(pairs)
    assert swaps.data[:size].equal(pairs.inputs)
    assert sorted(swaps.data[size:].tolist()) == sorted(pairs.targets[pairs.targets != pairs.inputs].tolist())
    for place, partner in enumerate(swaps.partners.tolist()):
        assert swaps.partners[partner] == place  # both ways
        x, t = GRID[swaps.data[place]], GRID[swaps.data[partner]]
        taken = [name for name in swaps.shared if swaps.shared[name][place]]
        opened = [name for name in BLOCKS if swaps.gates[name][place]]
        if partner == place:
            assert pairs.targets[place] == pairs.inputs[place]
            assert (taken, opened) == ([], list(BLOCKS))
            continue
        first, second = sorted((place, partner))
        assert first < size <= second
        assert swaps.data[second] == pairs.targets[first]
        (block,) = taken
        assert x[COLUMNS[block]].equal(t[COLUMNS[block]])
        assert opened == ([block] if gated else list(BLOCKS))


def test_wrong_pairs_swap_all_the_same():
    swaps = as_swaps(drawn(0, 200, identity=0.2, wrong=1.0))
    for name, columns in COLUMNS.items():
        chosen = swaps.shared[name]
        assert chosen.any()
        assert (GRID[swaps.data] != GRID[swaps.data[swaps.partners]])[chosen][:, columns].any(1).all()
