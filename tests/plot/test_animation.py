"""Animations: which pictures are in which frame, and that the file holds the frames."""

import io

import numpy as np
import pytest
from drawing import HOSTILE, cells_of, draw, labels
from PIL import Image

from pyro_hfvae.plot import gif, image_grid, traversal_frames

RANDOM = np.random.default_rng(0)


def test_each_frame_has_the_picture_of_each_variable():
    rows = [RANDOM.random((6, 1, 4, 5)), RANDOM.random((3, 1, 4, 5)), RANDOM.random((6, 1, 4, 5))]
    frames = traversal_frames(rows, ["a", HOSTILE, "c"], 6, "block")
    assert len(frames) == 6
    for step, frame in enumerate(frames):
        drawn = cells_of(frame, (4, 5), (1, 3))[0]
        for place, row in enumerate(rows):
            np.testing.assert_array_equal(drawn[place], row[step // 2 if place == 1 else step, 0])
        assert labels(frame.axes[0].xaxis) == ["a", HOSTILE, "c"]
        assert frame.texts[0].get_text() == "block"


def test_many_variables_take_several_lines():
    rows = [RANDOM.random((2, 3, 4, 4)) for _ in range(7)]
    frames = traversal_frames(rows, [f"z[{place}]" for place in range(7)], 2, "z")
    for step, frame in enumerate(frames):
        drawn = cells_of(frame, (4, 4), (2, 5)).reshape(10, 4, 4, 3)
        for place, row in enumerate(rows):
            np.testing.assert_array_equal(drawn[place], np.moveaxis(row[step], 0, -1))
        assert (drawn[7:] == 1).all()
        assert labels(frame.axes[0].yaxis) == ["z[0] … z[4]", "z[5] … z[6]"]


def test_a_line_of_one_variable_is_named_once():
    frames = traversal_frames([np.zeros((1, 4, 4))] * 6, list("abcdef"), 1, "t")
    assert labels(frames[0].axes[0].yaxis) == ["a … e", "f"]


def test_the_file_runs_through_the_frames_and_back():
    levels = [0.0, 0.25, 0.5, 1.0]
    frames = [image_grid(np.full((1, 1, 4, 4), level), [""]) for level in levels]
    read = Image.open(io.BytesIO(gif(frames, milliseconds=70)))
    assert read.format == "GIF"
    assert read.info["loop"] == 0
    height, width = draw(frames[0]).shape[:2]
    assert read.size == (width, height)
    seen = []
    for frame in range(read.n_frames):
        read.seek(frame)
        assert read.info["duration"] == 70
        dots = np.asarray(read.convert("L"), float)
        seen.append(dots[dots.shape[0] // 2, dots.shape[1] // 2] / 255)
    assert seen == pytest.approx([0.0, 0.25, 0.5, 1.0, 0.5, 0.25], abs=0.02)  # 256 colours


def test_what_cannot_move_is_refused():
    with pytest.raises(ValueError, match="an animation has 1 frame or more, got 0"):
        gif([])
    with pytest.raises(ValueError, match="an animation has 1 frame or more, got 0"):
        traversal_frames([np.zeros((1, 4, 4))], ["a"], 0, "t")
    with pytest.raises(ValueError, match="a label for each row, one or more, got 2 for 1 rows"):
        traversal_frames([np.zeros((1, 4, 4))], ["a", "b"], 3, "t")
    different = [image_grid(np.zeros((1, count, 4, 4)), [""]) for count in (1, 3)]
    with pytest.raises(ValueError, match=r"the frames of an animation have one size, got \[\("):
        gif(different)
