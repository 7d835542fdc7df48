import numpy as np
import pytest
from drawing import HOSTILE, draw

from pyro_hfvae.plot import Response, Responses, object_grid

SETS = np.random.default_rng(0).normal(size=(10, 4, 3))  # [Q, O, V]


def moved(sets=SETS, name="z[0]", discrete=False):
    points = np.arange(len(sets), dtype=float)
    return Responses(name, points, discrete, [Response(f"f{v}", sets[..., v], 1.0) for v in range(sets.shape[2])])


def dots(panel):
    """Place and area of each object."""
    return np.array([[*np.ma.filled(dot.get_offsets(), np.nan)[0], dot.get_sizes()[0]] for dot in panel.collections])


def test_every_object_is_a_dot_where_its_features_are():
    figure = object_grid([moved(), moved(SETS[:2], "kind", discrete=True)], HOSTILE)
    draw(figure)
    assert len(figure.axes) == 5 + 2
    for panel, at in zip(figure.axes, [0, 2, 4, 7, 9, 0, 1], strict=True):  # at even distances
        np.testing.assert_allclose(dots(panel)[:, :2], SETS[at, :, :2])
        assert panel.get_xlim() == figure.axes[0].get_xlim()
        assert panel.get_ylim() == figure.axes[0].get_ylim()
    drawn = np.concatenate([dots(panel)[:, 2] for panel in figure.axes[:5]])
    third = SETS[[0, 2, 4, 7, 9], :, 2].flatten()
    assert np.corrcoef(drawn, third)[0, 1] == pytest.approx(1)
    assert any("across f0 " in text.get_text() for text in figure.texts)


def test_two_features_and_an_object_that_is_not_there():
    sets = SETS[..., :2].copy()
    sets[:, 0] = np.nan
    figure = object_grid([moved(sets)], "")
    draw(figure)
    assert len(set(dots(figure.axes[0])[:, 2])) == 1


def test_what_are_no_objects():
    others = Responses(
        "z", np.arange(2.0), False, [Response(n, np.zeros((2, k)), 1.0) for n, k in (("a", 2), ("b", 3))]
    )
    for wrong in ([], [moved(SETS[..., :1])], [others]):
        with pytest.raises(ValueError, match="needs one variable or more, and 2 features or more of the same objects"):
            object_grid(wrong, "")
