"""The documentation is so: its examples run, its Python is executed, its command lines parse."""

import json
import re
import shlex
import signal
from pathlib import Path

import pyro
import pytest
import torch

from pyro_hfvae.cli import main
from pyro_hfvae.cli.parser import build_parser
from pyro_hfvae.train import RunFolder

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))

EXAMPLES = ROOT / "docs" / "examples"


def fences(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands():
    text = "".join(block for page in [*PAGES, ROOT / "README.md"] for block in fences(page, "sh")).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith("pyro-hfvae")]
    return [line for line in lines if "--resume" not in line and "my_package" not in line]


@pytest.fixture(autouse=True)
def _examples(monkeypatch, tmp_path_factory):
    """The examples can be imported, keep no data among the user's own, and what they set for all is set back."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv("PYRO_HFVAE_DATA", str(tmp_path_factory.mktemp("data")))
    local = pyro.settings.get("module_local_params")
    yield
    pyro.settings.set(module_local_params=local)


@pytest.mark.parametrize("page", [page for page in PAGES if fences(page, "python")], ids=lambda page: page.stem)
def test_python_of_the_pages(page):
    exec(compile("\n".join(fences(page, "python")), str(page), "exec"), {"__name__": "docs"})


def test_python_of_the_readme():
    (example,) = fences(ROOT / "README.md", "python")
    assert "range(1000)" in example
    exec(compile(example.replace("range(1000)", "range(2)"), "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("line", commands())
def test_command_lines_of_the_pages(line, monkeypatch):
    monkeypatch.chdir(EXAMPLES if "bars.yaml" in line or "photos.yaml" in line else ROOT)
    build_parser().parse_args(shlex.split(line, comments=True)[1:])


def test_example_trains():
    from own_program import train

    _, _, first = train(steps=1)
    _, _, later = train(steps=100)
    assert later.elbo > first.elbo + 50
    assert all(term.isfinite() for term in later.scalars().values())
    assert later.mutual_information <= torch.tensor(112.0).log() + 1e-4


def test_example_from_fit_to_report(tmp_path):
    run = tmp_path / "bars"
    options = ["--trainer.max_steps", "20", "--trainer.val_check_interval", "10", "--trainer.accelerator", "cpu"]
    assert main(["fit", "--config", str(EXAMPLES / "bars.yaml"), "--run", str(run), *options]) == 0
    assert [main([command, str(run)]) for command in ("evaluate", "traverse", "report")] == [0, 0, 0]
    assert list(json.loads((run / "metrics.json").read_text())["terms"]["blocks"]) == ["direction", "look"]
    pictures = {path.stem for path in (run / "pictures").iterdir()}
    assert pictures >= {"reconstructions", "samples", "traversal_direction", "traversal_look"}
    assert (run / "report.html").stat().st_size > 10_000


def test_photos_in_groups_from_arrays_to_report(tmp_path, monkeypatch):
    first, *_ = (block for block in fences(ROOT / "docs" / "pairs.md", "python") if "photos.npz" in block)
    folder = "Path(tempfile.mkdtemp())  # yours: where you are"
    assert folder in first
    monkeypatch.chdir(tmp_path)
    exec(first.replace(folder, "Path()"), {})
    options = ["--trainer.max_steps", "6", "--trainer.val_check_interval", "3", "--trainer.accelerator", "cpu"]
    assert main(["fit", "--config", str(EXAMPLES / "photos.yaml"), *options]) == 0
    assert [main([command, "runs/photos"]) for command in ("evaluate", "traverse", "report")] == [0, 0, 0]
    run = tmp_path / "runs" / "photos"
    assert {path.stem for path in (run / "pictures").iterdir()} >= {"swap_person", "swap_light", "swap_rest"}
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["data"]["held_out"] == 20
    assert list(metrics["terms"]["blocks"]) == ["person", "light", "rest"]


def shortened(text):
    """A 500th of the steps, of training and of what ends with it."""
    return re.sub(r"(max_steps:? |total_steps: )(\d+)", lambda found: f"{found[1]}{int(found[2]) // 500}", text)


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "start.md"], ids=["readme", "start"])
def test_resuming_as_the_pages_print_it(page, tmp_path, monkeypatch):
    """Runs that are resumed are stopped at their second step, or end there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    demo = (ROOT / "experiments" / "demo.yaml").read_text(encoding="utf-8")
    (tmp_path / "experiments" / "demo.yaml").write_text(shortened(demo), encoding="utf-8")
    stop = {"class_path": "support.KillAt", "init_args": {"step": 2, "signum": int(signal.SIGTERM)}}
    text = "".join(fences(page, "sh")).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True)[1:] for line in shortened(text).splitlines()]
    resumed = [line for line in lines if "--resume" in line]
    assert resumed
    for line in resumed:
        run = line[line.index("--resume") + 1]
        starts = [line for line in lines if line[:3] == ["fit", "--config", "experiments/demo.yaml"]]
        (first,) = [line for line in starts if line[3:5] == (["--run", run] if run != "runs/demo" else [])]
        assert main([*first, "--trainer.callbacks", json.dumps([stop])]) in (0, 143)
        assert RunFolder(run).load_checkpoint()["global_step"] == 2
        assert main([*line, "--trainer.callbacks", "null"]) == 0
        assert RunFolder(run).load_checkpoint()["global_step"] == 5
