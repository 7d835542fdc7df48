"""When checkpoints are written, so that a resumed run equals the uninterrupted one in every setting."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pyro_hfvae.cli import main
from pyro_hfvae.train import RunFolder, Training

TESTS = Path(__file__).parents[1]
TINY = str(TESTS / "tiny.yaml")
PAIRS = ["--batches.pairs.blocks", json.dumps({"z": ["x", "y"], "level": ["level"]})]
RISE = json.dumps({"class_path": "pyro_hfvae.schedules.Linear", "init_args": {"start": 0, "end": 2, "steps": 9}})

SETTINGS = {
    "double precision": ["--trainer.precision", "64-true"],
    "double precision, memory": [
        *("--trainer.precision", "64-true", "--objective.marginal", "Memory", "--objective.marginal.size", "50")
    ],
    "double precision, learned penalty": [
        *("--trainer.precision", "64-true", "--objective", "FactorVAE", "--objective.gamma", "3"),
        *("--objective.hidden", "[8]"),
    ],
    "half precision": ["--trainer.precision", "bf16-mixed"],
    "accumulated gradients": ["--trainer.accumulate_grad_batches", "3", "--trainer.val_check_interval", "4"],
    "accumulated gradients, learned penalty": [
        *("--trainer.accumulate_grad_batches", "2", "--objective", "FactorVAE", "--objective.gamma", "3"),
        *("--objective.hidden", "[8]"),
    ],
    "pairs that swap within late gates": [*PAIRS, "--batches.pairs.swap", "true", "--batches.pairs.gated_from", "8"],
    "pairs, trimmed": [*PAIRS, "--batches.pairs.swap", "true", "--training.trim", "0.2"],
    "schedules": [
        *("--objective.between", RISE, "--training.lr_scheduler", "MultiStepLR"),
        *("--training.lr_scheduler.milestones", "[4, 9]"),
    ],
    "cosine": ["--training.lr_scheduler", "CosineAnnealingWarmRestarts", "--training.lr_scheduler.T_0", "5"],
    "cyclic": [
        *("--training.lr_scheduler", "CyclicLR", "--training.lr_scheduler.base_lr", "1e-4"),
        *("--training.lr_scheduler.max_lr", "1e-2"),
    ],
    "momentum, clipped": [
        *("--training.optimizer", "torch.optim.SGD", "--training.optimizer.lr", "1e-3"),
        *("--training.optimizer.momentum", "0.9", "--trainer.gradient_clip_val", "0.5"),
    ],
}


def fit(run, *options):
    return main(["fit", "--config", TINY, "--run", str(run.path), "--trainer.log_every_n_steps", "1", *options])


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a.nan_to_num(), b.nan_to_num())  # a memory has empty slots
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_same(one, two, history=True):
    checkpoints = [run.load_checkpoint() for run in (one, two)]
    for name in ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "random_state", "data"):
        assert same(*(checkpoint[name] for checkpoint in checkpoints)), name
    assert not history or one.history.read_text() == two.history.read_text()


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, options):
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    assert fit(whole, *options, "--trainer.max_steps", "14") == 0
    assert fit(parts, *options, "--trainer.max_steps", "7") == 0
    assert main(["fit", "--resume", str(parts.path), "--trainer.max_steps", "10"]) == 0  # a validation is due
    assert main(["fit", "--resume", str(parts.path), "--trainer.max_steps", "14"]) == 0
    assert_same(whole, parts)


def killed(run, *options, step, validating=False):
    """Runs in a process that is killed."""
    arguments = {"step": step, "signum": int(signal.SIGKILL), "validating": validating}
    callback = json.dumps([{"class_path": "support.KillAt", "init_args": arguments}])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "pyro_hfvae", "fit", *options, "--trainer.callbacks", callback]
    assert subprocess.run(command, env=environment, capture_output=True).returncode == -signal.SIGKILL


def test_killed_between_the_batches_of_a_step_and_killed_again(tmp_path):
    """What a resumed run writes is not of the middle of a step, whose gradients would be lost."""
    options = ["--trainer.accumulate_grad_batches", "3", "--trainer.max_steps", "8", "--checkpoint_every", "3"]
    whole, run = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "run")
    assert fit(whole, *options) == 0
    killed(run, "--config", TINY, "--run", str(run.path), *options, "--trainer.log_every_n_steps", "1", step=5)
    assert run.load_checkpoint()["global_step"] == 3
    killed(run, "--resume", str(run.path), step=4)
    assert run.load_checkpoint()["global_step"] == 3
    assert main(["fit", "--resume", str(run.path), "--trainer.callbacks", "null"]) == 0
    assert_same(whole, run)


@pytest.mark.parametrize("saves", [1, 2], ids=["after a step", "after a validation"])
def test_killed_right_after_a_save_the_rows_of_its_step_are_there(tmp_path, saves):
    options = ["--trainer.max_steps", "6", "--checkpoint_every", "2", "--trainer.val_check_interval", "4"]
    whole, run = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "run")
    assert fit(whole, *options) == 0
    child = os.fork()
    if child == 0:
        replace, left = os.replace, [saves]

        def dying(source, target):
            replace(source, target)
            left[0] -= Path(target).name == "last.ckpt"
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = dying
        fit(run, *options)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert run.load_checkpoint()["global_step"] == 2 * saves
    assert main(["fit", "--resume", str(run.path)]) == 0
    assert_same(whole, run)


def test_a_signal_right_after_a_validation_is_taken_after_the_next_step(tmp_path, monkeypatch):
    """Lightning counts a step after its validation, and a resumed run goes on as if that had not been done."""
    whole, run = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "run")
    options = ["--trainer.val_check_interval", "4", "--checkpoint_every", "5", "--trainer.max_steps", "12"]
    assert fit(whole, *options) == 0
    usual = Training.on_validation_end

    def on_validation_end(training):
        usual(training)
        if training.global_step == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Training, "on_validation_end", on_validation_end)
    assert fit(run, *options) == 143
    assert run.load_checkpoint()["global_step"] == 9
    monkeypatch.undo()
    assert main(["fit", "--resume", str(run.path)]) == 0
    assert_same(whole, run)


def test_a_validation_in_which_the_process_was_killed_is_made_up_for(tmp_path):
    options = ["--trainer.val_check_interval", "4", "--checkpoint_every", "4", "--trainer.max_steps", "12"]
    whole, run = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "run")
    assert fit(whole, *options) == 0
    command = ["--config", TINY, "--run", str(run.path), *options, "--trainer.log_every_n_steps", "1"]
    killed(run, *command, step=8, validating=True)
    assert run.load_checkpoint()["global_step"] == 4
    assert main(["fit", "--resume", str(run.path), "--trainer.callbacks", "null"]) == 0
    assert_same(whole, run)


def test_a_finished_run_is_left_as_it_is(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert fit(run, "--trainer.max_steps", "10") == 0
    before = run.load_checkpoint()
    assert main(["fit", "--resume", str(run.path)]) == 0
    assert same(before, run.load_checkpoint())


def test_where_another_callback_ends_training_its_last_step_is_saved(tmp_path):
    whole, run = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "run")
    assert fit(run, "--trainer.max_time", "00:00:00:01", "--trainer.max_steps", "99999") == 0
    reached = run.load_checkpoint()["global_step"]
    assert reached == json.loads(run.versions.read_text())["steps"] > 0
    steps = ["--trainer.max_steps", str(reached + 3)]
    assert main(["fit", "--resume", str(run.path), "--trainer.max_time", "null", *steps]) == 0
    assert fit(whole, *steps) == 0
    assert_same(whole, run, history=False)  # validation came once more, where training ended
