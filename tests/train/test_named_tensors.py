"""Data that are no images, with covariates that programs get by name: from fit to check."""

import json

import pytest
import torch
from support import Rates

from pyro_hfvae.cli import main
from pyro_hfvae.train import load_run

RATES = ["--model", "support.RatesModel", "--guide", "support.RatesGuide", "--data", "support.Rates"]
SHORT = ["--batches.batch_size", "16", "--batches.held_out", "20", "--trainer.max_steps", "4"]
PAIRS = ["--batches.pairs.blocks", json.dumps({"z": ["kind"], "scale": []})]


def fit(run, *options):
    return main(["fit", *RATES, *SHORT, *options, "--run", str(run)])


@pytest.mark.parametrize("pairs", [[], [*PAIRS, "--batches.pairs.swap", "true"]], ids=["single", "swap"])
def test_trained_measured_and_checked(tmp_path, pairs):
    run = tmp_path / "run"
    assert fit(run, *pairs) == 0
    assert main(["evaluate", str(run), "--permutations", "0"]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["disentanglement"]["swaps_note"] is None
    assert main(["check", str(run), "--simulations", "60", "--draws", "60"]) == 0
    loaded = load_run(run)
    batch, _ = next(iter(loaded.data.held_out_batches()))
    assert batch["total"].equal(Rates().batch(loaded.data.held_out_indices)["total"])
    torch.manual_seed(0)
    terms = loaded.objective.aggregate_terms(loaded.model, loaded.guide, [batch])
    assert terms.numbers()["elbo"] == pytest.approx(metrics["terms"]["elbo"], abs=1e-5)


def test_a_program_that_takes_no_covariates_is_refused(tmp_path, capsys):
    guide = ["--guide", "support.NaNGuide"]
    assert fit(tmp_path / "run", *guide) == 2
    expected = "the guide NaNGuide does not take the one argument x with total by name: got an unexpected keyword"
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_targets_whose_covariates_are_others_are_refused(tmp_path, capsys):
    assert fit(tmp_path / "run", *PAIRS) == 2
    expected = "pairs give programs a target without total of its own: set batches.pairs.swap, with which"
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_covariates_follow_their_data_into_pictures(tmp_path):
    """A swap decodes a block of one datum with everything else of another, its total included."""
    from pyro_hfvae.paint import painter

    run = tmp_path / "run"
    assert fit(run) == 0
    loaded = load_run(run)
    data = Rates().batch(torch.arange(8))
    paint = painter(loaded.model, loaded.guide, data, loaded.blocks_of(data))
    painted = torch.from_numpy(paint("z", torch.arange(8).flip(0).numpy(), torch.arange(8).numpy()))
    assert painted.sum(1).allclose(data["total"], rtol=1e-5)  # rates are shares of the total


def test_a_decoder_of_other_channels_is_refused_in_one_line(tmp_path, capsys):
    decoder = ["--model.decoder", "pyro_hfvae.models.MLPDecoder", "--model.decoder.image_shape", "[3, 8, 8]"]
    programs = ["--model", "pyro_hfvae.models.ImageModel", "--model.gaussian={z: 2}", "--model.discrete={}", *decoder]
    guide = ["--guide", "pyro_hfvae.guides.ImageGuide", "--guide.gaussian={z: 2}", "--guide.discrete={}"]
    guide += ["--guide.encoder", "pyro_hfvae.guides.MLPEncoder"]
    options = ["--data", "support.TinyImages", *programs, *guide, *SHORT, "--run", str(tmp_path / "run")]
    assert main(["fit", *options]) == 2
    expected = "the decoder's output has the shape (3, 8, 8), but data of the shape (1, 8, 8) need (1, 8, 8)\n"
    assert capsys.readouterr().err == f"pyro-hfvae: error: {expected}"
