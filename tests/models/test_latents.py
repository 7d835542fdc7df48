"""Latent parts against their formulas, and what they refuse."""

import math

import pyro
import pytest
import torch
from any_data import Given, data_of, encoder_of
from pyro import poutine
from torch.distributions import Normal

from pyro_hfvae import HierarchicalELBO
from pyro_hfvae.guides import FactorisedGuide, StructuredGuide
from pyro_hfvae.models import Clusters, Columns, Conditional, Flow, Independent, Pixels, StructuredModel, VampPrior

X = torch.zeros(4, 2)


@pytest.fixture(autouse=True)
def _fresh():
    pyro.clear_param_store()
    torch.manual_seed(0)


def prior(latents, name, x=X, **covariates):
    """The distribution of a site, in a plate of the data."""

    def program():
        with pyro.plate("data", len(x)):
            latents(x, **covariates)

    return poutine.trace(program).get_trace().nodes[name]["fn"]


@pytest.mark.parametrize("kind", [Clusters, Flow, Independent])
@pytest.mark.parametrize("relaxed", [True, False])
def test_discrete_blocks_are_uniform(kind, relaxed):
    latents = kind({"z": 2}, {"y": 3}, **({} if relaxed else {"relaxation": None}))
    torch.testing.assert_close(prior(latents, "y").probs, torch.full((4, 3), 1 / 3))
    assert latents.widths == {"z": 2, "y": 3}


def test_clusters_are_a_mixture_of_normals():
    latents = Clusters({"z": 2, "w": 1}, {}, 3)
    with torch.no_grad():
        latents.weights["z"].copy_(torch.tensor([0.0, 1.0, -1.0]))
        latents.scales["z"].normal_()
    z = torch.randn(4, 2)
    scales = torch.nn.functional.softplus(latents.scales["z"]) + 1e-4
    each = Normal(latents.means["z"], scales).log_prob(z[:, None]).sum(-1) + latents.weights["z"].log_softmax(0)
    torch.testing.assert_close(prior(latents, "z").log_prob(z), each.logsumexp(-1))
    assert prior(latents, "w").event_shape == (1,)
    with pytest.raises(ValueError, match="^components must be 1 or more, got 0$"):
        Clusters({"z": 2}, {}, 0)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_flow_has_the_density_of_its_change_of_variables(size):
    """log N(e) - log |det dz/de| by autograd, at draws of the flow."""
    latents = Flow({"z": size}, {}, layers=3, hidden=5).double()
    x = torch.zeros(4, 2, dtype=torch.float64)
    fn = latents.flow("z", x)
    noise = torch.randn(5, size, dtype=torch.float64)

    def forwards(e):
        steps = fn.base_dist.transforms if size == 1 else fn.transforms
        for step in steps:
            e = step(e)
        return e

    z = torch.stack([forwards(row) for row in noise])
    volumes = torch.stack([torch.autograd.functional.jacobian(forwards, row).det().abs().log() for row in noise])
    torch.testing.assert_close(fn.log_prob(z.detach()), Normal(0.0, 1.0).log_prob(noise).sum(-1) - volumes)
    assert not torch.allclose(z, noise)


def test_flows_that_cannot_be():
    with pytest.raises(ValueError, match="^layers and hidden must be 1 or more, got 0 and 64$"):
        Flow({"z": 2}, {}, 0)


def test_a_conditional_prior_follows_its_covariates():
    latents = Conditional({"z": 2}, {"y": 3}, {"age": 1, "batch": 2}, 5)
    age, batch = torch.tensor([3, 3, 8, 8]), torch.eye(2)[[0, 0, 0, 1]]
    z, y = (prior(latents, name, age=age, batch=batch) for name in ("z", "y"))
    for parameter in (z.base_dist.loc, z.base_dist.scale, y.logits):
        assert parameter[0].equal(parameter[1])
        assert not parameter[1].equal(parameter[2])
        assert not parameter[2].equal(parameter[3])
    loc, _ = latents.conditionals["z"](torch.cat([age[:, None], batch], 1)).chunk(2, -1)
    torch.testing.assert_close(z.base_dist.loc, loc)


def test_a_conditional_prior_takes_sizes_from_the_data():
    assert Conditional({"z": 2}, {}, ["lengths", "batch"], data=data_of("series")).given == {"lengths": 1, "batch": 2}
    for given, message in (
        ([], "a conditional prior needs one covariate or more"),
        (["age"], "the data have no covariate 'age'; they have: library, batch"),
    ):
        with pytest.raises(ValueError, match=f"^{message}$"):
            Conditional({"z": 2}, {}, given, data=data_of("genes"))
    with pytest.raises(ValueError, match="^the program needs the covariate 'age', got: batch"):
        prior(Conditional({"z": 2}, {}, {"age": 1}), "z", batch=X)


def guide_of(data, **options):
    return FactorisedGuide({"z": 2}, {"y": 3}, encoder_of("pixels"), data=data, **options)


def test_a_vampprior_is_the_mixture_of_the_posteriors_at_its_inputs():
    data = data_of("pixels")
    guide = guide_of(data)
    inputs = torch.rand(3, 2, 3, 4)
    latents = VampPrior({"z": 2}, {"y": 3}, guide, inputs)
    with torch.no_grad():
        latents.weights["z"].copy_(torch.tensor([0.5, -0.5, 1.0]))
    z = torch.randn(6, 2)
    posteriors = poutine.trace(guide).get_trace(inputs).nodes["z"]["fn"].base_dist
    each = Normal(posteriors.loc, posteriors.scale).log_prob(z[:, None]).sum(-1) + latents.weights["z"].log_softmax(0)
    torch.testing.assert_close(prior(latents, "z", torch.zeros(6, 2)).log_prob(z), each.logsumexp(-1))
    assert [name for name, _ in latents.named_parameters()] == ["inputs", "weights.z"]


def test_with_every_datum_as_input_only_the_information_is_left():
    """Esmaeili et al., eq. 2: the prior of each block is q(z) of it, so that the divergence within a block is 0."""
    data = Given(torch.rand(8, 2, 3, 4))
    guide = FactorisedGuide({"z": 2}, {}, encoder_of("pixels"), data=data)
    model = StructuredModel(VampPrior({"z": 2}, {}, guide, data.batch(range(8)).x, learned=False), Pixels(small), data)
    with torch.no_grad():
        guide.gaussian["z"].weight.mul_(20)  # posteriors that differ
    terms = HierarchicalELBO(8).aggregate_terms(model, guide, [(data.batch(range(8)).x,)])
    for name in ("between", "within", "dimension"):
        assert abs(getattr(terms, name)) < 1e-4  # of float32, in sums of 8
    assert terms.mutual_information > 0.1


def small(latent_size, image_shape):
    return torch.nn.Sequential(
        torch.nn.Linear(latent_size, math.prod(image_shape)), torch.nn.Unflatten(-1, image_shape)
    )


def test_vampriors_that_cannot_be():
    data = data_of("pixels")
    guide = guide_of(data)
    with pytest.raises(ValueError, match="^a VampPrior needs one input or more$"):
        VampPrior({"z": 2}, {}, guide, torch.zeros(0, 2, 3, 4))
    with pytest.raises(
        ValueError, match="^inputs with missing or infinite values cannot be learned: set learned=False$"
    ):
        VampPrior({"z": 2}, {}, guide, torch.full((1, 2, 3, 4), math.nan))
    with pytest.raises(
        ValueError, match="^the guide of a VampPrior must have a normal posterior of site 'w', got none"
    ):
        prior(VampPrior({"w": 2}, {}, guide, torch.zeros(1, 2, 3, 4)), "w")
    structured = StructuredGuide({"z": 2}, {"y": 3}, {"z": "y"}, encoder_of("pixels"), data=data)
    with pytest.raises(NotImplementedError, match="^the posteriors of a StructuredGuide depend on the categories"):
        prior(VampPrior({"z": 2}, {"y": 3}, structured, torch.zeros(1, 2, 3, 4)), "z")


def test_a_decoder_belongs_to_one_model():
    data = data_of("columns")
    observation = Columns()
    StructuredModel(Independent({"z": 2}, {}), observation, data)
    message = r"^the decoder is of the blocks \{'z': 2\}, but the latents are \{'z': 3\}$"
    with pytest.raises(ValueError, match=message):
        StructuredModel(Independent({"z": 3}, {}), observation, data)
    with pytest.raises(ValueError, match="^this Columns has a decoder already: each model needs one of its own$"):
        observation.build({"z": 2}, data)
