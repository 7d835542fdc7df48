"""Two processes never train one run."""

import os
import signal
import subprocess
import sys

import pytest

from pyro_hfvae.train.lock import only_process

HOLDS = """
import os, sys, time
from pathlib import Path
from pyro_hfvae.train.lock import only_process
with only_process(Path(sys.argv[1])):
    if os.fork() == 0:
        time.sleep(60)  # a process that prepares batches
        os._exit(0)
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_the_second_process_is_refused_until_the_first_has_died(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            assert process.stdout.readline() == b"locked\n"
            with (
                pytest.raises(ValueError, match=rf"^run '{tmp_path}' is being trained by another process"),
                only_process(tmp_path),
            ):
                pass
            process.kill()
            process.wait()
            with only_process(tmp_path):  # though its child lives
                pass
        finally:
            os.killpg(process.pid, signal.SIGKILL)
