"""Schedules: their ends, their middle, and what is refused."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_hfvae.schedules import Cosine, Cyclical, Linear, Steps, value_at


@pytest.mark.parametrize("kind", [Linear, Cosine])
def test_moves_from_start_to_end_and_stays(kind):
    schedule = kind(1.0, 5.0, 10)
    assert [schedule(0), schedule(5), schedule(10), schedule(1000)] == pytest.approx([1, 3, 5, 5])


def test_a_quarter_along_the_cosine():
    assert Cosine(0.0, 1.0, 4)(1) == pytest.approx((1 - math.cos(math.pi / 4)) / 2)
    assert Linear(0.0, 1.0, 4)(1) == 0.25


def test_cycles_rise_hold_and_start_again():
    schedule = Cyclical(0.0, 1.0, steps=8, rise=0.5)
    one = [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    assert [schedule(step) for step in range(16)] == one * 2


def test_steps_change_where_they_say():
    schedule = Steps([1.0, 5.0, 2.0], at=[3, 4])
    assert [schedule(step) for step in range(6)] == [1, 1, 1, 5, 2, 2]


@given(st.sampled_from([Linear, Cosine, Cyclical]), st.integers(1, 50), st.integers(0, 200))
def test_stays_between_its_ends(kind, steps, step):
    assert -1 - 1e-12 <= kind(2.0, -1.0, steps)(step) <= 2 + 1e-12


def test_a_number_is_its_own_schedule():
    assert value_at(3.0, 7) == 3.0
    assert value_at(Linear(0.0, 1.0, 2), 1) == 0.5


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Linear, (0.0, 1.0, 0), "a schedule takes 1 step or more, got Linear(start=0.0, end=1.0, steps=0)"),
        (
            Cosine,
            (0.0, math.nan, 3),
            "the values of a schedule must be finite, got Cosine(start=0.0, end=nan, steps=3)",
        ),
        (Cyclical, (0.0, 1.0, 3, 0.0), "rise is a part of the cycle, above 0 and at most 1, got 0.0"),
        (Steps, ([1.0], [3]), "1 values need 0 steps to change at, got 1"),
        (Steps, ([1.0, 2.0, 3.0], [3, 3]), "the steps to change at must rise and start above 0, got [3, 3]"),
        (Steps, ([1.0, 2.0], [0]), "the steps to change at must rise and start above 0, got [0]"),
    ],
)
def test_what_is_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        kind(*arguments)
