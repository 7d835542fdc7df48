"""What a run that goes on must have in common with what it was; refused before anything is trained."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from support import TinyImages

from pyro_hfvae.cli import main
from pyro_hfvae.train import DataModule
from pyro_hfvae.train.data_record import data_record

TINY = str(Path(__file__).parents[1] / "tiny.yaml")
CYCLE = ["--training.lr_scheduler", "OneCycleLR", "--training.lr_scheduler.max_lr", "0.01"]
CYCLE += ["--training.lr_scheduler.total_steps", "6"]


def write_images(changed=0, size=100):
    table = TinyImages()
    content = {"images": (table.images(torch.arange(size))[:, 0].numpy() * 200).astype(np.uint8)}
    content["factors"] = table.factors(torch.arange(size)).numpy()
    content["images"][70] += np.uint8(changed)
    np.savez("data.npz", **content, factor_names=np.array(table.factor_names))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(autouse=True)
def _working_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    write_images()


@pytest.fixture(scope="module")
def started(folder):
    """A run on a file, and one with a learning-rate schedule; of 3 steps, not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_images()
        data = ["--data", "pyro_hfvae.data.ImageFile", "--data.path", "data.npz"]
        for run, options in (("file", data), ("cycle", CYCLE), ("constant", [])):
            assert main(["fit", "--config", TINY, "--run", run, "--trainer.max_steps", "3", *options]) == 0


@pytest.fixture
def refused(folder, started, capsys):
    def resume(run, *options):
        def files():
            return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}

        before = files()
        capsys.readouterr()
        assert main(["fit", "--resume", run, "--trainer.max_steps", "6", *options]) == 2
        assert files() == before
        (line,) = capsys.readouterr().err.splitlines()
        return line.removeprefix("pyro-hfvae: error: ")

    return resume


def test_data_that_changed(refused):
    write_images(changed=1)
    assert refused("file").startswith("run 'file' was started with data of checksum ")
    write_images(size=99)
    assert refused("file").startswith("run 'file' was started with 100 data, not 99 data: use the data and")


def test_the_same_data_in_another_place(started, folder):
    (folder / "elsewhere").mkdir()
    (folder / "data.npz").rename(folder / "elsewhere" / "moved.npz")
    moved = ["--data.path", "elsewhere/moved.npz", "--trainer.max_steps", "4"]
    assert main(["fit", "--resume", "file", *moved]) == 0


@pytest.mark.parametrize(
    ("run", "options", "message"),
    [
        ("cycle", ["--trainer.max_steps", "7"], "the learning-rate schedule OneCycleLR ends after total_steps=6 steps"),
        (
            "cycle",
            ["--training.lr_scheduler.total_steps", "9"],
            "checkpoint 'cycle/checkpoints/last.ckpt' was made with total_steps=6 of the learning-rate schedule, not 9",
        ),
        ("cycle", ["--training.lr_scheduler.max_lr", "0.1"], "checkpoint 'cycle/checkpoints/last.ckpt' was made with "),
        ("cycle", ["--training.lr_scheduler", "null"], "checkpoint 'cycle/checkpoints/last.ckpt' was made with a lear"),
        ("constant", CYCLE, "checkpoint 'constant/checkpoints/last.ckpt' was made without a learning-rate schedule: r"),
    ],
)
def test_schedules_of_the_learning_rate(refused, run, options, message):
    assert refused(run, *options).startswith(message)


def test_another_run_is_never_touched(refused, folder):
    Path("constant.yaml").write_text(Path(TINY).read_text() + "run: cycle\n")
    message = "--resume constant goes on with this run, but --run or a configuration names 'cycle'"
    assert refused("constant", "--config", "constant.yaml") == message
    assert refused("constant", "--run", "new") == message.replace("'cycle'", "'new'")


def test_the_record_of_data_sees_every_value_and_draws_nothing_from_the_stream():
    class Noisy(TinyImages):
        def images(self, indices):
            return super().images(indices) + 0.01 * torch.rand(())

    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    records = [data_record(DataModule(Noisy(), 16, 30, seed=seed)) for seed in (0, 0, 1)]
    assert torch.rand(2).equal(expected)
    assert records[0] == records[1]
    assert {name for name in records[0] if records[0][name] != records[2][name]} == {"seed", "split"}


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("loops", {"a": 1}, "training cannot go on from 'constant/checkpoints/last.ckpt': KeyError: 'fit_loop'"),
        (
            "data",
            {"seed": torch.zeros(2)},
            "run 'constant' was started with seed tensor([0., 0.]), not seed 0: use the",
        ),
    ],
)
def test_a_checkpoint_with_something_else_in_it(refused, folder, part, value, message):
    path = folder / "constant" / "checkpoints" / "last.ckpt"
    whole = path.read_bytes()
    torch.save({**torch.load(path, weights_only=True), part: value}, path)
    try:
        assert refused("constant").startswith(message)
    finally:
        path.write_bytes(whole)
