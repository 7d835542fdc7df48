"""Where all terms have one weight the inference marginal cancels: the loss is the same without it."""

import re

import pytest
import torch
from mixed_programs import Guide, Model

from pyro_hfvae import HierarchicalELBO, infer
from pyro_hfvae.infer import Memory, MinibatchWeighted
from pyro_hfvae.infer.diagnostics import INTERVAL
from pyro_hfvae.infer.factorised import Factorised
from pyro_hfvae.infer.penalties import OffDiagonalCovariance
from pyro_hfvae.infer.structured import Structured
from pyro_hfvae.schedules import Linear

N, B = 12, 5
ONE = dict.fromkeys(("mutual_information", "between", "within", "dimension"), Linear(0.0, 4.0, 10))

CANCELS = {
    "VAE": lambda **options: infer.VAE(N, **options),
    "beta-VAE, scheduled": lambda **options: infer.BetaVAE(N, Linear(0.0, 4.0, 10), **options),
    "annealed capacity": lambda **options: infer.AnnealedVAE(N, gamma=7.0, capacity=Linear(0.0, 9.0, 10), **options),
    "JointVAE": lambda **options: infer.JointVAE(N, gamma=3.0, capacity={"z": 3.0, "y": 1.0}, **options),
    "FactorVAE": lambda **options: infer.FactorVAE(N, gamma=3.0, hidden=[7, 5], **options),
    "InfoVAE": lambda **options: infer.InfoVAE(N, mmd=50.0, alpha=0.0, **options),
    "DIP-VAE": lambda **options: infer.DIPVAEII(N, off_diagonal=3.0, diagonal=5.0, **options),
    "memory": lambda **options: HierarchicalELBO(N, **ONE, marginal=Memory(N), **options),
    "blocks of variables": lambda **options: HierarchicalELBO(
        N,
        **ONE,
        blocks={"g": {"a": ["z[0]"], "b": ["z[1]", "z[2]"]}, "y": ["y"]},
        marginal=MinibatchWeighted(),
        **options,
    ),
}
PROGRAMS = [{}, {"relaxed": False}, {"structured": True}]


def one_weight(name, options, model, guide):
    """The module at step 3; InfoVAE with what it leaves of the divergence charged at one weight."""
    elbo = CANCELS[name](**options)
    if name == "InfoVAE":
        elbo.mutual_information = elbo.between = elbo.within = elbo.dimension = 1.0
    module = elbo(model, guide)
    module.steps = 3
    return module


def programs(**options):
    torch.manual_seed(1)
    return Model(**options).double(), Guide(**options).double(), torch.randn(B, 6, dtype=torch.float64)


@pytest.mark.parametrize("given", PROGRAMS, ids=str)
@pytest.mark.parametrize("options", [{}, {"num_particles": 2, "vectorize_particles": True, "max_plate_nesting": 1}])
@pytest.mark.parametrize("name", CANCELS)
def test_value_and_gradient_are_those_of_the_terms(name, options, given):
    """Programs that the objective refuses are refused in the same words."""
    model, guide, x = programs(**given)
    module = one_weight(name, options, model, guide)
    try:
        module.terms(x)  # the discriminator is made
    except (NotImplementedError, ValueError) as error:
        with pytest.raises(type(error), match=re.escape(str(error))):
            module.loss(x)
        return
    results = []
    for loss in (lambda: module.loss(x).per_datum, lambda: -module.objective(module.terms(x))):
        torch.manual_seed(5)
        value = loss()
        parameters = [p for program in (model, guide) for p in program.parameters()]
        results.append([value, *torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.fixture
def no_densities(monkeypatch):
    def refuse(*_):
        raise AssertionError("densities of pairs")

    monkeypatch.setattr(Factorised, "aggregate", refuse)
    monkeypatch.setattr(Structured, "both", refuse)


@pytest.mark.parametrize("name", CANCELS)
def test_no_densities_of_pairs_are_made(name, no_densities):
    model, guide, x = programs()
    module = one_weight(name, {}, model, guide)
    module.loss(x)
    module(x)
    for looked_at in (module.terms, lambda x: module.loss(x, with_terms=True)):
        with pytest.raises(AssertionError, match="densities of pairs"):
            looked_at(x)


class Charged(OffDiagonalCovariance):
    needs_split = True


class Own(HierarchicalELBO):
    def objective_at(self, terms, step):
        return super().objective_at(terms, step) - terms.mutual_information


@pytest.mark.parametrize(
    "make",
    [
        lambda: infer.BetaTCVAE(N, 6.0),
        lambda: infer.HFVAE(N, between=4.0, within=2.0),
        lambda: HierarchicalELBO(N, **{**ONE, "dimension": 1.3}),
        lambda: HierarchicalELBO(N, **{**ONE, "dimension": Linear(0.0, 2.0, 10)}),  # the same at step 0 only
        lambda: HierarchicalELBO(N, **{**ONE, "within": {"z": 1.2, "y": 1.2}}),
        lambda: HierarchicalELBO(N, **ONE, penalties={"own": Charged()}),
        lambda: infer.HFVAE(N),  # information of the discrete block is free
        lambda: Own(N, **ONE),
    ],
)
def test_they_are_made_where_the_split_counts(make, no_densities):
    model, guide, x = programs()
    module = make()(model, guide)
    module.steps = 3
    with pytest.raises(AssertionError, match="densities of pairs"):
        module.loss(x)


def test_what_would_be_refused_is_and_the_memory_is_fed_and_one_in_a_hundred_is_looked_at(monkeypatch):
    model, guide, x = programs()
    with pytest.raises(ValueError, match="a batch of one datum cannot estimate the inference marginal"):
        infer.VAE(N).differentiable_loss(model, guide, x[:1])
    module = one_weight("memory", {}, model, guide)
    module(x)
    assert len(module.marginal) == 0
    module.step()
    assert len(module.marginal) == B
    found = []
    monkeypatch.setattr(module._monitor, "check", lambda terms, _: found.append(terms.mutual_information.item()))
    torch.manual_seed(5)
    for _ in range(INTERVAL):
        module(x)
        module.step()
    assert len(found) == 1
    assert 0 < found[0] < 3  # log q(z|x) alone would be outside
