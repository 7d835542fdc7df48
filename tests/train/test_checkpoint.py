"""A checkpoint is the old one or the new one, and what is damaged is never loaded."""

import errno
import os
import pickle
import random
import shutil
import tempfile
import zipfile

import pytest
import torch

from pyro_hfvae.train.checkpoint import read_checkpoint, write_checkpoint


def content(value=1.0):
    return {
        "state_dict": {"w": torch.full((50,), value)},
        "global_step": 3,
        "random_state": {"cpu": torch.get_rng_state()},
        "optimizer_states": [],
        "lr_schedulers": [],
        "loops": {},
        "data": {},
        "pytorch-lightning_version": "2",
    }


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    write_checkpoint(content(), path)
    return path


def test_what_was_written_is_read(path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    write_checkpoint(content(2.0), path)
    assert read_checkpoint(path)["state_dict"]["w"].equal(torch.full((50,), 2.0))
    assert os.listdir(path.parent) == ["last.ckpt"]


def test_a_flipped_bit_is_named_or_changes_nothing(path):
    whole, expected, rng = path.read_bytes(), read_checkpoint(path), random.Random(0)
    messages = []
    for _ in range(300):
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            found = read_checkpoint(path)
        except ValueError as error:
            messages.append(str(error))
        else:  # in what fills gaps between the entries
            assert found["state_dict"]["w"].equal(expected["state_dict"]["w"])
            assert found["random_state"]["cpu"].equal(expected["random_state"]["cpu"])
    assert len(messages) > 150
    assert all(message.startswith(f"checkpoint '{path}' cannot be read: ") for message in messages)


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_file_cut_short_is_named(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match="cannot be read: it is damaged, cut short or no checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda whole: 3, "is not one of a run: it holds a int"),
        (lambda whole: {}, "is not one of a run: it lacks state_dict, global_step"),
        (lambda whole: {**whole, "state_dict": [1]}, "what it holds as state_dict is something else"),
        (lambda whole: {**whole, "global_step": "3"}, "what it holds as global_step is something else"),
        (lambda whole: {**whole, "global_step": -1}, "what it holds as global_step is something else"),
        (lambda whole: {**whole, "global_step": True}, "what it holds as global_step is something else"),
        (lambda whole: {**whole, "random_state": {}}, "what it holds as random_state is something else"),
        *[
            (lambda whole, gone=gone: {name: value for name, value in whole.items() if name != gone}, f"lacks {gone}")
            for gone in content()
        ],
    ],
)
def test_what_is_no_checkpoint_of_a_run(path, change, message):
    torch.save(change(content()), path)
    with pytest.raises(ValueError, match=message):
        read_checkpoint(path)


@pytest.mark.filterwarnings("error")
def test_a_pickle_that_torch_does_not_write_brings_no_warning(path):
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in entries.items():
            archive.writestr(name, pickle.dumps(os.getcwd, protocol=4) if name.endswith("data.pkl") else value)
    with pytest.raises(ValueError, match=r"cannot be read: Weights only load failed"):
        read_checkpoint(path)


def test_a_compressed_archive_is_not_unpacked(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    with pytest.raises(ValueError, match="it has compressed entries, so torch did not write it"):
        read_checkpoint(path)


def damaged(content, file):
    torch_save(content, file)
    file.seek(file.tell() // 2)
    file.write(bytes(64))


torch_save = torch.save


def test_the_old_one_stands_until_the_new_one_was_read_back(path, monkeypatch):
    monkeypatch.setattr(torch, "save", damaged)
    with pytest.raises(OSError, match="was not written as it should be: it is damaged"):
        write_checkpoint({"state_dict": torch.ones(10_000)}, path)
    assert read_checkpoint(path)["state_dict"]["w"][0] == 1
    assert os.listdir(path.parent) == ["last.ckpt"]


def test_a_full_disk_leaves_the_old_one(path, monkeypatch):
    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def flush(self):
            pass

    monkeypatch.setattr(torch, "save", lambda content, file: torch_save(content, Full()))
    with pytest.raises(OSError, match="No space left on device") as raised:
        write_checkpoint(content(2.0), path)
    assert raised.value.filename == str(path)
    assert read_checkpoint(path)["state_dict"]["w"][0] == 1


def test_the_folder_is_made(tmp_path):
    write_checkpoint(content(), tmp_path / "a" / "b" / "last.ckpt")
    shutil.copy(tmp_path / "a" / "b" / "last.ckpt", tmp_path / "copy")
    assert read_checkpoint(tmp_path / "copy")["global_step"] == 3
