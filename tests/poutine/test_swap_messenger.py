"""Swapped posteriors: against indexing by hand, datum by datum, for sites, slices of sites and categoricals."""

import doctest

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from support import numbers

from pyro_hfvae import Concrete
from pyro_hfvae.distributions import ConcreteDensity, StraightThroughConcrete, log_mass
from pyro_hfvae.guides import ImageGuide, MLPEncoder
from pyro_hfvae.infer import VAE, HierarchicalELBO
from pyro_hfvae.models import ImageModel, MLPDecoder
from pyro_hfvae.poutine import gate, swap, swap_messenger


def guide_of(loc, scale, logits):
    def guide(*_):
        with pyro.plate("data", loc.shape[-2]):
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))
            pyro.sample("a", dist.Normal(loc[..., 0], 1.0))
            pyro.sample("y", Concrete(0.7, logits=logits))
            pyro.sample("g", dist.Gamma(scale, 1.0).to_event(1))

    return guide


def test_example_of_the_class():
    names = {"torch": torch, "pyro": pyro, "dist": dist, "swap": swap}
    results = doctest.testmod(swap_messenger, extraglobs=names)
    assert results.attempted == 5
    assert results.failed == 0


@settings(max_examples=15, deadline=None)
@given(data=st.data(), count=st.integers(1, 5), particles=st.integers(0, 2))
def test_against_indexing_by_hand(data, count, particles):
    """Any partners, masks and leading dimensions; what is in no mask is the guide's own, to the bit."""
    partners = data.draw(st.lists(st.integers(0, count - 1), min_size=count, max_size=count))
    masks = {
        name: data.draw(st.lists(st.booleans(), min_size=count, max_size=count)) for name in ("first", "rest", "y", "a")
    }
    lead = (particles,) if particles else ()
    loc, scale = numbers(*lead, count, 3), 0.5 + numbers(*lead, count, 3, seed=1).sigmoid()
    logits = numbers(*lead, count, 4, seed=2)
    blocks = {"first": ["z[0]"], "rest": ["z[1:3]"], "y": ["y"], "a": ["a"], "g": ["g"]}
    tensors = {name: torch.tensor(mask) for name, mask in masks.items()}
    with swap(tensors, torch.tensor(partners), blocks):
        nodes = poutine.trace(guide_of(loc, scale, logits)).get_trace().nodes
    for b in range(count):
        for variable in range(3):
            source = partners[b] if masks["first" if variable == 0 else "rest"][b] else b
            assert nodes["z"]["fn"].base_dist.loc[..., b, variable].equal(loc[..., source, variable])
            assert nodes["z"]["fn"].base_dist.scale[..., b, variable].equal(scale[..., source, variable])
        source = partners[b] if masks["a"][b] else b
        assert nodes["a"]["fn"].loc[..., b].equal(loc[..., source, 0])
        source = partners[b] if masks["y"][b] else b
        torch.testing.assert_close(log_mass(nodes["y"]["fn"])[..., b, :], logits[..., source, :].log_softmax(-1))
    assert nodes["g"]["fn"].base_dist.concentration.equal(scale)
    assert nodes["y"]["fn"].temperature == 0.7


def positive(h):
    return 0.5 + h.sigmoid()


def mixture(h):
    h = h.unflatten(-1, (3, 3))
    return dist.MixtureSameFamily(dist.Categorical(logits=h), dist.Normal(h, positive(h)))


def mixture_of_vectors(h):
    weights = dist.Categorical(logits=h[..., :3])
    return dist.MixtureSameFamily(weights, dist.Normal(h.unflatten(-1, (3, 3)), 0.5).to_event(1))


def triangular(h):
    return 0.3 * h.unflatten(-1, (3, 3)).tril(-1) + torch.diag_embed(positive(h[..., :3]))


# Of numbers h [B, 9]; three variables that are independent of one another.
INDEPENDENT = {
    "Normal": lambda h: dist.Normal(h[..., :3], positive(h[..., 3:6])).to_event(1),
    "Gamma": lambda h: dist.Gamma(positive(h[..., :3]), positive(h[..., 3:6])).to_event(1),
    "Beta": lambda h: dist.Beta(positive(h[..., :3]), positive(h[..., 3:6])).to_event(1),
    "LogNormal": lambda h: dist.LogNormal(h[..., :3], positive(h[..., 3:6])).to_event(1),
    "StudentT": lambda h: dist.StudentT(3 + positive(h[..., :3]), h[..., 3:6], 1.0).to_event(1),
    "mixtures of numbers": lambda h: mixture(h).to_event(1),
    "Dirichlets": lambda h: dist.Dirichlet(positive(h.unflatten(-1, (3, 3)))).to_event(1),
    "categoricals": lambda h: StraightThroughConcrete(0.7, logits=h.unflatten(-1, (3, 3))).to_event(1),
}
DEPENDENT = {
    "MultivariateNormal": lambda h: dist.MultivariateNormal(h[..., :3], scale_tril=triangular(h)),
    "mixture of vectors": mixture_of_vectors,
}
WHOLE = {
    "Dirichlet": lambda h: dist.Dirichlet(positive(h)),
    "Bernoulli": lambda h: dist.Bernoulli(logits=h[..., 0]),
    "Categorical": lambda h: dist.Categorical(logits=h),
    "stick breaking": lambda h: dist.TransformedDistribution(
        dist.Normal(h, 1.0).to_event(1), [dist.transforms.StickBreakingTransform()]
    ),
    "Concrete by its density": lambda h: ConcreteDensity(0.7, logits=h),
}
FAMILIES = INDEPENDENT | DEPENDENT | WHOLE


def draw(fn):
    return (fn.rsample((5,)) if fn.has_rsample else fn.sample((5,))).detach()


def swapped(make, h, masks, partners, blocks=None):
    def guide():
        with pyro.plate("data", len(h)):
            pyro.sample("z", make(h))

    with swap(masks, partners, blocks):
        return poutine.trace(guide).get_trace().nodes["z"]["fn"]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_whose_parameters_can_be_taken_out(name):
    """Densities are those of a distribution made of the partner's numbers; the class is the same."""
    h, partners, mask = numbers(4, 9), [2, 0, 1, 3], [True, False, True, True]
    plain, found = FAMILIES[name](h), swapped(FAMILIES[name], h, {"z": mask}, partners)
    expected = FAMILIES[name](h[[2, 1, 1, 3]])
    assert type(found) is type(plain)
    assert found.shape() == plain.shape()
    value = draw(expected)
    torch.testing.assert_close(found.log_prob(value), expected.log_prob(value), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", INDEPENDENT)
def test_some_variables_of_every_family_in_which_they_are_independent(name):
    h, blocks = numbers(3, 9), {"first": ["z[0]", "z[2]"], "rest": ["z[1]"]}
    masks = {"first": [True, True, False], "rest": [False, True, False]}
    found = swapped(INDEPENDENT[name], h, masks, [1, 0, 2], blocks)
    plain, expected = INDEPENDENT[name](h), INDEPENDENT[name](h[[1, 0, 2]])
    value = draw(plain)
    of_plain, of_partner, of_found = (fn.base_dist.log_prob(value) for fn in (plain, expected, found))
    taken = torch.tensor([[True, False, True], [True, True, True], [False, False, False]])
    torch.testing.assert_close(of_found, torch.where(taken, of_partner, of_plain), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", DEPENDENT)
def test_some_variables_that_depend_on_others(name):
    masks, blocks = {"first": [True, True]}, {"first": ["z[0]"], "rest": ["z[1:3]"]}
    with pytest.raises(NotImplementedError, match=r"^site 'z' is .*, whose variables depend on one another, and only"):
        swapped(DEPENDENT[name], numbers(2, 9), masks, [1, 0], blocks)


def behind(transform):
    return lambda h: dist.TransformedDistribution(dist.Normal(h, 1.0).to_event(1), [transform])


def test_a_flow_that_all_data_share_is_no_part_of_what_is_swapped():
    h, flow = numbers(2, 9), behind(dist.transforms.affine_coupling(9).double())
    found, value = swapped(flow, h, {"z": [True, True]}, [1, 0]), torch.randn(2, 9).double()
    torch.testing.assert_close(found.log_prob(value), flow(h.flip(0)).log_prob(value))


def test_parameters_that_cannot_be_taken_out():
    flow = behind(dist.transforms.conditional_affine_coupling(9, 2).condition(torch.zeros(2, 2)))
    with pytest.raises(NotImplementedError, match=r"^site 'z' cannot be swapped: the transform .* may have parameters"):
        swapped(flow, numbers(2, 9).float(), {"z": [True, True]}, [1, 0])


def test_arrays_and_lists_are_tensors():
    h, mask, partners = numbers(3, 9), [True, False, True], [2, 1, 0]
    for kind in (list, tuple, np.asarray, torch.tensor):
        found = swapped(INDEPENDENT["Normal"], h, {"z": kind(mask)}, kind(partners))
        assert found.base_dist.loc.equal(h[[2, 1, 0], :3])
    with pytest.raises(TypeError, match="mask of block 'z' must be a boolean tensor, got str"):
        swap({"z": "yes"}, partners)
    with pytest.raises(ValueError, match=r"partners must be integers of shape \(B,\), got list"):
        swap({"z": mask}, [[0], [1, 2]])


def test_a_layout_may_name_the_variable_of_a_categorical():
    """Its one variable is all of its categories."""
    logits, mask = numbers(2, 4), torch.tensor([True, False])
    with swap({"kind": mask}, torch.tensor([1, 0]), {"kind": ["y[0]"], "rest": ["z", "a", "g"]}):
        nodes = poutine.trace(guide_of(numbers(2, 3), torch.ones(2, 3).double(), logits)).get_trace().nodes
    torch.testing.assert_close(log_mass(nodes["y"]["fn"]), logits[[1, 1]].log_softmax(-1))


def programs():
    torch.manual_seed(0)
    sizes = {"pose": 2, "rest": 2}
    model = ImageModel(sizes, {"shape": 3}, lambda size: MLPDecoder(size, (1, 4, 4), (8,)))
    return model, ImageGuide(sizes, {"shape": 3}, lambda: MLPEncoder((1, 4, 4), (8,)))


@pytest.mark.parametrize("objective", [VAE(100), HierarchicalELBO(100, between=3.0, within=2.0)])
def test_a_block_learns_from_the_partner_and_the_others_from_the_datum(objective):
    """Gradients with respect to the images: of datum 0 through pose of datum 1 alone, all else from datum 0."""
    model, guide = programs()
    x = torch.rand(2, 1, 4, 4)
    partners, all_shared = torch.tensor([1, 0]), torch.tensor([True, True])
    opened = {"pose": all_shared, "rest": ~all_shared, "shape": ~all_shared}
    for handlers in (
        [gate(opened), swap({"pose": all_shared}, partners)],
        [swap({"pose": all_shared}, partners), gate(opened)],
    ):
        inputs = x.clone().requires_grad_()
        with handlers[0], handlers[1]:
            trace = poutine.trace(guide).get_trace(inputs)
        trace.nodes["pose"]["value"][0].sum().backward(retain_graph=True)
        assert not inputs.grad[0].any()
        assert inputs.grad[1].any()
        assert (
            not trace.nodes["rest"]["value"].requires_grad
            or not torch.autograd.grad(trace.nodes["rest"]["value"].sum(), inputs, allow_unused=True)[0].any()
        )
        with handlers[0], handlers[1]:
            loss = objective.differentiable_loss(model, guide, x)
        loss.backward()
        assert all(parameter.grad is not None for parameter in guide.gaussian["pose"].parameters())


def test_swapping_with_oneself_is_the_base_to_the_bit():
    model, guide = programs()
    x, objective = torch.rand(5, 1, 4, 4), HierarchicalELBO(100, between=3.0)
    torch.manual_seed(1)
    base = objective.differentiable_loss(model, guide, x)
    torch.manual_seed(1)
    with swap({"pose": torch.ones(5, dtype=torch.bool)}, torch.arange(5)):
        swapped = objective.differentiable_loss(model, guide, x)
    assert swapped.equal(base)


def test_partners_that_swap_both_ways_leave_the_posteriors_of_the_batch_as_they_are():
    model, guide = programs()
    x, masks = torch.rand(4, 1, 4, 4), {"pose": torch.ones(4, dtype=torch.bool)}
    with swap(masks, torch.tensor([1, 0, 3, 2])):
        swapped = poutine.trace(guide).get_trace(x).nodes
    own = poutine.trace(guide).get_trace(x).nodes
    assert swapped["pose"]["fn"].base_dist.loc.sort(0).values.equal(own["pose"]["fn"].base_dist.loc.sort(0).values)
    assert not swapped["pose"]["fn"].base_dist.loc.equal(own["pose"]["fn"].base_dist.loc)
    assert swapped["rest"]["fn"].base_dist.loc.equal(own["rest"]["fn"].base_dist.loc)
    with swap(masks, torch.tensor([1, 0, 3, 2])):
        assert HierarchicalELBO(4).terms(model, guide, x).elbo.isfinite()


MASK = {"z": torch.tensor([True, False])}
PLACES = torch.tensor([1, 0])


@pytest.mark.parametrize(
    ("masks", "partners", "error", "message"),
    [
        (
            MASK,
            torch.tensor([0.0, 1.0]),
            ValueError,
            r"partners must be integers of shape \(B,\), got torch.float32 of",
        ),
        (
            MASK,
            torch.tensor([[0, 1]]),
            ValueError,
            r"partners must be integers of shape \(B,\), got torch.int64 of shape",
        ),
        (
            MASK,
            torch.tensor([0, 2]),
            ValueError,
            r"partners must be from 0 to 1, their places in the batch; got \[0, 2\]",
        ),
        ({"z": torch.ones(2)}, PLACES, TypeError, "mask of block 'z' must be a boolean tensor, got torch.float32"),
        ({"z": torch.tensor([True])}, PLACES, ValueError, r"block 'z' has the shape \(1,\), but there are 2 partners"),
    ],
)
def test_bad_arguments(masks, partners, error, message):
    with pytest.raises(error, match=message):
        swap(masks, partners)


def test_what_does_not_fit_the_programs():
    guide = guide_of(numbers(3, 2), torch.ones(3, 2).double(), numbers(3, 4))
    three, mask = torch.tensor([1, 0, 2]), torch.tensor([True, True, False])
    with (
        pytest.raises(ValueError, match="there are 2 partners, but site 'z' has the batch shape \\(3,\\)"),
        swap(MASK, PLACES),
    ):
        guide()
    with (
        pytest.raises(ValueError, match="there is a mask for 'pose', but no such block was sampled inside the swap"),
        swap({"pose": mask}, three),
    ):
        guide()
    with pytest.raises(ValueError, match="there is a mask for 'pose', which is no block; the blocks are: 'z'"):
        swap({"pose": mask}, three, {"z": ["z"]})
