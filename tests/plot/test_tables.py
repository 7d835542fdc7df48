import numpy as np
import pytest
from drawing import HOSTILE, draw, labels
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from pyro_hfvae.plot import block_factor_heatmap, hinton_diagram, importance_matrix
from pyro_hfvae.plot.style import COLOURS


def cells(figure: Figure) -> dict[tuple[int, int], str]:
    """(row, column) to what is written there."""
    return {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in figure.axes[0].texts}


def test_heatmap_says_each_score_its_measure_and_its_chance():
    score = np.array([[0.98, -0.021], [0.4, 0.951]])
    figure = block_factor_heatmap(
        score, ["digit", "pose"], ["shape", "x"], np.array([0.333, 0.0]), ["accuracy", "r2"], np.array([0.99, np.nan])
    )
    draw(figure)
    axes = figure.axes[0]
    assert cells(figure) == {
        **{(0, 0): "0.98", (0, 1): "-0.02", (1, 0): "0.40"},
        **{(1, 1): "0.95", (2, 0): "0.99", (2, 1): "–"},
    }
    assert labels(axes.xaxis) == ["shape\naccuracy\nchance 0.33", "x\nR²\nchance 0.00"]
    assert labels(axes.yaxis) == ["digit", "pose", "all blocks"]
    assert axes.images[0].get_clim() == (0.0, 1.0)
    np.testing.assert_array_equal(axes.images[0].get_array()[:2], score)


def test_heatmap_without_chance_and_without_all():
    figure = block_factor_heatmap(np.array([[0.5]]), [HOSTILE], [HOSTILE], None, ["accuracy"])
    draw(figure)
    assert labels(figure.axes[0].xaxis) == [HOSTILE + "\naccuracy"]
    assert labels(figure.axes[0].yaxis) == [HOSTILE]


def test_text_stands_out_from_its_cell():
    figure = block_factor_heatmap(np.array([[0.0, 1.0]]), ["a"], ["dark", "bright"], None, ["r2", "r2"])
    assert [text.get_color() for text in figure.axes[0].texts] == ["white", "black"]


def test_importance_groups_the_variables_by_block():
    matrix = np.array([[0.1], [0.2], [0.3], [1.7]])
    variables = ["pose[0]", "digit", "pose[1]", "style"]
    figure = importance_matrix(matrix, variables, ["x"], "importance", ["pose", "digit", "pose", "style"])
    draw(figure)
    axes = figure.axes[0]
    assert labels(axes.yaxis) == ["pose[0]", "pose[1]", "digit", "style"]
    assert [cells(figure)[row, 0] for row in range(4)] == ["0.10", "0.30", "0.20", "1.70"]
    assert axes.images[0].get_clim() == (0.0, 1.7)
    assert figure.get_suptitle() == "importance"
    (sides,) = axes.child_axes
    assert labels(sides.yaxis) == ["pose", "digit", "style"]
    assert sides.get_yticks().tolist() == [0.5, 2.0, 3.0]


def test_a_long_title_of_a_narrow_matrix_is_not_cut_off():
    figure = importance_matrix(
        np.ones((1, 1)), ["a"], ["x"], "a title of more words than the matrix has numbers", ["a"]
    )
    draw(figure)
    box = figure.texts[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


def test_tables_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"score must be \[1, 2\], got \[2, 1\]"):
        block_factor_heatmap(np.zeros((2, 1)), ["a"], ["x", "y"], None, ["r2", "r2"])
    with pytest.raises(ValueError, match=r"chance must be \[1\], got \[2\]"):
        block_factor_heatmap(np.zeros((1, 1)), ["a"], ["x"], np.zeros(2), ["r2"])
    with pytest.raises(ValueError, match="block_of must have 2 entries, got 1"):
        importance_matrix(np.zeros((2, 1)), ["a", "b"], ["x"], "", ["a"])


def squares(figure: Figure) -> dict[tuple[int, int], tuple[float, str]]:
    """(row, column) to area and colour of the square there."""
    found = {}
    for patch in figure.axes[0].patches:
        if to_hex(patch.get_facecolor()) in COLOURS:
            assert patch.get_width() == patch.get_height()
            middle = [corner + patch.get_width() / 2 for corner in patch.get_xy()]
            np.testing.assert_allclose(middle, np.round(middle), atol=1e-12)
            place = (round(middle[1]), round(middle[0]))
            found[place] = (patch.get_width() ** 2, to_hex(patch.get_facecolor()))
    return found


def test_hinton_areas_are_the_importances_and_colours_the_blocks():
    matrix = np.array([[0.4, 0.0], [0.1, 0.8], [0.5, 0.2]])
    variables, factors = ["pose[0]", "digit", HOSTILE], ["x", HOSTILE]
    figure = hinton_diagram(matrix, variables, factors, HOSTILE, ["pose", "digit", "pose"])
    draw(figure)
    axes = figure.axes[0]
    order = [0, 2, 1]
    assert labels(axes.yaxis) == [variables[row] for row in order]
    assert labels(axes.xaxis) == factors
    assert figure.get_suptitle() == HOSTILE
    drawn = squares(figure)
    largest = drawn[2, 1][0]
    assert 0.8 < largest <= 1  # the largest number all but fills its cell
    for (row, column), (area, colour) in drawn.items():
        assert area / largest == pytest.approx(matrix[order[row], column] / 0.8)
        assert colour == COLOURS[0 if row < 2 else 1]
    assert len(drawn) == 6
    assert axes.get_aspect() == 1  # a square is a square
    (sides,) = axes.child_axes
    assert labels(sides.yaxis) == ["pose", "digit"]
    assert [line.get_ydata()[0] for line in axes.lines] == [1.5]


def test_hinton_squares_are_square_on_the_page():
    seen = draw(hinton_diagram(np.eye(2), ["a", "b"], ["x", "a factor of many words"], "t", ["a", "b"])).astype(int)
    for colour in COLOURS[:2]:
        rgb = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        rows, columns = np.nonzero((abs(seen[..., :3] - rgb) < 8).all(-1))
        assert abs(np.ptp(rows) - np.ptp(columns)) <= 1
        assert np.ptp(rows) > 40


def test_hinton_of_nothing():
    assert all(area == 0 for area, _ in squares(hinton_diagram(np.zeros((2, 2)), "ab", "xy", "t", "ab")).values())


@pytest.mark.parametrize("value", [-0.1, np.nan])
def test_no_square_has_such_an_area(value):
    with pytest.raises(ValueError, match="matrix must be finite and not negative: the area of a square is its number"):
        hinton_diagram(np.array([[value]]), ["a"], ["x"], "t", ["a"])


def test_hinton_of_the_wrong_shape():
    with pytest.raises(ValueError, match=r"matrix must be \[1, 2\], got \[2, 1\]"):
        hinton_diagram(np.zeros((2, 1)), ["a"], ["x", "y"], "t", ["a"])
    with pytest.raises(ValueError, match="block_of must have 1 entries, got 2"):
        hinton_diagram(np.zeros((1, 1)), ["a"], ["x"], "t", ["a", "b"])
