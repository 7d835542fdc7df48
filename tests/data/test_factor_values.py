"""Values of factors as text: kinds, order and names of classes, and what is not known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_hfvae.data.factor_values import FactorValues, collected


def column(name, *texts):
    values = FactorValues(name)
    for text in texts:
        values.add(text)
    return values


@pytest.mark.parametrize(
    ("texts", "kind", "expected", "labels", "values"),
    [
        (["b", "a", "b"], None, "categorical", ("a", "b"), [1, 0, 1]),
        (["10", "9", "-3"], None, "categorical", ("-3", "9", "10"), [2, 1, 0]),
        (["10", "9", "9"], "circular", "circular", ("9", "10"), [1, 0, 0]),
        (["1", "01", "1.0", "2"], None, "categorical", ("1", "2"), [0, 0, 0, 1]),
        (["1", "1.5"], None, "continuous", (), [1, 1.5]),
        (["1", "1.5"], "ordinal", "ordinal", ("1", "1.5"), [0, 1]),
        (["1e3", "2"], "continuous", "continuous", (), [1000, 2]),
        (["1", "1.5", "x"], None, "categorical", ("1", "1.5", "x"), [0, 1, 2]),
        (["b", "", " ", None, "NaN"], None, "categorical", ("b",), [0, np.nan, np.nan, np.nan, np.nan]),
        (["inf", "1"], None, "categorical", ("1", "inf"), [1, 0]),
    ],
)
def test_values(texts, kind, expected, labels, values):
    found_kind, found_labels, found = column("a", *texts).finished(kind)
    assert (found_kind, found_labels) == (expected, labels)
    np.testing.assert_array_equal(found, values)


@given(st.lists(st.one_of(st.none(), st.integers(-50, 50)), min_size=1).filter(any))
def test_classes_are_ranks(numbers):
    _, labels, found = column("a", *(None if number is None else str(number) for number in numbers)).finished("ordinal")
    distinct = sorted({number for number in numbers if number is not None})
    assert labels == tuple(map(str, distinct))
    for number, value in zip(numbers, found, strict=True):
        assert np.isnan(value) if number is None else distinct[int(value)] == number


def test_several_together():
    classes, reals, gaps = column("a", "x", "y"), column("b", "0.5", "2"), column("c", "3", None)
    found = collected(2, [classes], None)
    assert found.values.dtype == torch.int64
    assert found.values.tolist() == [[0], [1]]
    for other, kind, size in ((reals, "continuous", 0), (gaps, "categorical", 1)):
        found = collected(2, [classes, other], None)
        assert found.values.dtype == torch.float64
        assert (found.kinds[1], found.sizes[1]) == (kind, size)
    nothing = collected(2, [], None)
    assert (nothing.names, nothing.sizes, nothing.values.shape, nothing.values.dtype) == ((), (), (2, 0), torch.int64)
