"""Continuous sites given discrete ones: learned mixtures, spike and slab."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs.reference import Mixture, assert_terms, draw, log_likelihood, pairs, reference_terms, seeded, variables
from support import numbers

from pyro_hfvae import Concrete, HierarchicalELBO
from pyro_hfvae.distributions import StraightThroughConcrete

pytestmark = pytest.mark.usefixtures("double_precision")

N, V, K = 24, 2, 3
NAMES = variables("z", V)
LOGITS, MEANS = numbers(V, K, seed=1), 2 * numbers(K, V, seed=2)
MASS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)

RELAXATIONS = {
    "Concrete": lambda logits: Concrete(0.7, logits=logits),
    "straight-through": lambda logits: StraightThroughConcrete(0.7, logits=logits),
    "Pyro's relaxation": lambda logits: dist.RelaxedOneHotCategorical(torch.tensor(0.7), logits=logits),
    "one-hot": lambda logits: dist.OneHotCategorical(logits=logits),
}


@pytest.mark.parametrize("blocks", [None, {"all": ["y", "z"]}, {"a": ["y", "z[1]"], "b": ["z[0]"]}], ids=str)
@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_learned_mixture(relaxation, blocks):
    """p(y) p(z|y), a Gaussian mixture with learned means and weights."""
    means, mass = torch.nn.Parameter(MEANS), torch.nn.Parameter(MASS.log())

    @seeded
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", RELAXATIONS[relaxation](x @ LOGITS))
            pyro.sample("z", dist.Normal(0.7 * x, 0.5).to_event(1))

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.OneHotCategorical(logits=mass))
            z = pyro.sample("z", dist.Normal(y @ means, 0.8).to_event(1))
            pyro.sample("x", dist.Normal(z + y @ MEANS.flip(0), 0.8).to_event(1), obs=x)

    x = numbers(N, V)
    z = draw(guide, x)["z"]
    posterior = Mixture(
        dict(zip(NAMES, pairs(dist.Normal(0.7 * x, 0.5), z), strict=True)),
        (x @ LOGITS).log_softmax(-1).mT[:, None],
        ("y",),
    )
    given = dist.Normal(MEANS[:, None], 0.8).log_prob(z)[..., None]  # [K, B, V, 1]
    prior = Mixture({name: given[:, :, index] for index, name in enumerate(NAMES)}, MASS.log()[:, None, None], ("y",))
    if relaxation == "one-hot":  # the decoder sees every category
        each = dist.Normal(z + MEANS.flip(0)[:, None], 0.8).log_prob(x).sum(-1)  # [K, N]
        likelihood = float(((x @ LOGITS).softmax(-1).mT * each).sum() / N)
    else:
        likelihood = log_likelihood(model, guide, x)
    parts = {"y": ["y"], "z": ["z"]} if blocks is None else blocks
    names = {block: [name for part in some for name in {"z": NAMES}.get(part, [part])] for block, some in parts.items()}
    terms = HierarchicalELBO(N, blocks=blocks).aggregate_terms(model, guide, [(x,)])
    assert_terms(terms, reference_terms(names, posterior, prior), reconstruction=likelihood)
    loss = HierarchicalELBO(N, blocks=blocks).differentiable_loss(model, guide, x)
    divergence = reference_terms(names, posterior, prior).divergence
    assert float(loss) == pytest.approx(-N * (likelihood - divergence), rel=1e-9)  # weights are 1, of y as well


SLOPE, SPIKE, RATE = torch.tensor([1.0, -1.5], dtype=torch.float64), torch.tensor([0.1, 1.2], dtype=torch.float64), 0.3
S = variables("s", V)


@pytest.mark.parametrize("decoder_reads_s", [False, True], ids=["z alone", "s z"])
@pytest.mark.parametrize("relaxed", [False, True], ids=["Bernoulli", "RelaxedBernoulli"])
@pytest.mark.parametrize(
    "blocks", [None, {"a": ["s[0]", "z[0]"], "b": ["s[1]", "z[1]"]}, {"all": ["s", "z"]}], ids=["sites", "pairs", "one"]
)
def test_spike_and_slab_with_a_bernoulli_parent(blocks, relaxed, decoder_reads_s):
    """s ~ Bernoulli, z|s ~ N(0, spike or slab): the Bernoulli of each variable is its parent."""

    @seeded
    def guide(x):
        with pyro.plate("data", len(x)):
            logits = SLOPE * x
            fn = dist.RelaxedBernoulli(torch.tensor(0.5), logits=logits) if relaxed else dist.Bernoulli(logits=logits)
            pyro.sample("s", fn.to_event(1))
            pyro.sample("z", dist.Normal(0.7 * x, 0.5).to_event(1))

    def decode(s, z):
        return s * z if decoder_reads_s else z

    def model(x):
        with pyro.plate("data", len(x)):
            s = pyro.sample("s", dist.Bernoulli(RATE * torch.ones(V)).to_event(1))
            z = pyro.sample("z", dist.Normal(torch.zeros(V), torch.where(s > 0.5, SPIKE[1], SPIKE[0])).to_event(1))
            pyro.sample("x", dist.Normal(decode(s, z), 0.8).to_event(1), obs=x)

    x = numbers(N, V)
    z = draw(guide, x)["z"]
    logits = SLOPE * x  # [N, V]
    log_mass = torch.stack([-logits, logits]).sigmoid().log()  # [2, N, V]
    joint = log_mass[:, None, :, 0] + log_mass[None, :, :, 1]  # [2, 2, N]
    posterior = Mixture(dict(zip(NAMES, pairs(dist.Normal(0.7 * x, 0.5), z), strict=True)), joint[:, :, None], tuple(S))
    own = dist.Normal(0.0, SPIKE).log_prob(z[..., None])  # [B, V, 2]
    given = {
        NAMES[0]: own[:, 0].mT[:, None, :, None],  # [2, 1, B, 1]
        NAMES[1]: own[:, 1].mT[None, :, :, None],
    }
    rate = torch.tensor([1 - RATE, RATE]).log()
    prior = Mixture(given, (rate[:, None] + rate)[..., None, None], tuple(S))
    if relaxed:
        likelihood = log_likelihood(model, guide, x)
    else:
        likelihood = 0.0
        for s in itertools.product((0, 1), repeat=V):
            log_density = dist.Normal(decode(torch.tensor(s), z), 0.8).log_prob(x).sum(-1)
            likelihood += float((joint[s].exp() * log_density).sum() / N)
    names = {
        "sites": {"s": S, "z": NAMES},
        "pairs": {"a": [S[0], NAMES[0]], "b": [S[1], NAMES[1]]},
        "one": {"all": [*S, *NAMES]},
    }["sites" if blocks is None else "one" if "all" in blocks else "pairs"]
    terms = HierarchicalELBO(N, blocks=blocks).aggregate_terms(model, guide, [(x,)])
    assert_terms(terms, reference_terms(names, posterior, prior), reconstruction=likelihood)


def test_bernoulli_and_category_of_two_agree():
    """A Bernoulli is a categorical with two categories: the same terms, whichever is written."""
    x, logits = numbers(N, V), numbers(V, seed=1)

    def programs(bernoulli):
        def site(logit):
            if bernoulli:
                return dist.Bernoulli(logits=logit)
            return dist.OneHotCategorical(logits=torch.stack([-logit / 2, logit / 2], -1))

        def model(x):
            with pyro.plate("data", len(x)):
                s = pyro.sample("s", site(torch.tensor(0.4)))
                s = s if bernoulli else s[..., 1]
                scale = torch.where(s > 0.5, 1.0, 0.2)[..., None]
                z = pyro.sample("z", dist.Normal(torch.zeros(V), scale).to_event(1))
                pyro.sample("x", dist.Normal(z, 0.8).to_event(1), obs=x)

        def guide(x):
            with pyro.plate("data", len(x)):
                z = dist.Normal(0.7 * x, 0.5).to_event(1)
                pyro.set_rng_seed(0)
                pyro.sample("z", z)
                pyro.sample("s", site(x @ logits))

        return model, guide

    one, other = (HierarchicalELBO(N).aggregate_terms(*programs(bernoulli), [(x,)]) for bernoulli in (True, False))
    for name, term in one.scalars().items():
        assert float(term) == pytest.approx(float(other.scalars()[name]), abs=1e-9), name
