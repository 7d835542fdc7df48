"""Pictures that move: traversals as an animated GIF.

Shapes: `Q` pictures of `C` channels.
"""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from pyro_hfvae.plot.grids import Images, image_grid

__all__ = ["gif", "traversal_frames"]

IN_A_LINE = 5


def traversal_frames(rows: Sequence[Images], labels: Sequence[str], count: int, title: str) -> list[Figure]:
    """The frames of a traversal in which all variables move at once, each in a picture of its own.

    Args:
        rows: the traversal of each variable, `[Q, H, W]` or `[Q, C, H, W]`; rows may differ in Q.
        labels: their names.
        count: number of frames; frame t shows picture ⌊t Q / count⌋ of each row.
        title: a line above everything.

    Returns:
        The frames, all of one size.
    """
    if len(rows) != len(labels) or not rows:
        raise ValueError(f"a traversal has a label for each row, one or more, got {len(labels)} for {len(rows)} rows")
    if count < 1:
        raise ValueError(f"an animation has 1 frame or more, got {count}")
    across = min(IN_A_LINE, len(rows))
    lines = -(-len(rows) // across)
    empty = np.full_like(rows[0][0], np.nan)
    names = [*labels, *[""] * (lines * across - len(rows))]
    frames = []
    for step in range(count):
        shown = [row[step * len(row) // count] for row in rows]
        shown += [empty] * (len(names) - len(rows))
        images = np.stack(shown).reshape(lines, across, *rows[0].shape[1:])
        if lines == 1:
            frames.append(image_grid(images, [""], names, title))
        else:  # a line of pictures is named by its first and last
            ends = [names[at : at + across] for at in range(0, len(names), across)]
            sides = [" … ".join(dict.fromkeys([line[0], [name for name in line if name][-1]])) for line in ends]
            frames.append(image_grid(images, sides, None, title))
    return frames


def gif(frames: Sequence[Figure], milliseconds: int = 150) -> bytes:
    """An animated GIF that runs through the frames and back, without end.

    Args:
        frames: figures of one size, one or more.
        milliseconds: how long each is shown.
    """
    if not frames:
        raise ValueError("an animation has 1 frame or more, got 0")
    pictures = [_dots(frame) for frame in frames]
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        raise ValueError(f"the frames of an animation have one size, got {sorted(sizes)} dots")
    there_and_back = [*pictures, *pictures[-2:0:-1]]
    content = io.BytesIO()
    there_and_back[0].save(
        content, "GIF", save_all=True, append_images=there_and_back[1:], duration=milliseconds, loop=0
    )
    return content.getvalue()


def _dots(figure: Figure) -> Image.Image:
    """A figure in the 256 colours that a GIF can have."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=figure.dpi)
    return Image.open(content).convert("RGB").quantize(256)
