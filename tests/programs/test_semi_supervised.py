"""The model M2 with a structured guide, q(y|x) q(z|x, y), without labels and with labels of some data."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs.reference import (
    Mixture,
    assert_terms,
    draw,
    log_likelihood,
    reference_terms,
    seeded,
    variables,
)
from support import numbers

from pyro_hfvae import Concrete, HierarchicalELBO
from pyro_hfvae.distributions import nearest_category
from pyro_hfvae.poutine import observe_labels

pytestmark = pytest.mark.usefixtures("double_precision")

N, V, K = 24, 2, 3
LOGITS, SHIFT, SCALES = numbers(V, K, seed=1), numbers(K, V, seed=2), 0.3 + 0.5 * numbers(K, V, seed=3).sigmoid()
MEANS = 2 * numbers(K, V, seed=4)
MASSES = {False: torch.full((K,), 1 / K, dtype=torch.float64), True: torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)}
NAMES = variables("z", V)


@seeded
def structured_guide(x):
    with pyro.plate("data", len(x)):
        y = nearest_category(pyro.sample("y", Concrete(0.7, logits=x @ LOGITS)))
        features = torch.cat([x.expand(*y.shape[:-1], -1), y], -1)
        loc = features @ torch.cat([0.7 * torch.eye(V), SHIFT])
        pyro.sample("z", dist.Normal(loc, y @ SCALES).to_event(1))


@seeded
def flat_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("y", Concrete(0.7, logits=x @ LOGITS))
        pyro.sample("z", dist.Normal(0.7 * x, 0.5).to_event(1))


def model_of(clustered):
    """p(y) p(z) p(x|y, z) with uniform p(y) as of Kingma et al. (NeurIPS 2014); clustered: p(y) p(z|y).

    Where p(y) is uniform, log p(y) is the same number under q(y|x) and under q(y|x, z).
    """

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.OneHotCategorical(probs=MASSES[clustered]))
            loc = y @ MEANS if clustered else torch.zeros(V)
            z = pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z + y @ SHIFT, 0.8).to_event(1), obs=x)

    return model


def tables(x, z, clustered, logits, structured=True):
    loc = (0.7 * x + (SHIFT if structured else torch.zeros(K, V))[:, None])[:, None]  # [K, 1, N, V]
    scale = (SCALES if structured else torch.full((K, V), 0.5))[:, None, None]
    given = dist.Normal(loc, scale).log_prob(z[:, None])  # [K, B, N, V]
    posterior = Mixture(
        {name: given[..., index] for index, name in enumerate(NAMES)}, logits.log_softmax(-1).mT[:, None], ("y",)
    )
    prior_loc = MEANS if clustered else torch.zeros(K, V)
    given = dist.Normal(prior_loc[:, None], 1.0).log_prob(z)  # [K, B, V]
    mass = MASSES[clustered].log()[:, None, None]
    prior = Mixture({name: given[..., index, None] for index, name in enumerate(NAMES)}, mass, ("y",))
    return posterior, prior


LAYOUTS = {
    "sites": (None, {"y": ["y"], "z": NAMES}),
    "one": ({"all": ["y", "z"]}, {"all": ["y", *NAMES]}),
    "z first": ({"a": ["z[0]"], "b": ["y", "z[1]"]}, {"a": ["z[0]"], "b": ["y", "z[1]"]}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("clustered", [False, True], ids=["M2", "clusters"])
def test_without_labels(layout, clustered):
    model, x = model_of(clustered), numbers(N, V)
    blocks, names = LAYOUTS[layout]
    posterior, prior = tables(x, draw(structured_guide, x)["z"], clustered, x @ LOGITS)
    terms = HierarchicalELBO(N, blocks=blocks).aggregate_terms(model, structured_guide, [(x,)])
    assert_terms(
        terms, reference_terms(names, posterior, prior), reconstruction=log_likelihood(model, structured_guide, x)
    )


@pytest.mark.parametrize("clustered", [False, True], ids=["M2", "clusters"])
def test_all_weights_are_one_by_default(clustered):
    """The loss is the ELBO with the categories summed out, its discrete block charged like any other."""
    model, x = model_of(clustered), numbers(N, V)
    posterior, prior = tables(x, draw(structured_guide, x)["z"], clustered, x @ LOGITS)
    right = (
        log_likelihood(model, structured_guide, x)
        - reference_terms({"y": ["y"], "z": NAMES}, posterior, prior).divergence
    )
    assert float(HierarchicalELBO(N).differentiable_loss(model, structured_guide, x)) == pytest.approx(
        -right * N, rel=1e-9
    )


@pytest.mark.parametrize("used_before", [False, True], ids=["first", "after a batch without labels"])
@pytest.mark.parametrize("clustered", [False, True], ids=["M2", "clusters"])
@pytest.mark.parametrize("structured", [False, True], ids=["flat", "structured"])
def test_labels_of_some_data(structured, clustered, used_before):
    """A labelled datum has its label as posterior; the classification term is in the reconstruction."""
    model, guide, x = model_of(clustered), structured_guide if structured else flat_guide, numbers(N, V)
    labels, mask = torch.arange(N) % K, torch.arange(N) % 2 == 0
    elbo = HierarchicalELBO(N)
    if used_before:
        elbo.differentiable_loss(model, guide, x)
    with observe_labels("y", labels, mask, weight=3.0):
        z = draw_with_model(model, guide, x)
    with observe_labels("y", labels, mask, weight=3.0):
        likelihood = log_likelihood(model, guide, x)
    given = torch.full((N, K), -1e30).scatter(1, labels[:, None], 0.0)
    posterior, prior = tables(x, z, clustered, torch.where(mask[:, None], given, x @ LOGITS), structured)
    reference = reference_terms({"y": ["y"], "z": NAMES}, posterior, prior)
    with observe_labels("y", labels, mask, weight=3.0):
        terms = elbo.terms(model, guide, x)
    assert_terms(terms, reference, reconstruction=likelihood)
    with observe_labels("y", labels, mask, weight=3.0):
        loss = elbo.differentiable_loss(model, guide, x)
    assert float(loss) == pytest.approx(-(likelihood - reference.divergence) * N, rel=1e-9)


def draw_with_model(model, guide, x):
    """The guide's z, with the model run as well, which the handler asks for."""
    trace = pyro.poutine.trace(guide).get_trace(x)
    pyro.poutine.replay(model, trace=trace)(x)
    return trace.nodes["z"]["value"].detach()


def test_every_datum_labelled_is_a_model_of_given_categories():
    """M2 with all labels: y is observed, and z has q(z|x, c)."""
    x, labels = numbers(N, V), torch.arange(N) % K
    with observe_labels("y", labels, torch.ones(N, dtype=torch.bool), weight=0.0):
        terms = HierarchicalELBO(N).terms(model_of(False), structured_guide, x)

    @seeded
    def supervised_guide(x):
        with pyro.plate("data", len(x)):
            Concrete(0.7, logits=x @ LOGITS).rsample()  # the same noise
            pyro.sample("z", dist.Normal(0.7 * x + SHIFT[labels], SCALES[labels]).to_event(1))

    def supervised_model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(V), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z + SHIFT[labels], 0.8).to_event(1), obs=x)

    right = HierarchicalELBO(N).terms(supervised_model, supervised_guide, x)
    # The relaxed label that the decoder sees is one-hot to some 1e-300.
    assert float(terms.elbo) == pytest.approx(float(right.elbo) - math.log(K), abs=1e-6)


def test_guide_without_structure_is_the_special_case():
    """q(y|x) q(z|x): the terms of a guide whose z does not read y."""
    model, x = model_of(True), numbers(N, V)
    posterior, prior = tables(x, draw(flat_guide, x)["z"], True, x @ LOGITS, structured=False)
    terms = HierarchicalELBO(N).aggregate_terms(model, flat_guide, [(x,)])
    reference = reference_terms({"y": ["y"], "z": NAMES}, posterior, prior)
    assert_terms(terms, reference, reconstruction=log_likelihood(model, flat_guide, x))
