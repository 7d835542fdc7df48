"""Every objective of the family through the same properties, against its formula written out with loops."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI
from pyro.optim import Adam
from torch import nn

from pyro_hfvae import Concrete, HierarchicalELBO, infer
from pyro_hfvae.infer import Capacity
from pyro_hfvae.infer.penalties import ZhaoKernel
from pyro_hfvae.schedules import Linear

N, B, V, K = 12, 5, 3, 4
LOG_PRIOR = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).log()


class Guide(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.Linear(6, 2 * V + K)

    def forward(self, x):
        loc, scale, logits = self.heads(x).split([V, V, K], -1)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(2 * loc, 0.3 + scale.sigmoid()).to_event(1))
            pyro.sample("y", Concrete(0.7, logits=3 * logits))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(V + K, 6)

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(V), 1.5).to_event(1))
            y = pyro.sample("y", Concrete(0.7, logits=LOG_PRIOR.to(x)))
            pyro.sample("x", dist.Normal(self.decoder(torch.cat([z, y], -1)), 0.8).to_event(1), obs=x)


def programs(dtype=torch.float64):
    torch.manual_seed(1)
    return Model().to(dtype), Guide().to(dtype), torch.randn(B, 6, dtype=dtype)


class Written:
    """One particle, with a loop wherever the library has a tensor operation."""

    def __init__(self, model, x, z, relaxed, loc, scale, mass, zeta):
        self.z, self.relaxed, self.loc, self.scale, self.mass, self.zeta = z, relaxed, loc, scale, mass, zeta
        self.prior = LOG_PRIOR.exp().to(x)
        output = dist.Normal(torch.cat([z, relaxed], -1) @ model.decoder.weight.T + model.decoder.bias, 0.8)
        self.reconstruction = output.log_prob(x).sum() / B
        parts = [*range(V), "y"]
        conditional = {part: self.mean(lambda b, part=part: self.entropy_of(b, part)) for part in parts}
        prior = {part: self.mean(lambda b, part=part: self.cross_entropy_of(b, part)) for part in parts}
        self.log_q = {part: self.marginal([part]) for part in parts}
        self.of_y = conditional["y"] - prior["y"]
        self.of_z = sum(conditional[e] - prior[e] for e in range(V))
        self.kl = self.of_y + self.of_z
        self.information = sum(conditional.values()) - self.marginal(parts)
        self.information_of_y = conditional["y"] - self.log_q["y"]
        self.between = self.marginal(parts) - self.marginal(range(V)) - self.log_q["y"]
        self.within = self.marginal(range(V)) - sum(self.log_q[e] for e in range(V))
        self.dimension = sum(self.log_q.values()) - sum(prior.values())

    def mean(self, of):
        return sum(of(b) for b in range(B)) / B

    def entropy_of(self, b, part):
        """E[log q(part|x^b)]."""
        if part == "y":
            return sum(m * m.log() for m in self.mass[b])
        return dist.Normal(self.loc[b, part], self.scale[b, part]).log_prob(self.z[b, part])

    def cross_entropy_of(self, b, part):
        if part == "y":
            return sum(m * p.log() for m, p in zip(self.mass[b], self.prior, strict=True))
        return dist.Normal(0 * self.prior[0], 1.5).log_prob(self.z[b, part])

    def marginal(self, parts):
        """E[log q(z_G)], estimated from the batch."""
        return self.mean(lambda b: self.marginal_at(b, list(parts)))

    def marginal_at(self, b, parts):
        total = 0.0
        for k in range(K) if "y" in parts else [None]:
            mixture = 0.0
            for m in range(B):
                density = 1 / N if m == b else (N - 1) / (N * (B - 1))
                for part in parts:
                    density = density * (
                        self.mass[m, k]
                        if part == "y"
                        else dist.Normal(self.loc[m, part], self.scale[m, part]).log_prob(self.z[b, part]).exp()
                    )
                mixture = mixture + density
            total = total + (1.0 if k is None else self.mass[b, k]) * mixture.log()
        return total

    def covariance(self, i, j, of_samples=False):
        means = [sum(self.loc[b, e] for b in range(B)) / B for e in (i, j)]
        value = sum((self.loc[b, i] - means[0]) * (self.loc[b, j] - means[1]) for b in range(B)) / B
        return value + (sum(s**2 for s in self.scale[:, i]) / B if of_samples and i == j else 0.0)

    def off_diagonal(self):
        return sum(self.covariance(i, j) ** 2 for i in range(V) for j in range(V) if i != j)

    def diagonal(self, of_samples):
        return sum((self.covariance(i, i, of_samples) - 1) ** 2 for i in range(V))

    def mmd(self, bandwidth):
        def kernel(a, b, mass_a, mass_b):
            square = sum((a[e] - b[e]) ** 2 for e in range(V))
            return torch.exp(-square / bandwidth) * sum(mass_a[k] * mass_b[k] for k in range(K))

        total = 0.0
        for a in range(B):
            for b in range(B):
                cross = kernel(self.z[a], self.zeta[b], self.mass[a], self.prior)
                total = total - 2 * cross / B**2
                if a != b:
                    same = kernel(self.z[a], self.z[b], self.mass[a], self.mass[b])
                    same = same + kernel(self.zeta[a], self.zeta[b], self.prior, self.prior)
                    total = total + same / (B * (B - 1))
        return total

    def log_ratio(self, module):
        """log D / (1 - D), layer by layer."""
        network = module.penalties["total_correlation"].network
        rows = torch.cat([self.z, self.relaxed], -1)
        for layer in (network[0], network[2]):
            rows = rows @ layer.weight.T + layer.bias
            rows = rows.clamp(min=0) + 0.2 * rows.clamp(max=0)
        discriminator = torch.sigmoid(rows @ network[4].weight.T + network[4].bias)
        return (discriminator / (1 - discriminator)).log().mean()


def vae(w, module=None):
    return w.reconstruction - w.kl


LINEAR = Linear(0.0, 4.0, 10)  # 1.2 at step 3, which the tests are at

FAMILY = {
    "VAE": (infer.VAE, {}, vae),
    "BetaVAE": (infer.BetaVAE, {"beta": LINEAR}, lambda w, module: w.reconstruction - 1.2 * w.kl),
    "AnnealedVAE": (
        infer.AnnealedVAE,
        {"gamma": 7.0, "capacity": Linear(0.0, 400.0, 10)},
        lambda w, module: w.reconstruction - 7 * abs(w.kl - 120),
    ),
    "BetaTCVAE": (
        infer.BetaTCVAE,
        {"beta": 6.0},
        lambda w, module: w.reconstruction - w.information - 6 * (w.between + w.within) - w.dimension,
    ),
    "FactorVAE": (
        infer.FactorVAE,
        {"gamma": LINEAR, "hidden": [7, 5]},
        lambda w, module: vae(w) - 1.2 * w.log_ratio(module),
    ),
    "InfoVAE": (
        infer.InfoVAE,
        {"mmd": 50.0, "alpha": 0.3},
        lambda w, module: w.reconstruction - 0.7 * w.information - 50 * w.mmd(2 * V),
    ),
    "MMD-VAE": (
        infer.InfoVAE,
        {"mmd": LINEAR, "kernel": ZhaoKernel()},
        lambda w, module: w.reconstruction - 1.2 * w.mmd(V**2),
    ),
    "DIPVAEI": (
        infer.DIPVAEI,
        {"off_diagonal": 3.0, "diagonal": 5.0},
        lambda w, module: vae(w) - 3 * w.off_diagonal() - 5 * w.diagonal(False),
    ),
    "DIPVAEII": (
        infer.DIPVAEII,
        {"off_diagonal": LINEAR, "diagonal": 5.0},
        lambda w, module: vae(w) - 1.2 * w.off_diagonal() - 5 * w.diagonal(True),
    ),
    "DIPVAEI with a weight on the information": (
        infer.DIPVAEI,
        {"off_diagonal": 3.0, "diagonal": 5.0, "mutual_information": LINEAR},
        lambda w, module: vae(w) - 0.2 * w.information - 3 * w.off_diagonal() - 5 * w.diagonal(False),
    ),
    "DIPVAEII with a weight on the information": (
        infer.DIPVAEII,
        {"off_diagonal": 3.0, "diagonal": 5.0, "mutual_information": LINEAR},
        lambda w, module: vae(w) - 0.2 * w.information - 3 * w.off_diagonal() - 5 * w.diagonal(True),
    ),
    "JointVAE": (
        infer.JointVAE,
        {"gamma": 3.0, "capacity": {"z": Linear(0.0, 300.0, 10), "y": 100.0}},
        # The prior's rarest category has the mass .1, and log 10 is all that y's divergence could be.
        lambda w, module: w.reconstruction - 3 * abs(w.of_z - 90) - 3 * abs(w.of_y - math.log(10)),
    ),
    "HFVAE": (
        infer.HFVAE,
        {"between": 4.0, "within": 2.0},
        # Information of the discrete block is free.
        lambda w, module: (
            w.reconstruction - (w.information - w.information_of_y) - 4 * w.between - 2 * w.within - w.dimension
        ),
    ),
}
MEMBERS = pytest.mark.parametrize("name", FAMILY)


def make(name, model, guide, **options):
    """An objective, and its module of model and guide, at step 3."""
    member, arguments, _ = FAMILY[name]
    elbo = member(N, **arguments, **options)
    elbo(model, guide).steps = 3
    return elbo, elbo(model, guide)


def written(model, guide, x, particles):
    """What the library reads off the same random stream."""
    torch.manual_seed(5)
    run = guide if particles == 1 else pyro.plate("particles", particles, dim=-2)(guide)
    guide_trace = poutine.trace(run).get_trace(x)
    z, y = guide_trace.nodes["z"], guide_trace.nodes["y"]
    zeta = dist.Normal(z["value"].new_zeros(z["value"].shape), 1.5).rsample()
    normal = z["fn"].base_dist
    mass = y["fn"].logits.softmax(-1)
    tensors = (z["value"], y["value"], normal.loc, normal.scale, mass, zeta)
    shape = (particles, B)
    return [
        Written(model, x, *(tensor.expand(*shape, tensor.shape[-1])[s] for tensor in tensors)) for s in range(particles)
    ]


@MEMBERS
@pytest.mark.parametrize(("dtype", "particles"), [(torch.float32, 1), (torch.float64, 1), (torch.float64, 3)])
def test_value_and_gradient_against_the_formula(name, dtype, particles):
    model, guide, x = programs(dtype)
    elbo, module = make(name, model, guide, num_particles=particles, vectorize_particles=particles > 1)
    module.terms(x)  # the discriminator is made
    torch.manual_seed(5)
    value = elbo.objective(elbo.terms(model, guide, x))
    expected = sum(FAMILY[name][2](w, module) for w in written(model, guide, x, particles)) / particles
    tolerance = {"rtol": 1e-4, "atol": 1e-3} if dtype is torch.float32 else {"rtol": 1e-9, "atol": 1e-9}
    assert value.dtype is dtype
    torch.testing.assert_close(value, expected, **tolerance)
    parameters = [*model.parameters(), *guide.parameters()]
    for gradient, right in zip(
        torch.autograd.grad(value, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(gradient, right, **tolerance)
        assert gradient.abs().sum() > 0


@MEMBERS
def test_one_particle_after_the_other_is_their_mean(name):
    model, guide, x = programs()
    (_, both), (_, one) = (make(name, model, guide, num_particles=particles) for particles in (2, 1))
    for module in (both, one):
        module.terms(x)  # the discriminator is made
    one.load_state_dict(both.state_dict())
    torch.manual_seed(5)
    value = both.objective(both.terms(x))
    torch.manual_seed(5)
    samples = [next(one._samples((x,), {})) for _ in range(2)]  # both before the penalties draw what they need
    terms = [one._mean_terms([sample]) for sample in samples]
    torch.testing.assert_close(value, sum(one.objective(part) for part in terms) / 2)


@MEMBERS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_parameter_moves_under_svi_the_discriminators_too(name, dtype):
    model, guide, x = programs(dtype)

    def registered(program, key):
        return lambda x: pyro.module(key, program)(x)

    programs_of_svi = registered(model, "model"), registered(guide, "guide")
    elbo, module = make(name, *programs_of_svi)
    module.terms(x)  # the discriminator is made
    modules = [model, guide, *(penalty.network for penalty in module.penalties.values() if name == "FactorVAE")]
    before = [parameter.detach().clone() for module in modules for parameter in module.parameters()]
    pyro.clear_param_store()
    with pyro.settings.context(module_local_params=False):
        svi = SVI(*programs_of_svi, Adam({"lr": 0.01}), loss=elbo)
        losses = [svi.step(x) for _ in range(2)]
    after = [parameter for module in modules for parameter in module.parameters()]
    assert all(math.isfinite(loss) for loss in losses)
    assert all((a != b).any() and a.isfinite().all() and a.dtype is dtype for a, b in zip(after, before, strict=True))


@MEMBERS
def test_two_data_are_enough_and_one_is_not_if_there_are_more(name):
    model, guide, x = programs()
    elbo, module = make(name, model, guide)
    assert module.objective(module.terms(x[:2])).isfinite()
    elbo.loss_and_grads(model, guide, x[:2])
    assert all(parameter.grad.isfinite().all() for parameter in guide.parameters())
    with pytest.raises(ValueError, match="one datum"):
        make(name, model, guide)[1].terms(x[:1])


@MEMBERS
def test_what_is_charged_is_logged_and_reported(name):
    model, guide, x = programs()
    elbo, _ = make(name, model, guide)
    terms = elbo.terms(model, guide, x)
    costs = elbo.costs(terms)
    torch.testing.assert_close(elbo.objective(terms), terms.reconstruction - sum(costs.values()))
    assert {f"penalty/{key}" for key in elbo.penalties} <= terms.scalars().keys()
    assert costs.keys() == {"mutual_information", "between", "within", "dimension", *elbo.penalties}
    has_schedule = any(isinstance(value, Linear) for value in FAMILY[name][1].values()) or name == "JointVAE"
    assert bool(elbo.scheduled_weights()) == has_schedule


@MEMBERS
def test_further_penalties_are_charged_beside_its_own(name):
    """At their weight, and under another name only."""
    model, guide, x = programs()
    further = {"further": infer.penalties.Divergence(2.0)}
    (plain, _), (elbo, _) = make(name, model, guide), make(name, model, guide, penalties=further)
    torch.manual_seed(0)
    expected = plain.terms(model, guide, x)
    torch.manual_seed(0)
    terms = elbo.terms(model, guide, x)
    assert list(elbo.penalties) == [*plain.penalties, "further"]
    if name != "FactorVAE":  # whose discriminators differ
        torch.testing.assert_close(elbo.objective(terms), plain.objective(expected) - 2 * terms.penalties["further"])
    for own in plain.penalties:
        with pytest.raises(ValueError, match=f"'{own}' is the name of a penalty of the objective's own"):
            make(name, model, guide, penalties={own: infer.penalties.Divergence()})


@MEMBERS
def test_it_is_one_objective_of_the_mechanism(name):
    model, guide, x = programs()
    blocks = {"a": ["z[0]"], "b": ["z[1:]", "y"]} if name != "JointVAE" else None
    elbo, _ = make(name, model, guide, blocks=blocks)
    assert isinstance(elbo, HierarchicalELBO)
    aggregate = elbo.aggregate_terms(model, guide, [(x,), (x + 1,)])
    assert list(aggregate.blocks) == (["a", "b"] if name != "JointVAE" else ["z", "y"])


def test_total_correlation_is_one_whatever_the_layout():
    model, guide, x = programs()
    values = []
    for blocks in (None, {"all": ["z", "y"]}, {"deep": {"a": ["z[0]"], "b": ["z[1]"]}, "rest": ["z[2]", "y"]}):
        elbo = infer.BetaTCVAE(N, 6.0, blocks=blocks)
        torch.manual_seed(5)
        values.append(elbo.objective(elbo.terms(model, guide, x)))
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[0], values[2])


def test_a_weight_of_one_or_nothing_charged_is_the_vae():
    model, guide, x = programs()

    def value(elbo):
        torch.manual_seed(5)
        return elbo.objective(elbo.terms(model, guide, x))

    expected = value(infer.VAE(N))
    same = [
        infer.BetaVAE(N, 1.0),
        infer.BetaTCVAE(N, 1.0),
        infer.FactorVAE(N, 0.0, hidden=[3]),
        infer.DIPVAEI(N, 0.0, 0.0),
        infer.HFVAE(N, mutual_information=1.0),
        infer.JointVAE(N, 1.0, {"z": 0.0, "y": 0.0}),
        infer.AnnealedVAE(N, 1.0, 0.0),
    ]
    for elbo in same:
        torch.testing.assert_close(value(elbo), expected)


def test_a_capacity_moves_with_the_step():
    model, guide, x = programs()
    elbo = infer.AnnealedVAE(N, 2.0, Linear(0.0, 100.0, 10))
    terms = elbo.terms(model, guide, x)
    divergence = terms.reconstruction - terms.elbo
    for step, nats in ((0, 0.0), (5, 50.0), (99, 100.0)):
        elbo(model, guide).steps = step
        torch.testing.assert_close(elbo.costs(terms)["divergence"], 2 * (divergence - nats).abs())


@pytest.mark.parametrize(
    ("capacity", "message"),
    [
        ({"z": 1.0}, "block 'y' has no capacity; give one for each of: 'z', 'y'"),
        (
            {"z": 1.0, "hat": 1.0, "y": 1.0},
            "a capacity is given for block 'hat', which is not there; the blocks: 'z', ",
        ),
    ],
)
def test_capacities_that_do_not_fit_the_blocks_are_refused(capacity, message):
    model, guide, x = programs()
    with pytest.raises(ValueError, match=message):
        infer.JointVAE(N, 1.0, capacity).terms(model, guide, x)


def test_the_capacity_of_a_part_of_a_discrete_site_ends_where_it_must():
    class Pair(nn.Module):
        def __init__(self, logits):
            super().__init__()
            self.logits = logits

        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("y", Concrete(0.7, logits=self.logits.expand(len(x), 2, 3)).to_event(1))
                if self.logits.sum() == 0:
                    pyro.sample("x", dist.Normal(0.0, 1.0).expand([len(x)]), obs=x)

    capacity = {"a": 10.0, "b": Linear(0.5, 10.0, 10)}
    elbo = infer.JointVAE(N, 1.0, capacity, blocks={"a": ["y[0]"], "b": ["y[1]"]})
    module = elbo(Pair(torch.zeros(3)), Pair(torch.randn(2, 3)))
    module.steps = 10
    terms = module.terms(torch.randn(B))
    for block in ("a", "b"):
        left = elbo.costs(terms)[f"divergence/{block}"]
        torch.testing.assert_close(left, math.log(3) - terms.blocks[block].divergence)
    assert elbo.scheduled_weights()["divergence/b/nats"] == 10.0
    module.steps = 0
    assert elbo.scheduled_weights()["divergence/b/nats"] == 0.5
    torch.testing.assert_close(elbo.costs(terms)["divergence/b"], (terms.blocks["b"].divergence - 0.5).abs())


@pytest.mark.parametrize(
    "build",
    [
        lambda w: infer.BetaVAE(N, w),
        lambda w: infer.AnnealedVAE(N, w, 1.0),
        lambda w: infer.AnnealedVAE(N, 1.0, w),
        lambda w: infer.BetaTCVAE(N, w),
        lambda w: infer.FactorVAE(N, w),
        lambda w: infer.InfoVAE(N, w),
        lambda w: infer.InfoVAE(N, 1.0, alpha=w),
        lambda w: infer.DIPVAEI(N, w, 1.0),
        lambda w: infer.DIPVAEII(N, 1.0, Capacity(w, 1.0)),
        lambda w: infer.JointVAE(N, 1.0, {"z": w}),
        lambda w: infer.HFVAE(N, within=w),
    ],
)
def test_weights_that_are_not_finite_are_refused(build):
    with pytest.raises(ValueError, match="must be a finite number, got nan"):
        build(float("nan"))
