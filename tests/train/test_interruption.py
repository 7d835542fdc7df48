"""Signals end training with a checkpoint to go on from, one line and a status that is not 0."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyro_hfvae.cli import main
from pyro_hfvae.train import RunFolder
from pyro_hfvae.train.interruption import SIGNALS, Interruption

TESTS = Path(__file__).parents[1]
TINY = str(TESTS / "tiny.yaml")


@pytest.fixture(autouse=True)
def _handlers():
    usual = dict.fromkeys(SIGNALS, signal.SIG_DFL) | {signal.SIGINT: signal.default_int_handler}
    # Of tests that run in the background, or under nohup, some signals are ignored, and ignored ones stay so.
    before = {signum: signal.signal(signum, handler) for signum, handler in usual.items()}
    yield
    found = {signum: signal.signal(signum, handler) for signum, handler in before.items()}
    assert found == usual, "not set back"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = RunFolder(tmp_path_factory.mktemp("runs") / "whole")
    assert main(["fit", "--config", TINY, "--run", str(run.path)]) == 0
    return run


def kill_at(step, signum, validating=False):
    arguments = {"step": step, "signum": int(signum), "validating": validating}
    return ["--trainer.callbacks", json.dumps([{"class_path": "support.KillAt", "init_args": arguments}])]


@pytest.mark.parametrize(
    ("step", "signum", "options"),
    [
        (13, signal.SIGTERM, []),
        (15, signal.SIGTERM, []),  # whose row of metrics is written before training ends
        (20, signal.SIGINT, []),
        (20, signal.SIGHUP, ["validating"]),
        (7, signal.SIGTERM, ["--batches.num_workers", "1"]),
    ],
)
def test_a_run_that_a_signal_ended_goes_on_as_if_nothing_had_been(tmp_path, capsys, whole, step, signum, options):
    run = RunFolder(tmp_path / "run")
    validating = options == ["validating"]
    options = [] if validating else options
    command = ["fit", "--config", TINY, "--run", str(run.path), *options, *kill_at(step, signum, validating)]
    assert main(command) == 128 + signum
    assert capsys.readouterr().err.splitlines() == [
        f"pyro-hfvae: stopped: {signum.name} at step {step}; go on with: pyro-hfvae fit --resume {run.path}"
    ]
    assert run.load_checkpoint()["global_step"] == step
    assert json.loads(run.versions.read_text())["steps"] == step
    assert main(["fit", "--resume", str(run.path), "--trainer.callbacks", "null"]) == 0
    one, two = (of.load_checkpoint() for of in (whole, run))
    assert all(value.equal(two["state_dict"][name]) for name, value in one["state_dict"].items())
    assert one["random_state"]["cpu"].equal(two["random_state"]["cpu"])
    assert whole.history.read_text() == run.history.read_text()


def test_between_the_batches_of_a_step_the_step_is_ended_first(tmp_path):
    options = [
        "--trainer.accumulate_grad_batches",
        "3",
        "--trainer.max_steps",
        "9",
        "--trainer.val_check_interval",
        "4",
    ]
    whole, run = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "run")
    assert main(["fit", "--config", TINY, "--run", str(whole.path), *options]) == 0
    killed = [*options, *kill_at(5, signal.SIGTERM, validating=True)]  # after batch 16
    assert main(["fit", "--config", TINY, "--run", str(run.path), *killed]) == 143
    assert run.load_checkpoint()["global_step"] == 6
    assert main(["fit", "--resume", str(run.path), "--trainer.callbacks", "null"]) == 0
    one, two = (of.load_checkpoint()["state_dict"] for of in (whole, run))
    assert all(value.equal(two[name]) for name, value in one.items())


def test_a_training_that_is_at_its_end_is_not_interrupted(tmp_path):
    options = ["--trainer.max_steps", "3", *kill_at(3, signal.SIGTERM)]
    assert main(["fit", "--config", TINY, "--run", str(tmp_path / "run"), *options]) == 0


def test_a_signal_before_training_ends_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr("pyro_hfvae.cli.build_parser", lambda: os.kill(os.getpid(), signal.SIGINT) or time.sleep(5))
    assert main(["evaluate", "run"]) == 130
    assert capsys.readouterr().err == "pyro-hfvae: stopped: SIGINT\n"


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interruption.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


TWICE = """
import os, signal, sys, time
from pyro_hfvae.train.interruption import Interruption
signal.signal(signal.SIGINT, signal.default_int_handler)
with Interruption() as interruption:
    for wait in (0, 0, 1.1):
        time.sleep(wait)
        os.kill(os.getpid(), signal.SIGINT)
        print(interruption.received.name, flush=True)
"""


def test_a_later_second_signal_ends_the_process_at_once():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", TWICE], env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT
    assert done.stdout.split() == ["SIGINT", "SIGINT"]
    assert done.stderr == ""
