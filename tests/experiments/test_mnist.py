"""The studies on MNIST: exact terms, cells that are kept, and tables of hand-made cells."""

import csv
import io
import json

import pytest
import torch
from aggregates import log_aggregates, sample_of, variables
from pyro import poutine

from pyro_hfvae import HierarchicalELBO
from pyro_hfvae.experiments import mnist_estimators, mnist_information, mnist_structured, mnist_training
from pyro_hfvae.guides import ImageGuide, MLPEncoder
from pyro_hfvae.infer import Exact
from pyro_hfvae.sites import read_site

VERSIONS = {"pyro_hfvae": "1", "torch": "2", "processor": "a chip", "threads": 1, "wall_seconds": 90.0}


class Noise:
    """Images of the size of MNIST's: 40 to train on, 20 held out."""

    held_out = torch.arange(40, 60)

    def __init__(self, folder=None):
        self.pixels = torch.rand(60, 1, 28, 28, generator=torch.Generator().manual_seed(0))

    def images(self, indices):
        return self.pixels[indices]

    def factors(self, indices):
        return (indices % 10)[:, None]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for module in (mnist_training, mnist_estimators, mnist_information, mnist_structured):
        monkeypatch.setattr(module, "N", 40)
    monkeypatch.setattr(mnist_training, "SAMPLES", 30)
    monkeypatch.setattr(mnist_estimators, "MNIST", Noise)
    monkeypatch.setattr(mnist_information, "MNIST", Noise)
    monkeypatch.setattr(mnist_structured, "MNIST", Noise)


def test_all_others_make_the_exact_marginal():
    torch.manual_seed(0)
    guide, images = ImageGuide({"style": 3}, {"digit": 4}, encoder=MLPEncoder), Noise().images(torch.arange(40))
    with torch.no_grad():
        nodes = poutine.trace(guide).get_trace(images).nodes
    everything = {name: read_site(name, nodes[name]["fn"], nodes[name]["value"]) for name in ("style", "digit")}
    some = {}
    for name, site in everything.items():
        fn = site.with_parameters([part[:30] for part in site.parameters()], torch.Size([30]))
        some[name] = site.at(fn, site.value[:30])
    others = mnist_training.AllOthers(guide, images[30:].split(7))
    groups = [variables(style=[0, 1, 2], digit=[0]), variables(style=[0, 1, 2]), variables(style=[1])]
    groups.append(variables(digit=[0]))
    exact = log_aggregates(everything, groups, Exact().references(sample_of(everything), 40))
    found = log_aggregates(some, groups, others.references(sample_of(some), 40))
    for ours, theirs in zip(found, exact, strict=True):
        # Posteriors in float32, whatever type their sums are made in.
        torch.testing.assert_close(ours, theirs[:, :30], rtol=1.3e-6, atol=1e-5, check_dtype=False)


def test_measures_between_the_epochs_do_not_change_the_training():
    def after(epochs, draw):
        for epoch in mnist_training.train(HierarchicalELBO(40), 10, 0, Noise()):
            if draw:
                torch.rand(5)
            if epoch.number == epochs:
                return epoch

    one, other = after(2, draw=False), after(2, draw=True)
    assert one.logged == other.logged
    for a, b in zip(one.guide.parameters(), other.guide.parameters(), strict=True):
        assert torch.equal(a, b)


def run(study, output, *options):
    study.main(["--epochs", "3", "--batch-size", "10", "--output", str(output), *options])


def test_estimators_are_run_once_for_each_seed(tmp_path, capsys):
    run(mnist_estimators, tmp_path, "--seeds", "0", "1", "--estimators", "Minibatch", "Memory(1024)")
    rows = sorted((tmp_path / "rows").iterdir())
    names = ("Memory(1024)", "Minibatch")
    assert [path.stem for path in rows] == [f"{name}-epochs3-batch10-seed{seed}" for name in names for seed in (0, 1)]
    cells = [json.loads(path.read_text()) for path in rows]
    for cell in cells:
        assert ["exact" in row for row in cell["rows"]] == [True, True, True]  # 1, 2 and the last
        assert cell["versions"]["steps"] == 12
    # A memory of all data has the exact marginal, save for the age of the posteriors: what both logged must differ.
    assert cells[0]["rows"][-1]["logged"] != cells[2]["rows"][-1]["logged"]
    assert all((tmp_path / f"mnist_estimators.{kind}").stat().st_size for kind in ("csv", "md", "png"))
    kept = (tmp_path / "mnist_estimators.md").read_text()
    capsys.readouterr()
    run(mnist_estimators, tmp_path, "--seeds", "0", "1", "--estimators", "Minibatch", "Memory(1024)")
    assert "of training\n" not in capsys.readouterr().out
    assert (tmp_path / "mnist_estimators.md").read_text() == kept
    assert (torch.full((1,), 1e-39) * 1.0).item() > 0  # numbers that count as 0 in training do not stay so


def test_information_is_measured_for_each_weight(tmp_path):
    run(mnist_information, tmp_path, "--seeds", "3", "--weights", "4", "0.5")
    lines = (tmp_path / "mnist_information.md").read_text().splitlines()
    assert [line[:9] for line in lines[2:4]] == ["| 0.5 | 3", "| 4 | 3 |"]
    cell = json.loads((tmp_path / "rows" / "style4-epochs3-batch10-seed3.json").read_text())
    assert len(cell["accuracy"]) == 3
    assert all(0.1 <= accuracy <= 1 for accuracy in cell["accuracy"])


def cell(name, seed, logged, exact):
    terms = dict.fromkeys(mnist_estimators.TERMS, logged), dict.fromkeys(mnist_estimators.TERMS, exact)
    rows = [{"epoch": 1, "logged": terms[0], "seconds": 60.0}]
    rows += [{"epoch": 2, "logged": terms[0], "seconds": 120.0, "exact": terms[1], "elbo": -100.0 - seed}]
    content = {"estimator": name, "epochs": 2, "batch_size": 128, "rows": rows}
    return content | {"seed": seed, "versions": VERSIONS}


def test_table_has_the_error_over_seeds():
    cells = [cell("Minibatch", 0, 1.0, 0.5), cell("Minibatch", 1, 2.0, 1.0), cell("MinibatchWeighted", 0, 9.0, 1.0)]
    text = mnist_estimators.table(cells)
    assert "| Minibatch | 2 | A, between | 1.50 ± 0.71 | 0.75 ± 0.35 | +0.75 ± 0.35 |\n" in text
    assert "| MinibatchWeighted | 1 | i, within | 9.00 | 1.00 | +8.00 |\n" in text
    assert "| Minibatch | 2 | -100.50 ± 0.71 |\n" in text
    assert "pyro-hfvae 1, torch 2; 4 minutes in all." in text
    lines = list(csv.DictReader(io.StringIO(mnist_estimators.long_table(cells))))
    assert len(lines) == 3 * 2 * 4
    assert [line["exact"] for line in lines[:8]] == [""] * 4 + ["0.5"] * 4


def test_table_of_information_has_every_seed_and_their_mean():
    blocks = {name: {"mutual_information": value} for name, value in (("digit", 2.0), ("style", 5.0))}
    exact = {"between": 0.25, "within": 0.5, "elbo": -100.0, "blocks": blocks}
    first = {
        "weight": 4.0,
        "epochs": 1,
        "batch_size": 128,
        "accuracy": [0.2, 0.5],
        "exact": exact,
        "versions": VERSIONS,
    }
    text = mnist_information.table([first | {"seed": 0}, first | {"seed": 1, "accuracy": [0.7]}])
    assert "| 4 | 0 | 0.50 | 2.00 | 5.00 | 0.25 | 0.50 | -100.00 |\n" in text
    assert (
        "| 4 | all | 0.60 ± 0.14 | 2.00 ± 0.00 | 5.00 ± 0.00 | 0.25 ± 0.00 | 0.50 ± 0.00 | -100.00 ± 0.00 |\n" in text
    )


def test_structured_priors_are_trained_measured_and_tabled(tmp_path, monkeypatch):
    for name, value in {"EVERY": 2, "DRAWS": 30, "EXACT": 2}.items():
        monkeypatch.setattr(mnist_structured, name, value)
    options = ["--seeds", "0", "--steps", "4", "--batch-size", "10", "--output", str(tmp_path)]
    options += ["--priors", "five pairs", "mixture", "--marginals", "Minibatch"]
    mnist_structured.main(options)
    (file,) = (tmp_path / "rows").glob("five_pairs*.json")
    cell = json.loads(file.read_text())
    assert [row["step"][0] for row in cell["rows"]] == [2, 4]
    assert cell["weights"] == {"within": 5.0}
    assert len(cell["spread"][0]) == len(cell["spread"][1]) == 10
    assert len(cell["correlation"][0]) == 45
    exact = cell["exact"]
    of_variables = sum(exact[f"ii of pair{p}[{v}]"][0] for p in range(5) for v in range(2))
    assert of_variables == pytest.approx(exact["ii"][0], rel=1e-5)  # tens of nats in float32, of which ten are added
    lines = (tmp_path / "mnist_structured.md").read_text().splitlines()
    assert lines[2].startswith("| five pairs | Minibatch | 0 | -")
    assert lines[3].startswith("| mixture | Minibatch | 0 | -")
    assert (tmp_path / "mnist_structured.png").stat().st_size > 1000


def test_correlations_inside_a_site_come_first():
    values = torch.randn(1000, 1)
    found = {"a": torch.cat([values, -values], 1), "b": torch.randn(1000, 1)}
    spread, correlation = mnist_structured.spread_and_correlation(found)
    assert spread[0] == pytest.approx(spread[1])
    assert correlation[0] == pytest.approx(-1)
    assert correlation[1] == pytest.approx(-correlation[2])
