"""The short campaign finds no fault, and the judge would see each kind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from campaign.inputs import COMMANDS, SENTINEL
from campaign.judge import FAULTS, GOOD, Expected, Judge, Mutation, contains, files, well_formed
from campaign.kills import VARIANTS
from campaign.server import Done

TESTS = Path(__file__).parents[1]
REFUSAL = "pyro-hfvae: error: configuration 'config.yaml': model: it is wrong\n"


def test_the_short_campaign_finds_no_fault(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-m", "campaign", "--short", "--output", str(tmp_path / "table.md")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "| code executed | 0 |" in (tmp_path / "table.md").read_text()


def test_the_whole_campaign_has_variants_enough():
    assert len(VARIANTS) >= 8


@pytest.fixture
def verdict(tmp_path):
    """How a made-up end of a command is judged; ``change`` changes files meanwhile."""
    work = tmp_path / "work"
    work.mkdir()
    for name in ("notes.txt", "config.yaml"):
        (work / name).write_text("of the user")

    def judge(expected, *, change=None, names=("model",), **end):
        before = files(work)
        if change is not None:
            change(work)
        mutation = Mutation("", COMMANDS["fit"], expected, names)
        done = Done(**{"status": 0, "out": "", "err": "", "hung": False, "seconds": 1.0} | end)
        return Judge(tmp_path, tmp_path / "case")._verdict(mutation, done, tmp_path, before, files(work))

    return judge


@pytest.mark.parametrize(
    ("expected", "end", "judged"),
    [
        (Expected.REFUSED, {"status": 2, "err": REFUSAL}, "refused"),
        (Expected.REFUSED, {"status": 0}, "wrong"),
        (Expected.EQUAL, {"status": 2, "err": REFUSAL}, "turned away"),
        (Expected.REFUSED, {"status": 2, "err": REFUSAL, "names": ("guide",)}, "unclear"),
        (Expected.REFUSED, {"status": 2, "err": f"a warning\n{REFUSAL}"}, "unclear"),
        (Expected.REFUSED, {"status": 2, "err": ""}, "unclear"),
        (Expected.REFUSED, {"status": 1, "err": "pyro-hfvae: stopped: site 'z' is not finite\n"}, "unclear"),
        (Expected.FAITHFUL, {"status": 1, "err": "pyro-hfvae: stopped: site 'z' is not finite\n"}, "stopped"),
        (Expected.REFUSED, {"status": 1, "err": "Traceback (most recent call last):\n..."}, "traceback"),
        (Expected.REFUSED, {"status": -11}, "traceback"),
        (Expected.REFUSED, {"status": -9, "hung": True}, "hang"),
        (Expected.REFUSED, {"change": lambda work: (work / ".." / SENTINEL).touch()}, "executed"),
        (Expected.EQUAL, {"change": lambda work: (work / "notes.txt").unlink()}, "lost"),
        (Expected.EQUAL, {"change": lambda work: (work / "notes.txt").write_text("other")}, "lost"),
        (Expected.EQUAL, {"change": lambda work: (work / "stray.txt").touch()}, "lost"),
    ],
)
def test_what_is_no_refusal_and_no_result(verdict, expected, end, judged):
    assert verdict(expected, **end) == judged
    assert judged in (*GOOD, *FAULTS)


def test_what_a_refused_command_leaves_over(verdict):
    refused = {"status": 2, "err": REFUSAL}
    assert verdict(Expected.REFUSED, change=lambda work: (work / "new").mkdir(), **refused) == "left over"


def test_a_record_holds_what_was_given():
    recorded = {"a": {"class_path": "pyro_hfvae.models.ImageModel", "init_args": {"z": 2.0, "of": [1, 2]}}, "b": None}
    for given in ({"a": {"z": 2}}, {"a": {"class_path": "ImageModel"}}, {"b": None}, {"a": {"of": [1, 2]}}):
        assert contains(recorded, given)
    for given in (
        {"a": {"z": 3}},
        {"c": 1},
        {"a": {"of": [1]}},
        {"b": 0},
        {"a": {"class_path": "Other"}},
        {"a": {"z": True}},
    ):
        assert not contains(recorded, given)


def test_a_page_with_markup_of_the_run_is_none():
    assert well_formed("<html><p>&lt;evil&gt;</p></html>")
    assert not well_formed("<html><p><evil></p></html>")
    assert not well_formed("<html><p>")
