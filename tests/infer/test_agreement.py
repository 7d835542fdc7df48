"""The divergence between partners' posteriors: against loops over torch's own, its gradient, gates and swaps."""

from contextlib import ExitStack

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import numbers
from torch.distributions import kl_divergence
from torch.optim import SGD

from pyro_hfvae import Concrete, HierarchicalELBO
from pyro_hfvae.infer import HFVAE
from pyro_hfvae.infer.penalties import Agreement
from pyro_hfvae.poutine import agree, gate, swap

FAMILIES = {  # from h, [..., B, 4]: a site for the guide, its prior, and the distribution whose divergence counts
    "Normal": (
        lambda h: dist.Normal(h[..., :2], 0.3 + h[..., 2:].exp()).to_event(1),
        lambda: dist.Normal(torch.zeros(2).double(), 1.0).to_event(1),
        None,
    ),
    "Gamma": (
        lambda h: dist.Gamma(1 + h[..., :2].exp(), 1 + h[..., 2:].exp()).to_event(1),
        lambda: dist.Gamma(torch.ones(2).double(), 1.0).to_event(1),
        None,
    ),
    "LogNormal": (
        lambda h: dist.LogNormal(h[..., :2], 0.3 + h[..., 2:].exp()).to_event(1),
        lambda: dist.LogNormal(torch.zeros(2).double(), 1.0).to_event(1),
        lambda h: dist.Normal(h[..., :2], 0.3 + h[..., 2:].exp()).to_event(1),
    ),
    "MultivariateNormal": (
        lambda h: dist.MultivariateNormal(h[..., :2], scale_tril=lower(h)),
        lambda: dist.MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double()),
        None,
    ),
    "Concrete": (
        lambda h: Concrete(0.7, logits=h),
        lambda: Concrete(0.7, logits=torch.zeros(4).double()),
        lambda h: torch.distributions.Categorical(logits=h),
    ),
    "Concretes": (
        lambda h: Concrete(0.7, logits=h.unflatten(-1, (2, 2))).to_event(1),
        lambda: Concrete(0.7, logits=torch.zeros(2, 2).double()).to_event(1),
        lambda h: dist.Categorical(logits=h.unflatten(-1, (2, 2))).to_event(1),
    ),
    "OneHotCategorical": (
        lambda h: dist.OneHotCategorical(logits=h),
        lambda: dist.OneHotCategorical(logits=torch.zeros(4).double()),
        None,
    ),
    "RelaxedBernoulli": (
        lambda h: dist.RelaxedBernoulli(torch.tensor(0.7).double(), logits=h).to_event(1),
        lambda: dist.RelaxedBernoulli(torch.tensor(0.7).double(), logits=torch.zeros(4).double()).to_event(1),
        lambda h: dist.Bernoulli(logits=h).to_event(1),
    ),
}


def lower(h):
    zero = torch.zeros_like(h[..., 0])
    rows = [torch.stack([0.5 + h[..., 2].exp(), zero], -1), torch.stack([h[..., 3], 0.5 + h[..., 3].exp()], -1)]
    return torch.stack(rows, -2)


def programs(fn, prior, count, others=lambda: None):
    """A model and a guide with the site z, and others."""

    def guide():
        with pyro.plate("data", count, dim=-1):
            pyro.sample("z", fn())
            others()

    def model():
        with pyro.plate("data", count, dim=-1):
            pyro.sample("z", prior())
            others()
            pyro.sample("x", dist.Normal(torch.zeros(()).double(), 1.0), obs=torch.zeros(count).double())

    return model, guide


def agreement(model, guide, penalty, *handlers, **options):
    """What the penalty measures, and the objective that has it."""
    objective = HierarchicalELBO(1000, penalties={"agreement": penalty}, **options)
    with ExitStack() as stack:
        for handler in handlers:
            stack.enter_context(handler)
        terms = objective.terms(model, guide)
    assert terms.scalars()["penalty/agreement"] is terms.penalties["agreement"]
    return terms.penalties["agreement"]


def looped(divergence, shared, partners, teacher, opened=None):
    """The definition, datum by datum: ``divergence[b][c]`` is KL(q_b || q_c)."""
    total = 0.0
    for b, c in enumerate(partners):
        if not shared[b] or b == c or (opened is not None and not (opened[b] and opened[c])):
            continue
        one, other = min(b, c), max(b, c)
        pair = divergence[one][other]
        total = total + (pair if teacher else (pair + divergence[other][one]) / 2)
    return total / len(partners)


def divergences(family, h):
    make = FAMILIES[family][2] or FAMILIES[family][0]
    return [[kl_divergence(make(one), make(other)) for other in h] for one in h]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("teacher", [False, True])
@settings(max_examples=10, deadline=None)
@given(data=st.data(), count=st.integers(2, 5), seed=st.integers(0, 99))
def test_against_a_loop_over_the_divergences_of_torch(family, teacher, data, count, seed):
    """Any partners, mutual or not, themselves among them."""
    partners = data.draw(st.lists(st.integers(0, count - 1), min_size=count, max_size=count))
    shared = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    opened = data.draw(st.none() | st.lists(st.booleans(), min_size=count, max_size=count))
    h = (0.7 * numbers(count, 4, seed=seed)).requires_grad_()
    model, guide = programs(lambda: FAMILIES[family][0](h), FAMILIES[family][1], count)
    handlers = [agree({"z": shared}, partners)] + ([gate({"z": opened})] if opened else [])
    found = agreement(model, guide, Agreement(teacher=teacher), *handlers)
    expected = looped(divergences(family, h), shared, partners, teacher, opened)
    # Log-masses are normalised once more here: rounding of float64.
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), rtol=1e-9, atol=1e-12)
    if not torch.is_tensor(expected):  # nobody is charged: exactly 0
        assert found == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_against_finite_differences(family):
    """Of both data of a pair; the teacher's posterior has none."""
    h = 0.7 * numbers(3, 4, seed=5)
    shared, partners = [True, True, True], [2, 1, 0]

    def measured(h, teacher=False):
        model, guide = programs(lambda: FAMILIES[family][0](h), FAMILIES[family][1], 3)
        return agreement(model, guide, Agreement(teacher=teacher), agree({"z": shared}, partners))

    def differences(teacher):
        found = torch.zeros_like(h)
        for index in range(h.numel()):
            step = torch.zeros_like(h).view(-1)
            step[index] = 1e-5
            up, down = h + step.view_as(h), h - step.view_as(h)
            found.view(-1)[index] = (measured(up, teacher) - measured(down, teacher)) / 2e-5
        return found

    for teacher in (False, True):
        leaf = h.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(measured(leaf, teacher), leaf)
        expected = differences(teacher)
        if teacher:
            assert expected[0].any()  # it is a constant for the gradient only
            expected[0] = 0
        assert not gradient[1].any()
        # Central differences of step 1e-5: 1e-10 from the third derivative, 1e-11 from rounding.
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


def test_normal_and_categorical_closed_forms():
    loc, scale = torch.tensor([0.0, 2.0]).double(), torch.tensor([1.0, 0.5]).double()
    model, guide = programs(lambda: dist.Normal(loc, scale), lambda: dist.Normal(torch.zeros(()).double(), 1.0), 2)
    pair = agree({"z": [True, True]}, [1, 0])
    forward = torch.tensor(0.5 * (4 + 16 - 1)).double() - torch.tensor(2.0).double().log()  # KL(N(0, 1) || N(2, 1/4))
    backward = torch.tensor(0.5 * (0.25 + 4 - 1)).double() + torch.tensor(2.0).double().log()
    torch.testing.assert_close(agreement(model, guide, Agreement(), pair), (forward + backward) / 2)
    torch.testing.assert_close(agreement(model, guide, Agreement(teacher=True), pair), forward)
    p, q = torch.tensor([0.5, 0.5]).double(), torch.tensor([0.9, 0.1]).double()
    model, guide = programs(
        lambda: Concrete(0.5, probs=torch.stack([p, q])), lambda: Concrete(0.5, probs=p), 2
    )  # fmt: skip
    torch.testing.assert_close(agreement(model, guide, Agreement(teacher=True), pair), (p * (p / q).log()).sum())


@pytest.mark.parametrize("teacher", [False, True])
@settings(max_examples=15, deadline=None)
@given(data=st.data(), count=st.integers(2, 5))
def test_swaps_and_gates_in_any_order_compare_the_posteriors_before_the_swap(teacher, data, count):
    places = data.draw(st.permutations(range(count)))
    partners = list(range(count))
    for one, other in zip(places[::2], places[1::2], strict=False):
        partners[one], partners[other] = other, one
    shared = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    opened = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    h = (0.7 * numbers(count, 4, seed=count)).requires_grad_()
    model, guide = programs(lambda: FAMILIES["Normal"][0](h), FAMILIES["Normal"][1], count)
    expected = looped(divergences("Normal", h), shared, partners, teacher, opened)
    handlers = [swap({"z": shared}, partners), gate({"z": opened}), agree({"z": shared}, partners)]
    found = agreement(model, guide, Agreement(teacher=teacher), *data.draw(st.permutations(handlers)))
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), rtol=1e-9, atol=1e-12)
    if found:
        (gradient,) = torch.autograd.grad(found, h)
        closed = [b for b in range(count) if not (opened[b] and opened[partners[b]] and shared[b])]
        closed = [b for b in closed if not (opened[b] and opened[partners[b]] and shared[partners[b]])]
        assert not gradient[closed].any()


@pytest.mark.parametrize("vectorized", [False, True])
def test_particles_and_parts_of_sites(vectorized):
    """Of a block of some variables only these count, whatever the particles."""
    h = numbers(4, 6)

    def fn():
        return dist.Normal(h[:, :3], 0.2 + h[:, 3:].exp()).to_event(1)

    model, guide = programs(fn, lambda: dist.Normal(torch.zeros(3).double(), 1.0).to_event(1), 4)
    layout = {"pose": ["z[0,2]"], "rest": ["z[1]"]}
    shared, partners = [True, True, False, False], [3, 0, 2, 1]
    options = {"blocks": layout, "num_particles": 3, "vectorize_particles": vectorized}
    handlers = [agree({"pose": shared}, partners, blocks=layout)]
    found = agreement(model, guide, Agreement(blocks=["pose"]), *handlers, **options)
    each = [[kl_divergence(dist.Normal(a[:3], 0.2 + a[3:].exp()), dist.Normal(b[:3], 0.2 + b[3:].exp()))[[0, 2]].sum()
             for b in h] for a in h]  # fmt: skip
    torch.testing.assert_close(found, looped(each, shared, partners, False), rtol=1e-9, atol=0)
    opened = [True, False, True, True]
    handlers = [agree({"pose": shared}, partners, layout), gate({"pose": opened, "rest": [False] * 4}, blocks=layout)]
    found = agreement(model, guide, Agreement(), *handlers, **options)
    torch.testing.assert_close(found, looped(each, shared, partners, False, opened), rtol=1e-9, atol=0)


def test_several_blocks_add_up_and_may_be_charged_apart():
    h, logits = 0.5 * numbers(4, 4), numbers(4, 3, seed=2)
    model, guide = programs(
        lambda: FAMILIES["Normal"][0](h), FAMILIES["Normal"][1], 4,
        lambda: pyro.sample("y", Concrete(0.7, logits=logits)),
    )  # fmt: skip
    masks = {"z": [True, True, False, False], "y": [False, False, True, True]}
    objective = HFVAE(1000, penalties={
        "z": Agreement(2.0, ["z"]), "y": Agreement(3.0, ["y"]), "all": Agreement(), "both": Agreement(blocks=["z", "y"])
    })  # fmt: skip
    with agree(masks, [1, 0, 3, 2]):
        terms = objective.terms(model, guide)
    z, y = terms.penalties["z"], terms.penalties["y"]
    assert z > 0
    assert y > 0
    torch.testing.assert_close(terms.penalties["all"], z + y)
    torch.testing.assert_close(terms.penalties["both"], z + y)
    costs = objective.costs(terms)
    assert costs["z"] == 2 * z
    assert costs["y"] == 3 * y
    assert not objective.terms(model, guide).penalties["all"].any()  # nobody has a partner


def test_half_precision_is_no_coarser_than_its_parameters():
    h = numbers(2, 4).bfloat16()
    model, guide = programs(
        lambda: FAMILIES["Normal"][0](h), lambda: dist.Normal(torch.zeros(2).bfloat16(), 1.0).to_event(1), 2
    )  # fmt: skip
    found = agreement(model, guide, Agreement(), agree({"z": [True, True]}, [1, 0]))
    make = lambda h: dist.Normal(h[:2].double(), (0.3 + h[2:].exp()).double()).to_event(1)  # noqa: E731
    exact = looped([[kl_divergence(make(a), make(b)) for b in h] for a in h], [1, 1], [1, 0], False)
    torch.testing.assert_close(found, exact)


def test_svi_trains_partners_to_agree():
    with pyro.settings.context(module_local_params=False):
        pyro.clear_param_store()

        def guide():
            loc = pyro.param("loc", torch.tensor([-2.0, 2.0, 7.0]))
            with pyro.plate("data", 3):
                pyro.sample("z", dist.Normal(loc, 1.0))

        def model():
            with pyro.plate("data", 3):
                pyro.sample("z", dist.Normal(torch.zeros(3), 1.0))
                pyro.sample("x", dist.Normal(0.0, 1.0), obs=torch.zeros(3))

        loss = HierarchicalELBO(3, 0.0, 0.0, 0.0, 0.0, penalties={"agreement": Agreement(1.0)})
        svi = pyro.infer.SVI(model, guide, pyro.optim.SGD({"lr": 0.1}), loss=loss)
        with agree({"z": [True, True, False]}, [1, 0, 2]):
            for _ in range(100):
                svi.step()
        # Each step takes a tenth of the gradient of (a - b)² / 3 · 3 data off: the difference shrinks by .6.
        assert pyro.param("loc")[:2].abs().max() < 1e-6
        assert pyro.param("loc")[2] == 7


def test_training_without_partners_is_refused():
    loc = torch.zeros(2, requires_grad=True)
    model, guide = programs(lambda: dist.Normal(loc, 1.0), lambda: dist.Normal(torch.zeros(()), 1.0), 2)
    module = HierarchicalELBO(2, penalties={"agreement": Agreement()})(model, guide)
    with pytest.raises(ValueError, match="penalty 'agreement' compares the posteriors of partners, but the data have"):
        module()
    with agree({"z": [True, True]}, [1, 0]):
        SGD([loc], 0.1).zero_grad()
        module().backward()
    with torch.no_grad():  # nothing is trained
        module()


def test_what_is_refused():
    h = numbers(2, 4)
    for blocks in ("z", []):
        with pytest.raises(ValueError, match="blocks of Agreement must be a list of one name or more, got"):
            Agreement(blocks=blocks)
    both = {"z": [True, True]}
    model, guide = programs(lambda: FAMILIES["Normal"][0](h), FAMILIES["Normal"][1], 2)
    with pytest.raises(ValueError, match="to charge block 'y', which no data share; they share: 'z'"):
        agreement(model, guide, Agreement(blocks=["y"]), agree(both, [1, 0]))
    model, guide = programs(lambda: FAMILIES["MultivariateNormal"][0](h), FAMILIES["MultivariateNormal"][1], 2)
    layout = {"one": ["z[0]"], "other": ["z[1]"]}
    handler = agree({"one": [True, True]}, [1, 0], layout)
    with pytest.raises(NotImplementedError, match="'z' is MultivariateNormal, .*, not those of block 'one' alone"):
        agreement(model, guide, Agreement(), handler, blocks=layout)
    model, guide = programs(
        lambda: dist.StudentT(5.0, h[:, 0]), lambda: dist.StudentT(torch.tensor(5.0).double(), 0.0), 2
    )  # fmt: skip
    with pytest.raises(NotImplementedError, match="'z' is StudentT, whose divergence from another has no closed form"):
        agreement(model, guide, Agreement(), agree(both, [1, 0]))

    def structured():
        with pyro.plate("data", 2):
            z = pyro.sample("z", dist.Normal(h[:, 0], 1.0))
            pyro.sample("y", dist.Normal(z, 1.0))

    def explained():
        with pyro.plate("data", 2):
            z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0))
            pyro.sample("y", dist.Normal(z, 1.0))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=torch.zeros(2))

    assert agreement(explained, structured, Agreement(), agree(both, [1, 0])) > 0
    with pytest.raises(NotImplementedError, match="site 'y' of the guide depends on other sites"):
        agreement(explained, structured, Agreement(), agree({"y": [True, True]}, [1, 0]))
