"""Known labels: the objective against its formula by hand, term by term."""

import doctest
import itertools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

from pyro_hfvae import Concrete
from pyro_hfvae.infer import VAE, Exact, HierarchicalELBO
from pyro_hfvae.poutine import gate, label_messenger, observe_labels

B, K = 4, 3
LABELS = torch.tensor([2, -1, 0, -1])
KNOWN = torch.tensor([True, False, True, False])
X = torch.randn(B, K, generator=torch.Generator().manual_seed(0)).double()
PRIOR = torch.tensor([0.2, 0.3, 0.5]).double()
DECODER = torch.randn(K, K, generator=torch.Generator().manual_seed(1)).double()


class Programs:
    """y ~ Categorical, z ~ N, x | y, z ~ N(y A + z, 1)."""

    def __init__(self, relaxed):
        self.relaxed = relaxed
        self.logits = torch.randn(B, K, generator=torch.Generator().manual_seed(2)).double().requires_grad_()
        self.loc = torch.randn(B, K, generator=torch.Generator().manual_seed(3)).double().requires_grad_()

    def categorical(self, logits):
        return Concrete(0.7, logits=logits) if self.relaxed else dist.OneHotCategorical(logits=logits)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", self.categorical(self.logits))
            pyro.sample("z", dist.Normal(self.loc, 0.5).to_event(1))

    def model(self, x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", self.categorical(PRIOR.log()))
            z = pyro.sample("z", dist.Normal(torch.zeros(K).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(y @ DECODER + z, 1.0).to_event(1), obs=x)

    def run(self, objective, handler=None, seed=0):
        torch.manual_seed(seed)
        with handler or observe_labels("y", LABELS, KNOWN, 7.0):
            return objective.differentiable_loss(self.model, self.guide, X)

    def drawn(self, handler, seed=0):
        torch.manual_seed(seed)
        with handler:
            trace = poutine.trace(self.guide).get_trace(X)
            poutine.replay(self.model, trace=trace)(X)
        return trace.nodes["y"]["value"], trace.nodes["z"]["value"]


def expected_loss(programs, y, z, closed_form):
    """Minus the objective of M2, datum by datum, from the values drawn; with y's divergence in closed form or not."""
    total = torch.zeros(()).double()
    log_q = programs.logits.log_softmax(-1)
    for b in range(B):
        loss = -dist.Normal(y[b] @ DECODER + z[b], 1.0).log_prob(X[b]).sum()
        loss = loss + (dist.Normal(programs.loc[b], 0.5).log_prob(z[b]) - dist.Normal(0.0, 1.0).log_prob(z[b])).sum()
        if KNOWN[b]:
            assert y[b].argmax() == LABELS[b]
            loss = loss - PRIOR[LABELS[b]].log() - 7.0 * log_q[b, LABELS[b]]
        elif closed_form:
            loss = loss + (log_q[b].exp() * (log_q[b] - PRIOR.log())).sum()
        else:
            loss = loss + log_q[b, y[b].argmax()] - PRIOR[y[b].argmax()].log()
        total = total + loss
    return total


def test_example_of_the_class():
    names = {"torch": torch, "pyro": pyro, "dist": dist, "observe_labels": observe_labels}
    results = doctest.testmod(label_messenger, extraglobs=names)
    assert results.attempted == 6
    assert results.failed == 0


def test_formula_with_masses():
    """HierarchicalELBO with every weight 1: labels, likelihood and divergence, with their gradients."""
    programs = Programs(relaxed=True)
    y, z = programs.drawn(observe_labels("y", LABELS, KNOWN, 7.0))
    for elbo in (VAE(B, marginal=Exact()), VAE(9)):
        loss = programs.run(elbo)
        expected = expected_loss(programs, y, z, closed_form=True)
        torch.testing.assert_close(loss, expected)
        for parameter in (programs.logits, programs.loc):
            (gradient,) = torch.autograd.grad(loss, parameter, retain_graph=True)
            (by_hand,) = torch.autograd.grad(expected, parameter, retain_graph=True)
            torch.testing.assert_close(gradient, by_hand)
            assert gradient.count_nonzero() == gradient.numel()


def test_gradient_of_a_labelled_row_is_that_of_the_classifier():
    programs = Programs(relaxed=True)
    (gradient,) = torch.autograd.grad(programs.run(HierarchicalELBO(9, 1.0, 5.0)), programs.logits)
    for row in (0, 2):
        by_hand = 7.0 * (programs.logits[row].softmax(-1) - torch.eye(K)[LABELS[row]])
        torch.testing.assert_close(gradient[row], by_hand.detach())


def test_formula_with_samples():
    """Trace_ELBO of a site that is not relaxed."""
    programs = Programs(relaxed=False)
    for seed in range(5):
        y, z = programs.drawn(observe_labels("y", LABELS, KNOWN, 7.0), seed)
        loss = programs.run(Trace_ELBO(), seed=seed)
        torch.testing.assert_close(loss, expected_loss(programs, y, z, closed_form=False))


def test_formula_with_closed_forms():
    programs = Programs(relaxed=True)
    y, z = programs.drawn(observe_labels("y", LABELS, KNOWN, 7.0))
    expected = expected_loss(programs, y, z, closed_form=True)
    normal, standard = dist.Normal(programs.loc, 0.5), dist.Normal(torch.zeros(B, K).double(), 1.0)
    sampled = (normal.log_prob(z) - standard.log_prob(z)).sum()
    closed = torch.distributions.kl_divergence(normal, standard).sum()
    torch.testing.assert_close(programs.run(TraceMeanField_ELBO()), expected - sampled + closed)


def test_marginal_counts_labels():
    """q(y) over all data is the mean of labels and posteriors, by enumeration."""
    programs = Programs(relaxed=True)
    with observe_labels("y", LABELS, KNOWN):
        terms = HierarchicalELBO(B, marginal=Exact()).terms(programs.model, programs.guide, X)
    posteriors = programs.logits.detach().softmax(-1)
    posteriors = torch.stack([torch.eye(K).double()[LABELS[b]] if KNOWN[b] else posteriors[b] for b in range(B)])
    marginal = posteriors.mean(0)
    information = sum(p * (p / marginal[k]).log() for row in posteriors for k, p in enumerate(row) if p > 0) / B
    torch.testing.assert_close(terms.blocks["y"].mutual_information.double(), information)
    divergence = (marginal * (marginal / PRIOR).log()).sum()
    torch.testing.assert_close(terms.blocks["y"].dimension.double(), divergence)


def test_prior_that_depends_on_the_label():
    """p(z|y): what is charged of a labelled datum is log p(z|c), of another the sum over the categories."""
    programs = Programs(relaxed=True)

    def model(x):
        with pyro.plate("data", B):
            y = pyro.sample("y", Concrete(0.7, logits=PRIOR.log()))
            z = pyro.sample("z", dist.Normal(2 * y, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(y @ DECODER + z, 1.0).to_event(1), obs=x)

    programs.model = model
    y, z = programs.drawn(observe_labels("y", LABELS, KNOWN, 7.0))
    expected = expected_loss(programs, y, z, closed_form=True)
    standard, q = dist.Normal(torch.zeros(B, K).double(), 1.0), programs.logits.softmax(-1)
    for b in range(B):
        masses = torch.eye(K).double()[LABELS[b]] if KNOWN[b] else q[b]
        given_y = sum(masses[k] * dist.Normal(2 * torch.eye(K).double()[k], 1.0).log_prob(z[b]).sum() for k in range(K))
        expected = expected + standard.log_prob(z)[b].sum() - given_y
    loss = programs.run(VAE(9))
    torch.testing.assert_close(loss, expected)
    gradient, by_hand = (torch.autograd.grad(value, programs.logits)[0] for value in (loss, expected))
    torch.testing.assert_close(gradient, by_hand)


def test_beside_a_gate_of_the_sample():
    programs = Programs(relaxed=True)
    plain = programs.run(VAE(9))
    with observe_labels("y", LABELS, KNOWN, 7.0):
        gated = programs.run(VAE(9), gate({"y": KNOWN}, what="sample"))
    assert torch.equal(gated, plain)


def test_particles_and_gates():
    programs = Programs(relaxed=True)
    options = {"num_particles": 3, "vectorize_particles": True, "max_plate_nesting": 1}
    closed = {"y": torch.zeros(B, dtype=torch.bool)}
    for elbo in (VAE(9, **options), VAE(9, num_particles=3)):
        (gradient,) = torch.autograd.grad(programs.run(elbo), programs.logits)
        torch.testing.assert_close(gradient[0], 7.0 * (programs.logits[0].softmax(-1) - torch.eye(K)[2]).detach())
        with observe_labels("y", LABELS, KNOWN, 7.0), gate(closed):
            loss = elbo.differentiable_loss(programs.model, programs.guide, X)
        assert not torch.autograd.grad(loss, programs.logits, allow_unused=True)[0].count_nonzero()


@pytest.mark.parametrize("known", list(itertools.product([True, False], repeat=2)))
def test_all_none_and_one(known):
    """Without labels it is the plain objective; a batch of two."""
    programs = Programs(relaxed=True)
    programs.logits, programs.loc = (p.detach()[:2].requires_grad_() for p in (programs.logits, programs.loc))

    def loss(handler):
        torch.manual_seed(0)
        with handler:
            return VAE(9).differentiable_loss(programs.model, programs.guide, X[:2])

    labelled = loss(observe_labels("y", torch.tensor([1, 0]), torch.tensor(known)))
    assert labelled.isfinite()
    assert torch.allclose(labelled, loss(poutine.scale(scale=1.0))) is not any(known)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("y", LABELS.double(), KNOWN), TypeError, "the labels of site 'y' must be integers, got torch.float64"),
        (("y", LABELS, KNOWN.int()), TypeError, "the mask of the labels of site 'y' must be boolean, got torch.int32"),
        (("y", LABELS[:2], KNOWN), ValueError, r"must have the shape \(B,\), got \(2,\) and \(4,\)"),
        (("y", LABELS[:2], KNOWN[:2]), ValueError, r"there are 2 labels, but site 'y' has the batch \(4,\)"),
        (("y", LABELS + 1, KNOWN), ValueError, "a label of site 'y' is not one of its categories 0 to 2"),
        (("y", LABELS, ~KNOWN), ValueError, "a label of site 'y' is not one of its categories 0 to 2"),
        (("w", LABELS, KNOWN), ValueError, "there are labels of site 'w', which must be sampled by the guide and used"),
        (("z", LABELS, KNOWN), NotImplementedError, "site 'z' is Normal; labels are for one categorical, as OneHot"),
    ],
)
def test_refusals(arguments, error, text):
    with pytest.raises(error, match=text):
        Programs(relaxed=True).run(VAE(9), observe_labels(*arguments))


CATEGORICALS = {
    "OneHotCategorical": lambda h: dist.OneHotCategorical(logits=h),
    "Concrete": lambda h: Concrete(0.7, logits=h),
    "Categorical": lambda h: dist.Categorical(logits=h),
    "Bernoulli": lambda h: dist.Bernoulli(logits=h[..., 1] - h[..., 0]),
    "RelaxedBernoulli": lambda h: dist.RelaxedBernoulli(torch.tensor(0.7), logits=h[..., 1] - h[..., 0]),
}


@pytest.mark.parametrize("kind", [list, np.asarray, torch.tensor])
@pytest.mark.parametrize("name", CATEGORICALS)
def test_every_site_of_one_categorical(name, kind):
    """The sample of a labelled datum is its label, and the term is the mass of the label; arrays and lists serve."""
    h = torch.tensor([[0.5, -0.2], [0.1, 0.9], [2.0, 1.0]]).double()

    def guide():
        with pyro.plate("data", 3):
            return pyro.sample("y", CATEGORICALS[name](h))

    with observe_labels("y", kind([1, 0, -1]), kind([True, True, False]), 2.0):
        trace = poutine.trace(guide).get_trace()
        nodes = poutine.trace(poutine.replay(guide, trace=trace)).get_trace().nodes
    value = trace.nodes["y"]["value"][:2]
    assert torch.allclose((value.argmax(-1) if value.dim() == 2 else value).double(), torch.tensor([1.0, 0.0]).double())
    expected = 2 * h.log_softmax(-1)
    expected = torch.stack([expected[0, 1], expected[1, 0], torch.zeros(()).double()])
    torch.testing.assert_close(nodes["y_label"]["fn"].log_factor, expected)


def test_several_categoricals_have_no_label():
    def guide():
        with pyro.plate("data", 2):
            pyro.sample("y", Concrete(0.7, logits=torch.zeros(2, 4, 3)).to_event(1))

    with (
        pytest.raises(NotImplementedError, match="site 'y' is Concrete with 4 variables; labels are for one categor"),
        observe_labels("y", [0, 1], [True, True]),
    ):
        guide()
