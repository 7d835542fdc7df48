"""Options of the trainer: each works, or is refused in one line before there is a folder."""

import json
import logging
from pathlib import Path

import pytest
from pytorch_lightning.callbacks import TQDMProgressBar

from pyro_hfvae.cli import main
from pyro_hfvae.train.progress import ProgressLines
from pyro_hfvae.train.trainer_options import shown_progress

TINY = Path(__file__).parents[1] / "tiny.yaml"
PLATEAU = "ReduceLROnPlateau follows a measure, which steps do not have"
CALLBACKS = "pytorch_lightning.callbacks"


def callback(name, **arguments):
    return ["--trainer.callbacks", json.dumps([{"class_path": f"{CALLBACKS}.{name}", "init_args": arguments}])]


@pytest.fixture
def fit(tmp_path, monkeypatch, capsys):
    """Trains for three steps at 'run' and gives the exit code and what standard error got."""
    monkeypatch.chdir(tmp_path)

    def run(*options):
        fewer = ["--trainer.max_steps", "3", "--trainer.val_check_interval", "2", "--trainer.limit_val_batches", "1"]
        code = main(["fit", "--config", str(TINY), "--run", "run", *fewer, *options])
        return code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--training.lr_scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau"],
            PLATEAU,
        ),
        (
            [
                "--training.lr_scheduler",
                "pytorch_lightning.cli.ReduceLROnPlateau",
                "--training.lr_scheduler.monitor",
                "a",
            ],
            PLATEAU,
        ),
        (
            ["--training.lr_scheduler", "torch.optim.lr_scheduler.StepLR", "--training.lr_scheduler.step_size", "0"],
            "StepLR cannot be stepped after each batch: ZeroDivisionError: integer modulo by zero",
        ),
        (["--training.optimizer", "torch.optim.SparseAdam"], "SparseAdam fails at a step: SparseAdam does not support"),
        (["--trainer.limit_train_batches", "0.5"], "unrecognized arguments: --trainer.limit_train_batches 0.5"),
        (["--trainer.overfit_batches", "1"], "unrecognized arguments"),
        (["--trainer.fast_dev_run", "true"], "unrecognized arguments"),
        (["--trainer.accumulate_grad_batches", "0"], "trainer.accumulate_grad_batches must be 1 or more, got 0"),
        (["--trainer.gradient_clip_val", "-1"], "trainer.gradient_clip_val must be 0 or more, got -1.0"),
        (["--trainer.precision", "16-true"], "trainer.precision 16-true has no number above 65,504"),
        (["--trainer.devices", "x"], "trainer: `devices` selected with `CPUAccelerator` should be an int > 0."),
        (["--trainer.accelerator", "tpu"], "trainer: Requirement 'torch_xla"),
        (["--trainer.strategy", "nowhere"], "trainer: You selected an invalid strategy name"),
        (["--trainer.profiler", "nowhere"], "trainer: When passing string value for the `profiler`"),
        (["--trainer.max_time", "soon"], "trainer: `Timer(duration='soon')` is not a valid duration"),
        (
            callback("EarlyStopping", monitor="nothing"),
            "EarlyStopping monitors 'nothing', which is not logged before",
        ),
        (
            [*callback("EarlyStopping", monitor="val/elbo"), "--trainer.limit_val_batches", "0"],
            "EarlyStopping monitors 'val/elbo', which is not logged before the first validation ends; logged are: none",
        ),
        (
            callback("StochasticWeightAveraging", swa_lrs=0.01),
            "training cannot start: MisconfigurationException: SWA wi",
        ),
        (callback("LearningRateFinder"), "training cannot start: AttributeError: When using the learning rate finder"),
        (
            ["--trainer.enable_progress_bar", "false", *callback("TQDMProgressBar")],
            "trainer: Trainer was configured with `enable_progress_bar=False` but found `TQDMProgressBar`",
        ),
    ],
)
def test_refused_before_there_is_a_folder(fit, options, message):
    code, said = fit(*options)
    assert code == 2
    last = said.splitlines()[-1]
    assert last.startswith("pyro-hfvae: error: ")
    assert message in last
    assert not Path("run").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.enable_progress_bar", "false"],
        callback("TQDMProgressBar"),
        ["--trainer.callbacks", f"{CALLBACKS}.ModelSummary"],
        callback("EarlyStopping", monitor="val/elbo", mode="max"),
        [*callback("EarlyStopping", monitor="train/elbo", mode="max"), "--trainer.log_every_n_steps", "2"],
        ["--trainer.precision", "bf16-true"],
        ["--trainer.accumulate_grad_batches", "2"],
        ["--trainer.limit_val_batches", "0"],
        ["--trainer.num_sanity_val_steps", "2"],
        ["--trainer.enable_model_summary", "true"],
        ["--trainer.detect_anomaly", "true"],
        ["--trainer.log_every_n_steps", "0"],
    ],
    ids=lambda options: options[-1][-40:],
)
def test_works(fit, options):
    assert fit(*options)[0] == 0


def test_a_refused_resumption_leaves_the_configuration(fit, capsys):
    assert fit()[0] == 0
    before = Path("run/config.yaml").read_bytes()
    options = ["--trainer.max_steps", "5", *callback("StochasticWeightAveraging", swa_lrs=0.01)]
    assert main(["fit", "--resume", "run", *options]) == 2
    assert Path("run/config.yaml").read_bytes() == before
    assert main(["fit", "--resume", "run", "--trainer.max_steps", "5"]) == 0


def test_schedules_that_do_not_end_are_named(fit, caplog):
    steps = {"class_path": "pyro_hfvae.schedules.Steps", "init_args": {"values": [1, 2], "at": [4]}}
    cosine = {"class_path": "pyro_hfvae.schedules.Cosine", "init_args": {"start": 0, "end": 1, "steps": 3}}
    with caplog.at_level(logging.WARNING, "pyro_hfvae"):
        fit("--objective.within", json.dumps({"z": steps, "level": cosine}))
    assert [record.getMessage().partition(":")[0] for record in caplog.records if record.name == "pyro_hfvae"] == [
        "objective.within.z ends at step 4, but training at step 3",
        "training.temperature ends at step 30, but training at step 3",
    ]


@pytest.mark.parametrize(
    ("trainer", "kinds", "bar"),
    [
        ({}, [ProgressLines], False),
        ({"enable_progress_bar": True}, [ProgressLines], False),
        ({"enable_progress_bar": False}, [], False),
        ({"callbacks": TQDMProgressBar()}, [TQDMProgressBar], True),
        ({"callbacks": [TQDMProgressBar()], "enable_progress_bar": False}, [TQDMProgressBar], False),
    ],
)
def test_progress_without_a_terminal(trainer, kinds, bar):
    shown = shown_progress(trainer)
    assert [type(one) for one in shown["callbacks"]] == kinds
    assert shown["enable_progress_bar"] is bar
