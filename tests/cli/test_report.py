"""``pyro-hfvae report --complete`` on tiny runs: what it makes, what it leaves, what fails."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from synthetic_runs import Page

from pyro_hfvae.cli import main
from pyro_hfvae.cli.report import report
from pyro_hfvae.plot import image_grid
from pyro_hfvae.run_outputs import OUTPUT_FILES, output_step, record_files
from pyro_hfvae.train import RunFolder

TINY = str(Path(__file__).parents[1] / "tiny.yaml")
REPORT = report.__globals__
SUBCOMMANDS = ("evaluate", "traverse", "check")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of 3 steps; not to be changed."""
    run = tmp_path_factory.mktemp("runs") / "trained"
    assert main(["fit", "--config", TINY, "--run", str(run), "--trainer.max_steps", "3"]) == 0
    return run


@pytest.fixture
def run(trained, tmp_path):
    return RunFolder(Path(shutil.copytree(trained, tmp_path / "run")))


@pytest.fixture
def made(monkeypatch):
    """The parts that were made, in place of what takes long; those in ``broken`` fail."""
    calls, broken = [], {}

    def quick(command):
        def make(run, options):
            calls.append((command, run.folder.path.name, run.step))
            assert options.run == run.folder.path
            if command in broken:
                raise broken[command]
            if command == "evaluate":
                run.folder.metrics.write_text(json.dumps({"step": run.step}))
                return
            folder = run.folder.path / Path(OUTPUT_FILES[command]).parent
            folder.mkdir(exist_ok=True)
            image_grid(np.full((1, 1, 4, 4), 0.5), [""]).savefig(folder / f"{command}.png")
            record_files(folder, run.step, [f"{command}.png"])
            if command == "check":
                (folder / "summary.txt").write_text("6 of 6 checks are fine\nfine  all\n")

        return make

    monkeypatch.setitem(REPORT, "MAKE", {command: quick(command) for command in SUBCOMMANDS})
    return SimpleNamespace(calls=calls, broken=broken)


def resume(run, steps):
    assert main(["fit", "--resume", str(run.path), "--trainer.max_steps", str(steps)]) == 0


def page(run):
    return Page((run.path / "report.html").read_text()).text


def test_what_is_missing_is_made_and_nothing_else(run, made, capsys):
    assert main(["report", str(run.path), "--complete"]) == 0
    assert made.calls == [(command, "run", 3) for command in SUBCOMMANDS]
    out = capsys.readouterr().out
    assert out.splitlines()[:3] == [f"{command} {run.path}: to be done" for command in SUBCOMMANDS]
    assert out.splitlines()[-1] == f"report: {run.path / 'report.html'}"
    assert "The guide as a posterior: 6 of 6 checks are fine." in page(run)
    made.calls.clear()
    (run.checks / "drawn.json").unlink()  # as of a check that was stopped
    before = {path: path.stat().st_mtime_ns for path in (run.metrics, *run.pictures.iterdir())}
    assert main(["report", str(run.path), "--complete"]) == 0
    assert made.calls == [("check", "run", 3)]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert f"evaluate {run.path}: done at step 3\n" in capsys.readouterr().out


def test_nothing_is_loaded_where_nothing_is_missing(run, made, monkeypatch):
    assert main(["report", str(run.path), "--complete"]) == 0
    made.calls.clear()
    monkeypatch.setitem(REPORT, "load_run", None)
    assert main(["report", str(run.path), "--complete"]) == 0
    assert made.calls == []


def test_without_the_option_nothing_is_made(run, made):
    assert main(["report", str(run.path)]) == 0
    assert made.calls == []
    assert "Terms and scores are not known: 'pyro-hfvae evaluate' measures them." in page(run)


def test_a_run_that_was_trained_further_is_measured_again_or_the_page_says_so(run, made, capsys):
    assert main(["report", str(run.path), "--complete"]) == 0
    assert "newest checkpoint" not in page(run)
    resume(run, 5)
    made.calls.clear()
    assert main(["report", str(run.path)]) == 0
    assert made.calls == []
    assert (
        "The newest checkpoint is of step 5, but the numbers are of step 3, the pictures are of step 3, the checks are "
        "of step 3. 'pyro-hfvae report --complete' makes them anew." in page(run)
    )
    capsys.readouterr()
    assert main(["report", str(run.path), "--complete"]) == 0
    assert made.calls == [(command, "run", 5) for command in SUBCOMMANDS]
    assert f"traverse {run.path}: done at step 3, to be done again\n" in capsys.readouterr().out
    assert "newest checkpoint" not in page(run)


def test_several_runs_and_their_page(run, made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run.path, "other")
    assert main(["report", "run", "--complete"]) == 0
    resume(run, 4)
    shutil.copytree("run", "third")
    made.calls.clear()
    assert main(["report", "other", "run", "--complete"]) == 0
    assert made.calls == [(c, "other", 3) for c in SUBCOMMANDS] + [(c, "run", 4) for c in SUBCOMMANDS]
    assert capsys.readouterr().out.endswith("\nreport: report.html\n")
    text = Page(Path("report.html").read_text()).text
    assert "Checks of the posterior other, group 1: 6 of 6 checks are fine" in text
    assert "newest checkpoint" not in text
    assert main(["report", "other", "third"]) == 0
    text = Page(Path("report.html").read_text()).text
    assert "third: The newest checkpoint is of step 4, but the numbers are of step 3" in text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("--columns 10 is more\nthan the 8"), "--columns 10 is more than the 8"),
        (RuntimeError("sizes of tensors differ"), "RuntimeError: sizes of tensors differ"),
    ],
)
def test_a_part_that_fails_leaves_the_others(run, made, capsys, error, said):
    made.broken["check"] = error
    assert main(["report", str(run.path), "--complete"]) == 2
    out, err = capsys.readouterr()
    assert err == f"pyro-hfvae: error: check of '{run.path}' failed: {said}\n"
    assert out.endswith(f"report: {run.path / 'report.html'}\n")
    assert "It was not checked" in page(run)
    made.broken.clear()
    made.calls.clear()
    assert main(["report", str(run.path), "--complete"]) == 0
    assert made.calls == [("check", "run", 3)]


def test_a_page_without_its_numbers(run, made, capsys):
    made.broken |= {"evaluate": ValueError("no"), "traverse": OSError("full")}
    assert main(["report", str(run.path), "--complete"]) == 2
    out, err = capsys.readouterr()
    assert err == f"pyro-hfvae: error: evaluate of '{run.path}' failed: no; traverse of '{run.path}' failed: full\n"
    assert out.endswith(f"report: {run.path / 'report.html'}\n")
    assert "Terms and scores are not known" in page(run)
    assert "The guide as a posterior: 6 of 6 checks are fine." in page(run)
    assert (run.checks / "summary.txt").is_file()


def test_a_run_that_cannot_be_loaded_leaves_the_others(run, made, tmp_path, capsys):
    bare = Path(shutil.copytree(run.path, tmp_path / "bare"))
    (bare / "checkpoints" / "last.ckpt").unlink()
    assert main(["report", str(bare), str(run.path), "--complete", "--output", str(tmp_path / "page.html")]) == 2
    assert capsys.readouterr().err == (
        f"pyro-hfvae: error: run '{bare}' has no checkpoint yet ({bare}/checkpoints/last.ckpt): wait for one if it is "
        f"being trained; if it was stopped, start again with: pyro-hfvae fit --config {bare}/config.yaml --run "
        "NEW_FOLDER\n"
    )
    assert made.calls == [(command, "run", 3) for command in SUBCOMMANDS]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["run", "run"], "run run is given twice"), (["run", "--output", "lost/page.html"], "there is no folder lost")],
)
def test_nothing_is_made_where_the_page_cannot_be(run, made, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments, "--complete"]) == 2
    assert said in capsys.readouterr().err
    assert made.calls == []


def test_the_parts_are_those_of_the_commands_by_themselves(run, tmp_path):
    """In one process as in three: numbers, pictures and what the checks say, to the byte."""
    few = {"evaluate": {"permutations": 0}, "check": {"draws": 30, "predictive_draws": 39, "simulations": 10}}
    alone = RunFolder(Path(shutil.copytree(run.path, tmp_path / "alone")))
    for command in SUBCOMMANDS:
        options = [f"--{name}={value}" for name, value in few.get(command, {}).items()]
        assert main([command, str(alone.path), *options]) == 0
    parsers = REPORT["output_parsers"]()
    for command, options in few.items():
        parsers[command].set_defaults(options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REPORT, "output_parsers", lambda: parsers)
        assert main(["report", str(run.path), "--complete"]) == 0
    files = [path.relative_to(run.path) for path in run.path.rglob("*") if path.is_file()]
    compared = [path for path in files if path.suffix in (".png", ".json", ".txt") and path.name != "versions.json"]
    assert {"metrics.json", "pictures/drawn.json", "checks/summary.txt"} <= {str(path) for path in compared}
    for path in compared:
        assert (run.path / path).read_bytes() == (alone.path / path).read_bytes(), path
    assert (run.path / "codes.npz").read_bytes() == (alone.path / "codes.npz").read_bytes()
    assert "of 6 checks are fine" in page(run)
    for command in SUBCOMMANDS:
        assert output_step(run.path, command) == 3
