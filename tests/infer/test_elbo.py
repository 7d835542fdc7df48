"""HierarchicalELBO: the telescoping sum, exact cases, and plain SVI."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.nn import PyroModule
from torch import nn
from torch.distributions import OneHotCategorical, kl_divergence

from pyro_hfvae import Concrete, HierarchicalELBO

X = (torch.rand(12, 20, generator=torch.Generator().manual_seed(0)) > 0.5).double()
WEIGHTS = ("mutual_information", "between", "within", "dimension")


class Model(PyroModule):
    """Gaussian z and, where K > 0, a discrete y with a non-uniform prior."""

    def __init__(self, normal=4, categories=3, data_size=None, relaxed=Concrete):
        super().__init__()
        self.normal, self.categories, self.data_size, self.relaxed = normal, categories, data_size, relaxed
        self.decoder = nn.Linear(normal + categories, 20)

    def forward(self, x):
        size, subsample = (len(x), None) if self.data_size is None else (self.data_size, torch.arange(len(x)))
        with pyro.plate("data", size, subsample=subsample):
            parts = []
            if self.normal:
                parts.append(pyro.sample("z", dist.Normal(x.new_zeros(self.normal), 1.0).to_event(1)))
            if self.categories:
                logits = torch.linspace(0, 1, self.categories).to(x)
                parts.append(pyro.sample("y", self.relaxed(torch.tensor(0.7).to(x), logits=logits)))
            logits = self.decoder(torch.cat(parts, -1))
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)


class Guide(PyroModule):
    def __init__(self, normal=4, categories=3, data_size=None, relaxed=Concrete):
        super().__init__()
        self.normal, self.categories, self.data_size, self.relaxed = normal, categories, data_size, relaxed
        self.encoder = nn.Linear(20, 2 * normal + categories)

    def forward(self, x):
        h = self.encoder(x)
        size, subsample = (len(x), None) if self.data_size is None else (self.data_size, torch.arange(len(x)))
        with pyro.plate("data", size, subsample=subsample):
            loc, scale, logits = h.split([self.normal, self.normal, self.categories], -1)
            if self.normal:
                pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))
            if self.categories:
                pyro.sample("y", self.relaxed(torch.tensor(0.7).to(x), logits=logits))


@pytest.fixture(autouse=True)
def _fresh():
    pyro.clear_param_store()
    torch.manual_seed(0)


def pair(**options):
    return Model(**options).double(), Guide(**options).double()


def gradient(loss, *modules):
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters, retain_graph=True)])


@pytest.mark.parametrize("data_size", [12, 1000])
@pytest.mark.parametrize("particles", [{}, {"num_particles": 3}, {"num_particles": 3, "vectorize_particles": True}])
def test_weights_of_one_are_the_ordinary_elbo_on_the_same_samples(data_size, particles):
    """Whatever the marginal is, the terms telescope; to rounding in float64, values and gradients."""
    model, guide = pair(categories=0)
    torch.manual_seed(1)
    theirs = Trace_ELBO(**particles).differentiable_loss(model, guide, X)
    torch.manual_seed(1)
    ours = HierarchicalELBO(data_size, **particles).differentiable_loss(model, guide, X)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient(ours, model, guide), gradient(theirs, model, guide), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("on_the_distribution", [True, False])
def test_masked_observations_do_not_count(on_the_distribution):
    """The same as plain Pyro says of the same samples, and the same gradients."""
    seen = torch.rand(12, generator=torch.Generator().manual_seed(1)) > 0.4
    model, guide = pair(categories=0)

    def masked(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(4), 1.0).to_event(1))
            likelihood = dist.Bernoulli(logits=model.decoder(z)).to_event(1)
            if on_the_distribution:
                pyro.sample("x", likelihood.mask(seen), obs=x)
            else:
                with pyro.poutine.mask(mask=seen):
                    pyro.sample("x", likelihood, obs=x)

    torch.manual_seed(3)
    ours = HierarchicalELBO(100).differentiable_loss(masked, guide, X)
    torch.manual_seed(3)
    theirs = Trace_ELBO().differentiable_loss(masked, guide, X)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    everything = HierarchicalELBO(100).terms(model, guide, X).reconstruction
    assert HierarchicalELBO(100).terms(masked, guide, X).reconstruction > everything
    parameters = [*model.decoder.parameters(), *guide.parameters()]
    for one, other in zip(torch.autograd.grad(ours, parameters), torch.autograd.grad(theirs, parameters), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_discrete_site_enters_by_its_exact_kl():
    model, guide = pair()
    torch.manual_seed(1)
    ours = HierarchicalELBO(1000, mutual_information=1).differentiable_loss(model, guide, X)
    torch.manual_seed(1)
    guide_trace = pyro.poutine.trace(guide).get_trace(X)
    model_trace = pyro.poutine.trace(pyro.poutine.replay(model, trace=guide_trace)).get_trace(X)
    z, y = guide_trace.nodes["z"], guide_trace.nodes["y"]
    expected = (
        z["fn"].log_prob(z["value"])
        - model_trace.nodes["z"]["fn"].log_prob(z["value"])
        + kl_divergence(
            OneHotCategorical(logits=y["fn"].logits), OneHotCategorical(logits=torch.linspace(0, 1, 3).to(X))
        )
        - model_trace.nodes["x"]["fn"].log_prob(X)
    ).sum()
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient(ours, model, guide), gradient(expected, model, guide), rtol=1e-8, atol=1e-9)


def test_the_plate_of_a_subsample_scales_the_loss_once():
    """As Trace_ELBO does: the loss stands for all N data, the terms for one."""
    model, guide = pair(categories=0, data_size=60)
    torch.manual_seed(1)
    theirs = Trace_ELBO().differentiable_loss(model, guide, X)
    torch.manual_seed(1)
    ours = HierarchicalELBO(60).differentiable_loss(model, guide, X)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    torch.manual_seed(1)
    terms = HierarchicalELBO(60).terms(model, guide, X)
    torch.testing.assert_close(-terms.elbo * 60, theirs, rtol=1e-12, atol=0)


def test_weights_multiply_their_terms():
    model, guide = pair()
    weights = dict(zip(WEIGHTS, (0.5, 5.0, 3.0, 2.0), strict=True))
    torch.manual_seed(1)
    terms = HierarchicalELBO(100).terms(model, guide, X)
    torch.manual_seed(1)
    loss = HierarchicalELBO(100, **weights).differentiable_loss(model, guide, X)
    expected = terms.reconstruction - sum(weight * getattr(terms, name) for name, weight in weights.items())
    torch.testing.assert_close(loss, -12 * expected)


def test_parts_add_up_to_the_whole():
    model, guide = pair()
    layout = {"a": ["z[0:3]"], "b": ["z[3]", "y"]}
    terms = HierarchicalELBO(100, blocks=layout).terms(model, guide, X)
    blocks = terms.blocks.values()
    assert list(terms.blocks) == ["a", "b"]
    assert list(terms.blocks["b"].variables) == ["z[3]", "y"]
    torch.testing.assert_close(terms.within, sum(block.within for block in blocks))
    torch.testing.assert_close(terms.dimension, sum(block.dimension for block in blocks))
    # chain rule for a guide and a prior that factorise: I(x; z) + A = Σ_d I(x; z_d), and the same one level down
    together = terms.mutual_information + terms.between
    torch.testing.assert_close(together, sum(block.mutual_information for block in blocks))
    for block in blocks:
        of_variables = sum(variable.mutual_information for variable in block.variables.values())
        torch.testing.assert_close(block.mutual_information + block.within, of_variables)
    elbo = terms.reconstruction - sum(getattr(terms, name) for name in WEIGHTS)
    torch.testing.assert_close(terms.elbo, elbo)


def exact_discrete_terms(logits, prior):
    """I(x; y) and KL(q(y) || p(y)) of all the data by enumeration over data and categories."""
    q = logits.softmax(-1)
    marginal = q.mean(0)
    information = sum(
        q[n, k] * (q[n, k].log() - marginal[k].log()) for n in range(q.shape[0]) for k in range(q.shape[1])
    ) / len(q)
    return information, sum(marginal[k] * (marginal[k].log() - prior[k].log()) for k in range(q.shape[1]))


def test_discrete_gradient_is_that_of_exact_enumeration():
    """All data as the batch: values and gradients of I(x; y) and KL(q(y)||p(y)) equal enumeration by hand."""
    model, guide = pair(normal=0)
    terms = HierarchicalELBO(len(X)).terms(model, guide, X)
    prior = torch.linspace(0, 1, 3, dtype=torch.float64).softmax(0)
    information, divergence = exact_discrete_terms(guide.encoder(X), prior)
    for ours, exact in ((terms.mutual_information, information), (terms.dimension, divergence)):
        torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(gradient(ours, guide), gradient(exact, guide), rtol=1e-8, atol=1e-12)
    assert terms.between.abs() < 1e-12
    assert terms.within.abs() < 1e-12


def test_pmf_at_the_arg_max_has_no_gradient_and_ours_has():
    """Regression: the popular pmf of the sampled category gives right values and trains nothing."""
    model, guide = pair(normal=0)
    logits = guide.encoder(X)
    category = Concrete(logits=logits).rsample().argmax(-1)
    prior = torch.linspace(0, 1, 3, dtype=torch.float64).log_softmax(0)
    popular = (Concrete(logits=logits).log_mass.detach().gather(1, category[:, None])[:, 0] - prior[category]).mean()
    assert not popular.requires_grad
    ours = HierarchicalELBO(len(X)).terms(model, guide, X).dimension
    assert gradient(ours, guide).norm() > 1e-3


def test_site_of_pyros_own_class_is_treated_the_same_way():
    ours, theirs = pair(), pair(relaxed=dist.RelaxedOneHotCategorical)
    for a, b in zip(ours, theirs, strict=True):
        b.load_state_dict(a.state_dict())
    terms = []
    for model, guide in (ours, theirs):
        torch.manual_seed(1)
        terms.append(HierarchicalELBO(100).terms(model, guide, X))
    # The relaxed draws differ in their clamping, so only what does not pass through the decoder is the same.
    for name in WEIGHTS:
        torch.testing.assert_close(getattr(terms[0], name), getattr(terms[1], name))


def test_total_correlation_of_a_known_aggregate():
    """Posteriors whose aggregate is a correlated normal: A, i and KL against their closed forms.

    z = sqrt(1 - s²) L eps + s noise in three variables of unit variance; correlation r (1 - s²) between 0 and 1 within
    block a, and between 1 and 2 across blocks. Tolerance: 4,000 data, one sample each, standard error about .01;
    the mixture of 4,000 is .01 off the continuous one.
    """
    n, s, r, across = 4000, 0.6, 0.8, 0.5
    correlation = torch.tensor([[1, r, 0], [r, 1, across], [0, across, 1]], dtype=torch.float64)
    loc = math.sqrt(1 - s * s) * torch.randn(n, 3, dtype=torch.float64) @ torch.linalg.cholesky(correlation).T

    def guide(loc):
        pyro.sample("z", dist.Normal(loc, s).to_event(1))

    def model(loc):
        z = pyro.sample("z", dist.Normal(0.5 * torch.ones(3).to(loc), 1.0).to_event(1).expand([len(loc)]))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=loc)

    elbo = HierarchicalELBO(n, blocks={"a": ["z[0:2]"], "b": ["z[2]"]})
    terms = elbo.aggregate_terms(model, guide, [(part,) for part in loc.split(1000)])
    covariance = (1 - s * s) * (correlation - torch.eye(3)) + torch.eye(3)
    log_det = covariance.logdet()
    log_det_a = covariance[:2, :2].logdet()
    assert abs(terms.between - 0.5 * (log_det_a - log_det)) < 0.04
    assert abs(terms.within + 0.5 * log_det_a) < 0.04
    assert abs(terms.dimension - 3 * 0.5 * 0.25) < 0.05
    # I(x; z) of a Gaussian channel: ½ log det Σ - log s³
    assert abs(terms.mutual_information - (0.5 * log_det - 3 * math.log(s))) < 0.06


def test_identical_posteriors_carry_no_information():
    def guide(x):
        pyro.sample("z", dist.Normal(x.new_ones(len(x), 2), 0.5).to_event(1))
        pyro.sample("y", Concrete(logits=torch.tensor([0.0, 1.0, 3.0]).to(x).expand(len(x), 3)))

    def model(x):
        pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))  # not expanded to the batch, on purpose
        pyro.sample("y", Concrete(logits=x.new_zeros(3)))
        pyro.sample("x", dist.Bernoulli(0.5 * torch.ones_like(x)).to_event(1), obs=x)

    terms = HierarchicalELBO(500).terms(model, guide, X)
    for name in ("mutual_information", "between", "within"):
        assert getattr(terms, name).abs() < 1e-12
    assert terms.blocks["z"].mutual_information.abs() < 1e-12


@pytest.mark.parametrize("batch", [2, 3, 12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_batch_size_and_dtype(batch, dtype):
    model, guide = (program.to(dtype) for program in pair())
    terms = HierarchicalELBO(12).terms(model, guide, X[:batch].to(dtype))
    for value in terms.scalars().values():
        assert value.dtype == dtype
        assert value.shape == ()
        assert value.isfinite()


def test_one_datum_of_one():
    model, guide = pair()
    terms = HierarchicalELBO(1).terms(model, guide, X[:1])
    assert terms.mutual_information.abs() < 1e-12


def test_autocast_leaves_the_terms_in_float32():
    model, guide = (program.float() for program in pair())
    x = X.float()
    torch.manual_seed(1)
    plain = HierarchicalELBO(100).terms(model, guide, x)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = HierarchicalELBO(100).terms(model, guide, x)
    assert mixed.mutual_information.dtype == torch.float32
    # The networks ran in bf16 (8 bits), so the parameters differ by about 1 %; densities in bf16 would be nats off.
    assert abs(mixed.mutual_information - plain.mutual_information) < 0.05


def test_plain_svi_trains_every_parameter():
    model, guide = pair()
    before = [parameter.detach().clone() for program in (model, guide) for parameter in program.parameters()]
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-2}), loss=HierarchicalELBO(100, between=5.0))
    losses = [svi.step(X) for _ in range(60)]
    after = [parameter for program in (model, guide) for parameter in program.parameters()]
    assert all((a != b).any() for a, b in zip(before, after, strict=True))
    assert sum(losses[-10:]) < sum(losses[:10])
    assert math.isfinite(svi.evaluate_loss(X))


@pytest.mark.parametrize(
    "bad", [{"data_size": 0}, {"data_size": 10, "between": math.inf}, {"data_size": 10, "within": math.nan}]
)
def test_bad_settings(bad):
    with pytest.raises(
        ValueError, match=r"data_size must be 1 or more, got 0|weight '(between|within)' must be a finite"
    ):
        HierarchicalELBO(**bad)
