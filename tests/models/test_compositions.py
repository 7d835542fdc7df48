"""Any latent part with any observation part: it trains, and its ELBO is Pyro's."""

import copy
import math

import pyro
import pytest
import torch
from any_data import COLUMNS, DISCRETE, GAUSSIAN, LATENTS, OBSERVATIONS, programs
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO

from pyro_hfvae import HFVAE, HierarchicalELBO
from pyro_hfvae.distributions import ColumnLikelihoods

SITES = {**GAUSSIAN, **DISCRETE}


@pytest.fixture(autouse=True)
def _fresh():
    pyro.clear_param_store()
    with pyro.settings.context(module_local_params=True):
        yield


@pytest.fixture(params=OBSERVATIONS)
def kind(request):
    return request.param


@pytest.fixture(params=LATENTS)
def latents(request):
    return request.param


SOME = [*((latents, "columns") for latents in LATENTS), *(("independent", kind) for kind in OBSERVATIONS)]
"""Each part once with a plain other one."""


def weighted(**options):
    """Weights that are all different: no term can stand in for another."""
    return HierarchicalELBO(100, mutual_information=0.5, between=3.0, within=2.0, dimension=1.5, **options)


def named(*modules):
    return {f"{place}.{name}": p for place, module in enumerate(modules) for name, p in module.named_parameters()}


def doubled(latents, kind, **options):
    """The same in float64."""
    model, guide, batch = programs(latents, kind, **options)
    batch = type(batch)({name: tensor.double() for name, tensor in batch.items()})
    return model.double(), guide.double(), batch


def test_every_parameter_moves(latents, kind):
    model, guide, batch = programs(latents, kind)
    loss = weighted()(model, guide)
    assert set(loss.parameters()) == {*model.parameters(), *guide.parameters()}
    optimizer = torch.optim.Adam(loss.parameters(), 1e-2)
    before = {name: p.detach().clone() for name, p in named(model, guide).items()}
    losses = []
    for _ in range(5):
        pyro.set_rng_seed(2)  # the same noise, so that a step downhill is one
        optimizer.zero_grad()
        value = loss(batch.x, **batch.others)
        value.backward()
        for name, parameter in named(model, guide).items():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name
        optimizer.step()
        losses.append(value.item())
    assert all((p != before[name]).any() for name, p in named(model, guide).items())
    assert losses[-1] < losses[0]


def test_with_weights_of_1_it_is_the_elbo_of_pyro(kind):
    """Without discrete sites, on the same samples; in float64, to its rounding."""
    for latents in LATENTS:
        if latents == "mixture":
            continue
        model, guide, batch = doubled(latents, kind, discrete={})
        found = []
        for elbo in (HierarchicalELBO(100), Trace_ELBO()):
            pyro.set_rng_seed(1)
            found.append(float(elbo.loss(model, guide, batch.x, **batch.others)))
        assert found[0] == pytest.approx(found[1], rel=1e-9), latents


def test_categories_are_summed_over(latents, kind):
    r"""With weights of 1, Σ_k q(k|x) [log p(x, z, k) - log q(k|x)] - log q(z|x), by running the programs on each k."""
    model, guide, batch = doubled(latents, kind, relaxation=None)
    pyro.set_rng_seed(1)
    found = float(HierarchicalELBO(100).loss(model, guide, batch.x, **batch.others))
    pyro.set_rng_seed(1)
    of_guide = poutine.trace(guide).get_trace(batch.x, **batch.others)
    of_guide.compute_log_prob()
    expected = -sum(of_guide.nodes[name]["log_prob"] for name in GAUSSIAN)
    mass = of_guide.nodes["shape"]["fn"].probs
    for k, vertex in enumerate(torch.eye(3).to(mass)):
        values = {name: of_guide.nodes[name]["value"] for name in GAUSSIAN} | {"shape": vertex.expand(len(mass), 3)}
        trace = poutine.trace(poutine.condition(model, data=values)).get_trace(batch.x, **batch.others)
        trace.compute_log_prob()
        joint = sum(trace.nodes[name]["log_prob"] for name in [*SITES, "x"])
        expected = expected + mass[:, k] * (joint - mass[:, k].log())
    assert found == pytest.approx(-float(expected.detach().sum()), rel=1e-9)


@pytest.mark.parametrize("relaxed", [True, False])
def test_hfvae_has_all_terms(latents, relaxed):
    """Each block and variable by name; a flow's block of several is an atom."""
    options = {} if relaxed else {"relaxation": None}
    model, guide, batch = programs(latents, "columns", **options)
    terms = HFVAE(100, between=3.0, within=2.0).terms(model, guide, batch.x, **batch.others)
    assert all(value.isfinite() for value in terms.scalars().values())
    assert list(terms.blocks) == list(SITES)
    atom = latents == "flow"
    assert list(terms.blocks["pose"].variables) == (["pose"] if atom else ["pose[0]", "pose[1]", "pose[2]"])
    assert terms.conditional == (latents == "conditional")


@pytest.mark.parametrize(("latents", "kind"), [pair for pair in SOME if pair[0] != "mixture"])
def test_vectorised_particles_are_the_elbo_of_pyro(latents, kind):
    model, guide, batch = doubled(latents, kind, discrete={})
    found = []
    options = {"num_particles": 3, "vectorize_particles": True, "max_plate_nesting": 1}
    for elbo in (HierarchicalELBO(100, **options), Trace_ELBO(**options)):
        pyro.set_rng_seed(1)
        found.append(elbo.differentiable_loss(model, guide, batch.x, **batch.others))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=0)


@pytest.mark.parametrize(("latents", "kind"), SOME)
@pytest.mark.parametrize("relaxed", [True, False])
def test_vectorised_particles_with_categories(latents, kind, relaxed):
    options = {} if relaxed else {"relaxation": None}
    model, guide, batch = programs(latents, kind, **options)
    elbo = weighted(num_particles=3, vectorize_particles=True, max_plate_nesting=1)
    loss = elbo.differentiable_loss(model, guide, batch.x, **batch.others)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.any() for p in named(model, guide).values())


def test_under_svi_with_the_settings_of_pyro(latents):
    with pyro.settings.context(module_local_params=False):
        model, guide, batch = programs(latents, "columns")
        before = {name: p.detach().clone() for name, p in named(model, guide).items()}
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-2}), loss=weighted())
        assert all(math.isfinite(svi.step(batch.x, **batch.others)) for _ in range(2))
        assert all((p != before[name]).any() for name, p in named(model, guide).items())


@pytest.mark.parametrize(("latents", "kind"), SOME)
def test_draws_of_the_prior_are_data_of_their_kind(latents, kind):
    model, _, batch = programs(latents, kind)
    free = poutine.uncondition(model)
    with torch.no_grad():
        trace = poutine.trace(free).get_trace(batch.x, **batch.others)
    drawn = trace.nodes["x"]["value"]
    assert drawn.shape == batch.x.shape
    assert drawn.isfinite().all()
    if kind in ("words", "genes"):
        assert drawn.eq(drawn.round()).all()
    if kind == "words":
        assert drawn.sum(-1).equal(batch.x.sum(-1))


@pytest.mark.parametrize(("latents", "kind"), SOME)
@pytest.mark.parametrize("size", [1, 2])
def test_few_data(latents, kind, size):
    model, guide, batch = programs(latents, kind)
    few = batch.rows(torch.arange(size))
    options = {"data_size": 1} if size == 1 else {"data_size": 100}
    assert math.isfinite(HierarchicalELBO(**options).loss(model, guide, few.x, **few.others))


def test_models_are_copied_and_restored(latents):
    model, guide, batch = programs(latents, "columns")
    weighted().differentiable_loss(model, guide, batch.x, **batch.others).backward()
    copied, other = copy.deepcopy((model, guide))
    model.zero_grad()
    values = copied.state_dict()
    fresh = programs(latents, "columns", seed=1)[0]
    fresh.load_state_dict(values)
    traces = []
    for program in (copied, fresh):
        torch.manual_seed(0)
        latent_values = poutine.trace(other).get_trace(batch.x, **batch.others)
        replayed = poutine.replay(program, trace=latent_values)
        traces.append(poutine.trace(replayed).get_trace(batch.x, **batch.others).nodes["x"]["fn"].log_prob(batch.x))
    torch.testing.assert_close(*traces)


def test_a_table_is_observed_as_it_stands():
    model, _, batch = programs("independent", "columns")
    site = poutine.trace(model).get_trace(batch.x, **batch.others).nodes["x"]
    assert site["value"] is batch.x
    assert isinstance(site["fn"], ColumnLikelihoods)
    features = model.feature_names["x"]
    assert len(features) == site["fn"].feature_means.shape[-1]
    assert features[:4] == ("height", "colour = red", "colour = green", "colour = blue")
    assert features[-3:] == ("city = 0", "city = 1", "children")
    assert [column.name for column in COLUMNS][-1] == features[-1]
