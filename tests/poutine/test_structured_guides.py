"""Handlers around guides whose sites depend on one another, q(u|x) q(z|x, u), which an objective runs again."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn

from pyro_hfvae.distributions import StraightThroughConcrete, nearest_category
from pyro_hfvae.infer import VAE, HierarchicalELBO, MinibatchWeighted
from pyro_hfvae.poutine import gate, observe_labels, share_group, share_pairs, swap, trim

B, K = 4, 3
X = torch.randn(B, 2, generator=torch.Generator().manual_seed(0)).double()
WEIGHT = torch.randn(2, 2, generator=torch.Generator().manual_seed(1)).double()
SITES = {"u": slice(0, 4), "z": slice(4, 8)}  # numbers of each in a row
PARTNERS = [1, 0, 3, 2]
PAIRED = [True, True, False, False]
CLOSED = {"u": [True, False, True, False], "z": [True, False, False, False]}


class Guide(nn.Module):
    """What heads give, a row for each datum; z is computed from u too."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Parameter(torch.randn(B, 8, generator=torch.Generator().manual_seed(2)).double())

    def forward(self, x, rows=slice(None)):
        loc_u, scale_u, loc_z, scale_z = self.rows[rows].split(2, -1)
        with pyro.plate("data", len(x)):
            u = pyro.sample("u", dist.Normal(loc_u, 0.5 + scale_u.sigmoid()).to_event(1))
            loc = loc_z + (2 * u).tanh() @ WEIGHT
            return pyro.sample("z", dist.Normal(loc, 0.5 + (scale_z + u).sigmoid()).to_event(1))


def model(x, rows=None):
    with pyro.plate("data", len(x)):
        u = pyro.sample("u", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
        z = pyro.sample("z", dist.Normal(torch.ones(2).double(), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(u @ WEIGHT + z, 1.0).to_event(1), obs=x)


HANDLERS = {
    "gate": lambda: gate(CLOSED),
    "gate of samples": lambda: gate(CLOSED, what="sample"),
    "gate of the likelihood": lambda: gate(CLOSED, what="likelihood"),
    "swap": lambda: swap({"u": PAIRED, "z": PAIRED}, PARTNERS),
    "swap of one site": lambda: swap({"z": PAIRED}, PARTNERS),
    "swap of variables": lambda: swap({"a": PAIRED}, PARTNERS, {"a": ["u[0]", "z"], "b": ["u[1]"]}),
    "share_group": lambda: share_group(["u", "z"], [0, 1, 0, 0]),
    "share_pairs": lambda: share_pairs(["u", "z"]),
    "trim": lambda: trim({"u": [True] * B}, PARTNERS, 0.5),
}
PARTICLES = {
    "one particle": {},
    "particles": {"num_particles": 3},
    "vectorized": {"num_particles": 3, "vectorize_particles": True, "max_plate_nesting": 1},
}


def run(objective, handler=None, guide=None, seed=3, args=(X,)):
    guide = guide or Guide()
    torch.manual_seed(seed)
    with handler or pyro.poutine.scale(scale=1.0):
        return objective.differentiable_loss(model, guide, *args), guide


@pytest.mark.parametrize("particles", PARTICLES)
@pytest.mark.parametrize("name", HANDLERS)
def test_weights_of_one_are_the_ordinary_elbo(name, particles):
    """On the same samples, under every handler; the loss is per datum where Pyro's is of the batch."""
    options = PARTICLES[particles]
    theirs, their_guide = run(Trace_ELBO(**options), HANDLERS[name]())
    ours, guide = run(HierarchicalELBO(9, guide_samples=2, **options), HANDLERS[name]())
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=0)
    if "likelihood" not in name:  # whose densities see the samples whole, in Pyro's objective not those of z
        rows = [torch.autograd.grad(loss, one.rows)[0] for loss, one in ((ours, guide), (theirs, their_guide))]
        torch.testing.assert_close(*rows, rtol=1e-8, atol=1e-10)


UNEQUAL = {
    "unequal": lambda **o: HierarchicalELBO(9, between=3.0, within=2.0, dimension=2.5, guide_samples=2, **o),
    "weighted": lambda **o: HierarchicalELBO(9, between=3.0, marginal=MinibatchWeighted(), guide_samples=2, **o),
}


@pytest.mark.parametrize("particles", ["one particle", "vectorized"])
@pytest.mark.parametrize("name", UNEQUAL)
def test_gated_parameters(name, particles):
    """Closed rows get exactly nothing; the others what finite differences give, though others' rows are closed."""
    objective = UNEQUAL[name](**PARTICLES[particles])
    plain, _ = run(objective)
    loss, guide = run(objective, gate(CLOSED))
    assert torch.equal(loss, plain)
    (gradient,) = torch.autograd.grad(loss, guide.rows)
    opened = torch.tensor(list(CLOSED.values())).T.repeat_interleave(4, 1)  # [B, 8]
    assert gradient[~opened].count_nonzero() == 0
    assert gradient[opened].count_nonzero() == opened.sum()
    step = 1e-6
    for column in range(8):  # of datum 0, which is open in both blocks

        def moved(by, column=column):
            other = Guide()
            other.rows.data[0, column] += by
            return run(objective, gate(CLOSED), other)[0].detach()

        slope = (moved(step) - moved(-step)) / (2 * step)
        torch.testing.assert_close(gradient[0, column], slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("what", ["sample", "likelihood"])
def test_gated_samples(what):
    """The likelihood teaches closed rows exactly nothing; rows that are open get the plain gradient of everything."""
    objective = UNEQUAL["unequal"]()
    plain, other = run(objective)
    loss, guide = run(objective, gate(CLOSED, what=what))
    assert torch.equal(loss, plain)
    gradient, expected = torch.autograd.grad(loss, guide.rows)[0], torch.autograd.grad(plain, other.rows)[0]
    torch.testing.assert_close(gradient[0], expected[0], rtol=1e-10, atol=1e-12)
    torch.manual_seed(3)
    with gate(CLOSED, what=what):
        terms = objective.terms(model, guide, X)
    (reconstruction,) = torch.autograd.grad(terms.reconstruction, guide.rows)
    opened = torch.tensor(list(CLOSED.values())).T.repeat_interleave(4, 1)
    assert reconstruction[~opened].count_nonzero() == 0
    assert reconstruction[0].count_nonzero() == 8


@pytest.mark.parametrize("name", UNEQUAL)
@pytest.mark.parametrize("what", ["parameters", "sample", "likelihood"])
def test_masks_of_particles(what, name):
    """A mask [S, B] gates each particle's own use: particle by particle, the gradients add up to the whole."""
    options = {"num_particles": 2, "vectorize_particles": True, "max_plate_nesting": 1}
    objective = UNEQUAL[name](**options)
    none, every = [False] * B, [True] * B

    def rows(*pair):
        loss, guide = run(objective, gate({"u": list(pair), "z": list(pair)}, what=what))
        return torch.autograd.grad(loss, guide.rows, allow_unused=True)[0]

    first, second, both, neither = rows(every, none), rows(none, every), rows(every, every), rows(none, none)
    neither = torch.zeros_like(both) if neither is None else neither
    torch.testing.assert_close(first + second, both + neither, rtol=1e-8, atol=1e-10)
    assert not torch.allclose(first, second)


def test_partners_that_swap_everything_are_each_other():
    """q(u|x) q(z|x, u) of the partner as a whole: the loss is that of a guide that is given the partner's datum."""

    def guide_of_partners(x, rows):
        return guide(x, PARTNERS)

    for objective in (*(make() for make in UNEQUAL.values()), Trace_ELBO()):
        swapped, guide = run(objective, swap({"u": [True] * B, "z": [True] * B}, PARTNERS))
        expected, _ = run(objective, None, guide_of_partners, args=(X, PARTNERS))
        torch.testing.assert_close(swapped, expected, rtol=1e-10, atol=0)
        rows = (torch.autograd.grad(loss, guide.rows)[0] for loss in (swapped, expected))
        torch.testing.assert_close(*rows, rtol=1e-8, atol=1e-10)


def test_partners_that_do_not_swap_back():
    """Datum 0 takes from datum 1, which keeps its own, and so for the program nothing is moved."""
    guide = Guide()
    torch.manual_seed(0)
    with swap({"u": [True, False, False, False]}, [1, 1, 2, 3]):
        trace = pyro.poutine.trace(guide).get_trace(X)
    loc = trace.nodes["u"]["fn"].base_dist.loc
    assert torch.equal(loc, guide.rows[[1, 1, 2, 3], :2])


LABELS, KNOWN = [2, 0, 0, 1], [True, False, True, False]
PRIOR = torch.tensor([0.2, 0.3, 0.5]).double()
MEANS = torch.randn(K, 2, generator=torch.Generator().manual_seed(6)).double()


class Classifier(nn.Module):
    """M2: q(y|x) q(z|x, y)."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.randn(B, K, generator=torch.Generator().manual_seed(4)).double())
        self.loc = nn.Parameter(torch.randn(B, 2, generator=torch.Generator().manual_seed(5)).double())

    def forward(self, x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", StraightThroughConcrete(0.7, logits=self.logits))
            pyro.sample("z", dist.Normal(self.loc + nearest_category(y) @ MEANS, 0.5).to_event(1))


def classified(x):
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", StraightThroughConcrete(0.7, logits=PRIOR.log()))
        z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(y @ MEANS + z, 1.0).to_event(1), obs=x)


@pytest.mark.parametrize("particles", PARTICLES)
def test_all_labels(particles):
    """Nothing is left to be summed over: Pyro's objective is the same."""
    losses = []
    for kind in (Trace_ELBO, lambda **o: VAE(9, **o)):
        torch.manual_seed(0)
        with observe_labels("y", LABELS, [True] * B, 5.0):
            losses.append(kind(**PARTICLES[particles]).differentiable_loss(classified, Classifier(), X))
    torch.testing.assert_close(*losses, rtol=1e-9, atol=0)


def test_some_labels():
    """By hand: the categories of data without a label are averaged over, in the posterior given z."""
    guide = Classifier()
    torch.manual_seed(0)
    with observe_labels("y", LABELS, KNOWN, 5.0):
        trace = pyro.poutine.trace(guide).get_trace(X)
        pyro.poutine.replay(classified, trace=trace)(X)
    y, z = trace.nodes["y"]["value"].detach(), trace.nodes["z"]["value"]
    torch.manual_seed(0)
    with observe_labels("y", LABELS, KNOWN, 5.0):
        loss = VAE(9).differentiable_loss(classified, guide, X)
    log_q, total = guide.logits.log_softmax(-1), torch.zeros(()).double()
    for b in range(B):
        total = total + dist.Normal(y[b] @ MEANS + z[b], 1.0).log_prob(X[b]).sum()
        log_z = dist.Normal(guide.loc[b] + MEANS, 0.5).log_prob(z[b]).sum(-1)  # [K]
        total = total + dist.Normal(torch.zeros(2).double(), 1.0).log_prob(z[b]).sum()
        if KNOWN[b]:
            total = total + PRIOR[LABELS[b]].log() - log_z[LABELS[b]] + 5.0 * log_q[b, LABELS[b]]
        else:
            joint = log_q[b] + log_z
            total = total + (log_q[b].exp() * PRIOR.log()).sum() - (joint.softmax(0) * joint).sum()
    torch.testing.assert_close(loss, -total, rtol=1e-9, atol=0)
