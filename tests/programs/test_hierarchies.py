"""Several sites given one another, linear and normal, so that every marginal has a closed form."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs.reference import Normal, assert_terms, draw, log_likelihood, reference_terms, seeded, variables
from pyro.infer import Trace_ELBO
from support import numbers
from torch import nn

from pyro_hfvae import Concrete, HierarchicalELBO

pytestmark = pytest.mark.usefixtures("double_precision")

N = 40
SAMPLED = 0.06
"""Nats. Marginals below others are means over 4,000 ancestral samples that all data share: the mean of their logarithms
over the data has a standard deviation of .01 or less here, and a term has up to six of them."""


def loss_is_that_of_pyro(model, guide, *args):
    loss = HierarchicalELBO(N).differentiable_loss(model, guide, *args)
    assert float(loss) == pytest.approx(Trace_ELBO().loss(model, guide, *args), rel=1e-9)


def linear_chain(coefficients, scales):
    """Covariance of z_t = Σ_s A[t, s] z_s + σ_t ε, A strictly lower triangular."""
    inverse = torch.linalg.inv(torch.eye(len(scales)) - coefficients)
    return inverse @ torch.diag(scales.square()) @ inverse.mT


STEPS, PHI = 4, 0.8


def autoregressive_covariance():
    coefficients = torch.diag(torch.full((STEPS - 1,), PHI), -1)
    scales = torch.tensor([1.0, *[0.6] * (STEPS - 1)])
    return linear_chain(coefficients, scales)


def test_covariance_of_the_chain_by_simulation():
    """The reference itself: 20,000 draws; a covariance of 1 has a standard error of .01."""
    torch.manual_seed(0)
    z = [torch.randn(20_000)]
    for _ in range(STEPS - 1):
        z.append(PHI * z[-1] + 0.6 * torch.randn(20_000))
    torch.testing.assert_close(torch.cov(torch.stack(z)), autoregressive_covariance(), atol=0.05, rtol=0)


def test_autoregression_over_sites():
    """AR(1), a site for each step: p(z_0) Π p(z_t|z_{t-1}); the guide is factorised."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z0", dist.Normal(0.0, 1.0))
            path = [z]
            for step in range(1, STEPS):
                z = pyro.sample(f"z{step}", dist.Normal(PHI * z, 0.6))
                path.append(z)
            pyro.sample("x", dist.Normal(torch.stack(torch.broadcast_tensors(*path), -1), 0.8).to_event(1), obs=x)

    @seeded
    def guide(x):
        with pyro.plate("data", len(x)):
            for step in range(STEPS):
                pyro.sample(f"z{step}", dist.Normal(0.6 * x[:, step], 0.5))

    x, names = numbers(N, STEPS), [f"z{step}" for step in range(STEPS)]
    sample = draw(guide, x)
    z = torch.stack([sample[name] for name in names], -1)
    posterior = Normal(names, z, 0.6 * x, 0.25 * torch.eye(STEPS))
    prior = Normal(names, z, torch.zeros(STEPS), autoregressive_covariance())
    likelihood = log_likelihood(model, guide, x)
    for blocks in (
        {name: [name] for name in names},
        {"all": names},
        {"first": names[:2], "last": names[2:]},
    ):
        terms = HierarchicalELBO(N, blocks=blocks, prior_samples=4000).aggregate_terms(model, guide, [(x,)])
        assert_terms(terms, reference_terms(blocks, posterior, prior), SAMPLED, likelihood)
    loss_is_that_of_pyro(model, guide, x)


def test_autoregression_within_a_vector():
    """The same prior as one multivariate normal has the same terms, exactly."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(STEPS), autoregressive_covariance()))
            pyro.sample("x", dist.Normal(z, 0.8).to_event(1), obs=x)

    @seeded
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.6 * x, 0.5).to_event(1))

    x, names = numbers(N, STEPS), variables("z", STEPS)
    z = draw(guide, x)["z"]
    posterior = Normal(names, z, 0.6 * x, 0.25 * torch.eye(STEPS))
    prior = Normal(names, z, torch.zeros(STEPS), autoregressive_covariance())
    blocks = {"first": names[:2], "last": names[2:]}
    terms = HierarchicalELBO(N, blocks=blocks).aggregate_terms(model, guide, [(x,)])
    assert_terms(terms, reference_terms(blocks, posterior, prior), reconstruction=log_likelihood(model, guide, x))


W, TOP, BOTTOM = 0.5 * numbers(2, 3, seed=1), variables("top", 2), variables("bottom", 3)


def ladder(x):
    with pyro.plate("data", len(x)):
        top = pyro.sample("top", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        bottom = pyro.sample("bottom", dist.Normal(top @ W, 0.7).to_event(1))
        pyro.sample("x", dist.Normal(bottom, 0.8).to_event(1), obs=x)


def test_ladder_with_a_bottom_up_guide():
    """p(z2) p(z1|z2) p(x|z1) with q(z1|x) q(z2|z1): structured on both sides, in opposite directions."""

    @seeded
    def guide(x):
        with pyro.plate("data", len(x)):
            bottom = pyro.sample("bottom", dist.Normal(0.6 * x, 0.5).to_event(1))
            pyro.sample("top", dist.Normal(0.5 * bottom @ W.mT, 0.6).to_event(1))

    x = numbers(N, 3)
    sample = draw(guide, x)
    names, z = TOP + BOTTOM, torch.cat([sample["top"], sample["bottom"]], -1)
    up = 0.5 * W.mT  # [3, 2]
    loc = torch.cat([0.6 * x @ up, 0.6 * x], -1)
    noise = torch.cat([0.5 * up, 0.5 * torch.eye(3)], -1)  # of the bottom, in top and bottom
    covariance = noise.mT @ noise + torch.diag(torch.tensor([0.36] * 2 + [0.0] * 3))
    root = torch.cat([torch.eye(2), W], -1)
    prior_covariance = root.mT @ root + torch.diag(torch.tensor([0.0] * 2 + [0.49] * 3))
    posterior, prior = Normal(names, z, loc, covariance), Normal(names, z, torch.zeros(5), prior_covariance)
    blocks = {"top": ["top"], "bottom": ["bottom"]}
    elbo = HierarchicalELBO(N, blocks=blocks, prior_samples=4000, guide_samples=1000)
    terms = elbo.aggregate_terms(ladder, guide, [(x,)])
    reference = reference_terms({"top": TOP, "bottom": BOTTOM}, posterior, prior)
    assert_terms(terms, reference, SAMPLED, log_likelihood(ladder, guide, x))
    assert float(terms.mutual_information) == pytest.approx(reference.mutual_information, abs=1e-7)
    assert float(terms.elbo) == pytest.approx(log_likelihood(ladder, guide, x) - reference.divergence, abs=1e-7)
    loss_is_that_of_pyro(ladder, guide, x)


def test_structural_causal_model():
    """cause → treatment, (cause, treatment) → effect; a category shifts the cause."""
    shift = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    logits = numbers(3, 2, seed=3)

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("group", dist.OneHotCategorical(logits=torch.zeros(2)))
            cause = pyro.sample("cause", dist.Normal(y @ shift, 0.8))
            treatment = pyro.sample("treatment", dist.Normal(0.7 * cause, 0.6))
            effect = pyro.sample("effect", dist.Normal(0.5 * cause - 0.9 * treatment, 0.5))
            means = torch.stack(torch.broadcast_tensors(cause, treatment, effect), -1)
            pyro.sample("x", dist.Normal(means, 0.8).to_event(1), obs=x)

    @seeded
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("group", Concrete(0.7, logits=x @ logits))
            for index, name in enumerate(("cause", "treatment", "effect")):
                pyro.sample(name, dist.Normal(0.6 * x[:, index], 0.5))

    x, names = numbers(N, 3), ["cause", "treatment", "effect"]
    sample = draw(guide, x)
    z = torch.stack([sample[name] for name in names], -1)
    log_mass = (x @ logits).log_softmax(-1).mT  # [2, N]
    of_z = Normal(names, z, 0.6 * x, 0.25 * torch.eye(3))
    coefficients = torch.tensor([[0.0, 0.0, 0.0], [0.7, 0.0, 0.0], [0.5, -0.9, 0.0]])
    covariance = linear_chain(coefficients, torch.tensor([0.8, 0.6, 0.5]))
    total = torch.linalg.inv(torch.eye(3) - coefficients)[:, 0]  # effects of the shift of the cause
    each = [Normal(names, z, total * shift[k], covariance) for k in range(2)]

    def posterior(group):
        continuous = [name for name in group if name != "group"]
        table = of_z(continuous) if continuous else torch.zeros(1, 1)
        return table + log_mass[:, None] if "group" in group else table

    def prior(group):
        continuous = [name for name in group if name != "group"]
        half = torch.tensor(0.5).log()
        joint = torch.stack([half + (some(continuous) if continuous else torch.zeros(1, 1)) for some in each])
        return joint if "group" in group else joint.logsumexp(0)

    blocks = {"group": ["group"], "cause": ["cause"], "rest": ["treatment", "effect"]}
    terms = HierarchicalELBO(N, blocks=blocks, prior_samples=4000).aggregate_terms(model, guide, [(x,)])
    reference = reference_terms(blocks, posterior, prior)
    assert_terms(terms, reference, SAMPLED, log_likelihood(model, guide, x))
    assert float(terms.elbo) == pytest.approx(log_likelihood(model, guide, x) - reference.divergence, abs=1e-7)


class SequenceGuide(nn.Module):
    """An LSTM over the steps; with ``structured``, each latent is inferred given the one before it."""

    def __init__(self, structured):
        super().__init__()
        torch.manual_seed(1)
        self.lstm = nn.LSTM(2, 5, batch_first=True)
        self.head = nn.Linear(5 + structured, 2)
        self.structured = structured

    def forward(self, x):
        features, _ = self.lstm(x)  # [B, T, 5]
        with pyro.plate("data", len(x)):
            before = torch.zeros(len(x), 1)
            for step in range(x.shape[1]):
                inputs = features[:, step]
                if self.structured:
                    inputs = torch.cat([inputs.expand(*before.shape[:-1], -1), before], -1)
                loc, log_scale = self.head(inputs).chunk(2, -1)
                before = pyro.sample(f"z{step}", dist.Normal(loc, (0.3 * log_scale).exp()).to_event(1))


def sequence_model(x):
    """A state that follows AR(1), seen twice at each step."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z0", dist.Normal(torch.zeros(1), 1.0).to_event(1))
        path = [z]
        for step in range(1, x.shape[1]):
            z = pyro.sample(f"z{step}", dist.Normal(PHI * z, 0.6).to_event(1))
            path.append(z)
        means = torch.stack(torch.broadcast_tensors(*path), -2).expand(*z.shape[:-1], -1, 2)
        pyro.sample("x", dist.Normal(means, 0.8).to_event(2), obs=x)


@pytest.mark.parametrize("structured", [False, True], ids=["filter", "given the step before"])
def test_recurrent_encoder_of_sequences(structured):
    guide, x = SequenceGuide(structured).double(), numbers(N, 3, 2)
    fixed = seeded(guide)
    loss_is_that_of_pyro(sequence_model, fixed, x)
    ours = torch.autograd.grad(
        HierarchicalELBO(N).differentiable_loss(sequence_model, fixed, x), list(guide.parameters())
    )
    pyros = torch.autograd.grad(Trace_ELBO().differentiable_loss(sequence_model, fixed, x), list(guide.parameters()))
    for one, other in zip(ours, pyros, strict=True):
        torch.testing.assert_close(one, other)
    if not structured:
        trace = pyro.poutine.trace(fixed).get_trace(x)
        names = ["z0", "z1", "z2"]
        z, loc, scale = (
            torch.cat([part(trace.nodes[name]) for name in names], -1).detach()
            for part in (
                lambda site: site["value"],
                lambda site: site["fn"].base_dist.loc,
                lambda site: site["fn"].base_dist.scale,
            )
        )
        posterior = Normal(names, z, loc, torch.diag_embed(scale.square()))
        prior = Normal(names, z, torch.zeros(3), autoregressive_covariance()[:3, :3])
        blocks = {name: [name] for name in names}
        with torch.no_grad():
            terms = HierarchicalELBO(N, prior_samples=4000).aggregate_terms(sequence_model, fixed, [(x,)])
        reference = reference_terms(blocks, posterior, prior)
        assert_terms(terms, reference, SAMPLED, log_likelihood(sequence_model, fixed, x))
