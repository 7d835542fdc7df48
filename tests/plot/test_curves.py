import matplotlib
import numpy as np
import pytest
from drawing import draw
from matplotlib.colors import to_hex

from pyro_hfvae.plot import image_grid, term_curves, trade_off_curves
from pyro_hfvae.plot.style import panels


def test_curves_have_a_panel_for_each_term_that_is_there():
    steps = np.arange(0, 100, 10.0)
    history = {
        "train/loss": (steps, steps),
        "train/within": (steps, steps / 100),
        "val/elbo": (steps[::5], -steps[::5]),
        "train/elbo": (steps, -steps),
    }
    figure = term_curves(history)
    draw(figure)
    assert [axes.get_title() for axes in figure.axes] == ["ELBO", "within"]
    elbo, within = figure.axes
    assert [line.get_label() for line in elbo.get_lines()] == ["train", "val"]
    np.testing.assert_array_equal(elbo.get_lines()[0].get_ydata(), -steps)
    np.testing.assert_array_equal(within.get_lines()[0].get_xdata(), steps)
    assert elbo.get_ylabel() == "nats per datum"
    assert figure.get_supxlabel() == "step"


def test_the_first_steps_do_not_flatten_a_curve():
    steps = np.arange(0, 1001.0)
    values = np.where(steps < 50, -1e4, -30.0 + steps / 1000)
    low, high = term_curves({"train/elbo": (steps, values)}).axes[0].get_ylim()
    assert -31 < low < -29.9
    assert -29 < high < -28


@pytest.mark.parametrize("values", [[np.nan], [3.0], [0.0]])
def test_a_curve_of_one_point_can_be_drawn(values):
    draw(term_curves({"train/elbo": (np.zeros(1), np.array(values))}))


def test_no_term_is_an_error():
    with pytest.raises(ValueError, match=r"no term to draw: the history has \['train/loss'\]"):
        term_curves({"train/loss": (np.zeros(1), np.zeros(1))})


def test_global_state_is_left_alone():
    before = dict(matplotlib.rcParams)
    image_grid(np.zeros((1, 1, 2, 2)), ["a"])
    term_curves({"train/elbo": (np.zeros(1), np.zeros(1))})
    assert dict(matplotlib.rcParams) == before


def test_schedules_have_panels_of_their_own():
    steps = np.arange(0, 100, 10.0)
    history = {
        "train/elbo": (steps, -steps),
        "weight/mutual_information": (steps, steps / 10),
        "weight/between": (steps, steps / 20),
        "temperature": (steps, 1 - steps / 200),
        "val/elbo": (steps, -steps),
    }
    figure = term_curves(history)
    draw(figure)
    assert [axes.get_title() for axes in figure.axes] == [
        *("ELBO", "temperature", "weight of between", "weight of mutual information")
    ]
    assert [axes.get_ylabel() for axes in figure.axes] == ["nats per datum", "temperature", "weight", "weight"]
    for axes, name in zip(figure.axes[1:], ("temperature", "weight/between", "weight/mutual_information"), strict=True):
        (line,) = axes.get_lines()
        np.testing.assert_array_equal(line.get_xdata(), steps)
        np.testing.assert_array_equal(line.get_ydata(), history[name][1])


def points(figure, condition):
    """Mean points of a condition and the ends of their bars, as drawn."""
    (container,) = [part for part in figure.axes[0].containers if part.get_label() == condition]
    line, _, (across, up) = container
    widths = [np.ptp(segment[:, 0]) / 2 for segment in across.get_segments()]
    heights = [np.ptp(segment[:, 1]) / 2 for segment in up.get_segments()]
    return line.get_xydata(), widths, heights, to_hex(line.get_color())


def test_trade_off_shows_means_spreads_and_runs():
    random = np.random.default_rng(0)
    x = {"beta": random.normal(size=(3, 4)), "$hf$": random.normal(size=(2, 5))}
    y = {name: random.normal(size=scores.shape) for name, scores in x.items()}
    x["beta"][1, 2] = np.nan  # a run that failed
    names = {"beta": ["1", "4", "16"], "$hf$": ["a", "$b"]}
    figure = trade_off_curves(x, y, "reconstruction, nats", "DCI $", names)
    draw(figure)
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("reconstruction, nats", "DCI $")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["beta", "$hf$"]
    colours = set()
    for condition in x:
        means, widths, heights, colour = points(figure, condition)
        colours.add(colour)
        for row in range(len(x[condition])):
            known = [k for k in range(x[condition].shape[1]) if not np.isnan(x[condition][row, k])]
            for side, (scores, spread) in enumerate(((x, widths), (y, heights))):
                some = [scores[condition][row, k] for k in known]
                mean = sum(some) / len(some)
                deviation = (sum((score - mean) ** 2 for score in some) / (len(some) - 1)) ** 0.5
                assert means[row, side] == pytest.approx(mean)
                assert spread[row] == pytest.approx(deviation)
    assert len(colours) == 2
    assert [text.get_text() for text in axes.texts] == ["1", "4", "16", "a", "$b"]
    runs = [part.get_offsets() for part in axes.collections if hasattr(part, "get_sizes") and len(part.get_sizes())]
    assert sorted(len(offsets) for offsets in runs) == [10, 11]


def test_trade_off_of_one_seed_has_no_spread():
    figure = trade_off_curves({"a": np.array([[1.0], [2.0]])}, {"a": np.array([[3.0], [5.0]])}, "x", "y")
    means, widths, heights, _ = points(figure, "a")
    assert means.tolist() == [[1.0, 3.0], [2.0, 5.0]]
    assert widths == heights == [0.0, 0.0]


@pytest.mark.parametrize(
    ("x", "y", "settings", "message"),
    [
        ({}, {}, None, r"x and y must have the same conditions, one or more, got \[\] and \[\]"),
        ({"a": 1}, {"b": 1}, None, r"must have the same conditions, one or more, got \['a'\] and \['b'\]"),
        ({"a": [1.0]}, {"a": [1.0]}, None, r"x of 'a' must be \[W, S\], got \[1\]"),
        ({"a": [[1.0]]}, {"a": [[1.0, 2.0]]}, None, r"y of 'a' must be \[1, 1\], got \[1, 2\]"),
        (
            {"a": [[1.0], [np.nan]]},
            {"a": [[1.0], [2.0]]},
            None,
            "setting 1 of 'a' has no run of which",
        ),
        ({"a": [[1.0]]}, {"a": [[1.0]]}, {"b": ["1"]}, "settings of 'a' must have 1 entries, got 0"),
    ],
)
def test_wrong_scores_are_refused(x, y, settings, message):
    with pytest.raises(ValueError, match=message):
        trade_off_curves(x, y, "x", "y", settings)


@pytest.mark.parametrize(("count", "most", "shape"), [(3, 4, (1, 3)), (6, 4, (2, 3)), (7, 4, (2, 4)), (11, 6, (2, 6))])
def test_panels_leave_few_places_empty(count, most, shape):
    _, axes = panels(count, most, (2, 1))
    assert [axes[-1].get_subplotspec().get_gridspec().get_geometry(), len(axes)] == [shape, count]
