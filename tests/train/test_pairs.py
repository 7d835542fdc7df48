"""Training on pairs: from YAML to the gradient, resumed bit for bit, the base run where every pair is an identity."""

import json
from pathlib import Path

import pyro
import pytest
import torch
from support import TinyImages

from pyro_hfvae.cli import main
from pyro_hfvae.guides import ImageGuide, MLPEncoder
from pyro_hfvae.infer import VAE
from pyro_hfvae.models import ImageModel, MLPDecoder
from pyro_hfvae.poutine import swap, trim
from pyro_hfvae.train import DataModule, RunFolder, Training
from pyro_hfvae.weak import PairBatch, Pairing, PartnerBatch

TINY = str(Path(__file__).parents[1] / "tiny.yaml")
BLOCKS = {"z": ["x", "y"], "level": ["level"]}
PAIRS = ["--batches.pairs.blocks", json.dumps(BLOCKS)]


def fit(run, *options):
    return main(["fit", "--config", TINY, "--run", str(run.path), *options])


def same(a, b):
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def weights(run):
    return run.load_checkpoint()["state_dict"]


@pytest.fixture
def training():
    with pyro.settings.context(module_local_params=True):
        torch.manual_seed(0)
        model = ImageModel({"z": 2}, {"level": 4}, lambda size: MLPDecoder(size, (1, 8, 8), [6]))
        guide = ImageGuide({"z": 2}, {"level": 4}, lambda: MLPEncoder((1, 8, 8), [6]))
        yield Training(model, guide, VAE(70))


def test_a_run_on_pairs_from_fit_to_report(tmp_path):
    """Other losses than the base run, and measured on held-out single images as ever."""
    run, base = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "base")
    assert fit(run, *PAIRS, "--batches.pairs.wrong", "0.1") == 0
    assert "wrong: 0.1" in run.config.read_text()
    assert [main([command, str(run.path)]) for command in ("evaluate", "traverse", "report")] == [0, 0, 0]
    assert json.loads(run.metrics.read_text())["data"]["held_out"] == 30
    assert fit(base) == 0
    assert not same(weights(run), weights(base))


def test_identity_pairs_give_the_base_run_bit_for_bit(tmp_path):
    base, identity = RunFolder(tmp_path / "base"), RunFolder(tmp_path / "identity")
    assert fit(base) == fit(identity, *PAIRS, "--batches.pairs.identity", "1") == 0
    assert same(weights(base), weights(identity))
    assert base.history.read_text() == identity.history.read_text()


@pytest.mark.parametrize("workers", ["0", "1"])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path, workers):
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    options = [*PAIRS, "--batches.pairs.wrong", "0.2", "--batches.num_workers", workers]
    assert fit(whole, *options, "--trainer.max_steps", "18") == 0
    assert fit(parts, *options, "--trainer.max_steps", "7") == 0
    assert main(["fit", f"--resume={parts.path}", "--trainer.max_steps", "18"]) == 0
    assert same(weights(whole), weights(parts))


def test_a_batch_is_made_of_images_of_the_pairs():
    data = DataModule(TinyImages(), 16, held_out=30, pairs=Pairing(BLOCKS, identity=0.3))
    batch, target, gates = data.first_batch()
    x = batch.x
    assert isinstance(data.first_batch(), PairBatch)
    assert x.shape == target.shape == (16, 1, 8, 8)
    images = [image.flatten().tolist() for image in data.source.images(data.train_indices)]
    factors = data.source.factors(data.train_indices)
    for row in range(16):
        # Held-out images are in no pair: each of the two is found among the training images.
        one, other = (factors[images.index(part[row].flatten().tolist())] for part in (x, target))
        assert gates["z"][row] == (one[:2].equal(other[:2])) or one.equal(other)
        assert gates["level"][row] == (one[2] == other[2]) or not gates["level"][row]
        assert gates["z"][row] or gates["level"][row]
    assert any((x != target).flatten(1).any(1))


def test_partners_that_swap_are_in_one_batch():
    data = DataModule(TinyImages(), 16, held_out=30, pairs=Pairing(BLOCKS, identity=0.3, swap=True))
    batch = data.first_batch()
    assert isinstance(batch, PartnerBatch)
    assert 16 < batch.data.size == len(batch.partners) <= 32
    images = [image.flatten().tolist() for image in data.source.images(data.train_indices)]
    factors = data.source.factors(data.train_indices)
    for row, partner in enumerate(batch.partners.tolist()):
        one, other = (factors[images.index(batch.data.x[place].flatten().tolist())] for place in (row, partner))
        assert not batch.shared["z"][row] or one[:2].equal(other[:2])
        assert not batch.shared["level"][row] or one[2] == other[2]


def test_swaps_that_do_not_fit_the_data():
    with pytest.raises(ValueError, match="a batch of 16 pairs can have 32 data, but there are 30 training data"):
        DataModule(TinyImages(), 16, held_out=len(TinyImages()) - 30, pairs=Pairing(BLOCKS, swap=True))


def test_a_swapped_block_is_taken_from_the_partner(training):
    """The loss is that of the batch in which block z was encoded from the other datum, by hand."""
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    both, none = torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.bool)
    open_gates = {"z": both, "level": both}
    own = gradients(training, PartnerBatch(x, open_gates, {"z": none, "level": none}, torch.tensor([1, 0])))
    assert own[0] == gradients(training, (x,))[0]
    one = gradients(training, PartnerBatch(x, {"z": both, "level": none}, {"z": both}, torch.tensor([1, 0])))
    guide = training.programs.guide

    def by_hand(x):
        with pyro.plate("data", 2):
            pyro.sample("z", guide.normal(guide.gaussian["z"](guide.encoder(x.flip(0)))))
            pyro.sample("level", guide.categories(guide.discrete["level"](guide.encoder(x))))

    torch.manual_seed(1)
    assert one[0] == training.programs.elbo.differentiable_loss(training.programs.model, by_hand, x) / 2
    assert one[0] != own[0]
    closed = [name for name in one[1] if name.startswith("guide") and ".level." in name]
    assert closed
    assert not any(one[1][name].any() for name in closed)
    assert all(one[1][name].any() for name in one[1] if name.startswith("model."))


def test_pairs_explained_worst_are_left_out(training):
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    shared = {"z": torch.arange(6) < 4, "level": torch.zeros(6, dtype=torch.bool)}
    gates = {name: torch.ones(6, dtype=torch.bool) for name in BLOCKS}
    batch = PartnerBatch(x, gates, shared, torch.tensor([1, 0, 3, 2, 4, 5]))
    every, _ = gradients(training, batch)
    training.trim = 0.5
    loss, _ = gradients(training, batch)
    torch.manual_seed(1)
    with swap(shared, batch.partners), trim(shared, batch.partners, 0.5):
        assert loss == -training.programs.objective(training.terms(x))
    assert loss < every
    training.trim = {"z": 0.5}
    assert gradients(training, batch)[0] == loss
    training.trim = {"level": 0.5}  # which no pair shares here
    assert gradients(training, batch)[0] == every


def test_trimmed_runs_from_the_command(tmp_path, capsys):
    swaps = [*PAIRS, "--batches.pairs.swap", "true", "--batches.pairs.wrong", "0.5"]
    run, trimmed = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "trimmed")
    assert fit(run, *swaps) == fit(trimmed, *swaps, "--training.trim", "0.5") == 0
    assert not same(weights(run), weights(trimmed))
    capsys.readouterr()
    nowhere = RunFolder(tmp_path / "nowhere")
    assert fit(nowhere, *PAIRS, "--training.trim", "0.5") == 2
    expected = "training.trim is 0.5, but no pairs swap what they share: set batches.pairs.swap"
    assert expected in capsys.readouterr().err.splitlines()[-1]
    assert fit(nowhere, *swaps, "--training.trim", "1") == 2
    assert "training.trim must be from 0 to below 1, got 1.0" in capsys.readouterr().err.splitlines()[-1]
    assert fit(nowhere, *swaps, "--training.trim", '{"z": 0.5}') == 0
    capsys.readouterr()
    assert fit(RunFolder(tmp_path / "none"), *swaps, "--training.trim", '{"look": 0.5}') == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "training.trim names 'look', but what pairs share is: " in said


def test_validation_has_single_images():
    data = DataModule(TinyImages(), 16, held_out=30, pairs=Pairing(BLOCKS))
    assert all(len(batch) == 1 for batch in data.val_dataloader())


def gradients(training, batch):
    training.zero_grad()
    torch.manual_seed(1)
    with training.gated(batch) as (args, kwargs):
        loss = -training.programs.objective(training.terms(*args, **kwargs))
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in training.programs.named_parameters()}


def test_closed_blocks_learn_nothing_and_the_decoder_all(training):
    x, target = torch.rand(2, 5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    opened, closed = torch.ones(5, dtype=torch.bool), torch.zeros(5, dtype=torch.bool)
    base = gradients(training, (x, target))
    both = gradients(training, PairBatch(x, target, {"z": opened, "level": opened}))
    one = gradients(training, PairBatch(x, target, {"z": closed, "level": opened}))
    assert base[0] == both[0] == one[0]
    assert same(base[1], both[1])
    for name, gradient in one[1].items():
        if name.startswith("guide.gaussian.z"):
            assert not gradient.any()
        else:
            assert gradient.any()
        if name.startswith("model."):
            assert gradient.equal(base[1][name])


def test_the_target_is_what_is_explained(training):
    x, target = torch.rand(2, 5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    gates = {name: torch.ones(5, dtype=torch.bool) for name in BLOCKS}
    single, identity, other = (gradients(training, b)[0] for b in ((x,), PairBatch(x, x, gates), (x, target)))
    assert single == identity
    assert single != other


def test_gates_move_with_the_images(training):
    batch = PairBatch(torch.rand(2, 1), torch.rand(2, 1), {"z": torch.ones(2, dtype=torch.bool)})
    moved = training.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert isinstance(moved, PairBatch)
    assert moved.data.device.type == moved.target.device.type == moved.gates["z"].device.type == "meta"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batches.pairs.blocks", '{"pose": ["x"], "level": ["level"]}'], "there is a mask for 'pose', "),
        (["--batches.pairs.blocks", '{"z": ["roll"], "level": ["level"]}'], "the data have no factor 'roll'"),
        ([*PAIRS, "--batches.pairs.identity", "2"], "pairs.identity must be from 0 to 1, got 2"),
        ([*PAIRS, "--batches.pairs.shares", '{"z": 1}'], "pairs.shares must name the blocks that share factors"),
        (["--batches.pairs.identity", "0.5"], "blocks"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(tmp_path, capsys, options, message):
    run = RunFolder(tmp_path / "run")
    assert fit(run, *options) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert message in error
    print(error)
    assert not run.path.exists()
