import numpy as np
import pytest
from drawing import HOSTILE, draw
from matplotlib.colors import to_hex

from pyro_hfvae.plot import Response, Responses, line_grid
from pyro_hfvae.plot.style import COLOURS

POINTS = np.array([-1.0, 0.0, 2.0])


def channel(name, points=POINTS, far=1.0, steps=7):
    return Response(name, far * points[:, None] * np.arange(steps), 1.0)


def bright(line):
    return sum(np.asarray(line.get_color()[:3]) * (0.21, 0.72, 0.07))


def test_a_line_for_each_value_from_dark_to_bright():
    figure = line_grid([Responses("z[0]", POINTS, False, [channel(HOSTILE)])], HOSTILE, step="second")
    draw(figure)
    (panel,) = figure.axes
    drawn = panel.get_lines()
    for line, point in zip(drawn, POINTS, strict=True):
        np.testing.assert_allclose(line.get_xydata(), np.stack([np.arange(7), point * np.arange(7)], 1))
    assert bright(drawn[0]) < bright(drawn[1]) < bright(drawn[2])
    assert panel.get_xlabel() == "second"
    assert figure.texts[-1].get_text() == "z[0]: -1.0 to 2.0, dark to bright"


def test_channels_that_move_most_come_first_and_the_others_are_counted():
    channels = [channel(f"c{at}", far=at) for at in range(9)]
    figure = line_grid([Responses("z", POINTS, False, channels)], "")
    assert [axes.get_title() for axes in figure.axes] == ["c8", "c7", "c6", "c5"]
    assert figure.texts[-1].get_text().endswith("(5 more move less)")
    assert len(line_grid([Responses("z", POINTS, False, channels[:6])], "").axes) == 6


def test_categories_have_a_colour_and_a_name_each():
    points = np.arange(10.0)
    figure = line_grid([Responses("kind", points, True, [channel("a", points)])], "")
    draw(figure)
    panel, names = figure.axes
    drawn = panel.get_lines()
    assert len({(line.get_color(), line.get_linestyle()) for line in drawn}) == 10
    assert [to_hex(line.get_color()) for line in drawn[:8]] == list(COLOURS)
    assert [text.get_text() for text in names.get_legend().get_texts()] == [str(k) for k in range(10)]


def test_one_step_in_time():
    draw(line_grid([Responses("z", POINTS, False, [channel("a", steps=1)])], ""))


def test_nothing_to_draw():
    for nothing in ([], [Responses("z", POINTS, False, [])]):
        with pytest.raises(ValueError, match="lines need one variable or more, and channels"):
            line_grid(nothing, "")
