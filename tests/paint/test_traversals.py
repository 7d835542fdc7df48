"""What traversals, interpolations, swaps and combinations decode, by a decoder that paints its latents."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from painting import X, expected_modes, latents, model, pixels
from torch.nn.functional import one_hot

from pyro_hfvae import Concrete
from pyro_hfvae.blocks import Variable, resolve_blocks
from pyro_hfvae.paint import (
    LatentValues,
    categories,
    combine,
    commonest_categories,
    interpolate,
    posterior_modes,
    quantile_range,
    swap,
    traverse,
)

Z, W, KIND = Variable("z", 0, "z[0]"), Variable("w", 0, "w"), Variable("kind", 0, "kind")
Z1 = Variable("z", 1, "z[1]")
BLOCKS = resolve_blocks({"b": ["z[1]"], "a": ["z[0]", "kind"], "c": ["w"]}, {"z": (2,), "w": (), "kind": ()}).blocks
BLOCK_OF_PIXEL = ["a", "b", "c", "a", "a", "a"]


def test_ranges_are_quantiles_of_the_draws():
    values = torch.randn(501, 2, generator=torch.Generator().manual_seed(1))
    draws = LatentValues({"z": values, "kind": one_hot(torch.arange(501) % 3, 3).float()}, {"z": 1, "kind": 3})
    ranges = quantile_range(draws, [Z, Z1, KIND])
    assert list(ranges) == [Z, Z1]
    for column, variable in enumerate([Z, Z1]):
        ordered = sorted(values[:, column].tolist())
        assert ranges[variable] == pytest.approx((ordered[5], ordered[495]))  # .01 and .99 of the way from 0 to 500
    assert quantile_range(draws, [Z], (0.0, 1.0))[Z] == (values[:, 0].min().item(), values[:, 0].max().item())


@pytest.mark.parametrize(("place", "variable"), [(0, Z), (1, Z1), (2, W)])
def test_a_variable_goes_through_its_range_and_all_else_stays(place, variable):
    start = latents(X[3:4])
    (label,), (row,) = traverse(model, start, X, [variable], {variable: (-1.0, 2.0)}, 4)
    assert label == f"{variable.name}: -1.0 to 2.0"
    assert row.shape == (4, 1, 2, 3)
    expected = pixels(start.values).expand(4, -1).clone()
    expected[:, place] = torch.tensor([-1.0, 0.0, 1.0, 2.0])
    assert row.flatten(1).equal(expected)


def test_a_categorical_goes_through_its_categories():
    start = latents(X[:1])
    labels, (row, other) = traverse(model, start, X, [KIND, W], {W: (0.0, 1.0)}, 2)
    assert labels == ["kind: 0 to 2", "w: 0.0 to 1.0"]
    assert row[:, 0, 1].equal(torch.eye(3))
    assert row[:, 0, 0].equal(X[:1, 0, 0].expand(3, -1))
    assert other.shape == (2, 1, 2, 3)


def test_traversals_that_cannot_be_drawn():
    start = latents(X[:1])
    with pytest.raises(ValueError, match="a traversal starts from one value of everything, got 7"):
        traverse(model, latents(X), X, [W], {W: (0.0, 1.0)}, 3)
    with pytest.raises(ValueError, match="a traversal has 2 pictures or more in a row, got 1"):
        traverse(model, start, X, [W], {W: (0.0, 1.0)}, 1)
    with pytest.raises(ValueError, match="no range is given for variable 'w'"):
        traverse(model, start, X, [W], {}, 3)


def test_category_rows_change_only_the_category():
    labels, rows = categories(model, latents(X[:4]), X, KIND)
    assert labels == ["kind = 0", "kind = 1", "kind = 2"]
    for category, row in enumerate(rows):
        upper, lower = row.squeeze(1).unbind(1)
        assert upper.equal(X[:4, 0, 0])  # a datum for each column
        assert lower.equal(one_hot(torch.full((4,), category), 3).float())
    with pytest.raises(ValueError, match="variable 'w' has no categories; traverse it"):
        categories(model, latents(X), X, W)


def test_several_categoricals_of_one_site():
    """Of [B, 2, 3] one categorical is set, the other stays."""

    def pair_model(x):
        with pyro.plate("data", len(x)):
            kinds = pyro.sample("kinds", Concrete(logits=torch.zeros(2, 3)).to_event(1))
            pyro.sample("x", dist.Normal(kinds.unsqueeze(1), 0.1).to_event(3), obs=x)

    def pair_guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("kinds", Concrete(logits=x.squeeze(1)).to_event(1))

    modes, second = posterior_modes(pair_guide, X[:4]), Variable("kinds", 1, "kinds[1]")
    labels, rows = categories(pair_model, modes, X, second)
    assert labels == ["kinds[1] = 0", "kinds[1] = 1", "kinds[1] = 2"]
    for category, row in enumerate(rows):
        assert row[:, 0, 0].equal(one_hot(X[:4, 0, 0].argmax(-1), 3).float())
        assert row[:, 0, 1].equal(one_hot(torch.full((4,), category), 3).float())


def test_the_commonest_category():
    counts = torch.tensor([2, 0, 2, 1, 2, 0])
    simplex = torch.full((6, 2), 0.5)
    draws = LatentValues(
        {"z": torch.zeros(6, 2), "kind": one_hot(counts, 3).float(), "topic": simplex}, {"z": 1, "kind": 3, "topic": 2}
    )
    assert commonest_categories(draws, [Z, KIND, Variable("topic", 0, "topic")]) == {KIND: 2}


def test_a_block_moves_from_one_datum_to_another():
    start, end = latents(X[:2]), latents(X[2:4])
    moved = interpolate(model, start, end, X, BLOCKS["a"], 6)
    assert moved.shape == (2, 6, 1, 2, 3)
    first, last = pixels(start.values), pixels(end.values)
    for row in range(2):
        for column, share in enumerate([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]):
            expected = first[row].clone()
            expected[0] = (1 - share) * first[row, 0] + share * last[row, 0]
            expected[3:] = (last if share > 0.5 else first)[row, 3:]  # a category has no in-between
            torch.testing.assert_close(moved[row, column].flatten(), expected)


def test_interpolations_that_cannot_be_drawn():
    with pytest.raises(ValueError, match="there are 2 data to start from, but 3 to end at"):
        interpolate(model, latents(X[:2]), latents(X[:3]), X, [W], 3)
    with pytest.raises(ValueError, match="an interpolation has 2 pictures or more in a row, got 1"):
        interpolate(model, latents(X[:2]), latents(X[:2]), X, [W], 1)


@given(st.integers(1, 4), st.integers(1, 5), st.sampled_from(list(BLOCKS)))
@settings(max_examples=20, deadline=None)
def test_swaps_take_the_block_of_the_row_and_the_rest_of_the_column(rows, columns, block):
    giving, rest = X[:rows], X.flip(0)[:columns]
    swapped = swap(model, latents(giving), latents(rest), X, BLOCKS[block])
    assert swapped.shape == (rows, columns, 1, 2, 3)
    for row in range(rows):
        for column in range(columns):
            shown = swapped[row, column].flatten()
            for pixel, owner in enumerate(BLOCK_OF_PIXEL):
                source = giving[row] if owner == block else rest[column]
                assert shown[pixel] == pixels(expected_modes(source[None]))[0, pixel]


def test_a_swap_with_itself_is_the_reconstruction():
    swapped = swap(model, latents(X), latents(X), X, BLOCKS["a"])
    for datum in range(7):
        assert swapped[datum, datum].flatten().equal(pixels(expected_modes(X))[datum])


def test_combinations_have_each_block_of_its_donor():
    donors = torch.tensor([[0, 1, 2, 6], [3, 4, 5, 0], [6, 2, 1, 3]])
    combined = combine(model, latents(X), X, BLOCKS, donors)
    assert combined.shape == (4, 1, 2, 3)
    everything = pixels(expected_modes(X))
    for column in range(4):
        for pixel, owner in enumerate(BLOCK_OF_PIXEL):
            donor = donors[list(BLOCKS).index(owner), column]
            assert combined[column].flatten()[pixel] == everything[donor, pixel]


def test_donors_for_other_blocks_are_refused():
    with pytest.raises(ValueError, match=r"donors must be \[3, Q\], a row for each block, got \[2, 4\]"):
        combine(model, latents(X), X, BLOCKS, torch.zeros(2, 4, dtype=torch.long))
