"""Gates, swaps and shared posteriors around guides whose sites depend on one another."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs.reference import seeded
from pyro.infer import Trace_ELBO
from support import numbers

from pyro_hfvae import Concrete, HierarchicalELBO
from pyro_hfvae.distributions import nearest_category
from pyro_hfvae.guides import MLPEncoder, StructuredGuide
from pyro_hfvae.models import MixtureModel, MLPDecoder
from pyro_hfvae.poutine import gate, observe_labels, share_group, swap

pytestmark = pytest.mark.usefixtures("double_precision")

B, V, K = 8, 2, 3
OPEN = torch.arange(B) % 2 == 0


def model(x):
    with pyro.plate("data", B):
        a = pyro.sample("a", dist.Normal(torch.zeros(V), 1.0).to_event(1))
        b = pyro.sample("b", dist.Normal(torch.zeros(V), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(a + 2 * b, 1.0).to_event(1), obs=x)


def guide_of(slope, a=None, b=None):
    """q(a|x) q(b|x, a); a and b are parameters of each datum, added to what is inferred from x."""

    @seeded
    def guide(x):
        with pyro.plate("data", B):
            of_a, of_b = (0.0, 0.0) if a is None else (a, b)
            first = pyro.sample("a", dist.Normal(of_a + 0.5 * x, 0.5).to_event(1))
            above = slope * first if slope else 0.0
            pyro.sample("b", dist.Normal(of_b + 0.3 * x + above, 0.4).to_event(1))

    return guide


def parameters():
    return [torch.zeros(B, V, dtype=torch.float64, requires_grad=True) for _ in range(2)]


HANDLERS = {
    "gate of the child": lambda: gate({"b": OPEN}),
    "gate of the parent": lambda: gate({"a": OPEN}),
    "swap of the child": lambda: swap({"b": torch.ones(B, dtype=torch.bool)}, torch.arange(B).flip(0)),
    "swap of the parent": lambda: swap({"a": OPEN}, torch.arange(B).roll(2)),
    "product of the child": lambda: share_group(["b"], torch.arange(B) // 2),
    "product of the parent": lambda: share_group(["a"], torch.arange(B) // 2),
    "average of the child": lambda: share_group(["b"], torch.arange(B) // 4, how="average"),
}


@pytest.mark.parametrize("used_before", [False, True], ids=["first", "after a plain batch"])
@pytest.mark.parametrize("slope", [0.0, 0.5], ids=["flat", "structured"])
@pytest.mark.parametrize("name", HANDLERS)
def test_loss_is_that_of_pyro_on_the_same_samples(name, slope, used_before):
    """With every weight 1 no estimate of a marginal is left in the loss, whatever the handlers made of the guide."""
    x, guide, elbo = numbers(B, V), guide_of(slope), HierarchicalELBO(B)
    if used_before:
        elbo.loss(model, guide, x)
    with HANDLERS[name]():
        ours = elbo.loss(model, guide, x)
    with HANDLERS[name]():
        pyros = Trace_ELBO().loss(model, guide, x)
    assert ours == pytest.approx(pyros, rel=1e-9)


@pytest.mark.parametrize("name", HANDLERS)
def test_sum_of_the_terms_is_that_loss(name):
    x, guide = numbers(B, V), guide_of(0.5)
    with HANDLERS[name]():
        terms = HierarchicalELBO(B).terms(model, guide, x)
    with HANDLERS[name]():
        pyros = Trace_ELBO().loss(model, guide, x)
    assert float(terms.elbo) == pytest.approx(-pyros / B, rel=1e-9)


@pytest.mark.parametrize("slope", [0.0, 0.5], ids=["flat", "structured"])
@pytest.mark.parametrize("block", ["a", "b"])
@pytest.mark.parametrize("weights", [{}, {"between": 3.0}, {"mutual_information": 0.5, "within": 2.0}], ids=str)
def test_closed_rows_have_a_gradient_of_zero(slope, block, weights):
    """Each datum has parameters of its own. Where its block is closed none of its gradient gets there, exactly."""
    x, (a, b) = numbers(B, V), parameters()
    with gate({block: OPEN}):
        loss = HierarchicalELBO(100, **weights).differentiable_loss(model, guide_of(slope, a, b), x)
        loss.backward()
    own, other = (a.grad, b.grad) if block == "a" else (b.grad, a.grad)
    assert (own[~OPEN] == 0).all()
    assert (own[OPEN] != 0).all()
    assert (other != 0).all()


@pytest.mark.parametrize("weights", [{}, {"between": 3.0}], ids=str)
def test_gate_changes_no_value(weights):
    x, guide = numbers(B, V), guide_of(0.5, *parameters())
    plain = HierarchicalELBO(100, **weights).differentiable_loss(model, guide, x)
    with gate({"a": ~OPEN, "b": OPEN}):
        gated = HierarchicalELBO(100, **weights).differentiable_loss(model, guide, x)
    assert torch.equal(plain, gated)


def test_open_gate_is_no_gate():
    x, gradients = numbers(B, V), []
    for masks in ({}, {"a": torch.ones(B, dtype=torch.bool), "b": torch.ones(B, dtype=torch.bool)}):
        a, b = parameters()
        with gate(masks):
            HierarchicalELBO(100, between=2.0).differentiable_loss(model, guide_of(0.5, a, b), x).backward()
        gradients.append((a.grad, b.grad))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("block", ["y", "z"])
@pytest.mark.parametrize("weights", [{}, {"between": 3.0}], ids=str)
def test_closed_rows_of_a_guide_given_a_category(block, weights):
    """q(y|x) q(z|x, y), the guide of M2."""
    logits = torch.zeros(B, K, dtype=torch.float64, requires_grad=True)
    means = torch.zeros(B, V, dtype=torch.float64, requires_grad=True)
    shift = numbers(K, V, seed=1)

    @seeded
    def guide(x):
        with pyro.plate("data", B):
            y = nearest_category(pyro.sample("y", Concrete(0.7, logits=logits + x @ numbers(V, K, seed=2))))
            pyro.sample("z", dist.Normal(means + 0.5 * x + y @ shift, 0.5).to_event(1))

    def mixture(x):
        with pyro.plate("data", B):
            y = pyro.sample("y", dist.OneHotCategorical(logits=torch.zeros(K)))
            z = pyro.sample("z", dist.Normal(y @ shift, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z + y @ shift.flip(0), 1.0).to_event(1), obs=x)

    with gate({block: OPEN}):
        HierarchicalELBO(100, **weights).differentiable_loss(mixture, guide, numbers(B, V)).backward()
    gradient = logits.grad if block == "y" else means.grad
    assert (gradient[~OPEN] == 0).all()
    assert (gradient[OPEN] != 0).all()


@pytest.fixture
def local_parameters():
    """Parameters of modules belong to the modules, and not to the store."""
    before = pyro.settings.get("module_local_params")
    pyro.settings.set(module_local_params=True)
    yield
    pyro.settings.set(module_local_params=before)


@pytest.mark.usefixtures("local_parameters")
@pytest.mark.parametrize("labelled", [False, True], ids=["", "labels"])
@pytest.mark.parametrize("weights", [{}, {"between": 3.0}], ids=str)
def test_shipped_structured_guide_with_all_blocks_closed(weights, labelled):
    """Images whose blocks are all closed teach the encoder nothing, exactly; the decoder reads its target elsewhere."""
    torch.manual_seed(0)
    model = MixtureModel({"style": 2}, {"digit": 3}, {"style": "digit"}, lambda size: MLPDecoder(size).double())
    guide = seeded(StructuredGuide({"style": 2}, {"digit": 3}, {"style": "digit"}, MLPEncoder).double())
    target = torch.rand(B, 1, 28, 28)
    images = target.clone().requires_grad_()
    elbo = HierarchicalELBO(100, **weights)
    elbo.loss(model, guide, images, target)  # an open batch before it
    labels = observe_labels("digit", torch.arange(B) % 3, OPEN, weight=0.0)
    with gate({"style": OPEN, "digit": OPEN}):
        if labelled:
            with labels:
                elbo.differentiable_loss(model, guide, images, target).backward()
        else:
            elbo.differentiable_loss(model, guide, images, target).backward()
    assert (images.grad[~OPEN] == 0).all()
    assert (images.grad[OPEN] != 0).any()
