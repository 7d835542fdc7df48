"""Makes the pictures of the pages "Pictures" and "Checking a posterior" anew, but for the Hinton diagram.

``python docs/make_images.py [OPTION OF FIT ...]``: minutes. What it prints of the checks stands on their page too.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image

from pyro_hfvae.cli import main

DOCS = Path(__file__).parent
CONFIG = str(DOCS.parent / "experiments" / "mnist.yaml")
PICTURES = {
    "traversal_style": "traversal",
    "categories_digit": "categories",
    "swap_style": "swap",
    "combinations": "combinations",
    "aggregate_posterior": "aggregate",
    "pair_digit": "pair",
}
CHECKS = {name: name for name in ("guide", "calibration", "aggregate", "predictive")}
PAGES = {
    "pictures": (["--trainer.max_steps", "600"], "traverse", PICTURES),
    "checks": (["--objective.mutual_information", "0.5"], "check", CHECKS),
}
"""Options of the run, the command that draws, and what becomes of its pictures."""


def make(page: str, options: list[str]) -> None:
    """Trains, draws, and puts the pictures, with 256 colours, into ``docs/images``."""
    given, command, names = PAGES[page]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        for arguments in (["fit", "--config", CONFIG, "--run", str(run), *given, *options], [command, str(run)]):
            if main(arguments):
                sys.exit(1)
        for drawn, name in names.items():
            with Image.open(run / page / f"{drawn}.png") as picture:
                small = picture.convert("RGB").quantize(256)
            small.save(DOCS / "images" / f"{page}_{name}.png", optimize=True)


if __name__ == "__main__":
    for page in PAGES:
        make(page, sys.argv[1:])
