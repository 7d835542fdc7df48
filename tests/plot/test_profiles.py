import numpy as np
import pytest
from drawing import HOSTILE, draw, labels
from matplotlib.colors import to_hex

from pyro_hfvae.plot import Response, Responses, profile_grid
from pyro_hfvae.plot.profiles import short_number
from pyro_hfvae.plot.style import COLOURS

POINTS = np.linspace(-2, 2, 9)


def number(name="age", slope=1.0, points=POINTS, **more):
    return Response(name, 40 + slope * points[:, None], 5.0, **more)


def chances(*shares):
    return np.array(shares).T


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def test_a_line_in_the_units_of_the_column_over_where_most_data_are():
    figure = profile_grid([Responses("z[0]", POINTS, False, [number(usual=(30.0, 52.0))])], HOSTILE)
    draw(figure)
    (panel,) = figure.axes
    (line,) = panel.get_lines()
    np.testing.assert_allclose(line.get_xydata(), np.stack([POINTS, 40 + POINTS], 1))
    (band,) = panel.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == (30, 52)
    low, high = panel.get_ylim()
    assert low < 30
    assert high > 52
    assert labels(panel.yaxis)
    assert [text.get_text() for text in figure.texts] == [HOSTILE, "z[0]: -2.0 to 2.0"]


def test_features_that_move_most_come_first_and_the_others_are_counted():
    features = [number(f"column {at}", slope=at % 5 - 2.2) for at in range(300)]
    figure = profile_grid([Responses("z", POINTS, False, features)], "")
    assert len(figure.axes) == 6
    assert titles(figure) == [f"column {at}" for at in (0, 5, 10, 15, 20, 25)]
    assert figure.texts[-1].get_text() == "z: -2.0 to 2.0  (294 more features move less)"
    assert len(profile_grid([Responses("z", POINTS, False, features[:9])], "").axes) == 9


def test_probabilities_of_categories_are_stacked_and_named():
    up = (POINTS + 2) / 4
    shares = Response("colour", chances(up, 1 - up, 0 * up), 0.5, labels=("red", "blue", "never"))
    figure = profile_grid([Responses("z", POINTS, False, [shares])], "")
    draw(figure)
    (panel,) = figure.axes
    assert [to_hex(part.get_facecolor()) for part in panel.collections] == list(COLOURS[:3])
    first, second = (part.get_paths()[0].vertices for part in panel.collections[:2])
    assert {(x, y) for x, y in zip(POINTS, up, strict=True)} <= {tuple(point) for point in first.tolist()}
    assert second[:, 1].max() == 1
    written = {text.get_text(): text.get_position() for text in panel.texts}
    assert set(written) == {"red", "blue"}
    assert written["red"][0] > written["blue"][0]  # each where it is likely
    assert panel.get_ylim() == (0, 1)


def test_categories_of_a_discrete_variable_are_bars_and_dots():
    points = np.arange(4.0)
    shares = Response("colour", chances(points / 4, 1 - points / 4), 0.5, labels=("red", "blue"))
    figure = profile_grid([Responses("kind", points, True, [number(points=points), shares])], "")
    draw(figure)
    bars, dots = (figure.axes[titles(figure).index(name)] for name in ("colour", "age"))
    assert [bar.get_height() for bar in bars.patches] == [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]
    assert dots.get_lines()[0].get_linestyle() == "None"
    assert labels(dots.xaxis) == ["0", "1", "2", "3"]


def test_rare_ones_of_many_categories_are_drawn_as_one():
    masses = np.random.default_rng(0).dirichlet(np.ones(30), 9)
    figure = profile_grid(
        [Responses("z", POINTS, False, [Response("c", masses, 1.0, labels=tuple(map(str, range(30))))])], ""
    )
    parts = figure.axes[0].collections
    assert len(parts) == len(COLOURS)
    assert max(part.get_paths()[0].vertices[:, 1].max() for part in parts) == pytest.approx(1)


def test_labels_do_not_cover_one_another():
    rng = np.random.default_rng(1)
    masses = rng.dirichlet(np.ones(8), 9)
    names = tuple(f"category {k}" for k in range(8))
    figure = profile_grid([Responses("z", POINTS, False, [Response("c", masses, 1.0, labels=names)])], "")
    draw(figure)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) > 1
    assert not any(one.overlaps(other) for at, one in enumerate(boxes) for other in boxes[:at])


@pytest.mark.parametrize("values", [np.zeros((9, 1)), np.full((9, 1), 1e-9), np.full((9, 1), 3e7)])
def test_a_feature_that_stands_still(values):
    draw(profile_grid([Responses("z", POINTS, False, [Response(HOSTILE, values, 0.0)])], HOSTILE))


def test_nothing_to_draw():
    for nothing in ([], [Responses("z", POINTS, False, [])]):
        with pytest.raises(ValueError, match="a profile needs one variable or more, and features"):
            profile_grid(nothing, "")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-0.0, "0"), (0.25, "0.25"), (1234.5, "1234"), (3e7, "3e7"), (2e-5, "2e-5"), (-4e12, "-4e12")],
)
def test_numbers_for_little_room(value, text):
    assert short_number(value) == text
    assert short_number(np.nan) == "–"
