"""Weights by level, by name and by step, against sums written out by hand."""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from pyro_hfvae import Concrete, HierarchicalELBO
from pyro_hfvae.infer import HFVAE
from pyro_hfvae.infer.penalty import Penalty
from pyro_hfvae.infer.weights import Capacity
from pyro_hfvae.schedules import Linear

N = 9
X = torch.rand(N, 7, generator=torch.Generator().manual_seed(0)).double()
DEEP = {"pose": {"place": ["z[0:2]"], "turn": ["z[2]"]}, "rest": ["z[3:5]", "y"]}


class Guide(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.heads = nn.Linear(7, 2 * 5 + 3).double()

    def forward(self, x):
        loc, scale, logits = self.heads(x).split([5, 5, 3], -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(4 * loc, 0.5 * scale.sigmoid()).to_event(1))
            pyro.sample("y", Concrete(0.7, logits=9 * logits))


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(5), 1.0).to_event(1))
        pyro.sample("y", Concrete(0.7, logits=x.new_zeros(3)))
        pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True), 1.0).expand([len(x), 7]).to_event(1), obs=x)


def terms_of(**options):
    guide = Guide()
    torch.manual_seed(3)
    return HierarchicalELBO(N, **options).terms(model, guide, X), guide


def traced(guide):
    torch.manual_seed(3)
    sites = poutine.trace(guide).get_trace(X).nodes
    normal = sites["z"]["fn"].base_dist
    return sites["z"]["value"], normal, sites["y"]["fn"].logits.softmax(-1)


def log_marginal(normal_indices, with_y, guide):
    """E[log q(z_G)] with every datum in the batch, by loops over samples, categories and references."""
    z, normal, mass = traced(guide)
    total = 0.0
    for b in range(N):
        for k in range(3) if with_y else [None]:
            mixture = 0.0
            for m in range(N):
                density = 1.0 / N
                for d in normal_indices:
                    density = density * dist.Normal(normal.loc[m, d], normal.scale[m, d]).log_prob(z[b, d]).exp()
                mixture = mixture + density * (mass[m, k] if with_y else 1.0)
            total = total + (mass[b, k] if with_y else 1.0) * mixture.log() / N
    return total


def test_every_group_of_a_deep_tree_against_loops():
    terms, guide = terms_of(blocks=DEEP)
    q = {name: log_marginal(*parts, guide) for name, parts in {
        "joint": (range(5), True), "pose": (range(3), False), "place": (range(2), False), "turn": ([2], False),
        "rest": ([3, 4], True),
    }.items()}  # fmt: skip
    torch.testing.assert_close(terms.between, q["joint"] - q["pose"] - q["rest"])
    assert list(terms.groups) == ["pose"]
    torch.testing.assert_close(terms.groups["pose"].between, q["pose"] - q["place"] - q["turn"])
    flat, _ = terms_of(blocks={"place": ["z[0:2]"], "turn": ["z[2]"], "rest": ["z[3:5]", "y"]})
    torch.testing.assert_close(terms.elbo, flat.elbo, rtol=1e-12, atol=0)
    torch.testing.assert_close(terms.between + terms.groups["pose"].between, flat.between)


def test_information_of_the_blocks_by_the_chain_rule_against_loops():
    terms, guide = terms_of(blocks={"a": ["z[0:2]"], "b": ["z[2:5]"], "y": ["y"]})
    z, normal, mass = traced(guide)
    log_q = dist.Normal(normal.loc, normal.scale).log_prob(z).mean(0)
    # The discrete block comes first, whatever the layout's order.
    of_y = (mass * (mass / mass.mean(0)).log()).sum(-1).mean()
    torch.testing.assert_close(terms.blocks["y"].conditional_information, of_y)
    entropy = (mass * mass.log()).sum(-1).mean()
    of_ya = log_q[:2].sum() + entropy - log_marginal(range(2), True, guide)
    torch.testing.assert_close(terms.blocks["a"].conditional_information, of_ya - of_y)
    torch.testing.assert_close(terms.blocks["b"].conditional_information, terms.mutual_information - of_ya)
    assert not torch.isclose(terms.blocks["a"].conditional_information, terms.blocks["a"].mutual_information)


def test_the_divergence_of_a_block_is_its_part_of_the_elbo():
    terms, guide = terms_of(blocks=DEEP)
    z, normal, mass = traced(guide)
    log_ratio = normal.log_prob(z) - dist.Normal(0.0, 1.0).log_prob(z)
    torch.testing.assert_close(terms.blocks["place"].divergence, log_ratio[:, :2].sum(-1).mean())
    of_y = (mass * (mass * 3).log()).sum(-1).mean()
    torch.testing.assert_close(terms.blocks["rest"].divergence, log_ratio[:, 3:].sum(-1).mean() + of_y)


def test_weights_by_name_by_level_and_one_for_all():
    terms, _ = terms_of(blocks=DEEP)
    blocks, pose = terms.blocks, terms.groups["pose"].between
    costs = HierarchicalELBO(
        N,
        mutual_information={"place": 2.0, "turn": -3.0, "rest": 0.0},
        between={"joint": 5.0, "pose": 7.0},
        within={"place": 1.0, "turn": 2.0, "rest": 3.0},
        dimension={"place": 4.0, "turn": 5.0, "rest": 6.0},
    ).costs(terms)
    information = {name: block.conditional_information for name, block in blocks.items()}
    torch.testing.assert_close(costs["mutual_information"], 2 * information["place"] - 3 * information["turn"])
    torch.testing.assert_close(costs["between"], 5 * terms.between + 7 * pose)
    within = blocks["place"].within + 2 * blocks["turn"].within + 3 * blocks["rest"].within
    torch.testing.assert_close(costs["within"], within)
    dimension = 4 * blocks["place"].dimension + 5 * blocks["turn"].dimension + 6 * blocks["rest"].dimension
    torch.testing.assert_close(costs["dimension"], dimension)
    by_level = HierarchicalELBO(N, between=[5.0, 7.0]).costs(terms)
    torch.testing.assert_close(by_level["between"], costs["between"])
    same = HierarchicalELBO(N, between=5.0).costs(terms)
    torch.testing.assert_close(same["between"], 5 * (terms.between + pose))


def test_all_information_costs_1_by_default():
    terms, _ = terms_of()
    costs = HierarchicalELBO(N).costs(terms)
    torch.testing.assert_close(costs["mutual_information"], terms.mutual_information)
    torch.testing.assert_close(HierarchicalELBO(N).objective(terms), terms.elbo)


def test_discrete_blocks_beside_others_are_free_by_default_in_hfvae_and_only_they():
    terms, _ = terms_of()
    costs = HFVAE(N).costs(terms)
    torch.testing.assert_close(costs["mutual_information"], terms.blocks["z"].conditional_information)
    assert terms.blocks["y"].conditional_information > 0.1
    together, _ = terms_of(blocks={"all": ["z", "y"]})
    costs = HFVAE(N).costs(together)
    torch.testing.assert_close(costs["mutual_information"], together.mutual_information)


def test_a_schedule_follows_the_step():
    terms, _ = terms_of()
    elbo = HierarchicalELBO(N, between=Linear(1.0, 5.0, 10))
    for step, weight in ((0, 1.0), (5, 3.0), (20, 5.0)):
        elbo(model, model).steps = step
        torch.testing.assert_close(elbo.costs(terms)["between"], weight * terms.between)


def test_a_capacity_holds_a_term_at_its_nats():
    terms, _ = terms_of()
    information = terms.blocks["y"].conditional_information
    for nats in (0.0, 100.0):
        elbo = HierarchicalELBO(N, mutual_information={"z": 0.0, "y": Capacity(3.0, Linear(50.0, nats, 10))})
        elbo(model, model).steps = 10
        torch.testing.assert_close(elbo.costs(terms)["mutual_information"], 3 * (information - nats).abs())


class SquaredMeans(Penalty):
    def forward(self, samples, terms):
        return samples[0].posteriors["z"].loc.square().mean()


def test_penalties_are_charged_with_their_weight_and_reported_without():
    guide = Guide()
    torch.manual_seed(3)
    elbo = HierarchicalELBO(N, penalties={"means": SquaredMeans(Linear(0.0, 4.0, 2))})
    elbo(model, guide).steps = 1
    terms = elbo.terms(model, guide, X)
    expected = traced(guide)[1].loc.square().mean()
    torch.testing.assert_close(terms.scalars()["penalty/means"], expected)
    plain, _ = terms_of()
    torch.testing.assert_close(terms.elbo, plain.elbo)
    torch.testing.assert_close(elbo.objective(terms), HierarchicalELBO(N).objective(plain) - 2 * expected)


def test_active_units_counts_variables_that_tell_something():
    terms, guide = terms_of()
    assert terms.active_units == 6
    with torch.no_grad():
        guide.heads.weight[[1, 6, 10, 11, 12]] = 0  # the mean and scale of z[1], and the logits of y
    assert HierarchicalELBO(N).terms(model, guide, X).active_units == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"between": {"pose": 1.0}}, "'between' has no 'joint'; give a weight for each of: 'joint', 'pose'"),
        ({"between": [1.0]}, "'between' has 1 weights, but the blocks make 2 levels of groups"),
        (
            {"within": {"place": 1.0, "turn": 1.0, "rest": 1.0, "hat": 2.0}},
            "'within' has an unknown 'hat'; give a weight for each of: 'place', 'turn', 'rest'",
        ),
        (
            {"mutual_information": {"place": 1.0}},
            "'mutual_information' has no 'turn'; give a weight for each of: 'place', 'turn', 'rest'",
        ),
    ],
)
def test_weights_that_do_not_fit_the_blocks_are_refused(options, message):
    terms, _ = terms_of(blocks=DEEP)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        HierarchicalELBO(N, blocks=DEEP, **options).objective(terms)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"a": float("nan")}, "between.a"),
        ([1.0, float("inf")], "between"),
        (Capacity(1.0, float("nan")), "between.nats"),
        ({"a": Capacity(float("inf"), 1.0)}, "between.a.weight"),
    ],
)
def test_weights_that_are_not_finite_are_refused(given, name):
    with pytest.raises(ValueError, match=f"^weight '{name}' must be a finite number, got (nan|inf)$"):
        HierarchicalELBO(N, between=given)


@pytest.mark.parametrize(
    ("given", "name", "kind"),
    [
        ("2", "within", "str"),
        (None, "within", "NoneType"),
        (True, "within", "bool"),
        (torch.ones(2), "within", "Tensor"),
        (lambda step: 1.0, "within", "function"),
        ({"a": "2"}, "within.a", "str"),
        ([1.0, None], "within", "NoneType"),
        (Capacity(1.0, None), "within.nats", "NoneType"),
    ],
)
def test_weights_of_a_wrong_type_are_refused_when_the_objective_is_made(given, name, kind):
    message = f"^weight '{name}' must be a number, a schedule or a Capacity, got {kind}: "
    with pytest.raises(TypeError, match=message):
        HierarchicalELBO(N, within=given)
    with pytest.raises(TypeError, match=message.replace("within", "weight")):
        SquaredMeans(given)
