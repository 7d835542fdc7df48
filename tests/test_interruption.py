"""Signals end every command with one line and a status that is not 0; training leaves a checkpoint to go on from."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from campaign.server import command
from campaign.server import run as run_command

from pyro_hfvae.cli import main
from pyro_hfvae.interruption import SIGNALS, Interruption
from pyro_hfvae.train import RunFolder

TESTS = Path(__file__).parent
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


FIT = ("fit", "--config", TINY, "--run", "new")
SANITY = (*FIT, "--trainer.num_sanity_val_steps", "2")
NO_CALLBACKS = ("--trainer.callbacks", "null")
RESUME = ("fit", "--resume", "run", "--trust", "support", "--trainer.max_steps", "50")
BEFORE = "; nothing was written: give the command again"
FIRST_STEP = f" before the first step{BEFORE}"
RESUMED = "; go on with: pyro-hfvae fit --resume run"
AGAIN = "; there is nothing to go on from: give the command again"
REST = "; what was completed is kept: give the command again, and it does the rest"


def killing(signum, event, name, count=1):
    """Sends this process a signal the first or a later time that Python is about to do something of a name."""
    left = [count]

    def hook(happens, arguments):
        if happens == event and any(name in str(argument) for argument in arguments[:2]):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signum)

    return lambda: sys.addaudithook(hook)


def signalling(signum, time):
    data = {"class_path": "support.SignallingImages", "init_args": {"signum": int(signum), "time": time}}
    return ("--data", json.dumps(data))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path, whole):
    """Where a command runs, beside a run that ended."""
    shutil.copytree(whole.path, tmp_path / "work" / "run")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "moment", "signum", "line"),
    [
        (FIT, ("open", "tiny.yaml"), signal.SIGTERM, BEFORE),
        (FIT, ("os.mkdir", "new"), signal.SIGINT, FIRST_STEP),
        (FIT, ("tempfile.mkstemp", "config.yaml"), signal.SIGTERM, FIRST_STEP),
        (FIT, ("os.rename", "config.yaml"), signal.SIGHUP, FIRST_STEP),
        ((*FIT, *signalling(signal.SIGTERM, 1)), None, signal.SIGTERM, BEFORE),
        ((*FIT, *signalling(signal.SIGINT, 2)), None, signal.SIGINT, BEFORE),
        ((*SANITY, *kill_at(0, signal.SIGTERM, validating=True)), None, signal.SIGTERM, FIRST_STEP),
        ((*SANITY, *kill_at(0, signal.SIGHUP, validating=True)), None, signal.SIGHUP, FIRST_STEP),
        (RESUME, ("open", "config.yaml"), signal.SIGTERM, BEFORE),
        (RESUME, ("open", ".lock"), signal.SIGINT, RESUMED),
        (RESUME, ("open", "last.ckpt"), signal.SIGHUP, RESUMED),
        (RESUME, ("os.rename", "config.yaml"), signal.SIGTERM, f" before the first step{RESUMED}"),
        (("evaluate", "run"), ("open", "last.ckpt"), signal.SIGTERM, AGAIN),
        (("evaluate", "run"), ("tempfile.mkstemp", "codes.npz"), signal.SIGHUP, AGAIN),
        (("evaluate", "run"), ("os.rename", "metrics.json"), signal.SIGINT, AGAIN),
        (("traverse", "run"), ("os.rename", "swap_"), signal.SIGTERM, AGAIN),
        (("traverse", "run", "--gif"), ("tempfile.mkstemp", ".gif"), signal.SIGINT, AGAIN),
        (("check", "run", "--draws", "30"), ("os.rename", "posterior.nc"), signal.SIGHUP, AGAIN),
        (("report", "run"), ("os.rename", "report.html"), signal.SIGTERM, AGAIN),
        (("report", "run", "--complete"), ("os.rename", "pictures"), signal.SIGTERM, REST),
    ],
)
def test_a_signal_ends_a_command_in_one_line_and_leaves_whole_files(folder, given, moment, signum, line):
    before = contents(folder / "work")
    trust = () if given[0] == "fit" else ("--trust", "support")
    done = run_command((*given, *trust), folder, before=None if moment is None else killing(signum, *moment))
    assert (done.err, done.status) == (f"pyro-hfvae: stopped: {signum.name}{line}\n", 128 + signum)
    after = contents(folder / "work")
    assert all(after.pop(name) == content for name, content in before.items())
    assert not (folder / "work" / "new").exists()
    assert not [name for name in after if Path(name).name.startswith(".")], "half of a file"
    assert set(after) <= {"run/codes.npz", "run/metrics.json", "run/metrics.csv"} or "report" not in given
    if given[0] == "fit":
        assert after == {}


# Before there is anything that it could be about. Forked children, as above, have imported everything.
@pytest.mark.parametrize(("module", "signum"), [("torch", signal.SIGTERM), ("pytorch_lightning", signal.SIGINT)])
def test_a_signal_ends_a_command_that_still_imports(tmp_path, module, signum):
    start = (
        f"import os, runpy, sys\n"
        f"def hook(event, arguments):\n"
        f"    if event == 'import' and arguments[0] == '{module}':\n"
        f"        os.kill(os.getpid(), {int(signum)})\n"
        f"sys.addaudithook(hook)\n"
        f"sys.argv = ['pyro-hfvae', 'fit', '--config', {TINY!r}, '--run', 'new']\n"
        f"runpy.run_module('pyro_hfvae', run_name='__main__')\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
    command = [sys.executable, "-c", start]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.stderr, done.returncode) == (f"pyro-hfvae: stopped: {signum.name}{BEFORE}\n", 128 + signum)
    assert not any(tmp_path.iterdir())


def test_within_a_program_a_keyboard_interrupt_ends_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr("pyro_hfvae.cli.run.build_parser", lambda: os.kill(os.getpid(), signal.SIGINT) or time.sleep(5))
    assert main(["evaluate", "run"]) == 130
    assert capsys.readouterr().err == f"pyro-hfvae: stopped: SIGINT{AGAIN}\n"


def test_a_second_signal_in_training_says_what_is_left(folder):
    """A step that does not end: the second signal does not wait for it."""
    callback = [{"class_path": "support.KillTwice", "init_args": {"step": 3, "signum": int(signal.SIGTERM)}}]
    options = ("--trainer.callbacks", json.dumps(callback))
    done = run_command((*FIT, *options), folder)
    assert done.status == 143
    assert done.err == (
        "pyro-hfvae: stopped: SIGTERM; there is no checkpoint to go on from: start again with: "
        "pyro-hfvae fit --config new/config.yaml --run NEW_FOLDER\n"
    )
    # which works as it is written
    assert run_command(("fit", "--config", "new/config.yaml", "--run", "again", *NO_CALLBACKS), folder).status == 0
    done = run_command(("fit", "--resume", "new"), folder)
    assert (done.err, done.status) == (
        "pyro-hfvae: error: run 'new' has no checkpoint yet (new/checkpoints/last.ckpt): wait for one if it is being "
        "trained; if it was stopped, start again with: pyro-hfvae fit --config new/config.yaml --run NEW_FOLDER\n",
        2,
    )


def test_a_signal_after_the_work_is_done_changes_nothing(folder):
    def end_slowly(arguments):
        status = command(arguments)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        return status + 1

    done = run_command(("report", "run"), folder, call=end_slowly)
    assert (done.out, done.err, done.status) == ("report: run/report.html\n", "", 0)


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
from pyro_hfvae.interruption import Interruption
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
