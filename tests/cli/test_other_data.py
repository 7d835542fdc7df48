"""Runs of a table, of counts and of sequences: what is measured and drawn of them, and that a report is written."""

import json
import re

import numpy as np
import pytest
import torch
from feature_data import Series, Table
from matplotlib.figure import Figure

from pyro_hfvae.batch import Batch
from pyro_hfvae.cli import feature_metrics, feature_pictures, main
from pyro_hfvae.metrics import explained_share, feature_shares
from pyro_hfvae.paint import FeatureReader, exchanger, posterior_modes
from pyro_hfvae.train import RunFolder, load_run

KINDS = {"Table": 4, "Words": 12, "Series": 16}
"""Names of the data and the numbers that a guide reads."""
FEW = ["--data", "6", "--draws", "30", "--predictive_draws", "39", "--simulations", "10"]


def fit(run, kind, *options):
    arguments = [f"--model=feature_data.{kind}Model", "--guide=feature_data.Guide", f"--guide.inputs={KINDS[kind]}"]
    arguments += [f"--data=feature_data.{kind}", "--batches.batch_size=16", "--batches.held_out=40"]
    arguments += ["--trainer.max_steps=4", *options]
    return main(["fit", *arguments, "--run", str(run)])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each kind, evaluated and drawn; not to be changed."""
    folder = tmp_path_factory.mktemp("runs")
    for kind in KINDS:
        assert fit(folder / kind, kind) == 0
        assert main(["evaluate", str(folder / kind)]) == 0
        assert main(["traverse", str(folder / kind), "--columns", "5"]) == 0
        assert main(["report", str(folder / kind)]) == 0
    return folder


def text(run):
    return " ".join(re.sub("<[^>]*>", " ", (run / "report.html").read_text()).split())


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_each_block_and_a_page_of_all(runs, kind):
    drawn = {path.stem for path in (runs / kind / "pictures").glob("*.png")}
    assert drawn == {"aggregate_posterior", "traversal_z", "traversal_kind"}
    page = text(runs / kind)
    assert "Blocks and features z " in page
    assert "Traversals" in page
    assert "There are no pictures" not in page


def test_shares_of_features_are_those_of_the_run(runs):
    metrics = json.loads((runs / "Table" / "metrics.json").read_text())
    assert metrics["features_note"] is None
    found = metrics["features"]
    assert (found["data"], found["blocks"]) == (40, ["z", "kind"])
    assert found["features"] == ["age", "income", "member", "colour"]
    run = load_run(runs / "Table")
    data = Batch.joined(batch for batch, _ in run.data.held_out_batches())
    reader = FeatureReader(run.model, data.rows(slice(1)))
    modes, blocks = posterior_modes(run.guide, data), {"z": ["z[0]", "z[1]"], "kind": ["kind"]}
    places = {"age": [0], "income": [1], "member": [2], "colour": [3, 4, 5]}
    expected = feature_shares(exchanger(reader, modes, run.blocks_of(data)), blocks, places, 40)
    np.testing.assert_allclose(found["total"], expected.total, atol=1e-4)
    np.testing.assert_allclose(found["chance"], expected.chance, atol=1e-4)
    decoded, observed = reader.decoded(modes).values, reader.observed(data).values
    assert observed[:, 1].isnan().any()
    np.testing.assert_allclose(found["explained"], explained_share(observed, decoded, places), atol=1e-4)


def test_many_numbers_are_decoded_of_fewer_data(runs, monkeypatch):
    monkeypatch.setattr(feature_metrics, "EXCHANGED_NUMBERS", 6 * 10 + 5)
    run = load_run(runs / "Table")
    data = Batch.joined(batch for batch, _ in run.data.held_out_batches())
    assert feature_metrics.run_features(run, data, 0)["features"]["data"] == 10
    monkeypatch.setattr(feature_metrics, "EXCHANGED_NUMBERS", 6)
    assert (
        feature_metrics.run_features(run, data, 0)["features_note"] == "shares of features need 4 data or more, got 1"
    )


def recorded(monkeypatch, picture):
    """What a picture is given, for each block."""
    seen = []

    def record(variables, title):
        seen.append((variables, title))
        return Figure(figsize=(1, 1))

    monkeypatch.setattr(feature_pictures, picture, record)
    return seen


def test_profiles_of_a_table_are_in_its_units(runs, monkeypatch):
    seen = recorded(monkeypatch, "profile_grid")
    assert main(["traverse", str(runs / "Table"), "--prior", "--image", "3"]) == 0
    assert len(seen) == 6
    (moving, other), title = seen[0]
    assert re.match(r"z, all else at the median of q\(z\), kind = \d; from the 1", title)
    assert (moving.variable, other.variable) == ("z[0]", "z[1]")
    age, income, member, colour = moving.features
    assert (age.name, income.name, member.name, colour.name) == ("age", "income", "member", "colour")
    assert colour.labels == ("red", "green", "blue")
    x = Table().batch(load_run(runs / "Table").data.held_out_indices).x.double()
    assert age.usual == pytest.approx((40 + 12 * x[:, 0].quantile(torch.tensor([0.05, 0.95]).double())).tolist())
    known = x[:, 1][x[:, 1].isfinite()]
    low, high = known.quantile(torch.tensor([0.05, 0.95]).double()).tolist()
    assert income.spread == pytest.approx(8e3 * (high - low), rel=1e-5)
    assert 1e3 < abs(float(income.values.mean())) < 1e5
    assert seen[1][0][0].discrete
    assert "as in datum 3" in seen[4][1]


def test_counts_have_top_features_at_one_library_size(runs, monkeypatch):
    seen = recorded(monkeypatch, "top_features")
    assert main(["traverse", str(runs / "Words")]) == 0
    run = load_run(runs / "Words")
    library = Batch.joined(batch for batch, _ in run.data.held_out_batches())["library"].sort().values[20].item()
    (variables, title), _ = seen
    assert title.endswith(f"; library {library:.0f}")
    assert [feature.name for feature in variables[0].features] == [f"word {at}" for at in range(12)]
    totals = np.sum([feature.values for feature in variables[0].features], 0)
    np.testing.assert_allclose(totals, library, rtol=1e-4)


def test_sequences_have_lines_over_all_steps(runs, monkeypatch):
    seen = recorded(monkeypatch, "line_grid")
    assert main(["traverse", str(runs / "Series"), "--columns", "7"]) == 0
    (variables, title), _ = seen
    assert title.endswith("; lengths 8")
    assert [(one.name, one.values.shape) for one in variables[0].features] == [("x[0]", (7, 8)), ("x[1]", (7, 8))]


def test_sets_have_their_objects(runs, monkeypatch):
    monkeypatch.setattr(Series, "objects", True)
    seen = recorded(monkeypatch, "object_grid")
    assert main(["traverse", str(runs / "Series"), "--columns", "4"]) == 0
    assert [one.values.shape for one in seen[0][0][0].features] == [(4, 8), (4, 8)]


@pytest.mark.parametrize("kind", ["Words", "Series"])
def test_check_works(runs, kind):
    assert main(["check", str(runs / kind), *FEW]) == 0


def test_animations_are_of_images(runs, capsys):
    assert main(["traverse", str(runs / "Table"), "--gif"]) == 2
    assert "--gif animates images, and the model of this run decodes none" in capsys.readouterr().err


def test_one_block_decides_all(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert fit(run.path, "Table", '--objective.blocks={"all": ["z", "kind"]}') == 0
    for command in ("evaluate", "traverse", "report"):
        assert main([command, str(run.path)]) == 0
    metrics = json.loads(run.metrics.read_text())
    assert metrics["features"] is None
    assert metrics["features_note"] == "an exchange of blocks needs two blocks or more; there is one"
    assert "What each block decides of each feature is not known: an exchange of blocks needs two" in text(run.path)
