"""The relaxations that stand for comparison: the density of a Concrete, and straight-through samples."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.infer import Trace_ELBO
from torch import nn

from pyro_hfvae import Concrete, HierarchicalELBO, NonFiniteError
from pyro_hfvae.blocks import Variable
from pyro_hfvae.distributions import ConcreteDensity, StraightThroughConcrete
from pyro_hfvae.guides import ImageGuide, MLPEncoder
from pyro_hfvae.infer import Minibatch
from pyro_hfvae.infer.factorised import Factorised
from pyro_hfvae.models import ImageModel, MLPDecoder
from pyro_hfvae.sites import read_site

VECTORISED = {"num_particles": 3, "vectorize_particles": True, "max_plate_nesting": 1}
STRAIGHT = [StraightThroughConcrete, dist.RelaxedOneHotCategoricalStraightThrough]


pytestmark = pytest.mark.usefixtures("double_precision")


class Guide(nn.Module):
    def __init__(self, relaxation, temperature=0.7):
        super().__init__()
        self.relaxation, self.temperature = relaxation, torch.tensor(temperature)
        self.heads = nn.Linear(4, 4 + 3 + 2)

    def forward(self, x):
        loc, scale, y, w = self.heads(x).split([2, 2, 3, 2], -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))
            pyro.sample("y", self.relaxation(self.temperature, logits=2 * y))
            pyro.sample("w", self.relaxation(self.temperature, logits=2 * w))


class Model(nn.Module):
    def __init__(self, prior=Concrete):
        super().__init__()
        self.prior = prior
        self.logits = nn.Parameter(torch.randn(3))
        self.decoder = nn.Linear(7, 4)

    def forward(self, x):
        temperature = torch.tensor(0.5)
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", self.prior(temperature, logits=self.logits))
            w = pyro.sample("w", self.prior(temperature, logits=torch.zeros(2)))
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(torch.cat([z, y, w], -1)), 0.5).to_event(1), obs=x)


def gradient(loss, *modules):
    parameters = [p for module in modules for p in module.parameters()]
    parts = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize("particles", [{}, VECTORISED])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_weights_of_one_are_the_ordinary_elbo_of_the_density(batch, particles):
    """To rounding in float64, on the same Concrete samples; values and gradients."""
    model, guide, x = Model(), Guide(ConcreteDensity), torch.randn(batch, 4)
    data_size = 50 if batch > 1 else 1
    torch.manual_seed(1)
    theirs = Trace_ELBO(**particles).differentiable_loss(model, guide, x)
    torch.manual_seed(1)
    ours = HierarchicalELBO(data_size, **particles).differentiable_loss(model, guide, x)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    expected = gradient(theirs, model, guide)
    torch.testing.assert_close(gradient(ours, model, guide), expected, rtol=1e-7, atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 2), st.integers(1, 4), st.integers(1, 4), st.integers(1, 2), st.integers(0, 2), st.integers(0, 2))
def test_marginal_of_the_density_against_direct_sums(particles, batch, size, sites, normal, categories):
    """Beside normal variables and a categorical, with log_prob of torch's class for every pair."""
    data_size = batch + 3 if batch > 1 else 1
    logits = [torch.randn(particles, batch, size, requires_grad=True) for _ in range(sites)]
    value, loc = torch.randn(2, particles, batch, normal).unbind()
    free = torch.randn(particles, batch, 2, requires_grad=True)
    mass = free.log_softmax(-1)
    fns = [ConcreteDensity(0.6, logits=part) for part in logits]
    samples = [fn.sample() for fn in fns]
    given = [(f"density {site}", fn, y) for site, (fn, y) in enumerate(zip(fns, samples, strict=True))]
    if normal:
        given.append(("normal", dist.Normal(loc, 1.0).to_event(1), value))
    given += [(f"category {site}", Concrete(logits=mass), mass.detach().exp()) for site in range(categories)]
    posteriors = {name: read_site(name, fn, y) for name, fn, y in given}
    group = frozenset(Variable(name, e, "") for name, site in posteriors.items() for e in range(site.variables))
    shape = SimpleNamespace(shape=(particles, batch))
    references = replace(Minibatch().references(shape, data_size), parts=[posteriors])
    found = Factorised(posteriors, posteriors, references, torch.float64).aggregate([group])[0]
    rows = []
    for s in range(particles):
        for b in range(batch):
            total = torch.zeros(())
            for choice in range(2**categories):
                chosen = [(choice >> place) & 1 for place in range(categories)]
                mixture = torch.zeros(())
                for m in range(batch):
                    weight = 1 / data_size if m == b else (data_size - 1) / (data_size * (batch - 1))
                    log_density = dist.Normal(loc[s, m], 1.0).log_prob(value[s, b]).sum()
                    for part, y in zip(logits, samples, strict=True):
                        fn = torch.distributions.RelaxedOneHotCategorical(torch.tensor(0.6), logits=part[s, m])
                        log_density = log_density + fn.log_prob(y[s, b])
                    for k in chosen:
                        log_density = log_density + mass[s, m, k]
                    mixture = mixture + weight * log_density.exp()
                probability = torch.ones(())
                for k in chosen:
                    probability = probability * mass[s, b, k].exp()
                total = total + probability * mixture.log()
            rows.append(total)
    expected = torch.stack(rows).mean()
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
    inputs = [*logits, *([free] if categories else [])]
    ours, theirs = (
        torch.autograd.grad(part, inputs, retain_graph=True, materialize_grads=True) for part in (found, expected)
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_the_density_in_aggregate():
    """Batches are joined as ever, and the own density is in the marginal: I(x; y) is between 0 and log N."""
    model, guide, x = Model(), Guide(ConcreteDensity), torch.randn(7, 4)
    terms = HierarchicalELBO(999).aggregate_terms(model, guide, [(x[:3],), (x[3:],)])
    assert 0 < terms.blocks["y"].mutual_information <= torch.tensor(7.0).log()
    costs = terms.mutual_information + terms.between + terms.within + terms.dimension
    torch.testing.assert_close(terms.elbo, terms.reconstruction - costs)


def test_the_density_is_no_probability_of_a_category():
    """Wrong by design: identical posteriors over one certain category have a divergence of any size, the mass none."""
    logits = torch.tensor([9.0, 0.0, 0.0])

    def program(relaxation, x, prior=False):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", relaxation(0.5, logits=torch.zeros(3) if prior else logits))
            if prior:
                pyro.sample("x", dist.Normal(y, 1.0).to_event(1), obs=x)

    x, found = torch.zeros(200, 3), {}
    for relaxation in (Concrete, ConcreteDensity):
        terms = HierarchicalELBO(200).terms(
            lambda x: program(Concrete, x, prior=True),
            lambda x, relaxation=relaxation: program(relaxation, x),
            x,
        )
        found[relaxation] = terms.dimension.item()
        assert abs(terms.mutual_information) < 1e-9
        assert terms.blocks["y"].discrete == (relaxation is Concrete)
    assert found[Concrete] < torch.tensor(3.0).log()  # log K is the most that a category can be off
    assert found[ConcreteDensity] > 2.0


def test_an_ordinary_concrete_has_no_part_of_it():
    """The class only matters in the guide, where it is the class that says so."""
    model, x = Model(ConcreteDensity), torch.randn(5, 4)
    guide = Guide(Concrete)
    terms = HierarchicalELBO(50).terms(model, guide, x)
    assert terms.blocks["y"].discrete
    torch.manual_seed(0)
    first = ConcreteDensity(0.5, logits=torch.randn(4, 3)).rsample()
    torch.manual_seed(0)
    torch.testing.assert_close(first, Concrete(0.5, logits=torch.randn(4, 3)).rsample())


@pytest.mark.parametrize("particles", [{}, VECTORISED])
@pytest.mark.parametrize("relaxation", STRAIGHT)
def test_straight_through_gives_the_decoder_one_hots_and_the_terms_masses(relaxation, particles):
    model, guide, x, seen = Model(), Guide(relaxation), torch.randn(5, 4), []
    model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    elbo = HierarchicalELBO(50, **particles)
    terms = elbo.terms(model, guide, x)
    y = seen[-1][..., 2:5]
    assert ((y == 0) | (y == 1)).all()
    assert (y.sum(-1) == 1).all()
    relaxed = Guide(Concrete)
    relaxed.load_state_dict(guide.state_dict())
    of_masses = HierarchicalELBO(50).terms(model, relaxed, x).blocks["y"]
    for name in ("mutual_information", "dimension"):
        torch.testing.assert_close(getattr(terms.blocks["y"], name), getattr(of_masses, name))
    through_the_decoder = gradient(terms.reconstruction, guide.heads)
    assert through_the_decoder.isfinite().all()
    assert through_the_decoder.view(-1)[: 9 * 4].view(9, 4)[4:].any(-1).all()  # every logit's row of the weights
    assert all(value.isfinite() for value in terms.scalars().values())


@pytest.mark.parametrize("bias", [0.0, float("nan")])
def test_straight_through_bernoullis_of_pyro(bias):
    """Finite terms, a gradient through the decoder; and the likelihood is named where it is not finite."""
    logits, x = torch.randn(5, 2, requires_grad=True), torch.randn(5, 2)

    def guide(x):
        with pyro.plate("data", 5):
            pyro.sample("b", dist.RelaxedBernoulliStraightThrough(torch.tensor(0.7), logits=logits).to_event(1))

    def model(x):
        with pyro.plate("data", 5):
            b = pyro.sample("b", dist.RelaxedBernoulli(torch.tensor(0.7), probs=0.5 * torch.ones(2)).to_event(1))
            assert ((b == 0) | (b == 1)).all()
            pyro.sample("x", dist.Normal(b + bias, 1.0).to_event(1), obs=x)

    if bias == 0:
        terms = HierarchicalELBO(50).terms(model, guide, x)
        assert torch.autograd.grad(terms.reconstruction, [logits])[0].all()
        return
    with pyro.validation_enabled(False), pytest.raises(NonFiniteError, match="^site 'x' of the model has a loc"):
        HierarchicalELBO(50).terms(model, guide, x)


def test_gradient_of_a_straight_through_sample_is_the_relaxed_one():
    logits, weights = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4)
    found = []
    for relaxation in (StraightThroughConcrete, Concrete):
        torch.manual_seed(3)
        sample = relaxation(0.6, logits=logits).rsample()
        found.append(torch.autograd.grad((weights * sample).sum(), [logits])[0])
    torch.testing.assert_close(*found)


def test_log_probability_of_a_straight_through_sample_is_the_mass():
    fn = StraightThroughConcrete(0.6, logits=torch.randn(5, 4), validate_args=True)
    value = fn.expand([2, 5]).rsample()
    torch.testing.assert_close(fn.log_prob(value), dist.OneHotCategorical(logits=fn.logits).log_prob(value))
    with pytest.raises(
        ValueError, match="^a value of StraightThroughConcrete must be one-hot over its last dimension$"
    ):
        fn.log_prob(torch.full((5, 4), 0.25))


@pytest.mark.parametrize("relaxation", [*STRAIGHT, ConcreteDensity])
def test_not_finite_blames_the_site_that_is_not(relaxation):
    """A hard sample has no density that could be finite: it must not be what is named."""
    model, guide = Model(), Guide(relaxation)
    with torch.no_grad():
        model.decoder.bias.fill_(float("nan"))
    with pyro.validation_enabled(False), pytest.raises(NonFiniteError, match="^site 'x' of the model has a loc"):
        HierarchicalELBO(50).terms(model, guide, torch.randn(5, 4))


@pytest.mark.parametrize("relaxation", [Concrete, StraightThroughConcrete, ConcreteDensity])
def test_shipped_programs_take_the_class(relaxation):
    model = ImageModel({"z": 2}, {"y": 3}, lambda size: MLPDecoder(size, (1, 4, 4), (6,)), relaxation=relaxation)
    guide = ImageGuide({"z": 2}, {"y": 3}, lambda: MLPEncoder((1, 4, 4), (8,)), relaxation=relaxation)
    if relaxation is StraightThroughConcrete:
        model.relaxation = Concrete  # either will do
    HierarchicalELBO(50)(model, guide)(torch.rand(5, 1, 4, 4)).backward()
    for key, parameter in [*model.named_parameters(), *guide.named_parameters()]:
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


def test_what_has_no_density_is_refused_by_name():
    x = torch.randn(5, 4)
    message = (
        "site 'y' is ConcreteDensity in the guide but OneHotCategorical in the model; make both discrete, or neither"
    )
    model = Model(lambda _, logits: dist.OneHotCategorical(logits=logits))
    with pytest.raises(NotImplementedError, match="^" + re.escape(message) + "$"):
        HierarchicalELBO(50).terms(model, Guide(ConcreteDensity), x)
    with pytest.raises(NotImplementedError, match="is ConcreteDensity in the guide but StraightThroughConcrete in"):
        HierarchicalELBO(50).terms(Model(StraightThroughConcrete), Guide(ConcreteDensity), x)
