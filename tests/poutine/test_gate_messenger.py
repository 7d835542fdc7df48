"""Gates: nothing computed changes, to the bit; closed rows get exactly no gradient."""

import doctest

import pyro
import pyro.distributions as dist
import pytest
import pytorch_lightning as lightning
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import nn

from pyro_hfvae import Capacity, Concrete, HierarchicalELBO
from pyro_hfvae.guides import ImageGuide, MLPEncoder
from pyro_hfvae.infer import (
    DIPVAEI,
    DIPVAEII,
    HFVAE,
    VAE,
    AnnealedVAE,
    BetaTCVAE,
    BetaVAE,
    Exact,
    FactorVAE,
    InfoVAE,
    JointVAE,
    Memory,
)
from pyro_hfvae.models import ImageModel, MLPDecoder
from pyro_hfvae.poutine import gate, gate_messenger

B = 4
X = torch.rand(B, 5, generator=torch.Generator().manual_seed(0)).double()
SITES = {"pose": slice(0, 4), "look": slice(4, 8), "digit": slice(8, 11)}  # numbers of each in a row
MASKS = {
    "pose": torch.tensor([True, False, True, False]),
    "look": torch.tensor([False, False, True, True]),
    "digit": torch.tensor([True, True, False, False]),
}


@pytest.fixture(autouse=True)
def _local_parameters():
    before = pyro.settings.get("module_local_params")
    pyro.settings.set(module_local_params=True)
    yield
    pyro.settings.set(module_local_params=before)


class Guide(nn.Module):
    """What heads give, a row for each datum: the gradient of a row is that of one datum."""

    def __init__(self, batch=B):
        super().__init__()
        self.rows = nn.Parameter(torch.randn(batch, 11, generator=torch.Generator().manual_seed(1)).double())

    def forward(self, x, target=None):
        with pyro.plate("data", len(x)):
            for name in ("pose", "look"):
                loc, scale = self.rows[:, SITES[name]].chunk(2, -1)
                pyro.sample(name, dist.Normal(loc, 0.1 + scale.sigmoid()).to_event(1))
            pyro.sample("digit", Concrete(0.7, logits=self.rows[:, SITES["digit"]]))


class Model(nn.Module):
    """Two normal sites, the first with a prior that learns, and a categorical one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.decoder = nn.Linear(7, 5).double()
        self.prior_loc = nn.Parameter(torch.tensor([0.3, -0.2]).double())

    def forward(self, x, target=None):
        with pyro.plate("data", len(x)):
            pose = pyro.sample("pose", dist.Normal(self.prior_loc, 1.0).to_event(1))
            look = pyro.sample("look", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
            digit = pyro.sample("digit", Concrete(0.7, logits=torch.zeros(3).double()))
            mean = self.decoder(torch.cat([pose, look, digit], -1).tanh())
            pyro.sample("x", dist.Normal(mean, 0.5).to_event(1), obs=x if target is None else target)


def run(objective, context=None, model=None, guide=None, seed=5, x=X, target=None):
    """Loss, gradients of the guide's rows and of the model's parameters."""
    model, guide = model or Model(), guide or Guide(len(x))
    torch.manual_seed(seed)
    with context or poutine.handlers.scale(scale=1.0):
        loss = objective.differentiable_loss(model, guide, x, target)
    loss.backward()
    return loss.detach(), guide.rows.grad, torch.cat([p.grad.flatten() for p in model.parameters()])


def open_numbers(masks):
    """Which numbers of the rows are open, [B, 11]."""
    opened = torch.ones(B, 11, dtype=torch.bool)
    for name, mask in masks.items():
        opened[:, SITES[name]] = mask[:, None]
    return opened


def test_a_layout_over_two_event_dimensions():
    """Of 3 objects with 4 attributes, the first two attributes of every object are closed for the first datum."""
    loc = torch.zeros(2, 3, 4, requires_grad=True)
    layout = {"place": ["z[:, 0:2]"], "look": ["z[..., 2]"], "last": ["z[0, -1]", "z[1:, -1]"]}
    masks = {"place": torch.tensor([False, True]), "last": torch.tensor([True, False])}
    with gate(masks, blocks=layout), pyro.plate("data", 2):
        pyro.sample("z", dist.Normal(loc, 1.0).to_event(2)).sum().backward()
    expected = torch.ones(2, 3, 4)
    expected[0, :, 0:2] = expected[1, :, 3] = 0.0
    assert torch.equal(loc.grad, expected)


OBJECTIVES = {
    "VAE": lambda **o: VAE(9, **o),
    "beta-VAE": lambda **o: BetaVAE(9, 4.0, **o),
    "beta-TCVAE": lambda **o: BetaTCVAE(9, 6.0, **o),
    "HFVAE": lambda **o: HFVAE(9, 0.5, 5.0, 3.0, max_plate_nesting=1, **o),
    "InfoVAE": lambda **o: InfoVAE(9, 100.0, **o),
    "DIP-VAE-I": lambda **o: DIPVAEI(9, 10.0, 5.0, **o),
    "DIP-VAE-II": lambda **o: DIPVAEII(9, 10.0, 5.0, **o),
    "annealed VAE": lambda **o: AnnealedVAE(9, 10.0, 1.0, **o),
    "JointVAE": lambda **o: JointVAE(9, 10.0, {"pose": 1.0, "look": 2.0, "digit": 0.5}, **o),
    "capacity": lambda **o: HierarchicalELBO(9, between=Capacity(3.0, 0.5), **o),
    "all data": lambda **o: HierarchicalELBO(B, between=5.0, marginal=Exact(), **o),
    "Trace_ELBO": lambda **o: Trace_ELBO(max_plate_nesting=1, **o),
    "TraceMeanField_ELBO": lambda **o: TraceMeanField_ELBO(max_plate_nesting=1, **o),
}
PARTICLES = {
    "one particle": {},
    "particles": {"num_particles": 3},
    "vectorized": {"num_particles": 3, "vectorize_particles": True},
}


def test_example_of_the_class():
    names = {"torch": torch, "pyro": pyro, "dist": dist}
    results = doctest.testmod(gate_messenger, extraglobs=names)
    assert results.attempted == 4
    assert results.failed == 0


EVERY = [(name, "one particle") for name in OBJECTIVES]
EVERY += [(name, some) for name in ("HFVAE", "DIP-VAE-II", "Trace_ELBO") for some in ("particles", "vectorized")]


@pytest.mark.parametrize(("name", "particles"), EVERY)
def test_every_objective(name, particles):
    """The gradient of the gated loss is that of the plain one where a block is open, and exactly 0 where it is not.

    For terms that couple the data too, as each datum's parameters are gated by its own mask. The model learns all of
    it, its prior as well.
    """
    options = PARTICLES[particles]
    loss, rows, parameters = run(OBJECTIVES[name](**options))
    gated_loss, gated_rows, gated_parameters = run(OBJECTIVES[name](**options), gate(MASKS))
    assert torch.equal(gated_loss, loss)
    assert torch.equal(gated_parameters, parameters)
    assert torch.equal(gated_rows, torch.where(open_numbers(MASKS), rows, 0.0))
    assert rows.count_nonzero() == rows.numel()
    open_loss, open_rows, _ = run(
        OBJECTIVES[name](**options), gate({site: mask | True for site, mask in MASKS.items()})
    )
    assert torch.equal(open_loss, loss)
    assert torch.equal(open_rows, rows)


@pytest.mark.parametrize("name", ["DIP-VAE-II", "HFVAE"])
def test_open_rows_against_finite_differences(name):
    guide = Guide()
    _, gradient, _ = run(OBJECTIVES[name](), gate(MASKS), guide=guide)
    step = 1e-6

    def moved(row, column, by):
        other = Guide()
        other.rows.data[row, column] += by
        return run(OBJECTIVES[name](), gate(MASKS), guide=other)[0]

    for row, column in [(0, 0), (2, 3), (3, 7), (1, 8)]:
        slope = (moved(row, column, step) - moved(row, column, -step)) / (2 * step)
        assert open_numbers(MASKS)[row, column]
        # Central differences: rounding 1e-16 · loss / step, curvature step² are both below 1e-6 of the loss.
        torch.testing.assert_close(gradient[row, column], slope, rtol=1e-5, atol=1e-6)
    for row, column in [(1, 0), (0, 4), (2, 8)]:
        assert gradient[row, column] == 0


def test_learned_penalty():
    """FactorVAE's discriminator sees the samples; what it tells closed blocks is held back."""
    losses = []
    for context in (None, gate(MASKS)):
        torch.manual_seed(0)
        losses.append(run(FactorVAE(9, 10.0, hidden=[8]), context))
    (plain, rows, _), (gated, gated_rows, _) = losses
    assert torch.equal(plain, gated)
    assert torch.equal(gated_rows, torch.where(open_numbers(MASKS), rows, 0.0))


def test_memory():
    """What is remembered is the same, gated or not."""
    results = []
    for context in (None, gate(MASKS)):
        elbo, model = HierarchicalELBO(20, between=5.0, marginal=Memory(8)), Model()
        run(elbo, context, model=model)
        results.append(run(elbo, context, x=1 - X)[:2])
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[1][1], torch.where(open_numbers(MASKS), results[0][1], 0.0))


def test_identity_pairs():
    """t = x with every gate open is the base model, to the bit."""
    masks = {site: torch.ones(B, dtype=torch.bool) for site in SITES}
    for objective in (BetaVAE(9, 4.0), HFVAE(9)):
        plain, paired = run(objective), run(objective, gate(masks), target=X)
        assert all(torch.equal(one, other) for one, other in zip(plain, paired, strict=True))


def test_pairs():
    """Of another target, the open block alone learns the likelihood: by hand in a linear model with fixed noise."""
    masks = {"look": torch.zeros(B, dtype=torch.bool), "digit": torch.zeros(B, dtype=torch.bool)}
    _, rows, _ = run(VAE(9), gate(masks), target=1 - X)
    assert rows[:, SITES["pose"]].count_nonzero() == B * 4
    assert rows[:, 4:].count_nonzero() == 0


def one_site(objective, what):
    """Gradient of loc and scale of one closed normal variable, with its noise; x ~ N(2 z, 1), z ~ N(0, 1)."""
    loc, scale = torch.tensor([0.4, -0.3, 1.1]).double(), torch.tensor([0.5, 0.8, 1.2]).double()
    loc.requires_grad_()
    scale.requires_grad_()

    def guide(x):
        with pyro.plate("data", 3):
            pyro.sample("z", dist.Normal(loc, scale).expand([3]))

    def model(x):
        with pyro.plate("data", 3):
            z = pyro.sample("z", dist.Normal(torch.zeros(3).double(), 1.0))
            pyro.sample("x", dist.Normal(2 * z, 1.0), obs=x)

    def noted(x):
        with poutine.trace() as trace:
            guide(x)
        noise.append(((trace.trace.nodes["z"]["value"] - loc) / scale).detach())

    noise = []
    x = torch.tensor([1.0, -1.0, 0.5]).double()
    torch.manual_seed(0)
    with gate({"z": torch.tensor([False, True, False])}, what=what):
        objective.differentiable_loss(model, noted, x).backward()
    return x, loc, scale, noise[-1]


@pytest.mark.parametrize("name", ["Trace_ELBO", "TraceMeanField_ELBO", "HierarchicalELBO"])
@pytest.mark.parametrize("what", ["parameters", "sample", "likelihood"])
def test_what_is_held_back(what, name):
    """Against derivatives by hand, with z = loc + scale · e and the divergence (loc² + scale² - 1) / 2 - log scale."""
    elbo = {"HierarchicalELBO": VAE(3, marginal=Exact())}.get(name) or OBJECTIVES[name]()
    x, loc, scale, e = one_site(elbo, what)
    mean, width = loc.detach(), scale.detach()
    z = mean + width * e
    likelihood = (-2 * (x - 2 * z), -2 * (x - 2 * z) * e)  # derivatives of -log p(x|z)
    closed_form = (mean, width - 1 / width)
    estimated = (z, z * e - 1 / width)  # of log q(z) - log p(z) at z(loc, scale)
    score = (e / width, (e**2 - 1) / width)  # of log q at a fixed z
    divergence = closed_form if name == "TraceMeanField_ELBO" else estimated
    held_back = {
        "parameters": (0 * z, 0 * z),
        "sample": closed_form if name == "TraceMeanField_ELBO" else score,
        "likelihood": divergence,
    }[what]
    for parameter, whole, part, closed in zip((loc, scale), likelihood, divergence, held_back, strict=True):
        expected = torch.where(torch.tensor([False, True, False]), whole + part, closed)
        torch.testing.assert_close(parameter.grad, expected)


def test_discrete_sites_feel_their_divergence_from_their_masses():
    """They are summed over, so that the sample's own gate and that of the likelihood are the same."""
    closed = {"digit": torch.zeros(B, dtype=torch.bool)}
    elbo = HFVAE(9, 1.0, 5.0)
    plain = run(elbo)[1]
    sample, likelihood = (run(elbo, gate(closed, what=what))[1] for what in ("sample", "likelihood"))
    assert torch.equal(sample, likelihood)
    assert sample[:, 8:].count_nonzero() == B * 3
    assert not torch.equal(sample, plain)
    assert torch.equal(sample[:, :8], plain[:, :8])


LAYOUT = {"first": ["pose[0]", "look[1]"], "rest": {"second": ["pose[1]"], "third": ["look[0]", "digit"]}}


def test_blocks_of_variables():
    """Masks of blocks and of groups: a variable is open where all that it is in are."""
    first = torch.tensor([True, False, True, False])
    rest = torch.tensor([True, True, False, False])
    third = torch.tensor([False, True, True, True])
    opened = torch.stack([first, rest, first, rest, rest & third, first, rest & third, first], 1)  # [B, loc | scale]
    opened = torch.cat([opened, (rest & third)[:, None].expand(B, 3)], 1)
    elbo = HierarchicalELBO(9, between=4.0, within=3.0, blocks=LAYOUT)
    loss, rows, parameters = run(elbo)
    gated = run(elbo, gate({"first": first, "rest": rest, "third": third}, blocks=LAYOUT))
    assert torch.equal(gated[0], loss)
    assert torch.equal(gated[2], parameters)
    assert torch.equal(gated[1], torch.where(opened, rows, 0.0))


def test_nested_gates():
    other = {"pose": torch.tensor([True, True, False, False]), "look": torch.tensor([True, False, True, False])}
    rows = run(VAE(9))[1]
    with gate(other):
        nested = run(VAE(9), gate(MASKS))[1]
    expected = open_numbers(MASKS) & open_numbers(other)
    assert torch.equal(nested, torch.where(expected, rows, 0.0))


@pytest.mark.parametrize("what", ["sample", "likelihood"])
def test_nested_gates_of_samples(what):
    """As one gate with the masks of both."""
    other = torch.tensor([True, True, False, False])
    elbo = OBJECTIVES["TraceMeanField_ELBO"]()
    with gate({"pose": other}, what=what):
        nested = run(elbo, gate({"pose": MASKS["pose"]}, what=what))
    single = run(elbo, gate({"pose": MASKS["pose"] & other}, what=what))
    assert all(torch.equal(one, two) for one, two in zip(nested, single, strict=True))
    assert not torch.equal(single[1], run(elbo, gate({"pose": other}, what=what))[1])


class DependentPrior(Model):
    """The second site's prior is computed from the first, and its marginals from runs of the model."""

    def forward(self, x, target=None):
        with pyro.plate("data", len(x)):
            pose = pyro.sample("pose", dist.Normal(self.prior_loc, 1.0).to_event(1))
            look = pyro.sample("look", dist.Normal(0.5 * pose, 1.0).to_event(1))
            digit = pyro.sample("digit", Concrete(0.7, logits=torch.zeros(3).double()))
            mean = self.decoder(torch.cat([pose, look, digit], -1).tanh())
            pyro.sample("x", dist.Normal(mean, 0.5).to_event(1), obs=x)


def test_prior_that_depends_on_a_gated_site():
    def elbo():
        return HierarchicalELBO(9, between=5.0, prior_samples=10)

    plain = run(elbo(), model=DependentPrior())
    gated = run(elbo(), gate(MASKS), model=DependentPrior())
    assert torch.equal(gated[0], plain[0])
    assert torch.equal(gated[1], torch.where(open_numbers(MASKS), plain[1], 0.0))
    assert torch.equal(gated[2], plain[2])


def test_masks_of_particles():
    """A mask [S, B] gates each particle's own use of the parameters."""
    elbo = OBJECTIVES["TraceMeanField_ELBO"](num_particles=2, vectorize_particles=True)
    rows = run(elbo)[1]
    none, every = (torch.full((B,), value) for value in (False, True))
    parts = [run(elbo, gate({"pose": torch.stack(pair)}))[1] for pair in ((none, every), (every, none))]
    torch.testing.assert_close(parts[0][:, :4] + parts[1][:, :4], rows[:, :4])
    assert torch.equal(parts[0][:, 4:], rows[:, 4:])
    assert parts[0][:, :4].count_nonzero() == B * 4


def sampled_guide(x):
    with pyro.plate("data", B):
        return pyro.sample("pose", dist.Normal(x, 1.0).to_event(1))


HANDLERS = {
    "gate": lambda g, x: g(sampled_guide)(x),
    "gate with": lambda g, x: inside(g, x),
    "decorator": lambda g, x: g(lambda x: sampled_guide(x))(x),
    "trace(gate)": lambda g, x: poutine.trace(g(sampled_guide)).get_trace(x).nodes["pose"]["value"],
    "gate(trace)": lambda g, x: g(lambda x: poutine.trace(sampled_guide).get_trace(x).nodes["pose"]["value"])(x),
    "scale(gate)": lambda g, x: poutine.scale(g(sampled_guide), 0.5)(x),
    "gate(scale)": lambda g, x: g(poutine.scale(sampled_guide, 0.5))(x),
    "mask(gate)": lambda g, x: poutine.mask(g(sampled_guide), torch.ones(B).bool())(x),
    "gate(mask)": lambda g, x: g(poutine.mask(sampled_guide, torch.ones(B).bool()))(x),
    "condition(gate)": lambda g, x: poutine.condition(g(sampled_guide), {"other": x})(x),
    "gate(condition)": lambda g, x: g(poutine.condition(sampled_guide, {"other": x}))(x),
    "block others": lambda g, x: g(poutine.block(sampled_guide, hide=["other"]))(x),
    "plate outside": lambda g, x: plated(g, x),
}


def inside(g, x):
    with g:
        return sampled_guide(x)


def plated(g, x):
    with pyro.plate("data", B), g:
        return pyro.sample("pose", dist.Normal(x, 1.0).to_event(1))


@pytest.mark.parametrize("name", HANDLERS)
def test_beside_other_handlers(name):
    x = X.clone().requires_grad_()
    torch.manual_seed(0)
    value = HANDLERS[name](gate({"pose": MASKS["pose"]}), x)
    torch.manual_seed(0)
    assert torch.equal(value, sampled_guide(x))
    value.sum().backward()
    assert torch.equal(x.grad, MASKS["pose"][:, None].expand(B, 5).double())


def test_handler_of_a_guide():
    x = X.clone().requires_grad_()
    gated = gate(sampled_guide, {"pose": MASKS["pose"]})
    assert gated.__name__ == "sampled_guide"
    gated(x).sum().backward()
    assert torch.equal(x.grad[:, 0], MASKS["pose"].double())
    gated(x)  # again


def test_given_values():
    """Observed, conditioned and replayed sites are left alone; a gate below a condition gates the density."""
    g = {"pose": torch.zeros(B, dtype=torch.bool)}
    x, value = X.clone().requires_grad_(), torch.zeros_like(X)
    trace = poutine.trace(poutine.condition(gate(sampled_guide, g), {"pose": value})).get_trace(x)
    trace.compute_log_prob()
    assert not trace.nodes["pose"]["log_prob"].requires_grad or (
        torch.autograd.grad(trace.nodes["pose"]["log_prob"].sum(), x)[0].count_nonzero() == 0
    )
    replayed = poutine.replay(sampled_guide, trace=poutine.trace(sampled_guide).get_trace(x))
    for left_alone in (poutine.condition(sampled_guide, {"pose": value}), replayed):
        inner = poutine.trace(left_alone)
        with pytest.raises(ValueError, match="no such block was sampled inside the gate"), gate(g):
            trace = inner.get_trace(x)
        log_prob = trace.nodes["pose"]["fn"].log_prob(value).sum()
        assert torch.autograd.grad(log_prob, x)[0].count_nonzero() > 0


def test_straight_through_sample():
    """A gated straight-through sample keeps the soft value that its density asks for."""
    logits = torch.randn(B, 3, generator=torch.Generator().manual_seed(3)).requires_grad_()

    def guide():
        with pyro.plate("data", B):
            fn = dist.RelaxedOneHotCategoricalStraightThrough(torch.tensor(0.7), logits=logits)
            return pyro.sample("digit", fn)

    for what in ("parameters", "sample"):
        torch.manual_seed(0)
        with gate({"digit": MASKS["pose"]}, what=what):
            node = poutine.trace(guide).get_trace().nodes["digit"]
        assert set(node["value"].unique().tolist()) == {0.0, 1.0}
        assert node["fn"].log_prob(node["value"]).isfinite().all()
        rows = torch.autograd.grad((node["value"] * torch.arange(3)).sum(), logits)[0].count_nonzero(1)
        assert torch.equal(rows > 0, MASKS["pose"])


def test_scores_are_gated_with_the_parameters():
    """A sample without a gradient teaches by its score, which only the gate of the parameters holds back."""
    logits = torch.zeros(B, 3, requires_grad=True)

    def guide(x):
        with pyro.plate("data", B):
            pyro.sample("digit", dist.OneHotCategorical(logits=logits))

    def model(x):
        with pyro.plate("data", B):
            digit = pyro.sample("digit", dist.OneHotCategorical(logits=torch.zeros(3)))
            pyro.sample("x", dist.Normal(digit @ torch.arange(3.0), 1.0), obs=x)

    torch.manual_seed(0)
    with gate({"digit": MASKS["digit"]}):
        Trace_ELBO().differentiable_loss(model, guide, torch.ones(B)).backward()
    assert torch.equal(logits.grad.count_nonzero(1) > 0, MASKS["digit"])
    with pytest.raises(NotImplementedError, match="site 'digit' cannot be gated by its sample, which carries no grad"):
        gate({"digit": MASKS["digit"]}, what="sample")(guide)(None)


def test_shipped_programs():
    torch.manual_seed(0)
    model = ImageModel({"pose": 4, "look": 3}, {"digit": 10}, MLPDecoder)
    guide = ImageGuide({"pose": 4, "look": 3}, {"digit": 10}, MLPEncoder)
    objective = HierarchicalELBO(100)(model, guide)
    x = torch.rand(6, 1, 28, 28)
    torch.manual_seed(1)
    with gate({"pose": torch.zeros(6, dtype=torch.bool), "digit": torch.zeros(6, dtype=torch.bool)}):
        gated = objective(x)
    gated.backward()
    torch.manual_seed(1)
    assert torch.equal(gated, objective(x))
    assert guide.gaussian["pose"].weight.grad.count_nonzero() == 0
    assert guide.discrete["digit"].weight.grad.count_nonzero() == 0
    assert guide.gaussian["look"].weight.grad.count_nonzero() > 0
    assert all(parameter.grad.count_nonzero() > 0 for parameter in model.parameters())


class Gated(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.programs = VAE(8)(Model(), Guide())

    def training_step(self, batch, batch_idx):
        x, pose = batch
        with gate({"pose": pose}):
            return self.programs(x)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def test_inside_lightning(tmp_path):
    """Plain gradient descent does not move a closed row; Adam's momentum would."""
    torch.manual_seed(0)
    module = Gated()
    before = module.programs.guide.rows.detach().clone()
    data = torch.utils.data.TensorDataset(torch.cat([X, X]), MASKS["pose"].repeat(2))
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=B))
    moved = module.programs.guide.rows != before
    assert trainer.global_step == 2
    assert torch.equal(moved, open_numbers({"pose": MASKS["pose"]}))


def test_batches_of_one():
    for opened in (True, False):
        loss, rows, _ = run(OBJECTIVES["Trace_ELBO"](), gate({"pose": torch.tensor([opened])}), x=X[:1])
        assert loss.isfinite()
        assert rows[:, :4].count_nonzero() == 4 * opened


@pytest.mark.parametrize(
    ("masks", "options", "error", "text"),
    [
        ([1], {}, TypeError, "a gate takes block name to boolean mask, got list"),
        ({"pose": True}, {}, TypeError, "the mask of block 'pose' must be a boolean tensor, got bool"),
        (
            {"pose": torch.ones(B)},
            {},
            TypeError,
            "the mask of block 'pose' must be a boolean tensor, got torch.float32",
        ),
        (
            {"pose": torch.tensor(True)},
            {},
            ValueError,
            r"the mask of block 'pose' must have the shape \(B,\) or \(S, B\), got \(\)",
        ),
        (MASKS, {"what": "loc"}, ValueError, "one of 'parameters', 'sample', 'likelihood', got 'loc'"),
        (
            MASKS,
            {"blocks": LAYOUT},
            ValueError,
            "a mask for 'pose', which is no block; the blocks are: 'first', 'rest', 'second', 'third'",
        ),
        ({"first": MASKS["pose"]}, {"blocks": {"first": "pose"}}, ValueError, "block 'first' must be a list of one or"),
    ],
)
def test_bad_masks(masks, options, error, text):
    with pytest.raises(error, match=text), gate(masks, **options):
        Guide()(X)


@pytest.mark.parametrize(
    ("masks", "text"),
    [
        (
            {"gaze": MASKS["pose"]},
            "a mask for 'gaze', but no such block was sampled inside the gate; the sampled sites are: 'pose', 'look'",
        ),
        (
            {"pose": torch.ones(3, dtype=torch.bool)},
            r"the mask of block 'pose' has the shape \(3,\), but site 'pose' has the batch shape \(4,\): give one",
        ),
        (
            {"pose": torch.ones(2, 4, dtype=torch.bool)},
            r"the mask of block 'pose' has the shape \(2, 4\), but site 'pose' has the batch shape \(4,\)",
        ),
        ({"pose": torch.ones(1, dtype=torch.bool)}, r"the mask of block 'pose' has the shape \(1,\)"),
    ],
)
def test_masks_that_do_not_fit(masks, text):
    with pytest.raises(ValueError, match=text), gate(masks):
        Guide()(X)


def test_other_refusals():
    def correlated(x):
        with pyro.plate("data", B):
            pyro.sample("z", dist.MultivariateNormal(torch.zeros(B, 2).requires_grad_(), torch.eye(2)))

    with (
        pytest.raises(
            NotImplementedError, match="site 'z' cannot be gated: the variables of MultivariateNormal depend"
        ),
        gate({"a": MASKS["pose"]}, blocks={"a": ["z[0]"], "b": ["z[1]"]}),
    ):
        correlated(X)
    with (
        pytest.raises(ValueError, match="a gate with what='likelihood' must enclose guide and model"),
        gate(MASKS, what="likelihood"),
    ):
        Guide()(X)
    with pytest.raises(TypeError, match="takes a guide that can be called, got int"):
        gate(3, MASKS)
    with pytest.raises(ValueError, match="the sampled sites are: none"), gate(MASKS):
        pass
    elbo = OBJECTIVES["Trace_ELBO"](num_particles=2)
    with pytest.raises(ValueError, match="the sampled sites are: 'pose', 'look', 'digit'$"):
        run(elbo, gate({"gaze": MASKS["pose"]}))


def test_an_error_inside_is_not_hidden():
    with pytest.raises(RuntimeError, match="a fault of the program"), gate({"gaze": MASKS["pose"]}):
        raise RuntimeError("a fault of the program")
    assert not poutine.runtime.am_i_wrapped()
