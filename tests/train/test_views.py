"""Training on distorted copies: from YAML to the gradient, resumed bit for bit, held-out data as they are."""

import json
from pathlib import Path

import pyro
import pytest
import torch
from support import TinyImages, brighter

from pyro_hfvae.cli import main
from pyro_hfvae.guides import ImageGuide, MLPEncoder
from pyro_hfvae.infer import VAE
from pyro_hfvae.infer.penalties import Agreement
from pyro_hfvae.models import ImageModel, MLPDecoder
from pyro_hfvae.train import DataModule, RunFolder, Training
from pyro_hfvae.weak import PartnerBatch, Views
from pyro_hfvae.weak.distortions import PixelNoise

TINY = str(Path(__file__).parents[1] / "tiny.yaml")
BLOCKS = {"level": ["moved"], "z": ["bright", "noisy"]}
AFFINE = {"class_path": "pyro_hfvae.weak.distortions.Affine", "init_args": {"rotation": 30, "shift": 0.2}}
NOISE = {"class_path": "pyro_hfvae.weak.distortions.PixelNoise", "init_args": {"scale": 0.05}}
DISTORTIONS = {"moved": [AFFINE, NOISE], "bright": ["support.brighter"], "noisy": [NOISE]}
AGREEMENT = {"class_path": "pyro_hfvae.infer.penalties.Agreement", "init_args": {"weight": 3.0, "teacher": True}}
AGREE = ["--objective.penalties", json.dumps({"agreement": AGREEMENT})]


def views(blocks=None, distortions=None):
    return [
        "--batches.views.blocks", json.dumps(blocks or BLOCKS),
        "--batches.views.distortions", json.dumps(distortions or DISTORTIONS),
    ]  # fmt: skip


def fit(run, *options):
    return main(["fit", "--config", TINY, "--run", str(run.path), *options])


def weights(run):
    return run.load_checkpoint()["state_dict"]


def same(a, b):
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def test_a_run_from_fit_to_report(tmp_path):
    run, plain = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "plain")
    assert fit(run, *views(), *AGREE) == 0
    assert fit(plain, *views()) == 0
    assert not same(weights(run), weights(plain))
    assert "support.brighter" in run.config.read_text()
    assert "train/penalty/agreement" in run.history.read_text()
    assert [main([command, str(run.path)]) for command in ("evaluate", "traverse", "report")] == [0, 0, 0]
    metrics = json.loads(run.metrics.read_text())
    assert metrics["data"]["held_out"] == 30
    assert metrics["terms"]["penalty/agreement"] == 0  # held-out data have no copies


@pytest.mark.parametrize("options", [["--batches.num_workers", "0"], ["--batches.num_workers", "1"],
                                     ["--batches.views.swap", "true", "--batches.views.identity", "0.3"]])  # fmt: skip
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path, options):
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    options = [*views(), *AGREE, *options]
    assert fit(whole, *options, "--trainer.max_steps", "12") == 0
    assert fit(parts, *options, "--trainer.max_steps", "7") == 0
    assert main(["fit", f"--resume={parts.path}", "--trainer.max_steps", "12"]) == 0
    assert same(weights(whole), weights(parts))


def of(**options):
    kinds = {"bright": [brighter], "noisy": [PixelNoise(0.1)]}
    return Views({"level": ["noisy"], "z": ["bright", "noisy"], "rest": []}, kinds, **options)


def module(**options):
    return DataModule(TinyImages(), 16, held_out=30, views=of(**options))


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("gated", [False, True])
def test_a_batch_is_data_and_their_copies(swap, gated):
    data = module(swap=swap, gated=gated, identity=0.25)
    batch = data.first_batch()
    assert isinstance(batch, PartnerBatch)
    assert batch.swaps == swap
    x, partners, count = batch.data.x, batch.partners, len(batch.partners)
    assert 16 < count < 32
    assert x.shape == (count, 1, 8, 8)
    assert partners[partners].equal(torch.arange(count))
    known = [image.flatten().tolist() for image in data.source.images(data.train_indices)]
    for row, partner in enumerate(partners.tolist()):
        if row < 16:
            assert x[row].flatten().tolist() in known
            assert partner == row or partner >= 16
        else:
            assert partner < 16
        assert batch.shared["z"][row] == (partner != row)
        bright = partner != row and bool(((x[row] == 0) == (x[partner] == 0)).all())
        assert batch.shared["level"][row] == (partner != row and not bright)
        assert not batch.shared["rest"][row]
        for block, mask in batch.shared.items():
            if swap and gated:
                assert batch.gates[block][row] == (mask[row] or partner == row)
    assert bool(batch.gates) == (swap and gated)
    assert batch.data.x.equal(data.first_batch().data.x)


def test_batches_of_copies_follow_from_seed_and_step_and_validation_has_none():
    data = module()
    asked = list(zip(range(3), data._training_batches(4), strict=False))
    assert [viewed.step for _, viewed in asked] == [4, 5, 6]
    gather = data._gather()
    first = [gather[viewed].data.x for _, viewed in asked]
    assert all(x.equal(gather[viewed].data.x) for x, (_, viewed) in zip(first, asked, strict=True))
    other = DataModule(TinyImages(), 16, held_out=30, views=of(), seed=1)
    assert not other.first_batch().data.x.equal(data.first_batch().data.x)
    for batch in data.val_dataloader():
        assert not isinstance(batch, PartnerBatch)


@pytest.fixture
def training():
    with pyro.settings.context(module_local_params=True):
        torch.manual_seed(0)
        model = ImageModel({"z": 2}, {"level": 4}, lambda size: MLPDecoder(size, (1, 8, 8), [6]))
        guide = ImageGuide({"z": 2}, {"level": 4}, lambda: MLPEncoder((1, 8, 8), [6]))
        yield Training(model, guide, VAE(70, penalties={"agreement": Agreement(5.0)}))


def gradients(training, batch):
    training.zero_grad()
    torch.manual_seed(1)
    with training.gated(batch) as (args, kwargs):
        terms = training.terms(*args, **kwargs)
    (-training.programs.objective(terms)).backward()
    return terms, {name: p.grad for name, p in training.programs.named_parameters()}


def test_a_batch_agrees_swaps_and_learns_within_its_gates(training):
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    some, none = torch.tensor([True, True, False, False]), torch.zeros(4, dtype=torch.bool)
    partners = torch.tensor([1, 0, 2, 3])
    agreed, _ = gradients(training, PartnerBatch(x, {}, {"level": some, "z": none}, partners, swaps=False))
    single, _ = gradients(training, PartnerBatch(x, {}, {"level": none, "z": none}, partners, swaps=False))
    assert agreed.penalties["agreement"] > 0
    assert single.penalties["agreement"] == 0
    assert agreed.elbo == single.elbo  # each datum is explained by itself
    gates = {"level": some, "z": none}
    swapped, gradient = gradients(training, PartnerBatch(x, gates, {"level": some, "z": none}, partners))
    assert swapped.penalties["agreement"] == agreed.penalties["agreement"]
    assert swapped.elbo != single.elbo
    assert not any(gradient[name].any() for name in gradient if name.startswith("guide.gaussian.z"))
    closed, gradient = gradients(training, PartnerBatch(x, {"level": none}, {"level": some}, partners, swaps=False))
    assert closed.penalties["agreement"] == 0
    assert not any(gradient[name].any() for name in gradient if name.startswith("guide.discrete.level"))


def test_agreement_without_partners(training):
    with (
        pytest.raises(
            ValueError, match="objective.penalties 'agreement' compares .*: set batches.views, or batches.pa"
        ),
        training.gated((torch.rand(4, 1, 8, 8),)),
    ):
        pass


def test_pairs_that_swap_can_agree_too(tmp_path):
    pairs = ["--batches.pairs.blocks", '{"z": ["x", "y"], "level": ["level"]}', "--batches.pairs.swap", "true"]
    run, plain = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "plain")
    assert fit(run, *pairs, *AGREE, "--trainer.max_steps", "5") == 0
    assert fit(plain, *pairs, "--trainer.max_steps", "5") == 0
    assert not same(weights(run), weights(plain))


def test_agreement_beside_the_terms_of_another_objective(tmp_path):
    run = RunFolder(tmp_path / "run")
    options = ["--objective", "HFVAE", "--objective.between", "3", *AGREE]
    assert fit(run, *views(), *options, "--trainer.max_steps", "5") == 0
    assert "train/penalty/agreement" in run.history.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (views({"level": ["moved"], "z": []}), "views.distortions 'bright' leaves no block alone"),
        (views({**BLOCKS, "z": ["turned"]}), "views.blocks of block 'z' names 'turned'; the kinds of"),
        (views({**BLOCKS, "colour": ["moved"]}), "'colour' with their partners, but no such block was sampled"),
        (views({"level": ["a"]}, {"a": ["support.cut"]}), "distortions 'a': cut returns float32 [2, 1, 8, 7] for data"),
        (views({"level": ["a"]}, {"a": ["support.none"]}), "module 'support' has no attribute 'none'"),
        (
            views({"level": ["a"]}, {"a": [{**AFFINE, "init_args": {"rotation": -3}}]}),
            "rotation of Affine must be from 0 to 180, got -3",
        ),
        (
            views({"level": ["a"]}, {"a": [{"class_path": "pyro_hfvae.weak.distortions.ColumnDropout"}]}),
            "views.distortions 'a': ColumnDropout distorts tables [B, D], but the data are [2, 1, 8, 8]",
        ),
        (
            views({"level": ["a"]}, {"a": [{"class_path": "pyro_hfvae.weak.distortions.ColourJitter",
                                            "init_args": {"hue": 0.1}}]}),
            "saturation and hue of images with 3 channels, but the images have 1",
        ),
        ([*views(), "--batches.views.swap", "true", "--batches.views.blocks",
          json.dumps({**BLOCKS, "rest": []})], "block 'rest' would never learn"),
        ([*views(), "--batches.batch_size", "40"], "with views a batch of 40 data has up to 80 with their copies, but"),
        ([*views(), "--batches.pairs.blocks", '{"z": ["x"]}'], "batches.pairs and batches.views are two sources"),
        ([*views(), "--training.trim", "0.5"], "training.trim is 0.5, but no pairs swap what they share"),
        (AGREE, "objective.penalties 'agreement' compares the posteriors of partners, but the batches have none"),
        (
            [*views(), "--objective.penalties",
             json.dumps({"a": {**AGREEMENT, "init_args": {"blocks": ["colour"]}}})],
            "Agreement is to charge block 'colour', which no data share; they share: 'z', 'level'",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_in_one_line(tmp_path, capsys, options, message):
    run = RunFolder(tmp_path / "run")
    assert fit(run, *options) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert message in error
    assert not run.path.exists()


def test_functions_of_a_run_of_others_are_not_imported(tmp_path, capsys, monkeypatch):
    run = RunFolder(tmp_path / "run")
    assert fit(run, *views(), "--trainer.max_steps", "2") == 0
    monkeypatch.setattr("pyro_hfvae.train.trust.is_own", lambda run: False)
    capsys.readouterr()
    assert main(["evaluate", str(run.path), "--trust", "support.TinyImages"]) == 2
    assert "names 'support.brighter', which is neither of this library nor" in capsys.readouterr().err
