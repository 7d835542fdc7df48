import numpy as np
import pytest
from drawing import HOSTILE, cells_of, draw, labels
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from pyro_hfvae.plot import combination_grid, image_grid, swap_grid
from pyro_hfvae.plot.style import COLOURS


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


def test_a_picture_of_nan_leaves_its_place_empty():
    images = np.zeros((2, 2, 3, 5))
    images[1, 0] = np.nan
    images[0, 1, 1, 1] = np.nan  # one pixel is no empty place
    canvas = np.asarray(image_grid(images, ["a", "b"]).axes[0].images[0].get_array())
    assert (canvas[4:, :6] == 1).all()  # with what would be the line to its right
    assert canvas[0, 0] == canvas[4, 6] == 0
    assert np.isnan(canvas[1, 7])


@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from([(), (1,), (3,)]), st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_swaps_stand_between_their_originals(rows, columns, channels, seed):
    random = np.random.default_rng(seed)
    left, above, swapped = (
        random.random((*count, *channels, 4, 6)) for count in ((rows,), (columns,), (rows, columns))
    )
    figure = swap_grid(left, above, swapped, HOSTILE)
    drawn = cells_of(figure, (4, 6), (rows + 1, columns + 1))

    def shown(image):
        return np.moveaxis(image, 0, -1) if channels == (3,) else image.reshape(4, 6)

    assert (drawn[0, 0] == 1).all()
    for row in range(rows):
        np.testing.assert_array_equal(drawn[row + 1, 0], shown(left[row]))
        for column in range(columns):
            np.testing.assert_array_equal(drawn[0, column + 1], shown(above[column]))
            np.testing.assert_array_equal(drawn[row + 1, column + 1], shown(swapped[row, column]))
    assert labels(figure.axes[0].yaxis) == ["all else from", *[f"{HOSTILE} from"] * rows]
    assert figure.texts[0].get_text() == f"{HOSTILE} of the image on the left, all else of the image above"
    lines = figure.axes[0].lines
    assert [to_hex(line.get_color()) for line in lines] == [COLOURS[1]] * 2
    assert lines[0].get_ydata()[0] == 4  # the pixel between the originals and the rest
    assert lines[1].get_xdata()[0] == 6


def test_swaps_of_other_shapes_are_refused():
    images = np.zeros((2, 4, 4))
    with pytest.raises(ValueError, match=r"swapped must be \[R, Q, \.\.\.\].*got \[3, 2, 4, 4\] for \[2, 4, 4\] and"):
        swap_grid(images, images, np.zeros((3, 2, 4, 4)), "z")
    with pytest.raises(ValueError, match="of one shape of image"):
        swap_grid(np.zeros((2, 4, 5)), images, np.zeros((2, 2, 4, 4)), "z")


def test_combinations_stand_below_what_they_come_from():
    random = np.random.default_rng(0)
    donors, combined = random.random((3, 4, 2, 64, 64))[:, :, 0], random.random((4, 64, 64))
    figure = combination_grid(donors, combined, ["pose", HOSTILE, "digit"])
    drawn = cells_of(figure, (64, 64), (4, 4))
    np.testing.assert_array_equal(drawn[:3], donors)
    np.testing.assert_array_equal(drawn[3], combined)
    assert labels(figure.axes[0].yaxis) == ["pose from", f"{HOSTILE} from", "digit from", "together"]
    assert "combinations that no image has" in figure.texts[0].get_text()
    (line,) = figure.axes[0].lines
    assert 3 * 66 - 2.5 <= line.get_ydata()[0] <= 3 * 66 - 0.5  # in the gap above the last row


def test_combinations_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="blocks must have 2 entries, got 1"):
        combination_grid(np.zeros((2, 3, 4, 4)), np.zeros((3, 4, 4)), ["a"])
    with pytest.raises(ValueError, match=r"combined must be \[3, 4, 4\] for donors \[1, 3, 4, 4\], got \[2, 4, 4\]"):
        combination_grid(np.zeros((1, 3, 4, 4)), np.zeros((2, 4, 4)), ["a"])
