"""Pairs: what they share, which gates they open, at which rates, and the same from any start."""

import math
import warnings
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae.data import IndexBatches
from pyro_hfvae.schedules import Steps
from pyro_hfvae.weak import Groups, IndexPairs, PairBatches, Pairing, Pairs, PairSampler

NAMES = ("yaw", "pitch", "expression")
GRID = torch.cartesian_prod(torch.arange(4), torch.arange(3), torch.arange(5)).repeat(5, 1)  # [300, 3]
BLOCKS = {"pose": ["yaw", "pitch"], "expression": ["expression"], "residual": []}
COLUMNS = {"pose": [0, 1], "expression": [2]}


def sampler(pairing, factors=GRID, seed=0, indices=None):
    indices = torch.arange(len(factors)) if indices is None else indices
    return PairSampler(pairing, indices, factors, NAMES, seed)


def draw(pairing, step=0, inputs=None, **options):
    return sampler(pairing, **options).pairs(torch.arange(300) if inputs is None else inputs, step)


def mode_of(pairs, row):
    """The one open block of a pair, or "identity"."""
    opened = [name for name, gate in pairs.gates.items() if gate[row]]
    if len(opened) == len(pairs.gates):
        return "identity"
    (block,) = opened
    return block


def equal(one, other):
    gates = all(one.gates[name].equal(other.gates[name]) for name in one.gates)
    return one.inputs.equal(other.inputs) and one.targets.equal(other.targets) and gates


tables = st.integers(1, 30).flatmap(
    lambda size: st.lists(
        st.tuples(st.integers(0, 2), st.integers(-1, 1), st.integers(0, 3)), min_size=size, max_size=size
    )
)


@settings(deadline=None)
@given(table=tables, size=st.integers(1, 12), identity=st.floats(0.01, 1), mixed=st.booleans(), step=st.integers(0, 99))
def test_pairs_share_what_their_open_block_stands_for(table, size, identity, mixed, step):
    factors = torch.tensor(table)
    groups = [tuple(row[:2]) for row in table if row[1] >= 0], [row[2] for row in table]
    if any(len(set(group)) == len(group) for group in groups):
        return  # no two data share the factor: refused, and tested below
    indices = 100 + 3 * torch.arange(len(table))
    inputs = indices[torch.randint(len(table), (size,), generator=torch.Generator().manual_seed(step))]
    pairs = draw(
        Pairing(BLOCKS, identity=identity, mixed=mixed), step=step, inputs=inputs, factors=factors, indices=indices
    )
    assert pairs.inputs.equal(inputs)
    assert pairs.targets.shape == (size,)
    assert list(pairs.gates) == list(BLOCKS)
    modes = set()
    for row, (x, target) in enumerate(zip(pairs.inputs.tolist(), pairs.targets.tolist(), strict=True)):
        assert target in indices
        mode = mode_of(pairs, row)
        modes.add(mode)
        if mode == "identity":
            assert target == x
        else:
            one, other = (factors[(datum - 100) // 3, COLUMNS[mode]] for datum in (x, target))
            assert target != x
            assert one.equal(other)
            assert (one >= 0).all()
    if not mixed:
        assert len(modes - {"identity"}) <= 1  # data without a partner are identity pairs in any batch


@given(table=tables, step=st.integers(0, 99))
def test_wrong_pairs_do_not_share_it(table, step):
    labels = torch.tensor(table)[:, 1]
    if len(set(labels[labels >= 0].tolist())) < 2 or (labels == 0).sum() < 2:
        return
    wrong = Pairing({"pose": Groups(labels)}, identity=0.3, wrong=1.0, gated=True)
    pairs = PairSampler(wrong, torch.arange(len(table)), torch.zeros(len(table), 0), (), 0).pairs(
        torch.arange(len(table)), step
    )
    paired = pairs.inputs != pairs.targets
    assert (labels[pairs.inputs] != labels[pairs.targets])[paired].all()
    assert (labels[pairs.targets] >= 0)[paired].all()
    assert pairs.gates["pose"].all()


def within(count, trials, rate):
    """Five standard errors: for a fixed seed the outcome is fixed, for a random one it fails once in two million."""
    return abs(count / trials - rate) <= 5 * math.sqrt(rate * (1 - rate) / trials) + 1e-12


@pytest.mark.parametrize(("identity", "shares", "wrong"), [(0.4, None, 0.25), (0.1, {"pose": 3, "expression": 1}, 0)])
def test_rates(identity, shares, wrong):
    pairing = Pairing(BLOCKS, identity=identity, shares=shares, wrong=wrong)
    drawn = sampler(pairing)
    batches = [drawn.pairs(torch.arange(300), step) for step in range(200)]
    targets = torch.cat([pairs.targets for pairs in batches])
    inputs = torch.cat([pairs.inputs for pairs in batches])
    gates = {name: torch.cat([pairs.gates[name] for pairs in batches]) for name in BLOCKS}
    count = len(targets)
    assert within(int((inputs == targets).sum()), count, identity)
    assert gates["residual"].equal(inputs == targets)
    for name, part in (shares or {"pose": 1, "expression": 1}).items():
        rate = (1 - identity) * part / sum((shares or {"pose": 1, "expression": 1}).values())
        chosen = gates[name] & (inputs != targets)
        assert within(int(chosen.sum()), count, rate)
        assert within(int(gates[name].sum()), count, pairing.open_rates()[name])
        differ = (GRID[inputs] != GRID[targets])[:, COLUMNS[name]].any(1)[chosen]
        assert within(int(differ.sum()), len(differ), wrong)
    # A pair of one block shares the factors of the others by chance only.
    of_pose = gates["pose"] & (inputs != targets)
    same = (GRID[inputs, 2] == GRID[targets, 2])[of_pose]
    others = 4 / 24 if not wrong else 0.75 * 4 / 24 + 0.25 * 55 / 275
    assert within(int(same.sum()), len(same), others)


def test_one_mode_for_a_batch_at_the_same_rates():
    pairing = Pairing(BLOCKS, identity=0.4, mixed=False)
    drawn = sampler(pairing)
    modes = []
    for step in range(2000):
        pairs = drawn.pairs(torch.arange(4), step)
        modes += {mode_of(pairs, row) for row in range(4)}
    assert len(modes) == 2000
    for mode, rate in {"identity": 0.4, "pose": 0.3, "expression": 0.3}.items():
        assert within(modes.count(mode), 2000, rate)


def test_targets_are_equally_likely():
    """Chi-square of the 24 partners of one datum; its mean is 23 and its standard deviation 6.8."""
    pairs = draw(Pairing({"pose": ["yaw", "pitch"]}, identity=0), inputs=torch.full((24_000,), 7))
    counts = torch.bincount(pairs.targets, minlength=300).double()
    partners = (GRID[:, :2] == GRID[7, :2]).all(1)
    partners[7] = False
    assert counts[~partners].sum() == 0
    assert ((counts[partners] - 1000) ** 2 / 1000).sum() < 23 + 5 * 6.8


def test_who_has_no_partner_is_an_identity_pair():
    labels = torch.tensor([0, 0, 1, -1])  # one group, a group of one, no label
    pairing = Pairing({"person": Groups(labels), "residual": []}, identity=0.01)
    drawn = PairSampler(pairing, torch.arange(4), torch.zeros(4, 0), (), 0)
    for step in range(50):
        pairs = drawn.pairs(torch.arange(4), step)
        assert pairs.targets[2:].tolist() == [2, 3]
        assert all(gate[2:].all() for gate in pairs.gates.values())
    assert any(drawn.pairs(torch.arange(4), step).targets[:2].tolist() == [1, 0] for step in range(3))


def test_ungated_pairs_are_the_same_pairs_with_all_gates_open():
    gated, open_ = (draw(Pairing(BLOCKS, wrong=0.2, gated=gated), step=4) for gated in (True, False))
    assert gated.targets.equal(open_.targets)
    assert all(gate.all() for gate in open_.gates.values())
    assert not all(gate.all() for gate in gated.gates.values())


def test_identity_pairs_open_the_blocks_that_are_named():
    every, residual = (draw(Pairing(BLOCKS, identity_opens=opened)) for opened in (None, ["residual"]))
    assert residual.targets.equal(every.targets)
    identity = every.inputs == every.targets
    assert identity.any()
    assert residual.gates["residual"].equal(identity)
    for name in COLUMNS:
        assert residual.gates[name].equal(every.gates[name] & ~identity)


def test_identity_pairs_that_open_some_blocks_have_their_rates():
    pairing = Pairing(BLOCKS, identity=0.4, shares={"pose": 2, "expression": 1}, identity_opens=["residual", "pose"])
    assert pairing.open_rates() == pytest.approx({"pose": 0.8, "expression": 0.2, "residual": 0.4})


def test_without_gates_nothing_closes_them():
    pairing = Pairing(BLOCKS, identity=0.0, identity_opens=[], gated=False)
    assert set(pairing.open_rates().values()) == {1.0}
    assert all(gate.all() for gate in draw(pairing).gates.values())


def test_gates_that_close_late():
    late, gated, open_ = Pairing(BLOCKS, gated_from=4), Pairing(BLOCKS), Pairing(BLOCKS, gated=False)
    for step, like in ((0, open_), (3, open_), (4, gated), (9, gated)):
        assert equal(draw(late, step=step), draw(like, step=step))
        assert late.open_rates(step) == like.open_rates(step)
    never = Pairing(BLOCKS, gated=False, gated_from=2)
    assert all(gate.all() for gate in draw(never, step=5).gates.values())
    with pytest.raises(ValueError, match="pairs.gated_from must be 0 or more, got -1"):
        Pairing(BLOCKS, gated_from=-1)


def test_blocks_may_be_known_in_different_ways():
    labels = torch.arange(300) // 10
    listed = torch.stack([torch.arange(0, 299, 2), torch.arange(1, 300, 2)], 1)
    pairing = Pairing({"pose": ["yaw", "pitch"], "person": Groups(labels), "smile": IndexPairs(listed)}, identity=0.1)
    pairs = draw(pairing)
    seen = set()
    for row, (x, target) in enumerate(zip(pairs.inputs.tolist(), pairs.targets.tolist(), strict=True)):
        mode = mode_of(pairs, row)
        seen.add(mode)
        assert mode != "person" or x // 10 == target // 10
        assert mode != "smile" or x // 2 == target // 2
    assert seen == {"identity", "pose", "person", "smile"}


@settings(deadline=None)
@given(size=st.integers(4, 50), batch_size=st.integers(2, 50), start=st.integers(0, 30), seed=st.integers(0, 3))
def test_the_same_from_any_start_and_every_input_once_an_epoch(size, batch_size, start, seed):
    if batch_size > size:
        return
    indices = 7 + 2 * torch.arange(size)
    labels = torch.zeros(7 + 2 * size, dtype=torch.int64)
    labels[9] = 1
    groups = Pairing({"group": Groups(labels), "rest": []})
    drawn = PairSampler(groups, indices, torch.zeros(size, 0), (), seed, len(labels))
    whole = IndexBatches(indices, batch_size, seed)
    per_epoch = whole.batches_per_epoch
    pairs = list(islice(PairBatches(whole, drawn), start + per_epoch))
    assert torch.cat([batch.inputs for batch in pairs[:per_epoch]]).sort().values.equal(indices)
    again = PairSampler(groups, indices, torch.zeros(size, 0), (), seed, len(labels))
    resumed = islice(PairBatches(IndexBatches(indices, batch_size, seed, start), again), per_epoch)
    assert all(equal(a, b) for a, b in zip(resumed, pairs[start:], strict=True))


def test_steps_and_seeds_differ():
    pairing = Pairing(BLOCKS)
    first = draw(pairing)
    assert equal(first, draw(pairing))
    assert not first.targets.equal(draw(pairing, step=1).targets)
    assert not first.targets.equal(draw(pairing, seed=1).targets)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    assert equal(first, draw(pairing))
    assert torch.get_rng_state().equal(state)


def test_order_of_the_indices_decides_nothing():
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    inputs = torch.arange(40)
    one = draw(Pairing(BLOCKS), inputs=inputs)
    other = draw(Pairing(BLOCKS), inputs=inputs, factors=GRID[order], indices=order)
    assert equal(one, other)


def test_the_share_of_identity_pairs_follows_its_schedule():
    pairing = Pairing(BLOCKS, identity=Steps([0.0, 0.7], [20]))
    drawn = sampler(pairing)
    for start, rate in ((0, 0.0), (20, 0.7)):
        batches = [drawn.pairs(torch.arange(300), step) for step in range(start, start + 20)]
        count = sum(int((pairs.inputs == pairs.targets).sum()) for pairs in batches)
        assert within(count, 6000, rate)
        assert pairing.open_rates(start)["residual"] == rate
    with pytest.raises(ValueError, match="pairs.identity must be from 0 to 1, got 1.5 at batch 0"):
        Pairing(BLOCKS, identity=Steps([1.5, 0.4], [3]))
    late = sampler(Pairing(BLOCKS, identity=Steps([0.4, 1.5], [3])))
    with pytest.raises(ValueError, match="pairs.identity must be from 0 to 1, got 1.5 at batch 3"):
        late.pairs(torch.arange(300), 3)


def test_pairs_are_named():
    assert Pairs._fields == ("inputs", "targets", "gates", "shared")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"identity": 1.5}, "^pairs.identity must be from 0 to 1, got 1.5$"),
        ({"wrong": -0.1}, "^pairs.wrong must be from 0 to 1, got -0.1$"),
        ({"identity": math.nan}, "^pairs.identity must be from 0 to 1, got nan$"),
        ({"blocks": {"residual": []}}, "^pairs.blocks names no block with a factor to share: give one a list of fac"),
        (
            {"shares": {"pose": 1, "residual": 1}},
            "^pairs.shares must name the blocks that share factors, 'pose', 'expression'; it names 'pose', 'residual'$",
        ),
        ({"shares": {"pose": -1, "expression": 1}}, "^pairs.shares of block 'pose' must be 0 or more, got -1$"),
        ({"shares": {"pose": 0, "expression": 0}}, "^pairs.shares are all 0: give one block a part above 0$"),
        ({"identity": 0}, "^block 'residual' would never learn: its gate is open in no pair; set pairs.identity above"),
        (
            {"identity": Steps([0.0, 0.4], at=[9]), "identity_opens": ["pose"]},
            "^block 'residual' would never learn: its gate is open in no pair; name it in pairs.identity_opens$",
        ),
        (
            {"identity_opens": ["residue", "pose"]},
            "^pairs.identity_opens names 'residue'; the blocks are 'expression', 'pose', 'residual'$",
        ),
    ],
)
def test_what_is_no_pairing(options, message):
    with pytest.raises(ValueError, match=message):
        Pairing(**({"blocks": BLOCKS} | options))


@pytest.mark.parametrize(
    ("pairing", "message"),
    [
        (
            {"blocks": {"pose": ["roll"]}},
            "^pairs.blocks of block 'pose': the data have no factor 'roll'; they have: ",
        ),
        (
            {"blocks": {"all": list(NAMES)}},
            "^pairs.blocks of block 'all': no two of the training data share its factor$",
        ),
        (
            {"blocks": {"one": Groups(torch.zeros(60).long())}, "wrong": 0.5},
            "^pairs.wrong is 0.5, but there is nothing to make a wrong pair of block 'one' with: some data share its ",
        ),
    ],
)
def test_what_the_data_cannot_give(pairing, message):
    with pytest.raises(ValueError, match=message):
        sampler(Pairing(**pairing), factors=GRID[:60])


def test_more_in_a_batch_than_there_are_is_refused():
    with pytest.raises(ValueError, match="^batch size 301 is larger than the 300 training data$"):
        PairBatches(IndexBatches(torch.arange(300), 301, 0), sampler(Pairing(BLOCKS)))


@pytest.mark.parametrize("kind", [np.array, lambda values: np.array(values, np.int32), list])
def test_pairs_of_arrays_and_numbers_of_numpy(kind):
    pairing = Pairing(BLOCKS, identity=np.float32(0.5), wrong=np.float64(0.25), gated_from=np.int64(0))
    expected = sampler(pairing, seed=3).pairs(torch.arange(40), 2)
    of_arrays = PairSampler(pairing, kind(range(300)), kind(GRID.tolist()), np.array(NAMES), np.int64(3))
    found = of_arrays.pairs(kind(range(40)), np.int64(2))
    assert equal(found, expected)


@pytest.mark.parametrize(("count", "warns"), [(9, True), (10, True), (11, False)])
def test_a_block_that_does_not_learn_before_training_ends_is_named(count, warns):
    pairing = Pairing({"pose": ["yaw"], "rest": []}, identity=Steps([0.0, 0.4], [10]), identity_opens=["rest"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pairing.warn_of_closed_blocks(count)
    assert [str(warning.message)[:29] for warning in caught] == ["block 'rest' does not learn: "] * warns
