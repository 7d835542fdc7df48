"""Training: every parameter moves, a killed run resumes bit for bit, NaN stops with a name."""

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyro
import pytest
import torch
from support import TinyImages
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pyro_hfvae.cli import main
from pyro_hfvae.guides import ImageGuide, MLPEncoder
from pyro_hfvae.infer import VAE
from pyro_hfvae.models import ImageModel, MLPDecoder
from pyro_hfvae.schedules import Linear
from pyro_hfvae.train import DataModule, RunFolder, Training
from pyro_hfvae.train import fit as train

TESTS = Path(__file__).parents[1]
TINY = str(TESTS / "tiny.yaml")


def environment():
    """Of a process of its own, that finds the programs of the tests and this package."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}


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


def test_a_run_is_where_it_is_named(tmp_path):
    """Lightning would put the files of TensorBoard where a variable of the environment points."""
    run = tmp_path / "$HOME" / "%d [x]"
    assert fit(run, "--trainer.max_steps", "1") == 0
    assert list(run.parent.glob("*/tensorboard/events*"))
    assert os.listdir(tmp_path) == ["$HOME"]


def test_every_parameter_moves(tmp_path):
    fit(tmp_path / "a", "--trainer.max_steps", "1")
    fit(tmp_path / "b", "--trainer.max_steps", "3")
    first, later = (RunFolder(tmp_path / name).load_checkpoint()["state_dict"] for name in ("a", "b"))
    assert all((first[name] != later[name]).any() for name in first)


def tiny():
    """A number below the smallest normal one, as arithmetic has it."""
    return (torch.full((1,), 1e-39) * 1.0).item()


def test_tiny_numbers_are_zero_in_training_and_nowhere_else(tmp_path, monkeypatch):
    supported = torch.set_flush_denormal(True)
    torch.set_flush_denormal(False)
    seen = []
    monkeypatch.setattr(Training, "on_train_batch_end", lambda *_: seen.append(tiny()))
    fit(tmp_path / "run", "--trainer.max_steps", "2")
    assert seen == ([0.0, 0.0] if supported else [tiny()] * 2)
    assert tiny() > 0


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.equal(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


FACTOR = ["--objective", "FactorVAE", "--objective.gamma", "3", "--objective.hidden", "[8, 8]"]


@pytest.mark.parametrize(("killed_at", "objective"), [(20, []), (27, []), (35, []), (33, FACTOR)])
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, killed_at, objective):
    """40 steps in one go; and 20 steps, a kill -9 some steps later, resume. 5 batches an epoch, ragged."""
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    assert fit(whole.path, *objective) == 0
    callback = json.dumps([{"class_path": "support.KillAt", "init_args": {"step": killed_at}}])
    command = [sys.executable, "-m", "pyro_hfvae", "fit", "--config", TINY, "--run", str(broken.path), *objective]
    killed = subprocess.run([*command, "--trainer.callbacks", callback], env=environment(), capture_output=True)
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


SCHEDULE = "{class_path: pyro_hfvae.schedules.Linear, init_args: {start: 0, end: 2, steps: 2}}"
SWAPS = {
    "VAE": [],
    "BetaVAE": ["beta=4"],
    "AnnealedVAE": ["gamma=10", f"capacity={SCHEDULE}"],
    "BetaTCVAE": [f"beta={SCHEDULE}"],
    "FactorVAE": ["gamma=3", "hidden=[8, 8]"],
    "InfoVAE": ["mmd=100", "alpha=0.5", "kernel=ZhaoKernel"],
    "DIPVAEI": ["off_diagonal=10", "diagonal=5"],
    "DIPVAEII": ["off_diagonal=10", "diagonal=5"],
    "JointVAE": ["gamma=10", f"capacity={{z: {SCHEDULE}, level: 1.1}}"],
    "HFVAE": ["between=4", "within=2"],
    "HierarchicalELBO": ["between=4"],
}


@pytest.mark.parametrize("name", SWAPS)
def test_objectives_are_swapped_in_one_line(tmp_path, name):
    runs = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    options = [f"--objective.{option}" for option in SWAPS[name]]
    for run, steps in zip(runs, ("1", "3"), strict=True):
        assert fit(run.path, f"--objective=pyro_hfvae.infer.{name}", *options, "--trainer.max_steps", steps) == 0
    first, later = (run.load_checkpoint() for run in runs)
    assert later["global_step"] == 3
    weights = [key for key, value in first["state_dict"].items() if isinstance(value, torch.Tensor)]
    assert all((first["state_dict"][key] != later["state_dict"][key]).any() for key in weights)
    learned = [key for key in weights if ".penalties." in key]
    assert len(learned) == (6 if name == "FactorVAE" else 0)
    assert f"class_path: pyro_hfvae.infer.{name}\n" in runs[1].config.read_text()
    assert main(["evaluate", str(runs[1].path)]) == 0


def test_the_discriminator_has_an_optimiser_of_its_own_and_a_batch_is_one_step(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert fit(run.path, *FACTOR, "--objective.optimizer.lr", "0.01", "--trainer.max_steps", "7") == 0
    checkpoint = run.load_checkpoint()
    extra = checkpoint["state_dict"]["programs.penalties.total_correlation._extra_state"]
    states = [*checkpoint["optimizer_states"], extra["optimizer"]]
    programs, discriminator = (state["param_groups"][0] for state in states)
    assert (programs["lr"], programs["betas"]) == (0.001, (0.9, 0.999))
    assert (discriminator["lr"], discriminator["betas"]) == (0.01, (0.5, 0.9))
    assert checkpoint["global_step"] == 7
    for state in states:
        assert {int(of["step"]) for of in state["state"].values()} == {7}
    (row,) = csv.DictReader(run.history.open())
    assert row["step"] == "4"
    assert 0.5 < float(row["train/loss/total_correlation"]) < 1
    assert math.isfinite(float(row["train/penalty/total_correlation"]))


def test_a_discriminator_that_becomes_nan_stops_the_run(tmp_path, capsys):
    run = RunFolder(tmp_path / "run")
    assert fit(run.path, *FACTOR, "--objective.optimizer.lr", "1e38", "--checkpoint_every", "1") == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match(
        r"pyro-hfvae: stopped: (the loss of the network of penalty 'total_corr|not finite: penalty/total_corr)", last
    )
    values = run.load_checkpoint()["state_dict"].values()
    assert all(value.isfinite().all() for value in values if isinstance(value, torch.Tensor))


def test_the_learning_rate_is_an_option_by_itself(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert fit(run.path, "--training.optimizer.lr", "0.002", "--trainer.max_steps", "1") == 0
    assert run.load_checkpoint()["optimizer_states"][0]["param_groups"][0]["lr"] == 0.002


def test_a_fault_of_a_program_in_training_is_no_bad_input(tmp_path):
    options = ["--model.discrete", "{}", "--guide", "support.FaultyGuide", "--training.temperature", "null"]
    with pytest.raises(RuntimeError, match="^training stopped at step 2$") as raised:
        fit(tmp_path / "run", *options)
    assert str(raised.value.__cause__).startswith("a fault of the program")


def test_clipping_and_accumulation_work_without_a_discriminator(tmp_path):
    run = RunFolder(tmp_path / "run")
    options = ["--trainer.accumulate_grad_batches", "2", "--trainer.gradient_clip_val", "0.1"]
    assert fit(run.path, *options, "--trainer.max_steps", "5") == 0
    assert run.load_checkpoint()["global_step"] == 5


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--training.optimizer.lr", "1e6"],
            r"(the gradients overflow at step \d: that of 'guide\.|site 'z' of the gu)",
        ),
        (["--objective.within", "1e36", "--objective.between", "1e36"], r"the (loss|gradients) overflows? at step 0: "),
    ],
)
def test_what_overflows_stops_the_run_with_a_name(tmp_path, capsys, options, message):
    run = RunFolder(tmp_path / "run")
    assert fit(run.path, "--checkpoint_every", "1", *options) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match("pyro-hfvae: stopped: " + message, last), last
    if run.checkpoint.exists():
        values = run.load_checkpoint()["state_dict"].values()
        assert all(value.isfinite().all() for value in values if isinstance(value, torch.Tensor))


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
    slots = whole.load_checkpoint()["state_dict"]["programs.marginal._extra_state"]["slots"]
    assert len(slots["z/0"]) == 50
    fit(parts.path, *memory, "--trainer.max_steps", "25")
    assert main(["fit", f"--resume={parts.path}", "--trainer.max_steps", "40"]) == 0
    one, other = whole.load_checkpoint()["state_dict"], parts.load_checkpoint()["state_dict"]
    states = one.pop("programs.marginal._extra_state"), other.pop("programs.marginal._extra_state")
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
    assert state["programs.model.latents.temperature"] == 0.5


def test_numbers_of_numpy_and_a_folder_by_its_name(tmp_path):
    trainer = {"max_steps": np.int64(3), "accelerator": "cpu", "limit_val_batches": 0}
    with pyro.settings.context(module_local_params=True):
        model = ImageModel({"z": 2}, {}, lambda size: MLPDecoder(size, (1, 8, 8), [6]))
        guide = ImageGuide({"z": 2}, {}, lambda: MLPEncoder((1, 8, 8), [6]))
        train(
            Training(model, guide, VAE(70)),
            DataModule(TinyImages(), 16, 30),
            str(tmp_path / "run"),
            config="{}",
            seed=np.int64(4),
            trainer=trainer,
            checkpoint_every=np.int64(2),
        )
    assert RunFolder(tmp_path / "run").load_checkpoint()["global_step"] == 3
    assert json.loads((tmp_path / "run" / "versions.json").read_text())["seed"] == 4


def test_tensorboard_of_a_resumed_run_has_each_step_once(tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "pyro_hfvae", "fit", "--config", TINY, "--run", str(run)]
    kill = "[{class_path: support.KillAt, init_args: {step: 37}}]"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([*command, "--trainer.callbacks", kill], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    (first,) = (run / "tensorboard").glob("events.out.tfevents.*")
    # TensorBoard reads a run's files in the order of the second they were begun in, which is in their names
    while int(time.time()) <= int(first.name.split(".")[3]):
        time.sleep(0.1)
    assert main(["fit", "--resume", str(run), "--trainer.callbacks", "null"]) == 0
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("train/elbo")] == list(range(4, 40, 5))
    assert [event.step for event in events.Scalars("val/elbo")] == [9, 19, 29, 39]
