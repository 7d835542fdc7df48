"""HierarchicalModule: it owns all state, asking changes nothing, and a resumed training is the uninterrupted one."""

import copy
import math
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from mixed_programs import Guide, Model
from pyro.infer import SVI, Trace_ELBO
from torch import nn
from torch.func import functional_call, grad

from pyro_hfvae import HierarchicalELBO, infer
from pyro_hfvae.infer import Memory
from pyro_hfvae.infer.penalties import DensityRatio, MaximumMeanDiscrepancy, OffDiagonalCovariance
from pyro_hfvae.infer.split import _formulas
from pyro_hfvae.schedules import Linear

N, B = 40, 6
RISING = Linear(0.5, 4.0, 10)

OBJECTIVES = {
    "VAE": lambda **options: infer.VAE(N, **options),
    "BetaVAE": lambda **options: infer.BetaVAE(N, RISING, **options),
    "AnnealedVAE": lambda **options: infer.AnnealedVAE(N, 7.0, RISING, **options),
    "BetaTCVAE": lambda **options: infer.BetaTCVAE(N, RISING, **options),
    "FactorVAE": lambda **options: infer.FactorVAE(N, RISING, hidden=[7, 5], **options),
    "InfoVAE": lambda **options: infer.InfoVAE(N, 50.0, alpha=0.3, **options),
    "DIPVAEI": lambda **options: infer.DIPVAEI(N, 3.0, 5.0, **options),
    "DIPVAEII": lambda **options: infer.DIPVAEII(N, RISING, 5.0, **options),
    "JointVAE": lambda **options: infer.JointVAE(N, 3.0, {"z": RISING, "y": 1.0}, **options),
    "HFVAE": lambda **options: infer.HFVAE(N, between=RISING, within=2.0, **options),
    "HierarchicalELBO": lambda **options: HierarchicalELBO(N, 1.0, RISING, 2.0, 1.5, **options),
}
EVERY = pytest.mark.parametrize("name", OBJECTIVES)
MEMORY = pytest.mark.parametrize("memory", [False, True])


@pytest.fixture(autouse=True)
def _fresh():
    pyro.clear_param_store()
    torch.manual_seed(0)


def programs(seed=1, **options):
    torch.manual_seed(seed)
    return Model(**options).double(), Guide(**options).double()


def batches(count, seed=7):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, B, 6, dtype=torch.float64, generator=generator)


def made(name, memory=False, **options):
    return OBJECTIVES[name](**({"marginal": Memory(15)} if memory else {}), **options)


def same(one, other):
    """Whether two states, with all that they hold, are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(torch.nan_to_num(one, nan=-99.0), torch.nan_to_num(other, nan=-99.0))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or one is other


def trained(module, data, optimizer=None, seed=3):
    """The losses of some steps; the optimiser goes on."""
    optimizer = optimizer or torch.optim.Adam(module.program_parameters(), 1e-2)
    torch.manual_seed(seed)
    losses = []
    for x in data:
        optimizer.zero_grad()
        loss = module(x)
        loss.backward()
        optimizer.step()
        module.step()
        losses.append(loss.detach())
    return losses, optimizer


@MEMORY
@EVERY
def test_a_resumed_training_is_the_uninterrupted_one_to_the_bit(name, memory, tmp_path):
    """state_dict of the module and of the optimiser are all that there is; saved and loaded with weights_only."""
    first, second = batches(4), batches(4, seed=8)
    whole = made(name, memory)(*programs())
    _, optimizer = trained(whole, first)
    torch.save({"module": whole.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    went_on, _ = trained(whole, second, optimizer, seed=4)
    fresh = made(name, memory)(*programs(seed=99))
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    if name == "FactorVAE":
        fresh.terms(first[0])  # a lazy network that was not used has no place for weights
    fresh.load_state_dict(state["module"])
    assert same(fresh.state_dict(), state["module"])
    other = torch.optim.Adam(fresh.program_parameters(), 1e-2)
    other.load_state_dict(state["optimizer"])
    resumed, _ = trained(fresh, second, other, seed=4)
    assert same(resumed, went_on)
    assert fresh.steps == whole.steps == 8
    assert same(fresh.state_dict(), whole.state_dict())


@MEMORY
@EVERY
def test_reading_terms_and_costs_changes_nothing(name, memory):
    """In training mode too; not even what the next step will remember or learn from."""
    model, guide = programs()
    module, (x, other) = made(name, memory)(model, guide), batches(2)
    trained(module, [x, x])
    before = copy.deepcopy(module.state_dict())
    terms = module.terms(other)
    module.costs(terms)
    module.objective(terms)
    module.aggregate_terms([(x,), (other,)])
    module.elbo.costs(terms)
    module.elbo.scheduled_weights()
    assert same(module.state_dict(), before)
    module.step()
    after = module.state_dict()
    changed = [key for key in before if not same(before[key], after[key])]
    assert changed == ["_extra_state"]
    assert (before["_extra_state"], after["_extra_state"]) == (2, 3)


@pytest.mark.parametrize("evaluating", ["eval", "no_grad", "loss"])
def test_evaluation_never_fills_a_memory_or_trains_a_discriminator(evaluating):
    model, guide = programs()
    elbo = HierarchicalELBO(N, penalties={"tc": DensityRatio(hidden=[4])}, marginal=Memory(15))
    module, (x, other) = elbo(model, guide), batches(2)
    trained(module, [x])
    before = copy.deepcopy(module.state_dict())
    if evaluating == "eval":
        module.eval()(other)
        module.train()
    elif evaluating == "no_grad":
        with torch.no_grad():
            module(other)
    else:
        elbo.loss(model, guide, other)
    module.step()
    after = module.state_dict()
    assert [key for key in before if not same(before[key], after[key])] == ["_extra_state"]
    assert len(module.marginal) == B


@MEMORY
@pytest.mark.parametrize("given", [{}, {"relaxed": False}])
@pytest.mark.parametrize("options", [{}, {"num_particles": 2}])
@EVERY
def test_asking_for_terms_changes_neither_the_gradient_nor_the_random_stream(name, options, given, memory):
    if name == "FactorVAE" and given:
        pytest.skip("a discriminator needs relaxed sites")
    found = []
    for with_terms in (False, True):
        model, guide = programs(**given)
        module, (x, other) = made(name, memory, **options)(model, guide), batches(2)
        trained(module, [other])
        module.zero_grad()
        torch.manual_seed(5)
        loss = module.loss(x, with_terms=with_terms)
        assert (loss.terms is not None) == with_terms
        (loss.per_datum * loss.size).backward()
        gradients = [p.grad for p in module.program_parameters()]
        found.append([loss.per_datum.detach(), gradients, torch.rand(3), module.step(), module.state_dict()])
    assert same(*found)
    terms = loss.terms
    if name not in ("FactorVAE", "InfoVAE", "HFVAE", "DIPVAEI", "DIPVAEII", "JointVAE", "AnnealedVAE"):
        module.steps -= 1
        torch.testing.assert_close(-module.objective(terms), loss.per_datum.detach())


def test_svi_moves_schedules_and_records_and_teaches():
    model, guide = programs()
    elbo = HierarchicalELBO(N, between=RISING, penalties={"tc": DensityRatio(hidden=[4])}, marginal=Memory(15))
    module, data = elbo(model, guide), batches(3)
    module.terms(data[0])
    before = [parameter.detach().clone() for parameter in module.penalties.parameters()]
    with pyro.settings.context(module_local_params=True):
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), loss=elbo)
        for step in range(3):
            assert module.steps == elbo.steps == step
            assert elbo.scheduled_weights() == {"between": RISING(step)}
            svi.step(data[step])
        svi.evaluate_loss(data[0])
    assert elbo(model, guide) is module
    assert module.steps == 3
    assert len(module.marginal) == 15
    assert all((a != b).any() for a, b in zip(module.penalties.parameters(), before, strict=True))


def test_another_model_or_guide_gets_a_module_of_its_own():
    (model, guide), (x,) = programs(), batches(1)
    elbo = HierarchicalELBO(N, marginal=Memory(15), penalties={"tc": DensityRatio(hidden=[4])})
    module = elbo(model, guide)
    assert elbo(model, guide) is module
    trained(module, [x])
    for pair in ((programs(seed=2)[0], guide), (model, programs(seed=2)[1])):
        fresh = elbo(*pair)
        assert fresh is not module
        assert (fresh.model, fresh.guide) == pair
        assert fresh.steps == 0
        assert len(fresh.marginal) == 0
        assert fresh.marginal is not elbo.marginal
        assert not set(fresh.penalties.parameters()) & set(module.penalties.parameters())
    assert len(module.marginal) == B
    assert module.steps == 1


def test_a_redefined_model_of_another_structure_is_read_anew():
    """The same objects, with a site more, on which another depends."""
    more = []

    def program(x, observed):
        with pyro.plate("data", len(x)):
            shift = pyro.sample("w", dist.Normal(x.new_zeros(1), 1.0).to_event(1)) if more else 0.0
            z = pyro.sample("z", dist.Normal(x[:, :2] * (not observed) + shift, 1.0).to_event(1))
            if observed:
                pyro.sample("x", dist.Normal(z[..., :1], 1.0).expand([len(x), 6]).to_event(1), obs=x)

    module, (x,) = HierarchicalELBO(N)(lambda x: program(x, True), lambda x: program(x, False)), batches(1)
    assert list(module.terms(x).blocks) == ["z"]
    more.append("w")
    found = module.loss(x, with_terms=True)
    assert list(found.terms.blocks) == ["w", "z"]
    torch.testing.assert_close(-found.terms.elbo, found.per_datum)


def test_aggregate_terms_measure_penalties_on_all_data_at_once():
    (model, guide), data = programs(), batches(3)
    penalties = {"off": OffDiagonalCovariance(), "tc": DensityRatio(hidden=[4])}
    module = HierarchicalELBO(N, penalties=penalties)(model, guide)
    module.terms(data[0])  # the discriminator is made
    samples = []
    torch.manual_seed(2)
    found = module.aggregate_terms([(x,) for x in data]).penalties
    torch.manual_seed(2)
    for x in data:
        guide_trace = pyro.poutine.trace(guide).get_trace(x)
        samples.append(guide_trace)
    loc = torch.cat([trace.nodes["z"]["fn"].base_dist.loc for trace in samples]).detach()
    covariance = torch.cov(loc.T, correction=0)
    torch.testing.assert_close(found["off"], covariance.square().sum() - covariance.diagonal().square().sum())
    rows = torch.cat([torch.cat([trace.nodes[name]["value"] for name in "yz"], -1) for trace in samples])
    with torch.no_grad():
        torch.testing.assert_close(found["tc"], module.penalties["tc"].network(rows).mean())


def test_aggregate_of_a_penalty_that_draws_is_its_mean_over_the_batches():
    (model, guide), data = programs(), batches(2)
    module = HierarchicalELBO(N, penalties={"mmd": MaximumMeanDiscrepancy()})(model, guide)
    torch.manual_seed(2)
    whole = module.aggregate_terms([(data[0],), (data[1][:3],)]).penalties["mmd"]
    torch.manual_seed(2)
    samples = [next(module._samples((x,), {})) for x in (data[0], data[1][:3])]
    each = [module.penalties["mmd"]([sample], None).detach() for sample in samples]
    torch.testing.assert_close(whole, (6 * each[0] + 3 * each[1]) / 9)


def test_aggregate_is_the_batch_of_everything():
    (model, guide), data = programs(), batches(2).flatten(0, 1)
    torch.manual_seed(1)
    whole = HierarchicalELBO(len(data)).terms(model, guide, data)
    torch.manual_seed(1)
    parts = HierarchicalELBO(99_999).aggregate_terms(model, guide, [(data,)])
    for name, value in whole.scalars().items():
        torch.testing.assert_close(parts.scalars()[name], value.detach())
    # in batches the noise differs, the exact discrete terms do not
    parts = HierarchicalELBO(99_999).aggregate_terms(model, guide, [(data[:5],), (data[5:],)])
    torch.testing.assert_close(parts.blocks["y"].mutual_information, whole.blocks["y"].mutual_information.detach())
    torch.testing.assert_close(parts.blocks["y"].dimension, whole.blocks["y"].dimension.detach())


def test_no_batches_are_refused():
    with pytest.raises(ValueError, match="^there are no batches to take the terms of$"):
        HierarchicalELBO(N)(*programs()).aggregate_terms([])


@EVERY
def test_functional_gradients_are_those_of_backward(name):
    if name == "InfoVAE":
        name = "HFVAE"
    (model, guide), (x,) = programs(), batches(1)
    module = made(name)(model, guide).eval()
    module.terms(x)
    torch.manual_seed(5)
    module(x).backward()
    expected = {key: p.grad for key, p in module.named_parameters() if p.grad is not None}
    given = {key: p.detach() for key, p in module.named_parameters()}

    def loss(parameters):
        torch.manual_seed(5)
        return functional_call(module, parameters, (x,))

    found = grad(loss)(given)
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient)
    programs_have = {key for key in given if key.startswith(("model.", "guide.")) and "shift" not in key}
    assert set(expected) == programs_have  # the shift is of structured programs only


@MEMORY
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
@EVERY
def test_copies_and_pickles_go_on_like_the_original(name, copied, memory):
    elbo, data = made(name, memory), batches(2)
    assert type(copied(elbo)) is type(elbo)
    module = elbo(*programs())
    trained(module, data[:1])
    another = copied(module)
    assert another.elbo is not elbo
    assert same(another.state_dict(), module.state_dict())
    results = [trained(one, data[1:])[0] for one in (module, another)]
    assert same(*results)
    assert same(another.state_dict(), module.state_dict())
    settings = copied(elbo)
    assert settings.steps == 0
    assert settings(*programs())(data[0]).isfinite()


@pytest.mark.parametrize(
    "layout",
    [None, {"mixed": ["y", "z[0]"], "rest": ["z[1:]"]}, {"g": {"a": ["z[2]", "y"], "b": ["z[0]"]}, "c": ["z[1]"]}],
)
@pytest.mark.parametrize("relaxed", [True, False])
def test_the_default_objective_is_the_elbo_with_exact_sums_over_categories(layout, relaxed):
    """Mixed blocks too: E[log p(x|z, y)] - KL of y in closed form - log-ratio of z, on the same samples."""
    (model, guide), (x,) = programs(relaxed=relaxed), batches(1)
    torch.manual_seed(5)
    ours = HierarchicalELBO(N, blocks=layout)(model, guide)(x)
    torch.manual_seed(5)
    nodes = pyro.poutine.trace(guide).get_trace(x).nodes
    z, y = nodes["z"], nodes["y"]
    mass = y["fn"].logits.softmax(-1)
    divergence = (mass * (4 * mass).log()).sum(-1)
    divergence = (
        divergence
        + z["fn"].log_prob(z["value"])
        - dist.Normal(torch.zeros_like(z["value"]), 1.5).log_prob(z["value"]).sum(-1)
    )

    def log_likelihood(value):
        output = model.decoder(torch.cat([z["value"], value.expand(B, 4)], -1))
        return dist.Normal(output, 0.8).log_prob(x).sum(-1)

    if relaxed:
        reconstruction = log_likelihood(y["value"])
    else:
        reconstruction = sum(mass[:, k] * log_likelihood(torch.eye(4, dtype=x.dtype)[k]) for k in range(4))
    torch.testing.assert_close(ours, (divergence - reconstruction).sum(), rtol=1e-12, atol=0)


def test_the_default_objective_is_pyros_without_discrete_sites():
    def model(x):
        with pyro.plate("data", N, subsample=torch.arange(len(x))):
            z = pyro.sample("z", dist.Normal(x.new_zeros(3), 1.5).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True), 0.8).expand([*z.shape[:-1], 6]).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", N, subsample=torch.arange(len(x))):
            pyro.sample("z", dist.Normal(x[:, :3].tanh(), 0.5).to_event(1))

    (x,) = batches(1)
    for particles in ({}, {"num_particles": 3}, {"num_particles": 3, "vectorize_particles": True}):
        torch.manual_seed(5)
        ours = HierarchicalELBO(N, blocks={"a": ["z[0:2]"], "b": ["z[2]"]}, **particles)(model, guide)(x)
        torch.manual_seed(5)
        torch.testing.assert_close(ours, Trace_ELBO(**particles).differentiable_loss(model, guide, x))


def test_a_module_trains_every_parameter_with_a_torch_optimiser():
    with pyro.settings.context(module_local_params=True):
        model, guide = programs()
        module = HierarchicalELBO(N, between=5.0)(model, guide)
        assert isinstance(module, nn.Module)
        assert set(module.program_parameters()) == {*model.parameters(), *guide.parameters()} == {*module.parameters()}
        parameters = [p for p in module.parameters() if p is not model.shift.weight]
        unused = {*model.shift.parameters(), *guide.shift.parameters()}  # of structured programs only
        before = {p: p.detach().clone() for p in parameters if p not in unused}
        losses, _ = trained(module, batches(1).expand(60, -1, -1))
        assert all((p != value).any() for p, value in before.items())
        assert sum(losses[-10:]) < sum(losses[:10])


def test_several_batches_before_a_step_are_all_remembered():
    module, data = HierarchicalELBO(N, marginal=Memory(15))(*programs()), batches(2)
    for x in data:
        module(x).backward()
    assert len(module.marginal) == 0
    module.step()
    assert len(module.marginal) == 2 * B
    assert module.steps == 1


def test_blocks_of_one_category_and_log_n_are_the_bounds_of_information():
    """After training, I(x; y) of the aggregate is between 0 and the smaller of log K and log N."""
    module, data = HierarchicalELBO(N)(*programs()), batches(2)
    trained(module, data)
    information = module.aggregate_terms([(x,) for x in data]).blocks["y"].mutual_information
    assert 0 <= information <= math.log(4)


def test_terms_in_inference_mode_before_training():
    """What is kept of the formulas is used by the training that follows."""
    model, guide = programs()
    module = HierarchicalELBO(60, within=2.0)(model, guide)
    (x,) = batches(1)
    _formulas.cache_clear()
    with torch.inference_mode():
        module.terms(x)
    module(x).backward()
    assert any(parameter.grad is not None for parameter in module.program_parameters())
