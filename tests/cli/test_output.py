"""Training goes on where standard output is closed or its reader has gone."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyro_hfvae.cli import main
from pyro_hfvae.cli.output import output_may_close

TESTS = Path(__file__).parents[1]
TINY = TESTS / "tiny.yaml"


@pytest.mark.parametrize("how", [">&-", "| head -c 1 >/dev/null", ">/dev/full"])
def test_a_run_without_standard_output(tmp_path, how):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
    fit = f"'{sys.executable}' -m pyro_hfvae fit --config '{TINY}' --run '{tmp_path / 'run'}' --trainer.max_steps 3"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{fit} {how}"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


def test_standard_output_that_is_none_or_closed(tmp_path, monkeypatch):
    closed = io.StringIO()
    closed.close()
    for name, stream in (("a", None), ("b", closed)):
        monkeypatch.setattr(sys, "stdout", stream)
        options = ["--config", str(TINY), "--run", str(tmp_path / name), "--trainer.max_steps", "1"]
        assert main(["fit", *options]) == 0


def test_what_can_be_written_is_written(capsys):
    with output_may_close():
        print("a line")
        assert not sys.stdout.isatty()
    assert capsys.readouterr().out == "a line\n"
