"""Files are written beside their place, and what killed processes left of earlier attempts goes."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pyro_hfvae.files import replacing, write_atomically

KILLED = """
import os, sys
from pathlib import Path
from pyro_hfvae.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("written", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path):
    """A process that has written half of the file."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "file")]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"written\n"
        yield process
        process.kill()


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path, writer):
    for other in (".file-notes", ".other-abcdefgh", "file-abcdefgh"):
        (tmp_path / other).write_text("of the user")
    write_atomically(tmp_path / "file", "of another process")
    assert len(names(tmp_path)) == 5, "the other process still writes"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert (tmp_path / "file").read_text() == "of another process"
    write_atomically(tmp_path / "file", "new")
    assert names(tmp_path) == sorted(["file", ".file-notes", ".other-abcdefgh", "file-abcdefgh"])
    assert (tmp_path / "file").read_text() == "new"


def test_the_temporary_folder_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
    write_atomically(tmp_path / "file", "content")
    assert (tmp_path / "file").read_text() == "content"


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (calls.append(name), real(*a)))
    write_atomically(tmp_path / "file", "content")
    assert calls == ["fsync", "replace", "fsync"]


def test_a_full_disk_is_named_by_the_file(tmp_path):
    path = Path(tmp_path / "file")
    path.write_text("old")
    with pytest.raises(OSError, match="No space left on device") as raised, replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert raised.value.filename == str(path)
    assert names(tmp_path) == ["file"]
    assert path.read_text() == "old"
