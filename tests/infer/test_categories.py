"""More combinations than are gone through: unbiased values and gradients, exactly so over all draws."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from aggregates import Group, draw_batch, estimated, sample_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae import Concrete, HierarchicalELBO
from pyro_hfvae.infer import Memory, Minibatch, categories, factorised
from pyro_hfvae.infer.categories import divide, draw_one_hot
from pyro_hfvae.sites import read_site

DTYPE = torch.float64


def make(batch, normal, sizes, particles=1, seed=0):
    """Posteriors that are the same for all particles, as one for each [S, B, ...]; leaves."""
    made = draw_batch(1, batch, normal, sizes, seed)
    made.scale += 0.2
    made.logits = tuple(1.5 * part for part in made.logits)
    return made.map(lambda part: part.repeat(particles, 1, 1)).leaf()


def expected(marginal, batch, group, data_size, data, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(categories, "MAXIMUM_COMBINATIONS", limit)
        return estimated(marginal, batch, [group], data_size, data)[0]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=14), st.integers(1, 5000))
@settings(deadline=None)
def test_parts_hold_every_categorical_once_and_few_combinations(sizes, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(categories, "MAXIMUM_COMBINATIONS", limit)
        parts = divide(sizes)
    assert sorted(place for part in parts for place in part) == list(range(len(sizes)))
    most = max(limit, *sizes)
    products = [math.prod(sizes[place] for place in part) for part in parts]
    assert max(products) <= most
    if math.prod(sizes) <= most:
        assert parts == [list(range(len(sizes)))]


def test_parts_are_about_alike():
    assert [len(part) for part in divide([2] * 13)] == [7, 6]
    assert divide([5000, 2]) == [[0], [1]]
    assert divide([5000]) == [[0]]


@settings(max_examples=20, deadline=None)
@given(
    batch=st.integers(1, 3),
    normal=st.integers(0, 2),
    sizes=st.lists(st.integers(1, 3), min_size=2, max_size=3),
    remembered=st.integers(0, 2),
    limit=st.integers(1, 5),
)
def test_the_mean_over_all_draws_is_the_exact_expectation(batch, normal, sizes, remembered, limit):
    """One particle for each joint draw of all data, weighted by its probability: values and gradients to rounding."""
    data_size = batch + remembered if batch + remembered > 1 else 1
    each = [list(itertools.product(*(range(k) for k in sizes)))] * batch
    draws = list(itertools.product(*each))  # of the whole batch; each datum has one of the combinations
    many, one = (make(batch, normal, sizes, particles) for particles in (len(draws), 1))
    marginal = Minibatch()
    if remembered:
        marginal = Memory(data_size)
        old = make(remembered, normal, sizes, seed=1)
        marginal.record(sample_of(old, torch.arange(remembered) + 100), data_size)
    data = torch.arange(batch)
    group = Group(tuple(range(normal)), tuple(range(len(sizes))))
    exact = expected(marginal, one, group, data_size, data, 10**6)
    index = torch.tensor(draws)  # [S, B, V]
    one_hot = [torch.nn.functional.one_hot(index[..., v], k).to(DTYPE) for v, k in enumerate(sizes)]
    places = iter(one_hot)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factorised, "draw_one_hot", lambda _: next(places)[..., None, :])
        found = expected(marginal, many, group, data_size, data, limit)
    probability = torch.ones(len(draws), dtype=DTYPE)
    for mass, chosen in zip(many.log_mass, one_hot, strict=True):
        probability = probability * (mass.detach() * chosen).sum((1, 2)).exp()
    torch.testing.assert_close(probability.sum(), torch.ones((), dtype=DTYPE))
    torch.testing.assert_close((probability[:, None] * found).sum(0), exact[0], rtol=1e-9, atol=1e-9)
    weights = torch.linspace(0.5, 2.0, batch, dtype=DTYPE)
    kwargs = {"allow_unused": True, "materialize_grads": True}
    ours = torch.autograd.grad((probability[:, None] * weights * found).sum(), many.leaves, **kwargs)
    theirs = torch.autograd.grad((weights * exact[0]).sum(), one.leaves, **kwargs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.sum(0), b[0], rtol=1e-7, atol=1e-8)


def test_draws_by_chance_are_unbiased_too():
    """[20, 20, 20] has 8,000 combinations: 300 draws, means within 4 standard errors, values and gradients."""
    torch.manual_seed(0)
    many, one = (make(4, 2, [20, 20, 20], particles) for particles in (300, 1))
    group = Group((0, 1), (0, 1, 2))
    exact = expected(Minibatch(), one, group, 50, None, 10**4)
    (found,) = estimated(Minibatch(), many, [group], 50)
    error = found.std(0) / math.sqrt(300)
    assert (error > 0).all()
    assert ((found.mean(0) - exact[0]).abs() < 4 * error).all()
    ours = torch.autograd.grad(found.sum(), many.leaves)
    theirs = torch.autograd.grad(exact.sum(), one.leaves)
    for a, b in zip(ours, theirs, strict=True):
        distance = (a.mean(0) - b[0]).norm()
        assert distance < 4 * (a.var(0).sum() / 300).sqrt()  # its root mean square is one of the right-hand side
        assert b.norm() > 10 * distance or distance < 0.05


def test_draws_have_the_masses_as_frequencies():
    """Within 5 standard errors, .5 / sqrt(40,000) each at most."""
    torch.manual_seed(0)
    mass = torch.tensor([0.0, 0.1, 0.6, 0.3], dtype=DTYPE)
    draws = draw_one_hot(mass.log().clamp_min(-1e30).expand(40_000, 4).requires_grad_())
    assert not draws.requires_grad
    assert ((draws.mean(0) - mass).abs() < 0.0125).all()
    assert draws[:, 0].sum() == 0


def test_a_category_without_mass_stays_finite():
    batch = make(3, 1, [3, 3, 3])
    logits = torch.tensor([0.0, 1.0, -math.inf], dtype=DTYPE).expand(1, 3, 3).clone().requires_grad_()
    sites = batch.sites
    for name in ("y0", "y1", "y2"):
        sites[name] = read_site(name, Concrete(logits=logits[..., None, :], validate_args=False).to_event(1), logits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(categories, "MAXIMUM_COMBINATIONS", 9)
        (found,) = estimated(Minibatch(), sites, [Group((0,), (0, 1, 2))], 9)
    (gradient,) = torch.autograd.grad(found.sum(), [logits])
    assert found.isfinite().all()
    assert gradient[..., :2].isfinite().all()


def programs(sites, logits):
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 0.5).to_event(1))
            for name, each in sites.items():
                pyro.sample(name, Concrete(logits=logits[name].expand(len(x), *each) * x[:, :1, None]).to_event(1))

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros_like(x), 1.0).to_event(1))
            y = [pyro.sample(name, Concrete(logits=x.new_zeros(each)).to_event(1)) for name, each in sites.items()]
            pyro.sample("x", dist.Normal(z + sum(part.sum((-1, -2)) for part in y)[..., None], 1.0).to_event(1), obs=x)

    return model, guide


@pytest.mark.parametrize("particles", [{}, {"num_particles": 2, "vectorize_particles": True, "max_plate_nesting": 1}])
def test_terms_of_many_combinations_telescope(particles, monkeypatch):
    """2¹⁴ combinations of two sites: the terms of single blocks stay exact, and the sum is that of the exact KL."""
    torch.manual_seed(0)
    sites = {"first": (8, 2), "second": (6, 2)}
    logits = {name: torch.randn(shape, dtype=DTYPE) for name, shape in sites.items()}
    model, guide = programs(sites, logits)
    x = torch.randn(5, 2, dtype=DTYPE)
    terms = []
    for seed in (1, 2):

        def draw_anew(log_mass, seed=seed):
            torch.manual_seed(seed)
            return draw_one_hot(log_mass)

        monkeypatch.setattr(factorised, "draw_one_hot", draw_anew)
        torch.manual_seed(3)  # the same samples; what follows draws combinations
        terms.append(HierarchicalELBO(100, **particles).terms(model, guide, x))
    assert terms[0].between != terms[1].between
    for name in sites:
        assert terms[0].blocks[name].mutual_information == terms[1].blocks[name].mutual_information
    torch.testing.assert_close(terms[0].elbo, terms[1].elbo, rtol=1e-12, atol=0)


def test_few_combinations_draw_nothing():
    """What was exact stays so, and leaves the random stream alone."""
    batch = make(4, 2, [3, 4])
    before = torch.random.get_rng_state()
    estimated(Minibatch(), batch, [Group((0,), (0, 1))], 10)
    assert torch.equal(before, torch.random.get_rng_state())
