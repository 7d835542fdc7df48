"""Data that show little: few images, factors that are constant or rare; what is known is on the page, with the rest."""

import io
import json
import sys
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from synthetic_runs import Page

from pyro_hfvae.cli import main
from pyro_hfvae.cli.known_factors import known_factors
from pyro_hfvae.data import Images

TINY = str(Path(__file__).parents[1] / "tiny.yaml")
RANDOM = np.random.default_rng(0)


def trained(folder, factors, names, held_out, *options):
    """A run of 2 steps on so many images, with the factors given."""
    images = RANDOM.integers(0, 256, (len(factors), 8, 8), np.uint8)
    np.savez(folder / "photos.npz", images=images, factors=factors, factor_names=np.array(names))
    data = ["--data", "pyro_hfvae.data.ImageFile", "--data.path", str(folder / "photos.npz")]
    options = [*data, "--batches.held_out", held_out, "--batches.batch_size", "8", *options]
    assert main(["fit", "--config", TINY, "--run", str(folder / "run"), *options, "--trainer.max_steps", "2"]) == 0
    return folder / "run"


def test_a_few_images_give_a_page(tmp_path, capsys):
    run = trained(tmp_path, RANDOM.integers(0, 3, (30, 1)), ["level"], "4")
    capsys.readouterr()
    assert main(["report", str(run), "--complete"]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert np.isfinite(metrics["terms"]["elbo"])
    assert metrics["disentanglement"] is None
    text = Page((run / "report.html").read_text()).text
    assert "What blocks and variables encode of the factors is not known: " in text
    assert "ELBO" in text
    assert "q(z) was not compared with p(z): that needs 20 held-out data, and there are 4" in text
    assert (run / "pictures" / "reconstructions.png").is_file()
    assert main(["check", str(run), "--aggregate_data", "4"]) == 2
    assert "a two-sample test needs 20 draws of each kind or more, got 4" in capsys.readouterr().err


def test_constant_and_rare_factors_are_left_out_by_name(tmp_path, capsys):
    level = np.arange(60) % 3
    factors = np.stack([level, level * 0, np.arange(60) == 7], 1).astype(int)
    run = trained(tmp_path, factors, ["le/vel", "constant", "rare"], "30")
    capsys.readouterr()
    assert main(["evaluate", str(run), "--permutations", "0"]) == 0
    out = capsys.readouterr().out
    assert "factor constant is left out: it has the value 0 in all 30 held-out data\n" in out
    assert "factor rare is left out: " in out
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["disentanglement"]["block_factor"]["factors"] == ["le/vel"]
    assert list(metrics["left_out"]) == ["constant", "rare"]
    assert main(["traverse", str(run), "--columns", "31"]) == 2
    assert "--columns 31 is more than the 30 held-out data" in capsys.readouterr().err
    assert main(["traverse", str(run)]) == 0
    assert [path.name for path in (run / "pictures").glob("pair_*")] == ["pair_le%2Fvel.png"]
    assert main(["report", str(run)]) == 0
    assert "Factor constant is left out: " in Page((run / "report.html").read_text()).text


class Described(Images):
    """Factors without images."""

    factor_names = ("kind", "angle", "open")
    factor_sizes = (3, 5, 2)
    factor_kinds = ("categorical", "circular", "ordinal")
    factor_periods = MappingProxyType({"angle": 4})

    def __len__(self):
        return 100

    images = factors = None


Described.__abstractmethods__ = frozenset()


def test_which_factors_are_known():
    kind, angle = np.arange(20) % 3, np.where(np.arange(20) % 2, 4, 0)  # 4 is the first angle again
    known, left_out, _ = known_factors(Described(), np.stack([kind, angle, kind == 0], 1).astype(int))
    assert known.names == ("kind", "open")
    assert left_out == {"angle": "it has the value 0 in all 20 held-out data"}
    values = np.stack([kind, np.arange(20) % 3, np.arange(20) < 4], 1).astype(int)
    known, left_out, _ = known_factors(Described(), values)
    assert known.names == ("kind", "angle")
    assert known.periods == {"angle": 4}
    assert left_out == {"open": "all but 4 of the 20 held-out data have the value 0; at least 5 must have another"}
    known, left_out, _ = known_factors(Described(), np.zeros((3, 3), int))
    assert known is None
    assert list(left_out) == ["kind", "angle", "open"]


def test_data_without_a_factor():
    values = np.stack([np.arange(20) % 3, np.arange(20) % 4, np.arange(20) % 2], 1).astype(float)
    values[:11, 2] = np.nan  # of more than half: its own fault, not that of the data
    values[[0, 7], 0] = np.nan
    known, left_out, rows = known_factors(Described(), values)
    assert known.names == ("kind", "angle")
    assert left_out == {"open": "it is not known of 11 of the 20 held-out data"}
    assert rows.tolist() == [row for row in range(20) if row not in (0, 7)]
    np.testing.assert_array_equal(known.values, values[rows][:, :2].astype(int))
    assert known.values.dtype == np.int64
    everything = np.full((20, 3), np.nan)
    assert known_factors(Described(), everything).factors is None


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_that_cannot_encode_a_letter(encoding, tmp_path, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        assert main(["evaluate", str(tmp_path)]) == 2
        print("k̂ is fine")
    assert out.buffer.getvalue().decode(encoding).endswith("is fine\n")


def test_home_folders_are_expanded_everywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "größe und maß"))
    home = tmp_path / "größe und maß"
    home.mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", TINY, "--run", "~/r", "--trainer.max_steps", "2"]) == 0
    assert main(["fit", "--resume=~/r", "--trainer.max_steps", "3"]) == 0
    assert main(["report", "~/r", "--output", "~/page.html"]) == 0
    assert (home / "r" / "checkpoints" / "last.ckpt").is_file()
    assert (home / "page.html").is_file()
    assert not (tmp_path / "~").exists()
