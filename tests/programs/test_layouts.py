"""Sites of several event dimensions and plates inside the data plate: objects and their attributes."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs.reference import assert_terms, draw, independent, log_likelihood, reference_terms, seeded, variables
from pyro.infer import Trace_ELBO
from support import numbers

from pyro_hfvae import HierarchicalELBO

pytestmark = pytest.mark.usefixtures("double_precision")

N, O, A = 30, 3, 4  # data, objects, attributes  # noqa: E741


def encode(x):
    """Means and scales of objects and attributes, [N, O, A]."""
    loc = x[:, None, :] * torch.tensor([1.0, 0.5, -0.7])[:, None] + 0.2 * x.roll(1, -1)[:, None, :]
    return loc, 0.3 + 0.2 * loc.sigmoid()


@seeded
def guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(*encode(x)).to_event(2))


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(O, A), 1.0).to_event(2))
        pyro.sample("x", dist.Normal(z.sum(-2), 0.8).to_event(1), obs=x)


@seeded
def guide_with_plate(x):
    with pyro.plate("data", len(x), dim=-2), pyro.plate("objects", O, dim=-1):
        pyro.sample("z", dist.Normal(*encode(x)).to_event(1))


def model_with_plate(x):
    """The same with a plate of objects to the right of the data's; the data have one batch dimension less."""
    with pyro.plate("data", len(x), dim=-2):
        with pyro.plate("objects", O, dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(A), 1.0).to_event(1))  # [B, O, A]
        mean = z.sum(-2, keepdim=True)  # [B, 1, A]
        pyro.sample("x", dist.Normal(mean, 0.8).to_event(1), obs=x[:, None])


def flat(pairs_of_indices):
    return [f"z[{o * A + a}]" for o, a in pairs_of_indices]


LAYOUTS = {
    "attributes": (
        {"place": ["z[:, 0:2]"], "look": ["z[:, 2:]"]},
        {
            "place": flat((o, a) for o in range(O) for a in (0, 1)),
            "look": flat((o, a) for o in range(O) for a in (2, 3)),
        },
    ),
    "objects": (
        {"first": ["z[0, :]"], "others": ["z[1:, :]"]},
        {"first": flat((0, a) for a in range(A)), "others": flat((o, a) for o in (1, 2) for a in range(A))},
    ),
    "one attribute of one object": (
        {"one": ["z[1, 2]"], "rest": ["z[0, :]", "z[1, 0:2]", "z[1, 3]", "z[2, :]"]},
        {"one": ["z[6]"], "rest": [name for name in variables("z", O * A) if name != "z[6]"]},
    ),
    "site": (None, {"z": variables("z", O * A)}),
}


def check(model, guide, layout, names):
    x = numbers(N, A)
    z = draw(guide, x)["z"].reshape(N, O * A)
    loc, scale = (part.flatten(1) for part in encode(x))
    prior = independent("z", dist.Normal(torch.zeros(O * A), 1.0), z)
    reference = reference_terms(names, independent("z", dist.Normal(loc, scale), z), prior)
    terms = HierarchicalELBO(N, blocks=layout).aggregate_terms(model, guide, [(x,)])
    assert_terms(terms, reference, reconstruction=log_likelihood(model, guide, x))
    loss = HierarchicalELBO(N, blocks=layout).differentiable_loss(model, guide, x)
    assert float(loss) == pytest.approx(Trace_ELBO().loss(model, guide, x), rel=1e-9)


@pytest.mark.parametrize("name", LAYOUTS)
def test_parts_of_an_event_of_two_dimensions(name):
    check(model, guide, *LAYOUTS[name])


@pytest.mark.parametrize("name", LAYOUTS)
def test_plate_of_objects_is_a_dimension_of_the_event(name):
    check(model_with_plate, guide_with_plate, *LAYOUTS[name])


def test_plate_of_objects_gives_the_terms_of_the_event():
    x, names = numbers(N, A), ("reconstruction", "mutual_information", "between", "within", "dimension")
    layout = LAYOUTS["attributes"][0]
    one = HierarchicalELBO(N, blocks=layout).terms(model, guide, x)
    other = HierarchicalELBO(N, blocks=layout).terms(model_with_plate, guide_with_plate, x)
    for name in names:
        assert float(getattr(one, name)) == pytest.approx(float(getattr(other, name)), abs=1e-9), name


def test_observations_in_the_plate_of_objects():
    """Each object has a likelihood of its own, [B, O], all of them of the same datum."""

    def observed(x):
        with pyro.plate("data", len(x), dim=-2), pyro.plate("objects", O, dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(A), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 0.8).to_event(1), obs=x[:, None].expand(-1, O, -1))

    x = numbers(N, A)
    z = draw(guide_with_plate, x)["z"]
    right = dist.Normal(z, 0.8).log_prob(x[:, None]).sum() / N
    terms = HierarchicalELBO(N).terms(observed, guide_with_plate, x)
    assert float(terms.reconstruction) == pytest.approx(float(right))


@pytest.mark.parametrize("part", ["z[:, 4:]", "z[3, :]", "z[:, :, 0]"])
def test_parts_outside_the_event_are_refused_by_name(part):
    with pytest.raises(ValueError, match="'a'.*z"):
        HierarchicalELBO(N, blocks={"a": [part], "b": ["z"]}).terms(model, guide, numbers(N, A))
