"""Bad input ends in one line that says what is wrong, exit code 2, and every file as it was."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from pyro_hfvae.cli import main
from pyro_hfvae.train.trust import remember

TESTS = Path(__file__).parents[1]
TINY = TESTS / "tiny.yaml"
BLOCKS = "--objective.blocks"
ONE_CYCLE = ["--training.lr_scheduler", "OneCycleLR", "--training.lr_scheduler.max_lr", "0.01"]
WEIGHT = "expected float, Schedule, Capacity"


def files(folder):
    """Every file and folder below a folder, with the content's checksum."""
    paths = sorted(folder.rglob("*"))
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in paths}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run; not to be changed."""
    run = tmp_path_factory.mktemp("runs") / "trained"
    assert main(["fit", "--config", str(TINY), "--run", str(run), "--trainer.max_steps", "3"]) == 0
    return run


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a run, to be broken, at 'run' in the working folder."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(autouse=True)
def _working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYRO_HFVAE_DATA", str(tmp_path))


@pytest.fixture
def refused(tmp_path, capsys):
    """Runs a command that must be refused, and gives what it said."""

    def run(*arguments):
        before = files(tmp_path)
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        assert re.fullmatch(r"pyro-hfvae: error: [^\n]+\n", err)
        assert out == ""
        assert files(tmp_path) == before
        assert len(err) < 450, "too long for a line"
        return err.removeprefix("pyro-hfvae: error: ").strip()

    return run


@pytest.fixture
def refused_fit(refused):
    return lambda *options: refused("fit", "--config", TINY, "--run", "new", *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--objective.betwen", "3"],
            "objective: pyro_hfvae.HierarchicalELBO: Option 'betwen' is not accepted; the options are listed by "
            "fit --objective.help pyro_hfvae.HierarchicalELBO",
        ),
        (["--model="], "model: Expected a dot import path string"),
        (["--objective.between="], f"objective.between: {WEIGHT}, list[float | Sch"),
        (["--objective.between", "a"], f"objective.between: {WEIGHT}, list[float | Sch"),
        (["--trainer.max_step", "3"], "unrecognized arguments: --trainer.max_step"),
        (["--trainer.val_check_interval", "{hours: 1}"], "trainer.val_check_interval must be a number of training st"),
        (["--trainer.val_check_interval", "00:00:00:01"], "trainer.val_check_interval must be a number of training st"),
        (["stray"], "unrecognized arguments: stray; the options are listed by --help"),
        (["--objective.between", "much"], f"objective.between: {WEIGHT}, list[float | Sch"),
        (["--objective.between", "[1, much]"], f"objective.between: {WEIGHT}, got much"),
        (["--objective.within", "{z: much, level: 1}"], f"objective.within: {WEIGHT}, got much"),
        (["--objective.between", "support.NaNGuide"], f"objective.between: {WEIGHT}, list[float | Sch"),
        (
            ["--objective.between", "pyro_hfvae.schedules.Linear"],
            "objective.between: pyro_hfvae.schedules.Linear: the following arguments are required: start, end, steps",
        ),
        (
            ["--objective.within", "{z: {class_path: pyro_hfvae.schedules.Linear, init_args: {start: 0, end: 1}}}"],
            "objective.within: pyro_hfvae.schedules.Linear: the following arguments are required: steps",
        ),
        (
            ["--objective.dimension", "{class_path: pyro_hfvae.schedules.Line, init_args: {start: 0}}"],
            "objective.dimension: pyro_hfvae.schedules.Line: module 'pyro_hfvae.schedules' has no attribute 'Line'",
        ),
        (
            ["--objective.between", "{weight: 1, nats: many}"],
            "objective.between.nats: expected float, Schedule, got many",
        ),
        (
            [
                "--objective.between",
                "{class_path: pyro_hfvae.schedules.Linear, init_args: {start: 0, end: 1, steps: 0}}",
            ],
            "a schedule takes 1 step or more, got Linear(start=0.0, end=1.0, steps=0)",
        ),
        (
            [
                "--objective.within",
                "{level: 1, z: {class_path: pyro_hfvae.schedules.Linear, init_args: {start: 0, end: .inf, steps: 3}}}",
            ],
            "the values of a schedule must be finite, got Linear(start=0.0, end=inf, steps=3)",
        ),
        (
            [
                "--objective",
                "InfoVAE",
                "--objective.mmd",
                "1",
                "--objective.kernel",
                "RadialKernel",
                "--objective.kernel.bandwidth",
                "0",
            ],
            "the bandwidth must be above 0 and finite, got 0.0",
        ),
        (["--objective", "nowhere.Loss"], "objective: nowhere.Loss: No module named 'nowhere'"),
        (
            ["--objective", "pyro_hfvae.infer.BVAE"],
            "objective: pyro_hfvae.infer.BVAE: module 'pyro_hfvae.infer' has no",
        ),
        (
            ["--objective", "support.TinyImages"],
            "objective: Import path support.TinyImages does not correspond to a sub",
        ),
        (["--objective", "BetaVAE"], "objective: pyro_hfvae.infer.BetaVAE: the following arguments are required: beta"),
        (
            ["--objective", "BetaVAE", "--objective.beta", "much"],
            "objective.beta: expected float, Schedule, got much",
        ),
        (["--objective", "BetaVAE", "--objective.beta", ".nan"], "weight 'mutual_information' must be a finite number"),
        (
            ["--objective", "BetaVAE", "--objective.beta", "2", "--objective.between", "3"],
            "objective: pyro_hfvae.infer.BetaVAE: Option 'between' is not accepted; the options are listed by fit --o",
        ),
        (
            ["--objective", "JointVAE", "--objective.gamma", "2", "--objective.capacity", "{z: 3}"],
            "block 'level' has no capacity; give one for each of: 'z', 'level'",
        ),
        (
            ["--objective", "FactorVAE", "--objective.gamma", "2", "--objective.hidden", "[]"],
            "the discriminator needs on",
        ),
        (
            [
                "--objective",
                "DIPVAEI",
                "--objective.off_diagonal",
                "2",
                "--objective.diagonal",
                "2",
                "--model.gaussian",
                "{}",
                "--guide.gaussian",
                "{}",
            ],
            "DIP-VAE needs normal variables, whose covariance it charges; the guide has none among its sites: 'lev",
        ),
        (["--batches.batch_size", "2.5"], "batches.batch_size: expected int, got 2.5"),
        (
            ["--trainer.precision", "7"],
            "trainer.precision: expected Literal[64, 32, 16], Literal['transformer-engine",
        ),
        (["--seed", "-1"], "seed: -1 does not conform to restriction v>=0"),
        (["--seed", "4294967296"], "seed: 4294967296 does not conform to restriction v>=0 and v<4294967296"),
        (["--checkpoint_every", "0"], "checkpoint_every: 0 does not conform to restriction v>0"),
        (["--config", "nowhere.yaml"], "config: File does not exist: '"),
        (["--model", "nowhere.Model"], "model: nowhere.Model: No module named 'nowhere'"),
        (["--guide", "support.Lost"], "guide: support.Lost: module 'support' has no attribute 'Lost'"),
        (["--data", "Thing"], "data: Expected a dot import path string: Thing"),
        (
            ["--data", "support.NaNGuide"],
            "data: Import path does not correspond to a subclass of Data, got support.Na",
        ),
        (
            ["--model.channels", "3"],
            "model: pyro_hfvae.models.ImageModel: Option 'channels' is not accepted; "
            "the options are listed by fit --model.help pyro_hfvae.models.ImageModel",
        ),
        (["--model.gaussian", "{z: two}"], "model.gaussian: expected int, got two"),
        (
            ["--model.decoder", "nowhere.Net"],
            "model.decoder: No module named 'nowhere', got nowhere.Net",
        ),
        (["--training.optimizer", "torch.optim.No"], "training.optimizer: module 'torch.optim' has no attribute 'No'"),
        (
            ["--training.optimizer", "torch.optim.Adam", "--training.optimizer.lr", "-1"],
            "training: the optimiser or its schedule cannot be made: Invalid learning rate: -1",
        ),
        (["--model.gaussian", "{}"], "the guide samples site 'z', which the model lacks; its latents: 'level'"),
        (["--guide.discrete", "{}"], "the guide lacks the model's latent site 'level'; it samples: 'z'"),
        (
            ["--guide.gaussian", "{z: 3}"],
            "the model, on the latents that the guide samples, fails on a batch of shape (16, 1, 8, 8): mat1 and mat2",
        ),
        ([BLOCKS, '{"a": ["z"], "b": ["z[1]", "level"]}'], "z[1] is in block 'a' and again in block 'b'"),
        ([BLOCKS, '{"a": ["z[0]", "level"]}'], "site 'z' has variables in no block: z[1]"),
        ([BLOCKS, '{"a": ["z", "level", "w"]}'], "block 'a' names site 'w', which model and guide do not share; they"),
        ([BLOCKS, '{"a": ["z[0:3]", "level"]}'], "block 'a' has 'z[0:3]', but site 'z' has the shape (2,): '0:3'"),
        ([BLOCKS, "[z, level]"], "objective.blocks: expected Mapping, got ['z', 'level']"),
        (["--batches.batch_size", "1"], "batch size 1 is too small: the inference marginal needs 2 data or more"),
        (["--batches.batch_size", "71"], "batch size 71 is larger than the 70 training data"),
        (["--batches.held_out", "99"], "cannot hold out 99 of 100 data: at least 2, and 2 must remain"),
        (["--batches.num_workers", "-1"], "num_workers must be 0 or more, got -1"),
        (["--data", "pyro_hfvae.data.DSpritesFile"], "data: pyro_hfvae.data.DSpritesFile: the following arguments are"),
        (["--data", "pyro_hfvae.data.DSpritesFile", "--data.path", "lost.npz"], "no dSprites file at '"),
        (["--objective.between", ".nan"], "weight 'between' must be a finite number, got nan"),
        (["--objective.within", ".inf"], "weight 'within' must be a finite number, got inf"),
        (["--objective.num_particles", "0"], "num_particles must be 1 or more, got 0"),
        (["--model.temperature", "0"], "the temperature must be above 0 and finite, got 0.0"),
        (["--guide.temperature", ".nan"], "the temperature must be above 0 and finite, got nan"),
        (
            ["--training.temperature.end", "0"],
            "the temperature must stay above 0 and finite, but is 0 at step 40 of Linear(start=",
        ),
        (
            ["--training.temperature.end", ".nan"],
            "the values of a schedule must be finite, got Linear(start=1.0, end=nan",
        ),
        (
            ["--trainer.max_steps", "-1"],
            "set trainer.max_steps or trainer.max_epochs, so that training takes one step or more",
        ),
        (
            ["--trainer.max_steps", "0"],
            "set trainer.max_steps or trainer.max_epochs, so that training takes one step or more",
        ),
        (
            ["--trainer.val_check_interval", "0"],
            "trainer.val_check_interval must be a number of training steps, 1 or more, got 0; for no validation set",
        ),
        (["--trainer.val_check_interval", "0.5"], "trainer: `val_check_interval` should be an integer or a time"),
        (["--trainer.devices", "2"], "training on 2 devices is not supported: set --trainer.devices 1"),
        (
            ["--trainer.accelerator", "abacus"],
            "trainer: You selected an invalid accelerator name: `accelerator='abacus'`",
        ),
        (
            ["--guide.encoder.image_shape", "[1, 9, 9]"],
            "the guide fails on a batch of shape (16, 1, 8, 8): mat1 and mat",
        ),
        (
            ["--model.decoder.image_shape", "[1, 9, 9]"],
            "the decoder's output has the shape (1, 9, 9), but data of the shape (1, 8, 8) need (1, 8, 8)",
        ),
        (["--resume"], "argument --resume: expected one argument"),
        (
            ["--trainer.limit_train_batches", "0"],
            "unrecognized arguments: --trainer.limit_train_batches",
        ),
        (
            ["--trainer.limit_train_batches", "5"],
            "unrecognized arguments: --trainer.limit_train_batches 5",
        ),
        (["--trainer.strategy", "ddp_spawn"], "trainer.strategy ddp_spawn is not supported: leave it at auto, for one"),
        (
            [*ONE_CYCLE, "--training.lr_scheduler.total_steps", "39"],
            "the learning-rate schedule OneCycleLR ends after total_steps=39 steps, but training takes 40",
        ),
        (
            ["--training.optimizer.lr", "1e39"],
            "the learning rate 1e+39 is too large",
        ),
    ],
)
def test_options_of_fit(refused_fit, options, message):
    assert refused_fit(*options).startswith(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], 'expected "command" to be one of {fit,evaluate,traverse,report,check, ...}, but it was not provided.'),
        (
            ["fitt"],
            "argument command: invalid choice: 'fitt' (choose from 'fit', 'evaluate', 'traverse', 'report', 'check', "
            "'data')",
        ),
        (["fit", "--config", TINY], "the following arguments are required: --run"),
        (["fit", "--run", "new"], "the following arguments are required: --data, --guide, --model"),
        (["evaluate"], "the following arguments are required: RUN"),
    ],
)
def test_commands(refused, arguments, message):
    assert refused(*arguments) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"model: [1, 2\nb: {",
            "configuration 'bad.yaml': while parsing a flow sequence at l",
        ),
        (b"just words", "configuration 'bad.yaml': Unexpected config: just words"),
        (b"\x80\x03\x00", "configuration 'bad.yaml': 'utf-8' codec can't decode byte 0x80"),
        (b"modle: 1", "Subcommand 'fit' does not accept option 'modle'; the options are listed by --help"),
        (
            b"objective: {betwen: 1}",
            "configuration 'bad.yaml': objective: pyro_hfvae.HierarchicalELBO: Option 'betwen' is not accepted; the o",
        ),
    ],
)
def test_configurations(refused, content, message):
    Path("bad.yaml").write_bytes(content)
    assert refused("fit", "--config", "bad.yaml", "--run", "new").startswith(message)


@pytest.mark.parametrize("name", ["seed", "checkpoint_every", "trainer.max_steps"])
def test_numbers_that_are_null_in_a_configuration(refused, name):
    config = yaml.safe_load(TINY.read_text())
    *groups, last = name.split(".")
    (config[groups[0]] if groups else config)[last] = None
    Path("null.yaml").write_text(yaml.safe_dump(config))
    assert refused("fit", "--config", "null.yaml", "--run", "new") == f"{name} must not be null"


def test_file_with_another_checksum(refused_fit, tmp_path):
    (tmp_path / "file.npz").write_bytes(b"content")
    file = ["--data", "pyro_hfvae.data.DSpritesFile", "--data.path", str(tmp_path / "file.npz")]
    message = refused_fit(*file, "--data.sha256", "0" * 64)
    assert message == (
        f"'{tmp_path}/file.npz' has SHA-256 {hashlib.sha256(b'content').hexdigest()}, expected {'0' * 64}"
    )
    assert (
        refused_fit(*file)
        == f"'{tmp_path}/file.npz' cannot be read as an npz file with imgs and latents_classes: File is not a zip file"
    )


def test_a_run_folder_that_exists_is_not_written_to(refused, run):
    message = "run folder 'run' exists: name another with --run, or continue it with --resume"
    assert refused("fit", "--config", TINY, "--run", "run") == message
    Path("file").write_text("x")
    assert refused("fit", "--config", TINY, "--run", "file/new") == "Not a directory: 'file/new'"


COMMANDS = {"resume": ["fit", "--resume"]} | {name: [name] for name in ("evaluate", "traverse", "report", "check")}
LOADING = [COMMANDS[name] for name in ("resume", "evaluate", "traverse", "check")]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("folder", ["lost", "empty", "file"])
def test_no_run(refused, command, folder):
    Path("empty").mkdir()
    Path("file").write_text("x")
    assert refused(*command, folder) == f"'{folder}' is no run folder: it has no config.yaml"


@pytest.mark.parametrize("command", LOADING)
def test_no_checkpoint(refused, run, command):
    (run / "checkpoints" / "last.ckpt").unlink()
    assert refused(*command, "run") == (
        "run 'run' has no checkpoint yet (run/checkpoints/last.ckpt): wait for one if it is being trained; if it was "
        "stopped, start again with: pyro-hfvae fit --config run/config.yaml --run NEW_FOLDER"
    )


@pytest.mark.parametrize("command", LOADING)
@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_checkpoint_cut_short(refused, run, command, share):
    checkpoint = run / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[: int(share * checkpoint.stat().st_size)])
    message = "checkpoint 'run/checkpoints/last.ckpt' cannot be read: it is damaged, cut short or no checkpoint ("
    assert refused(*command, "run").startswith(message)


class Code:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [({"state_dict": Code()}, "cannot be read"), ({}, "is not one of a run: it lacks state_dict, global_step, rand")],
)
def test_checkpoint_of_something_else(refused, run, content, message):
    torch.save(content, run / "checkpoints" / "last.ckpt")
    for command in LOADING:  # 'refused' sees that no file is made: code in the checkpoint is not executed
        assert refused(*command, "run").startswith(f"checkpoint 'run/checkpoints/last.ckpt' {message}")


@pytest.mark.parametrize("command", LOADING)
def test_checkpoint_that_does_not_fit(refused, run, command):
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("z: 2", "z: 3"))
    remember(config.read_text())  # the user's own
    assert refused(*command, "run").startswith(
        "checkpoint 'run/checkpoints/last.ckpt' does not fit the configured programs: size mismatch for programs."
    )


def test_resume_with_options_that_do_not_fit_the_checkpoint(refused, run):
    sizes = ["--model.gaussian", "{z: 3}", "--guide.gaussian", "{z: 3}"]
    assert "does not fit the configured programs" in refused("fit", "--resume", "run", *sizes)
    sgd = ["--training.optimizer", "torch.optim.SGD", "--training.optimizer.lr", "0.1"]
    assert "was made with another optimiser than SGD: resume with" in refused("fit", "--resume", "run", *sgd)
    message = refused("fit", "--resume", "run", "--training.optimizer.lr", "0.5", "--trainer.max_steps", "9")
    assert message == (
        "checkpoint 'run/checkpoints/last.ckpt' was made with lr=0.001 of the optimiser, not 0.5: "
        "resume with the one that the run was started with"
    )
    factor = ["--objective", "FactorVAE", "--objective.gamma", "2", "--objective.hidden", "[3]"]
    assert "does not fit the configured programs: Missing key" in refused("fit", "--resume", "run", *factor)
    message = refused("fit", "--resume", "run", "--trainer.max_steps", "2")
    assert message == "run 'run' has done 3 steps already, more than the 2 asked for"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--seed", "5"],
            "run 'run' was started with seed 0, not seed 5: use the data and the split that i",
        ),
        (["--batches.held_out", "40"], "run 'run' was started with 30 held-out data, not 40 held-out data: use"),
        (
            ["--data.size", "90"],
            "run 'run' was started with 100 data, not 90 data: use the data and the spl",
        ),
        (
            ["--config", TINY, "--run", "other"],
            "--resume run goes on with this run, but --run or a configuration names",
        ),
    ],
)
def test_resume_as_another_run(refused, run, options, message):
    assert refused("fit", "--resume", "run", "--trainer.max_steps", "9", *options).startswith(message)


def test_resume_with_a_damaged_record_of_versions(refused, run):
    (run / "versions.json").write_text("")
    message = refused("fit", "--resume", "run", "--trainer.max_steps", "9")
    assert message == "'run/versions.json' is damaged: delete it; the run's wall time is lost"


@pytest.mark.parametrize("command", LOADING)
def test_broken_configuration_of_a_run(refused, run, command):
    (run / "config.yaml").write_text("model: [1, 2\nb: {")
    assert refused(*command, "run").startswith("configuration 'run/config.yaml': ")


def test_report_of_several_runs(refused, run):
    shutil.copytree(run, "other")
    assert refused("report", "run", "other") == "run has no metrics.json: run 'pyro-hfvae evaluate run' first"
    for folder in ("run", "other"):
        Path(folder, "metrics.json").write_text("{}")
    assert refused("report", "run", "lost") == "'lost' is no run folder: it has no config.yaml"
    assert refused("report", "run", "other", "run") == "run run is given twice"
    assert refused("report", "run", "other/../run") == "run run is given twice"
    assert refused("report") == "the following arguments are required: RUN"


def test_report_does_not_take_the_place_of_something_else(refused, run):
    shutil.copytree(run, "other")
    for folder in ("run", "other"):
        Path(folder, "metrics.json").write_text("{}")
    Path("report.html").write_text("<html>what a user wrote</html>")
    message = "report.html exists and is no report of pyro-hfvae: name another file with --output"
    assert refused("report", "run", "other") == message
    assert refused("report", "run", "--output", "report.html") == message
    message = "cannot write run: it is a folder; name a file with --output"
    assert refused("report", "run", "other", "--output", "run") == message
    message = "cannot write lost/page.html: there is no folder lost"
    assert refused("report", "run", "other", "--output", "lost/page.html") == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "run", "--samples", "0"], "samples: 0 does not conform to restriction v>0"),
        (["evaluate", "run", "--samples", "3"], "--samples 3 is too few: the scores need 8 held-out data"),
        (["evaluate", "run", "--term_samples", "-1"], "term_samples: -1 does not conform to restriction v>0"),
        (["evaluate", "run", "--permutations", "-1"], "permutations: -1 does not conform to restriction v>=0"),
        (["evaluate", "run", "--permutations", "1"], "permutations must be 0, or at least 2 for an interval; got 1"),
        (["traverse", "run", "--columns", "0"], "columns: 0 does not conform to restriction v>=2"),
        (["traverse", "run", "--columns", "31"], "--columns 31 is more than the 30 held-out data"),
        (["traverse", "run", "--image", "-1"], "image: -1 does not conform to restriction v>=0"),
        (["traverse", "run", "--image", "100"], "--image 100 is not in the data: its images are 0 to 99"),
        (["traverse", "run", "--rows", "3"], "unrecognized arguments: --rows 3; the options are listed by --help"),
    ],
)
def test_options_of_the_other_commands(refused, run, arguments, message):
    assert refused(*arguments).startswith(message)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raise TypeError('a fault')", "TypeError: a fault"),
        ("raise KeyError('size')", "KeyError: 'size'"),
        ("raise ValueError", "ValueError"),
        ("raise ValueError('a size is wrong')", None),
        ("self.layer = nn.Linear(2, 2)", "AttributeError: cannot assign module before Module.__init__() call"),
        ("assert False, 'never'", "AssertionError: never"),
    ],
)
@pytest.mark.parametrize("option", ["--model", "--guide.encoder"])
def test_the_reason_of_the_users_constructor(refused_fit, tmp_path, monkeypatch, fault, reason, option):
    module = f"faulty_{abs(hash((fault, option)))}"
    lines = ["from torch import nn", "class Faulty(nn.Module):", "    def __init__(self):", f"        {fault}"]
    (tmp_path / f"{module}.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    message = refused_fit(option, f"{module}.Faulty")
    if reason is None:
        assert message == "a size is wrong"
    else:
        assert message.startswith(f"{module}.Faulty: {reason} (")
        assert re.search(rf"{module}\.py, line 4\)$", message) or "Module.__init__" in reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.temperature", "null"], "pyro_hfvae.models.image.ImageModel: temperature must not be null"),
        (["--objective.prior_samples", "null"], "pyro_hfvae.infer.elbo.HierarchicalELBO: prior_samples must not be nu"),
        (["--guide.encoder.hidden", "[]"], "hidden must have one layer or more, of 1 unit or more, got []"),
        (["--guide.encoder.image_shape", "[1, 8, 0]"], "the sizes of image_shape must be 1 or more, got [1, 8, 0]"),
        (["--model.decoder.image_shape", "[-1, 8, 8]"], "the sizes of image_shape must be 1 or more, got [-1, 8, 8]"),
        (["--model.decoder.hidden", "[3, 0]"], "each layer of hidden must have 1 unit or more, got [3, 0]"),
    ],
)
def test_values_that_no_type_refuses(refused_fit, options, message):
    assert refused_fit(*options).startswith(message)


@pytest.mark.parametrize("value", [0.5, True, None, [1], "words"])
@pytest.mark.parametrize("group", ["trainer", "batches", "training", "model", "objective", "data"])
def test_a_value_in_place_of_a_group(refused, tmp_path, group, value):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(yaml.safe_load(TINY.read_text()) | {group: value}))
    assert group in refused("fit", "--config", "c.yaml", "--run", "new")


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ([Path(sys.executable).with_name("pyro-hfvae")], ["evaluate", "lost"], "'lost' is no run folder: it has no c"),
        (
            [sys.executable, "-m", "pyro_hfvae"],
            ["fit", "--config", TINY, "--run", "new", "--batches.batch_size", "1"],
            "batch size 1 is too small: the inference marginal needs 2 data or more",
        ),
    ],
)
def test_as_a_process(command, arguments, message):
    if not Path(command[0]).exists():
        pytest.skip("the console script is not installed beside this Python")
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(re.escape(f"pyro-hfvae: error: {message}") + r"[^\n]*\n", done.stderr)
    assert not Path("new").exists()
