"""``pyro-hfvae check`` on one tiny run."""

import shutil
from pathlib import Path

import arviz
import matplotlib.image
import pytest

from pyro_hfvae.cli import main
from pyro_hfvae.train import RunFolder

TINY = str(Path(__file__).parents[1] / "tiny.yaml")
FEW = ["--data", "6", "--draws", "30", "--predictive_draws", "39", "--simulations", "10", "--aggregate_data", "30"]
FILES = ["aggregate.png", "calibration.png", "drawn.json", "guide.png", "posterior.nc", "predictive.png", "summary.txt"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "tiny")
    assert main(["fit", "--config", TINY, "--run", str(folder.path)]) == 0
    return folder


def test_check_writes_everything(run, capsys):
    assert main(["check", str(run.path), *FEW]) == 0
    assert sorted(path.name for path in run.checks.iterdir()) == FILES
    said = (run.checks / "summary.txt").read_text()
    assert capsys.readouterr().out == f"{said}\nchecks: {run.checks}\n"
    assert "of 6 checks are fine" in said  # grey images have no LOO-PIT
    for subject in ("importance weights", "gap of the ELBO", "calibration", "q(z) against p(z)", "prior predictive"):
        assert subject in said
    read = arviz.from_netcdf(run.checks / "posterior.nc")
    assert read["posterior"]["z"].shape == (1, 39, 6, 2)
    assert read["posterior"]["level"].dims[-1] == "level_category"
    assert read["posterior_predictive"]["x"].shape == (1, 39, 6, 1, 8, 8)
    for name in FILES:
        if name.endswith(".png"):
            assert matplotlib.image.imread(run.checks / name).shape[0] > 100


@pytest.mark.slow
def test_twice_gives_the_same_summary_and_pictures(run, tmp_path):
    copy = RunFolder(Path(shutil.copytree(run.path, tmp_path / "copy")))
    shutil.rmtree(copy.checks, ignore_errors=True)
    for folder in (run, copy):
        assert main(["check", str(folder.path), *FEW]) == 0
    for name in FILES:
        if name != "posterior.nc":  # which holds the time of writing
            assert (run.checks / name).read_bytes() == (copy.checks / name).read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--draws", "10"], "PSIS needs 25 draws or more, got 10"),
        (["--predictive_draws", "10"], "predictive checks need 39 draws or more, got 10"),
        (["--aggregate_data", "10"], "a two-sample test needs 20 draws of each kind or more, got 10"),
        (["--data", "0"], "data: 0 does not conform to restriction v>0"),
    ],
)
def test_bad_sizes(run, capsys, options, said):
    assert main(["check", str(run.path), *FEW, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("pyro-hfvae: error: ")
    assert said in error
    assert error.count("\n") == 1


def test_no_run(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 2
    assert f"'{tmp_path}' is no run folder" in capsys.readouterr().err
