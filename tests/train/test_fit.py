"""Training: every parameter moves, a killed run resumes bit for bit, NaN stops with a name."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pyro_hfvae.cli import main
from pyro_hfvae.schedules import Linear
from pyro_hfvae.train import RunFolder

TESTS = Path(__file__).parents[1]
TINY = str(TESTS / "tiny.yaml")


def fit(run, *options):
    return main(["fit", "--config", TINY, "--run", str(run), *options])


def test_a_run_is_a_folder_with_all_that_is_needed(tmp_path, capsys):
    run = RunFolder(tmp_path / "run")
    assert fit(run.path) == 0
    assert run.config.is_file()
    assert list(run.path.glob("tensorboard/events*"))
    versions = json.loads(run.versions.read_text())
    assert versions["steps"] == 40
    assert versions["seed"] == 0
    assert versions["torch"] == torch.__version__
    rows = list(csv.DictReader(run.history.open()))
    assert {int(row["step"]) for row in rows if row["train/elbo"]} == set(range(4, 40, 5))
    assert sum(row["val/elbo"] != "" for row in rows) == 4
    for name in ("reconstruction", "mutual_information", "between", "within", "dimension", "mutual_information/level"):
        assert all(math.isfinite(float(row[f"train/{name}"])) for row in rows if row["train/elbo"])
    assert "elbo=" in capsys.readouterr().out


def test_every_parameter_moves(tmp_path):
    fit(tmp_path / "a", "--trainer.max_steps", "1")
    fit(tmp_path / "b", "--trainer.max_steps", "3")
    first, later = (RunFolder(tmp_path / name).load_checkpoint()["state_dict"] for name in ("a", "b"))
    assert all((first[name] != later[name]).any() for name in first)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.equal(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("killed_at", [20, 27, 35])
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, killed_at):
    """40 steps in one go; and 20 steps, a kill -9 some steps later, resume. 5 batches an epoch, ragged."""
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    assert fit(whole.path) == 0
    callback = json.dumps([{"class_path": "support.KillAt", "init_args": {"step": killed_at}}])
    command = [sys.executable, "-m", "pyro_hfvae", "fit", "--config", TINY, "--run", str(broken.path)]
    killed = subprocess.run(
        [*command, "--trainer.callbacks", callback], env=os.environ | {"PYTHONPATH": str(TESTS)}, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    if killed_at == 20:  # killed in the callback before the one that saves
        assert not broken.checkpoint.exists()
        return
    assert broken.load_checkpoint()["global_step"] == 20
    assert main(["fit", "--resume", str(broken.path), "--trainer.callbacks", "null"]) == 0
    one, two = whole.load_checkpoint(), broken.load_checkpoint()
    for part in ("global_step", "state_dict", "optimizer_states", "random_state"):
        assert same(one[part], two[part]), part
    assert whole.history.read_text() == broken.history.read_text()


def test_a_finished_run_goes_on(tmp_path):
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    fit(whole.path)
    fit(parts.path, "--trainer.max_steps", "25")
    assert main(["fit", f"--resume={parts.path}", "--trainer.max_steps", "40"]) == 0
    assert same(whole.load_checkpoint()["state_dict"], parts.load_checkpoint()["state_dict"])
    assert json.loads(parts.versions.read_text())["steps"] == 40


def test_epochs_count_as_steps(tmp_path):
    run = RunFolder(tmp_path / "run")
    fit(run.path, "--trainer.max_steps", "-1", "--trainer.max_epochs", "2")
    assert run.load_checkpoint()["global_step"] == 10


def test_nan_stops_the_run_with_the_name_of_the_site(tmp_path, capsys):
    run = RunFolder(tmp_path / "run")
    options = ["--model.discrete", "{}", "--guide", "support.NaNGuide", "--training.temperature", "null"]
    assert fit(run.path, "--checkpoint_every", "2", *options) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last == "pyro-hfvae: stopped: site 'z' of the guide has a loc that is not finite (32 of 32 numbers)"
    parameters = run.load_checkpoint()["state_dict"].values()
    assert all(parameter.isfinite().all() for parameter in parameters)


def test_learning_rate_follows_its_scheduler(tmp_path):
    """Stepped after every batch, and where it stood after a resume."""
    one_cycle = ["--training.lr_scheduler", "OneCycleLR", "--training.lr_scheduler.max_lr", "0.01"]
    one_cycle += ["--training.lr_scheduler.total_steps", "40"]
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    fit(whole.path, *one_cycle)
    rate = whole.load_checkpoint()["optimizer_states"][0]["param_groups"][0]["lr"]
    assert rate < 1e-4  # at its end; the peak is .01
    fit(parts.path, *one_cycle, "--trainer.max_steps", "25")
    assert 1e-4 < parts.load_checkpoint()["optimizer_states"][0]["param_groups"][0]["lr"] < 0.01
    assert main(["fit", f"--resume={parts.path}", "--trainer.max_steps", "40"]) == 0
    assert same(whole.load_checkpoint()["state_dict"], parts.load_checkpoint()["state_dict"])


def test_a_memory_is_resumed_with_the_run(tmp_path):
    memory = ["--objective.marginal", "pyro_hfvae.infer.Memory", "--objective.marginal.size", "50"]
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    fit(whole.path, *memory)
    slots = whole.load_checkpoint()["state_dict"]["marginal._extra_state"]["slots"]
    assert len(slots["loc"]) == 50
    fit(parts.path, *memory, "--trainer.max_steps", "25")
    assert main(["fit", f"--resume={parts.path}", "--trainer.max_steps", "40"]) == 0
    one, other = whole.load_checkpoint()["state_dict"], parts.load_checkpoint()["state_dict"]
    states = one.pop("marginal._extra_state"), other.pop("marginal._extra_state")
    assert same(one, other)
    assert states[0]["clock"] == states[1]["clock"] == 40
    for name, slot in states[0]["slots"].items():
        torch.testing.assert_close(slot, states[1]["slots"][name], rtol=0, atol=0, equal_nan=True)


def test_temperature_follows_its_schedule(tmp_path):
    schedule = Linear(1.0, 0.5, 30)
    assert [schedule(step) for step in (0, 15, 30, 99)] == [1.0, 0.75, 0.5, 0.5]
    run = RunFolder(tmp_path / "run")
    fit(run.path)
    state = run.load_checkpoint()["state_dict"]
    assert state["programs.guide.temperature"] == 0.5
    assert state["programs.model.temperature"] == 0.5
