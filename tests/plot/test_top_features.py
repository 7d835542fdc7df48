import numpy as np
import pytest
from drawing import HOSTILE, draw, labels

from pyro_hfvae.plot import Response, Responses, top_features

POINTS = np.array([-1.0, 0.0, 1.0])


def words(table, points=POINTS, discrete=False):
    """Expected counts of each word at each value."""
    features = [Response(name, np.asarray(counts, float)[:, None], 1.0, counted=True) for name, counts in table.items()]
    return Responses("topic", points, discrete, features)


def bars(panel):
    """Of each word from where to where its bar goes, and where the dot is."""
    lines, dots = panel.collections
    ends = [segment[:, 0].tolist() for segment in lines.get_segments()]
    return {
        name: (*end, dot)
        for name, end, dot in zip(labels(panel.yaxis), ends, dots.get_offsets()[:, 0].tolist(), strict=True)
    }


def test_what_rises_and_what_falls():
    """In roots, which is how visible it is: .1 → 1.6 changes by .95, 100 → 110 by .49, 9 → 1 by -2."""
    table = {"rare": (0.1, 0.5, 1.6), "common": (100, 105, 110), "falling": (9, 4, 1), "still": (5, 7, 5)}
    figure = top_features([words(table)], HOSTILE)
    draw(figure)
    rises, falls = figure.axes
    assert (rises.get_title(loc="right"), falls.get_title(loc="right")) == ("rises", "falls")
    assert bars(rises) == {"rare": pytest.approx((0.1, 1.6, 1.6)), "common": pytest.approx((100, 110, 110))}
    assert bars(falls) == {"falling": pytest.approx((9, 1, 1))}
    assert rises.get_xscale() == "log"
    assert figure.texts[-1].get_text() == "topic: -1.0 to 1.0  (4 features)"


def test_categories_against_the_mean_of_all():
    figure = top_features([words({"a": (1, 1, 7), "b": (6, 0, 0), "c": (2, 2, 2)}, np.arange(3.0), True)], "")
    draw(figure)
    assert [panel.get_title(loc="right") for panel in figure.axes] == ["topic = 0", "topic = 1", "topic = 2"]
    assert [bars(panel) for panel in (figure.axes[0], figure.axes[2])] == [
        {"b": pytest.approx((2, 6, 6))},
        {"a": pytest.approx((3, 7, 7))},
    ]
    (nothing,) = figure.axes[1].texts
    assert nothing.get_text() == "nothing"


def test_eight_of_many_words():
    table = {f"{at} is a word with a long name": (1, 1, 2 + at) for at in range(3000)}
    figure = top_features([words(table)], "")
    draw(figure)
    assert len(bars(figure.axes[0])) == 8
    boxes = [text.get_window_extent() for text in figure.axes[0].yaxis.get_ticklabels()]
    assert min(box.x0 for box in boxes) >= 0


@pytest.mark.parametrize("last", [0.0, 1e-30, 1.001, 1e9])
def test_counts_of_any_size(last):
    figure = top_features([words({"a": (1, 1, last), "b": (last, 1, 1)})], "")
    draw(figure)
    for panel in figure.axes:
        assert len(panel.get_xticks()) >= 2 or not bars(panel)


def test_nothing_to_draw():
    for nothing in ([], [words({})]):
        with pytest.raises(ValueError, match="top features need one variable or more, and features"):
            top_features(nothing, "")
    with pytest.raises(ValueError, match="expected counts are not negative, but those at values of topic are"):
        top_features([words({"a": (1, -1, 1)})], "")
