"""Aggregate posteriors and pair plots: what was drawn, against the arrays."""

import numpy as np
import pytest
from drawing import HOSTILE, draw, labels
from matplotlib import colormaps
from matplotlib.colors import to_hex

from pyro_hfvae.plot import Marginal, aggregate_posterior, pair_plot
from pyro_hfvae.plot.style import COLOURS, MARKERS

RANDOM = np.random.default_rng(0)
VALUES = RANDOM.normal(size=(60, 2))


def test_each_variable_has_its_two_densities():
    points = np.linspace(-4, 5, 60)
    q, p = np.exp(-((points - 1) ** 2)) / np.sqrt(np.pi), np.exp(-(points**2)) / np.sqrt(np.pi)
    masses = np.array([0.2, 0.5, 0.3, 0.0]), np.full(4, 0.25)
    figure = aggregate_posterior(
        {HOSTILE: Marginal(points, q, p, discrete=False), "kind": Marginal(np.arange(4.0), *masses, discrete=True)}
    )
    draw(figure)
    line, bars = figure.axes
    assert line.get_title() == f"{HOSTILE}, KL 1.00"  # of N(1, 1/2) against N(0, 1/2)
    np.testing.assert_array_equal(line.get_lines()[0].get_xydata(), np.stack([points, p], 1))
    (area,) = line.collections
    corners = area.get_paths()[0].vertices
    for point, value in zip(points, q, strict=True):
        assert (np.abs(corners - [point, value]).sum(1) < 1e-9).any()
    heights = [bar.get_height() for bar in bars.patches]
    assert heights == [*masses[0], *masses[1]]
    assert [bar.get_x() + bar.get_width() / 2 for bar in bars.patches] == pytest.approx([0, 1, 2, 3] * 2)
    assert [bar.get_fill() for bar in bars.patches] == [True] * 4 + [False] * 4
    assert labels(bars.xaxis) == ["0", "1", "2", "3"]
    assert bars.get_title() == f"kind, KL {0.2 * np.log(0.8) + 0.5 * np.log(2) + 0.3 * np.log(1.2):.2f}"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["q(z)", "p(z)"]
    assert all(axes.get_ylim()[0] == 0 for axes in figure.axes)


def test_no_panel_overlaps_another():
    points = np.linspace(-1, 1, 3)
    one = Marginal(points, np.ones(3), np.ones(3), discrete=False)
    figure = aggregate_posterior({f"style[{place}]": one for place in range(11)})
    draw(figure)
    assert len(figure.axes) == 11
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_no_variable_is_an_error():
    with pytest.raises(ValueError, match="no variable to draw"):
        aggregate_posterior({})


def test_a_categorical_factor_has_a_colour_and_a_shape_for_each_value():
    factor = np.repeat(np.arange(12), 5)
    figure = pair_plot(VALUES, ("z[0]", HOSTILE), factor, HOSTILE, "categorical")
    draw(figure)
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("z[0]", HOSTILE)
    legend = axes.get_legend()
    assert legend.get_title().get_text() == HOSTILE
    assert [text.get_text() for text in legend.get_texts()] == [str(value) for value in range(12)]
    looks = set()
    for value, dots in enumerate(axes.collections):
        np.testing.assert_array_equal(dots.get_offsets(), VALUES[factor == value])
        looks.add((to_hex(dots.get_facecolor()[0]), len(dots.get_paths()[0].vertices)))
    assert len(axes.collections) == len(looks) == 12
    box = legend.get_window_extent()
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= 0


@pytest.mark.parametrize(
    ("kind", "colours"), [("ordinal", "viridis"), ("continuous", "viridis"), ("circular", "twilight")]
)
def test_an_ordered_factor_has_a_bar_of_colours(kind, colours):
    factor = RANDOM.integers(0, 12, 60)
    factor[:2] = 0, 11
    figure = pair_plot(VALUES, ("a", "b"), factor, "turn", kind, 10.0 if kind == "circular" else None)
    draw(figure)
    axes, bar = figure.axes
    (dots,) = axes.collections
    np.testing.assert_array_equal(dots.get_offsets(), VALUES)
    shade = factor % 10 / 10 if kind == "circular" else factor / 11
    np.testing.assert_allclose(dots.get_facecolor(), colormaps[colours](shade), atol=1e-6)
    assert bar.get_ylabel() == "turn"
    assert axes.get_legend() is None


def test_the_period_of_a_circle_is_one_more_than_its_largest_value():
    figure = pair_plot(VALUES[:4], ("a", "b"), np.arange(4), "turn", "circular")
    np.testing.assert_allclose(figure.axes[0].collections[0].get_array(), np.arange(4))
    assert figure.axes[0].collections[0].get_clim() == (0, 4)


def test_wrong_arrays_are_refused():
    with pytest.raises(ValueError, match=r"values must be \[3, 2\], got \[60, 2\]"):
        pair_plot(VALUES, ("a", "b"), np.zeros(3), "f", "ordinal")
    with pytest.raises(ValueError, match="variables must have 2 entries, got 1"):
        pair_plot(VALUES, ("a",), np.zeros(60), "f", "ordinal")
    most = len(COLOURS) * len(MARKERS)
    many = np.arange(most + 1)
    with pytest.raises(ValueError, match=f"factor 'f' has {most + 1} categories; at most {most} can be drawn"):
        pair_plot(np.zeros((most + 1, 2)), ("a", "b"), many, "f", "categorical")
