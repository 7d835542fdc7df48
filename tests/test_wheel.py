"""The wheel: all that the package needs is inside, nothing else is installed, and it works away from the checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pyro_hfvae

ROOT = Path(__file__).parents[1]
SOURCES = ("pyro_hfvae", "models", "guides", "experiments", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")

LOOK = """
import runpy, sys
import pyro_hfvae, pyro_hfvae.experiments, pyro_hfvae.guides, pyro_hfvae.models
for module in (pyro_hfvae, pyro_hfvae.experiments, pyro_hfvae.guides, pyro_hfvae.models):
    print(module.__file__)
sys.argv[1:] = ["--version"]
runpy.run_module("pyro_hfvae", run_name="__main__")
"""


def python(*arguments, path, cwd):
    """Runs Python away from the checkout; ``path`` is looked through before the editable install."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment | {"PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_has_all_and_works_away_from_the_checkout(tmp_path):
    pytest.importorskip("setuptools", minversion="77", reason="needed to build without a network")
    pytest.importorskip("wheel")
    tree, site = tmp_path / "tree", tmp_path / "site"
    tree.mkdir()
    junk = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for source in (ROOT / name for name in SOURCES):
        if source.is_dir():
            shutil.copytree(source, tree / source.name, ignore=junk)
        elif source.is_file():
            shutil.copy(source, tree)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", tmp_path, tree]
    subprocess.run(build, check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"pyro_hfvae-{pyro_hfvae.__version__}-py3-none-any.whl"
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", site, wheel], check=True, cwd=tmp_path)

    installed = {path.name for path in site.iterdir()} - {"bin", "__pycache__"}
    assert installed == {"pyro_hfvae", f"pyro_hfvae-{pyro_hfvae.__version__}.dist-info"}
    inside = {path.relative_to(site / "pyro_hfvae").as_posix() for path in (site / "pyro_hfvae").rglob("*")}
    assert {"py.typed", "plot/report.html", "models/image.py", "guides/image.py", "experiments/demo.yaml"} <= inside
    parts = {"models": "models", "guides": "guides", "experiments": "experiments", "pyro_hfvae": "."}
    for source, place in parts.items():
        for path in (ROOT / source).rglob("*"):
            if path.suffix in (".py", ".yaml", ".html"):
                assert (Path(place) / path.relative_to(ROOT / source)).as_posix() in inside

    away = tmp_path / "away"
    away.mkdir()
    *files, version = python("-c", LOOK, path=site, cwd=away).splitlines()
    assert version == f"pyro-hfvae {pyro_hfvae.__version__}"
    assert len(files) == 4
    assert all(Path(file).is_relative_to(site) for file in files), files  # not the checkout's
    assert "--objective.between" in python("-m", "pyro_hfvae", "fit", "--help", path=site, cwd=away)
