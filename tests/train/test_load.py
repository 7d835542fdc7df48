"""Loading a run in Python."""

import math
import random
import shutil
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroParam

from pyro_hfvae.cli import main
from pyro_hfvae.paint import decode, posterior_modes
from pyro_hfvae.train import RunFolder, load_run

TINY = Path(__file__).parents[1] / "tiny.yaml"


class Scaled(PyroModule):
    """A model whose Pyro parameter the picture shows."""

    def __init__(self):
        super().__init__()
        self.level = PyroParam(torch.tensor(1.0), dist.constraints.positive)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            mean = self.level * z.sum(-1)[..., None, None, None].tanh().expand(*z.shape[:-1], 1, 8, 8)
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(3), obs=x)


def train(folder, *options):
    assert main(["fit", "--config", str(TINY), "--run", str(folder), "--trainer.max_steps", "3", *options]) == 0
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs") / "run")


@pytest.mark.parametrize("kind", [str, Path])
def test_programs_have_the_parameters_of_the_newest_checkpoint(folder, kind):
    run = load_run(kind(folder))
    saved = run.folder.load_checkpoint()["state_dict"]
    for name in ("model", "guide"):
        program = getattr(run, name)
        assert not program.training
        state = program.state_dict()
        assert state.keys() == {key.removeprefix(f"programs.{name}.") for key in saved if f"programs.{name}." in key}
        assert all(saved[f"programs.{name}.{key}"].equal(value.cpu()) for key, value in state.items())
    assert run.step == 3
    assert run.data.data_size == 70
    assert all(parameter.device == run.device for parameter in run.model.parameters())
    x = next(iter(run.data.held_out_batches(5)))[0].x.to(run.device)
    assert run.objective.terms(run.model, run.guide, x).elbo.isfinite()
    assert list(run.blocks_of(x)) == ["z", "level"]


def test_random_streams_are_left_as_they_were(folder):
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    load_run(folder)
    assert (torch.rand(1), np.random.rand(), random.random()) == expected


def test_two_runs_with_pyro_parameters_keep_theirs_apart(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    shutil.copy(__file__, tmp_path / "scaled_model.py")
    monkeypatch.syspath_prepend(tmp_path)
    options = ["--model", "scaled_model.Scaled", "--guide.discrete", "{}", "--training.temperature", "null"]
    folders = [
        train(tmp_path / "slow", *options, "--training.optimizer", "torch.optim.SGD", "--training.optimizer.lr", "0"),
        train(
            tmp_path / "fast", *options, "--training.optimizer", "torch.optim.SGD", "--training.optimizer.lr", "1e-3"
        ),
    ]
    with pytest.raises(ValueError, match=r"Scaled has the Pyro parameter 'level', which would be shared with other"):
        load_run(folders[0])
    with pyro.settings.context(module_local_params=True):
        runs = [load_run(folder) for folder in folders]
        x = torch.zeros(2, 1, 8, 8, device=runs[0].device)
        values = posterior_modes(runs[0].guide, x).values
        pictures = [decode(run.model, values, x) for run in runs]
        levels = [
            run.folder.load_checkpoint()["state_dict"]["programs.model.level_unconstrained"].exp() for run in runs
        ]
    assert levels[0] != levels[1]
    torch.testing.assert_close(pictures[1] / pictures[0], (levels[1] / levels[0]).expand(2, 1, 8, 8))


def test_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is no run folder: it has no config\.yaml"):
        load_run(tmp_path)


@pytest.fixture
def changed(folder, tmp_path):
    """Changes the checkpoint of a copy of the run, and gives what loading it raises."""

    def load(change):
        run = RunFolder(shutil.copytree(folder, tmp_path / "run"))
        content = run.load_checkpoint()
        change(content["state_dict"])
        torch.save(content, run.checkpoint)
        with pytest.raises(ValueError, match=rf"^checkpoint '{run.checkpoint}' ") as raised:
            load_run(run.path)
        return str(raised.value).removeprefix(f"checkpoint '{run.checkpoint}' ")

    return load


NAME = "programs.guide.gaussian.z.bias"


@pytest.mark.parametrize(
    ("dtype", "name"), [(torch.bool, "bool"), (torch.complex64, "complex64"), (torch.int64, "int64")]
)
def test_parameters_that_torch_would_take_for_numbers(changed, dtype, name):
    message = changed(lambda state: state.update({NAME: state[NAME].to(dtype)}))
    assert message == f"does not fit the configured programs: {NAME} is torch.{name}, not torch.float32"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_parameters_that_are_not_finite(changed, value):
    assert changed(lambda state: state[NAME].fill_(value)) == f"is not one of a run: its {NAME} is not finite"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("held_out: 30", "held_out: 31", "was started with 30 held-out data, not 31 held-out data: use the data and"),
        ("seed: 0", "seed: 1", "was started with seed 0, not seed 1: use the data and the split that it was started"),
    ],
)
def test_another_split_would_show_training_data_as_held_out(folder, tmp_path, before, after, message):
    run = RunFolder(shutil.copytree(folder, tmp_path / "run"))
    run.config.write_text(run.config.read_text().replace(before, after))
    with pytest.raises(ValueError, match=message):
        load_run(run.path, trust=["support"])


def test_a_configuration_that_cannot_be_read(folder, tmp_path):
    run = RunFolder(shutil.copytree(folder, tmp_path / "run"))
    run.config.write_text(run.config.read_text().replace("z: 2", "z: two"))
    with pytest.raises(ValueError, match=r"^configuration '.*': model\.gaussian") as raised:
        load_run(run.path, trust=["support"])
    assert "\n" not in str(raised.value)
