"""The files of a run: histories joined, wall time added up, nothing half-written."""

import json
import os
import stat

import pytest

from pyro_hfvae.files import write_atomically
from pyro_hfvae.train import RunFolder


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


def write_part(run, version, text):
    part = run.path / "csv" / f"version_{version}" / "metrics.csv"
    part.parent.mkdir(parents=True)
    part.write_text(text)


def test_history_of_one_part(run):
    write_part(run, 0, "epoch,step,train/elbo,val/elbo\n0,4,-3,\n0,9,,-4\n")
    run.write_history()
    assert run.history.read_text() == "step,epoch,train/elbo,val/elbo\n4,0,-3,\n9,0,,-4\n"


def test_steps_that_a_resumed_run_repeats_are_the_later_ones(run):
    write_part(run, 0, "step,train/elbo\n4,a4\n9,a9\n14,a14\n")
    write_part(run, 1, "step,train/elbo\n9,b9\n14,b14\n19,b19\n")
    write_part(run, 2, "step,train/elbo\n19,c19\n24,c24\n")
    run.write_history()
    assert run.history.read_text().split() == ["step,train/elbo", "4,a4", "9,b9", "14,b14", "19,c19", "24,c24"]


def test_rows_of_a_killed_part_that_go_further_do_not_stand(run):
    """The first part was killed after step 99, its last checkpoint is of step 4; the second has come to step 9."""
    write_part(run, 0, "step,train/elbo\n4,a4\n9,a9\n99,a99\n")
    write_part(run, 1, "step,train/elbo\n9,b9\n")
    run.write_history()
    assert run.history.read_text().split() == ["step,train/elbo", "4,a4", "9,b9"]


def test_parts_are_in_the_order_of_their_numbers(run):
    for version in range(12):
        write_part(run, version, f"step,train/elbo\n{version},of{version}\n")
    run.write_history()
    assert run.history.read_text().split()[1:] == [f"{version},of{version}" for version in range(12)]


def test_parts_with_other_columns_and_empty_ones(run):
    write_part(run, 0, "step,train/elbo\n4,1\n")
    write_part(run, 1, "")
    write_part(run, 2, "step,val/elbo,train/elbo\n9,2,\n")
    run.write_history()
    assert run.history.read_text() == "step,train/elbo,val/elbo\n4,1,\n9,,2\n"


@pytest.mark.parametrize("cut", ["14,", "1", "14,-3.2\n,", '14,"'])
def test_a_row_cut_short_by_a_kill_does_not_stop_the_rest(run, cut):
    write_part(run, 0, f"step,train/elbo\n4,1\n{cut}")
    write_part(run, 1, "step,train/elbo\n5,2\n")
    run.write_history()
    assert run.history.read_text().splitlines()[-1] == "5,2"


def test_no_parts_no_history(run):
    run.write_history()
    assert not run.history.exists()


def test_wall_time_adds_up_and_the_rest_is_of_the_last_part(run):
    assert run.wall_seconds() == 0
    run.write_versions(seed=3, steps=10, seconds=1.26)
    first = json.loads(run.versions.read_text())
    run.write_versions(seed=3, steps=25, seconds=run.wall_seconds() + 2.5)
    second = json.loads(run.versions.read_text())
    assert first["wall_seconds"] == 1.3
    assert second["wall_seconds"] == pytest.approx(3.8)
    assert (first["steps"], second["steps"], second["seed"]) == (10, 25, 3)
    assert {"pyro_hfvae", "torch", "pyro", "pytorch_lightning", "numpy", "python", "platform", "cpus"} <= second.keys()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"wall_seconds": "long"}', "\x00"])
def test_wall_time_that_cannot_be_read(run, content):
    run.versions.write_text(content)
    with pytest.raises(ValueError, match=r"versions.json' is damaged: delete it; the run's wall time is lost"):
        run.wall_seconds()


def test_written_whole(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    write_atomically(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    write_atomically(tmp_path / "ours", "")
    (tmp_path / "plain").write_text("")
    ours, plain = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "plain"))
    assert ours == plain


class Interrupted(BaseException):
    """As a KeyboardInterrupt."""


@pytest.mark.parametrize("fault", [OSError("disk full"), Interrupted()])
@pytest.mark.parametrize("call", ["fdopen", "chmod", "replace"])
@pytest.mark.parametrize("before", ["the old content", None])
def test_the_old_file_stays_where_writing_fails(tmp_path, monkeypatch, fault, call, before):
    path = tmp_path / "file"
    if before is not None:
        path.write_text(before)

    def fail(*arguments, **keywords):
        raise fault

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(fault)):
        write_atomically(path, "the new content")
    monkeypatch.undo()
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ([] if before is None else [before])


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "lost" / "file", "")


def test_names_of_the_files(run):
    assert run.config == run.path / "config.yaml"
    assert run.checkpoint == run.path / "checkpoints" / "last.ckpt"
    assert run.metrics == run.path / "metrics.json"


def test_a_folder_by_its_name_or_path(tmp_path):
    assert RunFolder(str(tmp_path)) == RunFolder(tmp_path)
    assert RunFolder(str(tmp_path)).config == tmp_path / "config.yaml"
