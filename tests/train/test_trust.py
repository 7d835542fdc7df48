"""Whose code a run folder may name: nothing of a stranger's configuration is imported or called."""

import shutil
from pathlib import Path

import pytest
import yaml
from jsonargparse._common import parsing_settings

from pyro_hfvae.cli import main
from pyro_hfvae.guides import ImageGuide
from pyro_hfvae.models import ImageModel
from pyro_hfvae.train import RunFolder, load_run
from pyro_hfvae.train.trust import is_own, remember

TINY = Path(__file__).parents[1] / "tiny.yaml"
FEW = ["--permutations", "0"]
MARK = "from pathlib import Path\nPath('executed').touch()\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the user's own, of data of his own; not to be changed."""
    run = tmp_path_factory.mktemp("runs") / "trained"
    assert main(["fit", "--config", str(TINY), "--run", str(run), "--trainer.max_steps", "2"]) == 0
    return run


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return RunFolder(Path(shutil.copytree(trained, tmp_path / "r")))


def change(run, *keys, to):
    """Somebody else's configuration."""
    config = yaml.safe_load(run.config.read_text())
    place = config
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    run.config.write_text(yaml.safe_dump(config))


def evil(name, **arguments):
    return {"class_path": name, "init_args": arguments}


STRANGE = {
    "a function for a factory": (("model", "init_args", "decoder"), evil("os.system", command="touch executed")),
    "through a module of torch": (
        ("model", "init_args", "decoder"),
        evil("torch.nn.init.math.dist", command="touch executed"),
    ),
    "torch's own loader": (("model", "init_args", "decoder"), evil("torch.hub.load", repo_or_dir="r", model="m")),
    "a writer of this library": (
        ("model", "init_args", "decoder"),
        evil("pyro_hfvae.files.write_atomically", path="executed", content="x"),
    ),
    "the loader of runs": (
        ("model", "init_args", "decoder"),
        evil("pyro_hfvae.train.load_run", folder="r", trust=["os"]),
    ),
    "a file in the run folder": (("data",), "r.evil.Images"),
    "a file in the current folder": (("guide",), {"class_path": "evil.Guide"}),
    "an optimiser": (("training", "optimizer"), evil("evil.Adam")),
    "a callback": (("trainer", "callbacks"), [evil("evil.Callback")]),
    "a type": (("model", "init_args", "relaxation"), "evil.Concrete"),
    "an objective": (("objective",), evil("evil.objective")),
    "a configuration elsewhere": (("model",), "elsewhere.yaml"),
}


@pytest.mark.parametrize("case", STRANGE)
def test_what_a_stranger_names_is_not_imported(run, case, capsys):
    keys, value = STRANGE[case]
    change(run, "data", to={"class_path": "pyro_hfvae.data.DSprites"})
    change(run, *keys, to=value)
    for place in (Path("evil.py"), run.path / "evil.py"):
        place.write_text(MARK)
    Path("elsewhere.yaml").write_text("class_path: evil.Model\n")
    for command in (["evaluate", "r"], ["fit", "--resume", "r", "--trainer.max_steps", "3"]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "which is neither of this library nor of torch.nn or torch.optim" in error
        assert "give --trust " in error
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    "command", [["evaluate", "r", *FEW], ["traverse", "r"], ["check", "r"], ["report", "r", "--complete"]]
)
def test_every_command_is_limited(run, command, capsys):
    change(run, "data", to="evil.Images")
    Path("evil.py").write_text(MARK)
    assert main(command) == 2
    assert "names 'evil.Images'" in capsys.readouterr().err
    assert not Path("executed").exists()


def test_a_users_own_run_and_what_he_trusts(run, capsys):
    assert is_own(run)
    assert main(["evaluate", "r", *FEW]) == 0
    change(run, "batches", "num_workers", to=0)  # the same, but not to the letter
    assert not is_own(run)
    assert main(["evaluate", "r", *FEW]) == 2
    assert "'r/config.yaml' names 'support.TinyImages'" in capsys.readouterr().err
    with pytest.raises(ValueError, match="give --trust support if you trust that module"):
        load_run("r")
    assert main(["evaluate", "r", *FEW, "--trust", "other", "--trust", "support"]) == 0
    assert load_run("r", trust=["support"]).step == 2
    assert main(["fit", "--resume", "r", "--trust=support", "--trainer.max_steps", "3"]) == 0
    assert yaml.safe_load(run.config.read_text()).get("trust") is None
    assert parsing_settings["import_paths_enforced"] is False
    assert "*" not in parsing_settings["import_path_verdicts"]


def test_a_library_run_of_a_stranger_needs_nothing(tmp_path, capsys):
    run = tmp_path / "run"
    options = ["--data", "pyro_hfvae.data.DSprites", "--batches.held_out", "4", "--trainer.limit_val_batches", "0"]
    for part, kind in (("model.decoder", "models.MLPDecoder"), ("guide.encoder", "guides.MLPEncoder")):
        options += [f"--{part}", f"pyro_hfvae.{kind}", f"--{part}.image_shape", "[1,64,64]", f"--{part}.hidden", "[4]"]
    options += ["--objective", "pyro_hfvae.HFVAE", "--training.lr_scheduler", "torch.optim.lr_scheduler.ConstantLR"]
    assert main(["fit", "--config", str(TINY), "--run", str(run), "--trainer.max_steps", "2", *options]) == 0
    config = run / "config.yaml"
    config.write_text(config.read_text() + "# from elsewhere\n")
    assert not is_own(RunFolder(run))
    assert load_run(run).step == 2


def test_trust_is_for_runs(tmp_path, capsys):
    assert main(["fit", "--config", str(TINY), "--run", str(tmp_path / "r"), "--trust", "support"]) == 2
    assert "--trust is for --resume" in capsys.readouterr().err


def test_without_a_home_folder_nothing_fails(run, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    remember("a: 1")
    assert not is_own(run)


def test_a_factory_that_makes_no_module_is_refused(tmp_path, capsys):
    for option, factory in (("--model.decoder", "math.sqrt"), ("--guide.encoder", "time.time")):
        assert main(["fit", "--config", str(TINY), option, factory, "--run", str(tmp_path / "r")]) == 2
        assert f"'{factory}' to be a function that returns" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
    with pytest.raises(ValueError, match=r"^the decoder must make a torch\.nn\.Module, got float$"):
        ImageModel({"z": 2}, {}, float)
    with pytest.raises(ValueError, match=r"^the encoder must make a torch\.nn\.Module, got dict$"):
        ImageGuide({"z": 2}, {}, dict)
