"""Normalisers of structured priors against quadrature and exact sums, and objectives that stay bounded with them."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch.distributions import Normal

from pyro_hfvae import Concrete, HierarchicalELBO
from pyro_hfvae.distributions import nearest_category
from pyro_hfvae.infer import Capacity
from pyro_hfvae.schedules import Linear

pytestmark = pytest.mark.usefixtures("double_precision")

PAIRS = {"all pairs": ["z"]}


def observed(x):
    pyro.sample("x", dist.Normal(torch.zeros(1), 1.0).to_event(1), obs=x)


def correlated(matrix):
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(torch.zeros(len(matrix)), matrix))
            observed(x)

    return model


def normal(loc, scale):
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    return guide


def terms_of(model, guide, size, seed=1, **options):
    """With weights that ask for normalisers."""
    torch.manual_seed(seed)
    with torch.no_grad():
        return HierarchicalELBO(size, within=2.0, between=2.0, **options).terms(model, guide, torch.zeros(size, 1))


@pytest.mark.parametrize("correlation", [0.5, -0.8])
@pytest.mark.parametrize(("loc", "scale"), [((0.0, 0.0), 0.6), ((0.7, -0.4), 0.9)])
@pytest.mark.parametrize("where", ["within", "between"])
def test_a_correlated_normal_prior_has_a_closed_form(correlation, loc, scale, where):
    r"""Z = ∫ N(z; m, s²) exp(-½ zᵀ (C⁻¹ - I) z) |C|^-½ dz for a normal aggregate.

    4,000 data of one posterior, so that exchanges change nothing but the sample: standard errors of log Z below .02.
    """
    matrix = torch.tensor([[1, correlation], [correlation, 1]])
    mean, size = torch.tensor(loc), 4000
    layout = PAIRS if where == "within" else {"a": ["z[0]"], "b": ["z[1]"]}
    terms = terms_of(correlated(matrix), normal(mean.expand(size, 2), scale), size, blocks=layout)
    tilt = torch.linalg.inv(matrix) - torch.eye(2)
    precision = torch.eye(2) / scale**2 + tilt
    shift = mean / scale**2
    log_z = -0.5 * matrix.logdet() - 0.5 * precision.logdet() - math.log(scale**2)
    log_z = log_z + 0.5 * shift @ torch.linalg.solve(precision, shift) - 0.5 * mean @ mean / scale**2
    found = terms.blocks["all pairs"].log_normaliser if where == "within" else terms.log_normaliser
    assert found.item() == pytest.approx(log_z.item(), abs=0.05)


def test_the_aggregate_counts_and_not_the_posterior():
    """40 data far apart: Z by the mean over all pairs of data, each an exact product of one-dimensional moments."""
    matrix = torch.tensor([[1.0, 0.6], [0.6, 1.0]])
    loc, scale = 0.7 * torch.randn(40, 1) + 0.2 * torch.randn(40, 2), 0.3
    tilt = torch.linalg.inv(matrix) - torch.eye(2)
    precision = torch.eye(2) / scale**2 + tilt

    def log_z(mean):
        value = -0.5 * matrix.logdet() - 0.5 * precision.logdet() - math.log(scale**2)
        shift = mean / scale**2
        return (
            value
            + 0.5 * (shift * torch.linalg.solve(precision, shift.mT).mT).sum(-1)
            - shift.square().sum(-1) * (scale**2 / 2)
        )

    pairs = torch.stack([loc[:, None, 0].expand(40, 40), loc[None, :, 1].expand(40, 40)], -1).reshape(-1, 2)
    exact = log_z(pairs).logsumexp(0) - math.log(1600)
    assert abs(exact - (log_z(loc).logsumexp(0) - math.log(40))) > 0.01  # not of the pairs as they are
    found = [
        terms_of(correlated(matrix), normal(loc, scale), 40, seed).blocks["z"].log_normaliser for seed in range(40)
    ]
    found = torch.stack(found).exp()
    assert found.mean().item() == pytest.approx(exact.exp().item(), abs=4 * found.std().item() / math.sqrt(40))


def test_three_variables_and_a_whitened_prior_of_any_scale():
    """Σ with other variances and a mean: marginals of the prior are its own, not standard normal ones."""
    factor = torch.tensor([[1.5, 0, 0], [0.7, 0.8, 0], [-0.5, 0.3, 0.9]])
    matrix, mean, size = factor @ factor.T, torch.tensor([1.0, -0.5, 0.3]), 4000

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(mean, scale_tril=factor))
            observed(x)

    terms = terms_of(model, normal(mean.expand(size, 3) + 0.2, 0.5), size)
    precision = torch.linalg.inv(matrix) - matrix.diagonal().reciprocal().diag() + torch.eye(3) / 0.25
    shift, centre = torch.full((3,), 0.2) / 0.25, torch.full((3,), 0.2)
    log_z = 0.5 * matrix.diagonal().log().sum() - 0.5 * matrix.logdet() - 0.5 * precision.logdet() - 3 * math.log(0.5)
    log_z = log_z + 0.5 * shift @ torch.linalg.solve(precision, shift) - 0.5 * centre @ centre / 0.25
    assert terms.blocks["z"].log_normaliser.item() == pytest.approx(log_z.item(), abs=0.05)


MEANS = torch.tensor([[-1.0, 0.5], [1.5, 0.0], [0.0, -2.0]], dtype=torch.float64)
LOGITS = torch.tensor([0.2, -0.4, 0.6], dtype=torch.float64)
GRID = torch.linspace(-9, 9, 1801, dtype=torch.float64)


def mixture(x):
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", Concrete(0.7, logits=LOGITS))
        pyro.sample("z", dist.Normal(y @ MEANS, 0.8).to_event(1))
        observed(x)


@pytest.mark.parametrize("relaxed", [True, False])
def test_a_mixture_by_quadrature_over_z_and_sums_over_categories(relaxed):
    """Between y and z, and within z, whose variables depend on one another through y; 4,000 data of 4 kinds."""
    loc, mass = 0.8 * torch.randn(4, 2), torch.randn(4, 3).softmax(-1)
    kinds = torch.arange(4).repeat(1000)
    categorical = (lambda logits: Concrete(0.7, logits=logits)) if relaxed else (
        lambda logits: dist.OneHotCategorical(logits=logits)
    )  # fmt: skip

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", categorical(mass[kinds].log()))
            pyro.sample("z", dist.Normal(loc[kinds], 0.5).to_event(1))

    terms = terms_of(mixture, guide, 4000)
    log_prior = LOGITS.log_softmax(-1)
    p = Normal(MEANS[..., None], 0.8).log_prob(GRID)  # [K, V, T]
    q = Normal(loc[..., None], 0.5).log_prob(GRID).exp() * 0.01  # [N, V, T]
    joint = p[:, 0, :, None] + p[:, 1, None, :]  # [K, T, T]
    of_z = (log_prior[:, None, None] + joint).logsumexp(0)
    both = torch.einsum("nt,nu->tu", q[:, 0], q[:, 1]) / 4
    between = (mass.mean(0)[:, None, None] * both * (joint - of_z).exp()).sum().log()
    singles = (log_prior[:, None, None] + p).logsumexp(0)  # [V, T]
    apart = q.mean(0)
    within = (apart[0][:, None] * apart[1] * (of_z - singles[0][:, None] - singles[1]).exp()).sum().log()
    assert terms.log_normaliser.item() == pytest.approx(between.item(), abs=0.05)
    assert terms.blocks["z"].log_normaliser.item() == pytest.approx(within.item(), abs=0.05)
    assert terms.blocks["y"].log_normaliser == 0


def test_blocks_across_sites_under_a_guide_whose_sites_depend_on_one_another():
    """A guide q(y|x) q(z|x, y): the block {y, z[0]} against the block {z[1]}, and y against z[0]."""
    mass, size = torch.tensor([0.5, 0.2, 0.3]), 6000
    moved = torch.tensor([[1.5, -0.5], [-1.0, 1.0], [0.5, 0.3]])

    def guide(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.RelaxedOneHotCategoricalStraightThrough(torch.tensor(0.7), mass.expand(size, 3)))
            pyro.sample("z", dist.Normal(y @ moved, 0.5).to_event(1))

    p = Normal(MEANS[..., None], 0.8).log_prob(GRID)  # [K, V, T]
    q = Normal(moved[..., None], 0.5).log_prob(GRID).exp() * 0.01  # [K, V, T]
    prior_of_second = (LOGITS.log_softmax(-1)[:, None] + p[:, 1]).logsumexp(0)  # [T]
    of_second = (mass[:, None] * q[:, 1]).sum(0)
    # p(y, z) / p(y, z_0) p(z_1) = p(z_1|y) / p(z_1), under q(y) q(z_0|y) and q(z_1)
    exact = (mass[:, None] * of_second * (p[:, 1] - prior_of_second).exp()).sum().log()
    layout = {"a": ["y", "z[0]"], "b": ["z[1]"]}
    with torch.no_grad():
        torch.manual_seed(1)
        elbo = HierarchicalELBO(10**6, within=2.0, blocks=layout)
        module = elbo(mixture, guide)
        sample = next(module._samples((torch.zeros(size, 1),), {}))
        found = module._normalisers(sample, module._tree(sample))
    assert found["joint"].item() == pytest.approx(exact.item(), abs=0.05)
    # y and z_0 of the block are apart: p(z_0|y) / p(z_0) under q(y) q(z_0)
    prior_of_first = (LOGITS.log_softmax(-1)[:, None] + p[:, 0]).logsumexp(0)
    of_first = (mass[:, None] * q[:, 0]).sum(0)
    within = (mass[:, None] * of_first * (p[:, 0] - prior_of_first).exp()).sum().log()
    assert found["a"].item() == pytest.approx(within.item(), abs=0.05)


def test_a_hierarchy_of_continuous_sites():
    """u → z, linear and Gaussian: Z of p(z|u) / p(z) in closed form; ancestral samples add to the error."""
    size, weight, scale = 2000, 0.8, 0.6

    def model(x):
        with pyro.plate("data", len(x)):
            u = pyro.sample("u", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("z", dist.Normal(weight * u, scale).to_event(1))
            observed(x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("u", dist.Normal(torch.full((size, 1), 0.3), 0.7).to_event(1))
            pyro.sample("z", dist.Normal(torch.full((size, 1), -0.2), 0.5).to_event(1))

    terms = terms_of(model, guide, size)
    u, z = GRID[:, None], GRID
    ratio = Normal(weight * u, scale).log_prob(z) - Normal(0.0, math.hypot(weight, scale)).log_prob(z)
    q = (Normal(0.3, 0.7).log_prob(u) + Normal(-0.2, 0.5).log_prob(z)).exp() * 1e-4
    exact = (q * ratio.exp()).sum().log()
    assert terms.log_normaliser.item() == pytest.approx(exact.item(), abs=0.06)


def test_an_independent_prior_has_none_and_equal_weights_ask_for_none():
    matrix = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    guide, x = normal(torch.randn(5, 2), 0.5), torch.zeros(5, 1)
    free = HierarchicalELBO(9, within=3.0).terms(correlated(torch.eye(2).mul(2)), guide, x)
    assert free.blocks["z"].log_normaliser.abs() < 1e-12
    for weights in ({}, dict.fromkeys(("between", "within", "dimension"), Linear(0.0, 4.0, 10))):
        terms = HierarchicalELBO(9, **weights).terms(correlated(matrix), guide, x)
        assert terms.blocks["z"].log_normaliser == 0
    assert HierarchicalELBO(9, dimension=2.0).terms(correlated(matrix), guide, x).blocks["z"].log_normaliser != 0


@pytest.mark.parametrize("information", [1.0, 0.2])
def test_equal_weights_are_the_elbo_of_the_structured_prior(information):
    model, guide = correlated(torch.tensor([[1.0, 0.8], [0.8, 1.0]])), normal(torch.randn(5, 2), 0.5)
    x = torch.zeros(5, 1)
    elbo = HierarchicalELBO(9, mutual_information=information)
    torch.manual_seed(1)
    ours = elbo.differentiable_loss(model, guide, x)
    torch.manual_seed(1)
    terms = elbo.terms(model, guide, x)
    torch.manual_seed(1)
    theirs = Trace_ELBO().differentiable_loss(model, guide, x)
    torch.testing.assert_close(ours, theirs - 5 * (1 - information) * terms.mutual_information)


@pytest.mark.parametrize("weights", [(5.0, 1.0, 1.0), (1.0, 5.0, 1.0), (2.0, 4.0, 3.0), (1.0, 1.0, 0.2)])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_charged_is_a_divergence_whatever_the_guide_is(weights, seed):
    """β A + γ i + δ ii with the normalisers is 0 or more: random guides, exact aggregate; errors of A, i below .1."""
    generator = torch.Generator().manual_seed(seed)
    size = 1500
    factor = torch.randn(4, 4, generator=generator) * 0.4 + torch.eye(4)
    matrix = factor @ factor.T
    scatter = torch.randn(4, 4, generator=generator) * 0.5
    loc = torch.randn(size, 4, generator=generator) @ scatter + torch.randn(4, generator=generator)
    guide = normal(loc, 0.4 + torch.rand(4, generator=generator))
    between, within, dimension = weights
    layout = {"a": ["z[0:2]"], "b": ["z[2:4]"]}
    elbo = HierarchicalELBO(size, 1.0, between, within, dimension, blocks=layout)
    torch.manual_seed(seed)
    with torch.no_grad():
        terms = elbo.terms(correlated(matrix), guide, torch.zeros(size, 1))
    costs = elbo.costs(terms)
    assert sum(costs[name] for name in ("between", "within", "dimension")) > -0.1
    for term in (terms.between + terms.log_normaliser, *(b.within + b.log_normaliser for b in terms.blocks.values())):
        assert term > -0.1


def test_a_guide_that_leaves_the_prior_pays_for_it():
    """Without normalisers 'within' paid it: i falls as -m² · 4.7 with the distance m, and ii rises by m² only."""
    matrix = torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    charged = []
    for distance in (0.0, 10.0, 100.0):
        elbo, guide = HierarchicalELBO(64, within=5.0), normal(distance + 0.5 * torch.randn(64, 2), 0.5)
        terms = elbo.terms(correlated(matrix), guide, torch.zeros(64, 1))
        costs = elbo.costs(terms)
        charged.append(sum(costs[name] for name in ("between", "within", "dimension")).item())
    assert 0 < charged[0] < charged[1] < charged[2]


def test_gradients_of_a_normaliser_against_finite_differences():
    loc = torch.randn(6, 2, requires_grad=True)
    model, x = correlated(torch.tensor([[1.0, 0.7], [0.7, 1.0]])), torch.zeros(6, 1)
    elbo = HierarchicalELBO(6, within=3.0)

    def log_z(loc):
        torch.manual_seed(3)
        return elbo.terms(model, normal(loc, 0.5), x).blocks["z"].log_normaliser

    (found,) = torch.autograd.grad(log_z(loc), [loc])
    for place in ((0, 0), (3, 1), (5, 0)):
        step = torch.zeros(6, 2)
        step[place] = 1e-6
        with torch.no_grad():
            expected = (log_z(loc + step) - log_z(loc - step)) / 2e-6
        assert found[place].item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-9)


def test_a_capacity_is_charged_without_a_normaliser():
    model, guide = correlated(torch.tensor([[1.0, 0.7], [0.7, 1.0]])), normal(torch.randn(6, 2), 0.5)
    elbo = HierarchicalELBO(9, within=Capacity(3.0, 0.5))
    terms = elbo.terms(model, guide, torch.zeros(6, 1))
    torch.testing.assert_close(elbo.costs(terms)["within"], 3 * (terms.within - 0.5).abs())


@pytest.mark.parametrize("weights", [{"within": 5.0}, {"within": 3.0, "between": 5.0}])
@pytest.mark.parametrize("kind", ["correlated", "hierarchy"])
def test_svi_with_a_decoder_that_ignores_the_latents_stays_bounded(kind, weights):
    """Without normalisers the loss falls below -100 nats per datum in 300 steps."""
    size, x = 64, torch.randn(64, 2)

    def model(x):
        with pyro.plate("data", len(x)):
            if kind == "correlated":
                pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.9], [0.9, 1.0]])))
            else:
                y = pyro.sample("y", Concrete(0.7, logits=torch.zeros(2)))
                pyro.sample("z", dist.Normal(2 * (y[..., :1] - y[..., 1:]), 0.5).to_event(1))
            pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1), obs=x)

    def guide(x):
        variables = 2 if kind == "correlated" else 1
        mean = pyro.param("mean", torch.zeros(variables) + 0.01)
        weight = pyro.param("weight", torch.eye(2)[:, :variables] / 2)
        with pyro.plate("data", len(x)):
            if kind == "hierarchy":
                pyro.sample("y", Concrete(0.7, logits=x @ pyro.param("logits", torch.eye(2))))
            pyro.sample("z", dist.Normal(x @ weight + mean, 0.5).to_event(1))

    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), loss=HierarchicalELBO(size, **weights))
    losses = [svi.step(x) / size for _ in range(300)]
    assert min(losses) > 0
    assert pyro.param("mean").abs().max() < 5


@pytest.mark.parametrize("second", [False, True])
def test_categories_of_a_structured_guide_have_their_masses_given_the_values_of_their_block(second):
    """Blocks {y, a} and {b} (and a second categorical with b) under q(y|x) q(a|x, y): by quadrature over a and b.

    Z = Σ_y,w ∫ q̂(y, a) q̂(w, b) p(b, w|y, a) / p(w, b); the mean of 50 estimates within 4 of its standard errors and
    the bias 1/P of the reciprocal of an estimated p(b), whose relative variance is about 1.
    """
    size, samples, count = 6, 1000, 50
    logits, of_second = 1.5 * torch.randn(size, 3), torch.randn(size, 2)
    shift, loc = 0.5 * torch.randn(size, 1), torch.randn(size, 1)
    centre, slope = torch.tensor([[-1.5], [0.0], [2.0]]), torch.tensor([[1.0], [-0.5], [-1.0]])
    of_w = torch.tensor([[0.7, 0.3], [0.5, 0.5], [0.1, 0.9]]).log()
    blocks = {"one": ["y", "a"], "two": ["b", "w"] if second else ["b"]}

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", Concrete(0.5, logits=LOGITS))
            a = pyro.sample("a", dist.Normal(y @ MEANS[:, :1], 1.2).to_event(1))
            pyro.sample("b", dist.Normal(y @ MEANS[:, 1:] + (y @ slope) * a, 1.5).to_event(1))
            if second:
                pyro.sample("w", Concrete(0.5, logits=y @ of_w))
            observed(x)

    def guide(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", Concrete(0.5, logits=logits))
            pyro.sample("a", dist.Normal(shift + nearest_category(y) @ centre, 0.7).to_event(1))
            b = pyro.sample("b", dist.Normal(loc, 0.7).to_event(1))
            if second:
                pyro.sample("w", Concrete(0.5, logits=of_second + b.sign() * torch.tensor([1.0, -1.0])))

    grid = torch.linspace(-9, 9, 301)
    step = grid[1] - grid[0]
    p_a = Normal(MEANS[:, 0], 1.2).log_prob(grid[:, None]).exp()  # [a, y]
    p_b = Normal(MEANS[:, 1] + slope[:, 0] * grid[:, None], 1.5).log_prob(grid[:, None, None]).exp()  # [b, a, y]
    q_ya = logits.softmax(-1)[:, None] * Normal(shift[:, None] + centre[:, 0], 0.7).log_prob(grid[None, :, None]).exp()
    q_b = Normal(loc, 0.7).log_prob(grid).exp()  # [B, b]
    given_y = of_w.exp() if second else torch.ones(3, 1)  # p(w|y)
    signs = grid.sign()[:, None] * torch.tensor([1.0, -1.0])
    given_b = (of_second[:, None] + signs).softmax(-1) if second else torch.ones(size, len(grid), 1)
    q_wb = (q_b[..., None] * given_b).mean(0)  # [b, w]
    p_wb = torch.einsum("y,ay,bay,yw->bw", LOGITS.softmax(0), p_a, p_b, given_y) * step
    exact = torch.einsum("ay,bay,yw,bw->", q_ya.mean(0), p_b, given_y, q_wb / p_wb) * step**2

    module = HierarchicalELBO(size, between=2.0, blocks=blocks, prior_samples=samples)(model, guide)
    with torch.no_grad():
        found = torch.stack([module.terms(torch.zeros(size, 1)).log_normaliser for _ in range(count)]).exp()
    error = 4 * found.std().item() / math.sqrt(count) + exact.item() / samples
    assert found.mean().item() == pytest.approx(exact.item(), abs=error)
