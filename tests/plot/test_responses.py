import numpy as np
import pytest

from pyro_hfvae.plot import Response, Responses


def test_how_far_a_feature_moves():
    """From 1 to 5, in spreads of 2; of several numbers the length of the way, of categories the largest change."""
    assert Response("a", np.array([[2.0], [1], [5]]), 2.0).moved == 2
    assert Response("b", np.array([[0.0, 0], [3, 4]]), 2.5).moved == 2
    assert Response(
        "k", np.array([[0.1, 0.6, 0.3], [0.7, 0.1, 0.2]]), 9.0, labels=("a", "b", "c")
    ).moved == pytest.approx(0.6)
    assert Response("c", np.array([[0.0], [1]]), 0.0).moved == 0


def test_those_that_move_most():
    features = [Response(name, np.array([[0.0], [far]]), 1.0) for name, far in (("a", 1), ("b", -3), ("c", 1))]
    one = Responses("z", np.array([-1.26, 0.0]), False, features)
    assert [feature.name for feature in one.most_moved(2)] == ["b", "a"]
    assert one.title == "z: -1.3 to 0.0"
    assert Responses("y", np.arange(2.0), True, features).title == "y: 0 to 1"


def test_what_does_not_go_together():
    with pytest.raises(ValueError, match=r"values of 'a' must be \[Q, n\] with Q of 2 or more, got \(1, 3\)"):
        Response("a", np.zeros((1, 3)), 1.0)
    with pytest.raises(ValueError, match="'a' has 2 labels for 3 categories"):
        Response("a", np.zeros((2, 3)), 1.0, labels=("x", "y"))
    with pytest.raises(ValueError, match="'a' has 2 values for 3 points of z"):
        Responses("z", np.zeros(3), False, [Response("a", np.zeros((2, 1)), 1.0)])
