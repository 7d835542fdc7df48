import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from pyro_hfvae.plot import block_factor_heatmap, image_grid, importance_matrix, term_curves

HOSTILE = "$x^{$ <b>&\\frac"


def draw(figure: Figure) -> np.ndarray:
    """Draw without a display; the dots `[height, width, 4]`."""
    content = io.BytesIO()
    figure.savefig(content, format="raw")
    width, height = (round(side * figure.dpi) for side in figure.get_size_inches())
    return np.frombuffer(content.getvalue(), np.uint8).reshape(height, width, 4)


def labels(axis) -> list[str]:
    return [text.get_text() for text in axis.get_ticklabels()]


def cells(figure: Figure) -> dict[tuple[int, int], str]:
    """(row, column) to what is written there."""
    return {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in figure.axes[0].texts}


@pytest.mark.parametrize(("channels", "size"), [((), (6, 5)), ((1,), (64, 64)), ((3,), (7, 70))])
def test_each_image_is_in_its_cell(channels, size):
    images = np.random.default_rng(0).random((4, 3, *channels, *size)).astype("float32")
    figure = image_grid(images, ["a", "b", "c", "d"])
    (axes,) = figure.axes
    (picture,) = axes.images
    canvas = np.asarray(picture.get_array())
    assert picture.get_clim() == (0.0, 1.0)
    assert canvas.shape[2:] == ((3,) if channels == (3,) else ())
    gap = max(1, size[1] // 32)
    assert canvas.shape[:2] == (4 * size[0] + 3 * gap, 3 * size[1] + 2 * gap)
    for row in range(4):
        for column in range(3):
            down, right = row * (size[0] + gap), column * (size[1] + gap)
            cell = canvas[down : down + size[0], right : right + size[1]]
            expected = images[row, column]
            expected = np.moveaxis(expected, 0, -1) if channels == (3,) else expected.reshape(size)
            np.testing.assert_allclose(cell, expected)
            assert down <= axes.get_yticks()[row] <= down + size[0] - 1


def test_a_pixel_is_a_square_of_whole_dots():
    images = np.indices((28, 28)).sum(0)[None, None] % 2.0
    seen = draw(image_grid(images, ["row"], ["column"], "title"))[..., 0]
    board = np.kron(images[0, 0] * 255, np.ones((4, 4)))
    found = [
        (top, left)
        for top in range(seen.shape[0] - 112 + 1)
        for left in range(seen.shape[1] - 112 + 1)
        if seen[top, left] == 0 and np.array_equal(seen[top : top + 112, left : left + 112], board)
    ]
    assert len(found) == 1


def test_labels_are_in_order_and_read_as_they_stand():
    names = ["pose[0]", "pose[1]", HOSTILE]
    figure = image_grid(np.zeros((3, 2, 8, 8)), names, ["-2.0", "$+2.0"], HOSTILE)
    draw(figure)
    (axes,) = figure.axes
    assert labels(axes.yaxis) == names
    assert labels(axes.xaxis) == ["-2.0", "$+2.0"]
    assert [text.get_text() for text in figure.texts] == [HOSTILE]


@pytest.mark.parametrize("columns", [None, ["a column with a name that is too long", "2"]])
def test_no_label_is_cut_off_or_overlaps(columns):
    figure = image_grid(
        np.zeros((2, 2, 8, 8)), ["x", "a row with a long name"], columns, "a title that is longer still"
    )
    draw(figure)
    whole = figure.bbox
    drawn = [*figure.axes[0].get_yticklabels(), *figure.axes[0].get_xticklabels(), *figure.texts]
    boxes = [text.get_window_extent() for text in drawn]
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= whole.x1
        assert box.y1 <= whole.y1
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_values_out_of_range_are_clipped():
    canvas = image_grid(np.array([[[[-1.0, 2.0]]]]), [""]).axes[0].images[0].get_array()
    assert canvas.tolist() == [[0.0, 1.0]]


def test_the_largest_grid_is_one_image():
    figure = image_grid(np.zeros((30, 16, 64, 64), "float32"), [f"style[{row}]" for row in range(30)])
    assert len(figure.axes) == len(figure.axes[0].images) == 1


@pytest.mark.parametrize(
    ("images", "rows", "columns", "message"),
    [
        (np.zeros((2, 3, 4)), ["", ""], None, r"images must be \[R, Q, H, W\].*got \[2, 3, 4\]"),
        (np.zeros((2, 3, 2, 4, 4)), ["", ""], None, r"C = 1 or 3, got \[2, 3, 2, 4, 4\]"),
        (np.zeros((2, 0, 4, 4)), ["", ""], None, r"got \[2, 0, 4, 4\]"),
        (np.zeros((2, 3, 4, 4), np.uint8), ["", ""], None, r"floating values in 0\.\.1, got uint8"),
        (np.zeros((2, 3, 4, 4)), [""], None, "row_labels must have 2 entries, got 1"),
        (np.zeros((2, 3, 4, 4)), ["", ""], ["", ""], "column_labels must have 3 entries, got 2"),
    ],
)
def test_wrong_images_are_refused(images, rows, columns, message):
    with pytest.raises(ValueError, match=message):
        image_grid(images, rows, columns)


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
    assert figure.get_supylabel() == "nats per datum"


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
