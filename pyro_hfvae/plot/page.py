"""A self-contained HTML page: its templates, its pictures, and where it is written."""

import base64
import io
import math
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from matplotlib.figure import Figure
from PIL import Image

from pyro_hfvae.files import write_atomically
from pyro_hfvae.plot.style import DPI
from pyro_hfvae.plot.summary import number

__all__ = ["Picture", "duration", "embed", "from_figure", "require_page", "write_page"]

GENERATOR = b'<meta name="generator" content="pyro-hfvae report">'
"""In the head of every page: only a file with it is overwritten."""


class Picture(NamedTuple):
    """A PNG or GIF inside the page.

    Attributes:
        source: the `data:` address.
        width: how wide it is shown where there is room, in CSS pixels.
        caption: what it shows.
    """

    source: str
    width: int
    caption: str


def write_page(path: Path, template: str, **content: Any) -> None:
    """Fills a template of this package and writes the page, whole or not at all."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pyro_hfvae.plot", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "log": math.log, "duration": duration}
    write_atomically(path, environment.get_template(template).render(**content))


def require_page(path: Path) -> None:
    """Refuses a place where a page would take that of something else.

    Raises:
        ValueError: there is no such folder, or something that is no page of ours stands there.
    """
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder; name a file with --output")
    if path.exists() and GENERATOR not in path.read_bytes()[:2000]:
        raise ValueError(f"{path} exists and is no report of pyro-hfvae: name another file with --output")


def embed(file: Path, caption: str) -> Picture:
    """A picture for the page, as large as it was drawn: one of 200 dots per inch has two dots for each CSS pixel.

    Raises:
        ValueError: it is neither PNG nor GIF, or is damaged; names the file.
    """
    try:
        return _embed(file.read_bytes(), caption)
    except Exception as error:  # Pillow raises several kinds
        raise ValueError(f"'{file}' is not a whole PNG or GIF: {' '.join(str(error).split())}") from error


def from_figure(figure: Figure, caption: str) -> Picture:
    """A figure as a picture for the page."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    return _embed(content.getvalue(), caption)


def _embed(picture: bytes, caption: str) -> Picture:
    with Image.open(io.BytesIO(picture), formats=("PNG", "GIF")) as image:
        image.verify()  # checksums, after which an image must be opened again
    with Image.open(io.BytesIO(picture), formats=("PNG", "GIF")) as image:
        kind, width = str(image.format).lower(), image.width * 100 / image.info.get("dpi", (100, 100))[0]
        image.load()  # all pixels are there
    return Picture(f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}", round(width), caption)


def duration(seconds: float | None) -> str | None:
    """A time in words; None where it is not known."""
    if seconds is None:
        return None
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
