"""Encoders of tables and counts: what they are given, and what they refuse."""

import pytest
import torch
from any_data import COLUMNS, Column, data_of, encoder_of, table
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae.guides import ColumnEncoder, CountEncoder

NAN = float("nan")


def test_cells_enter_by_the_kind_of_their_column():
    columns = (
        Column("a", "number"),
        Column("b", "category", 3),
        Column("c", "count"),
        Column("d", "flag"),
        Column("e", "category", 2),
        Column("f", "time"),
    )
    x = torch.tensor([[0.5, 2.0, 3.0, 1.0, 0.0, -1.5], [NAN] * 6])
    expected = [
        [0.5, 1.0, -1.5] + [4.0**0.5] + [0.0, 0.0, 1.0] + [1.0, 0.0] + [0.0] * 6,
        [0.0] * 3 + [0.0] + [0.0] * 3 + [0.0] * 2 + [1.0] * 6,
    ]
    expected[0][3] = torch.tensor(4.0).log().item()
    assert torch.tensor(expected).equal(ColumnEncoder(columns, (4,)).inputs(x))


@settings(deadline=None, max_examples=15)
@given(
    size=st.integers(1, 5), seed=st.integers(0, 99), missing=st.sampled_from([0.0, 0.5, 1.0]), kind=st.integers(0, 7)
)
def test_tables_of_any_columns(size, seed, missing, kind):
    columns = COLUMNS[kind:] if kind % 2 else COLUMNS[: kind + 1]
    encoder = ColumnEncoder(columns, (5, 4))
    features = encoder(table(size, missing, seed, columns))
    assert features.shape == (size, encoder.features) == (size, 4)
    assert features.isfinite().all()


def test_a_missing_cell_differs_from_a_0():
    torch.manual_seed(0)  # of six units with a ReLU, some must not be 0
    encoder = ColumnEncoder((Column("a", "number"), Column("b", "number")), (6,))
    rows = encoder(torch.tensor([[0.0, 1.0], [NAN, 1.0]]))
    assert not rows[0].equal(rows[1])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 7), "the encoder is of 8 columns, but the data have 7"),
        (torch.tensor([[0.0, 3, 0, 0, 0, 0, 0, 0]]), "column 1 has codes of categories outside of 0 to 2"),
        (torch.tensor([[0.0, 0, 0, 0, 0, 0, -1, 0]]), "column 6 has codes of categories outside of 0 to 1"),
    ],
)
def test_tables_that_do_not_fit(x, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        ColumnEncoder(COLUMNS, (4,))(x)


def test_counts_enter_relative_to_the_library():
    x = torch.tensor([[1.0, 0.0, 3.0], [2.0, 0.0, 6.0]])
    seen = []
    encoder = CountEncoder(3, (4,), {"batch": 2})
    encoder.layers.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = torch.eye(2)
    encoder(x, batch=batch)
    torch.testing.assert_close(seen[0], torch.cat([(1e4 * x / torch.tensor([[4.0], [8.0]])).log1p(), batch], 1))
    assert seen[0][0, :3].equal(seen[0][1, :3])  # twice the counts of as many kinds
    encoder(x, library=torch.tensor([4.0, 4.0]), batch=batch)
    assert not seen[1][0, :3].equal(seen[1][1, :3])
    assert CountEncoder(3, (4,))(torch.zeros(1, 3)).isfinite().all()  # an empty cell


def test_counts_that_do_not_fit():
    with pytest.raises(ValueError, match="^the encoder is of 3 kinds of counts, but the data have 2$"):
        CountEncoder(3, (4,))(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="^the program needs the covariate 'batch', got: library$"):
        CountEncoder(3, (4,), {"batch": 2})(torch.zeros(1, 3), library=torch.ones(1))
    with pytest.raises(ValueError, match="^the data have no covariate 'batch'; they have: none$"):
        CountEncoder(3, (4,), ["batch"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ColumnEncoder(), "a ColumnEncoder needs the columns of a table: give data that have columns"),
        (lambda: ColumnEncoder(COLUMNS, ()), "hidden must have one layer or more"),
        (lambda: ColumnEncoder(COLUMNS, (0,)), r"each layer of hidden must have 1 unit or more, got \[0\]"),
        (lambda: CountEncoder(), "a CountEncoder needs 1 input or more, got None"),
        (lambda: CountEncoder(3, ()), "hidden must have one layer or more"),
    ],
)
def test_encoders_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()


@pytest.mark.parametrize("kind", ["columns", "words", "genes", "series", "pixels"])
def test_the_small_encoders_of_the_tests_fit(kind):
    from pyro_hfvae.factories import make, sizes_of

    data = data_of(kind)
    batch = data.batch([0, 1])
    encoder = make(encoder_of(kind), **sizes_of(data))
    covariates = batch.others if kind in ("words", "genes") else {}
    assert encoder(batch.x, **covariates).shape == (2, encoder.features)
