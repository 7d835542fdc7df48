"""Distributions taken apart into the parameters of each datum, and put together again."""

import pyro.distributions as dist
import pytest
import torch
from torch import Size

from pyro_hfvae.sites import map_parameters
from pyro_hfvae.sites.parameters import parameters, with_parameters


def test_parameters_that_plates_repeat_are_expanded():
    fn = dist.Normal(torch.zeros(3), 1.0).expand([4, 3]).to_event(1)
    assert [part.shape for part in parameters(fn)] == [Size([4, 3])] * 2


def test_a_tensor_under_two_names_is_one_parameter():
    """A Categorical holds its logits twice: once they are taken out and put back, it still has one set of them."""
    fn = dist.Categorical(logits=torch.randn(4, 3))
    found = parameters(fn)
    assert len(found) == 1
    again = with_parameters(fn, [found[0] + 1.0], Size([4]))
    assert again.logits is again._param
    assert [part.shape for part in parameters(again)] == [Size([4, 3])]


def test_inherited_parameters_are_known():
    """A StudentT holds a Chi2, whose own constraints leave out what it has as a Gamma."""
    fn = dist.StudentT(3 + torch.rand(4, 2), torch.randn(4, 2), 1.5).to_event(1)
    again = with_parameters(fn, [part[:2] for part in parameters(fn)], Size([2]))
    value = torch.randn(4, 2)
    torch.testing.assert_close(again.log_prob(value[:2]), fn.log_prob(value)[:2])
    torch.manual_seed(0)
    assert again.rsample().shape == (2, 2)


def test_derived_tensors_are_made_again():
    covariance = torch.eye(2).expand(4, 2, 2) * torch.arange(1.0, 5.0)[:, None, None]
    fn = dist.MultivariateNormal(torch.zeros(4, 2), covariance)
    assert fn.precision_matrix.shape == (4, 2, 2)  # cached from here on
    again = with_parameters(fn, [part[2:3] for part in parameters(fn)], Size([1]))
    torch.testing.assert_close(again.covariance_matrix, covariance[2:3])
    torch.testing.assert_close(again.precision_matrix, torch.eye(2)[None] / 3)


def test_a_change_keeps_the_original_as_it_is():
    fn = dist.LogNormal(torch.zeros(4, 2), torch.ones(4, 2)).to_event(1)
    moved = map_parameters(fn, lambda tensor, *_: tensor + 1.0)
    torch.testing.assert_close(moved.base_dist.base_dist.loc, torch.ones(4, 2))
    torch.testing.assert_close(fn.base_dist.base_dist.loc, torch.zeros(4, 2))


def test_what_cannot_be_taken_apart_is_refused_with_the_reason():
    class Hidden(dist.Normal):
        def __init__(self, loc, network):
            super().__init__(loc, 1.0)
            self.network = network

    with pytest.raises(NotImplementedError, match="^Hidden holds 'network', which may depend on parameters unseen$"):
        parameters(Hidden(torch.zeros(4), torch.nn.Linear(1, 1)))
    joint = dist.TransformedDistribution(
        dist.Normal(torch.zeros(4, 2), 1.0), [dist.transforms.StickBreakingTransform()]
    )
    with pytest.raises(NotImplementedError, match="depend on one another, and only all of them can be gated together"):
        map_parameters(joint, lambda tensor, *_: tensor, variables=True)


CONTEXT = torch.randn(4, 2)
FLOWS = {
    "affine coupling": lambda: dist.transforms.affine_coupling(3, [4]),
    "IAF": lambda: dist.transforms.affine_autoregressive(3, [4]),
    "neural spline": lambda: dist.transforms.spline(3),
}


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_that_all_data_share_stays_as_it_is(name):
    """Its base is taken out for some of the data; densities are those of the same data before."""
    flow = FLOWS[name]()
    fn = dist.TransformedDistribution(dist.Normal(torch.randn(4, 3), torch.rand(4, 3) + 0.3).to_event(1), [flow])
    again = with_parameters(fn, [part[1:3] for part in parameters(fn)], Size([2]))
    value = fn.sample()
    torch.testing.assert_close(again.log_prob(value[1:3]), fn.log_prob(value)[1:3])
    with pytest.raises(NotImplementedError, match="may have parameters that all data share"):
        map_parameters(fn, lambda tensor, *_: tensor)  # a gate would leave out what the flow learns


@pytest.mark.parametrize(
    "conditional",
    [dist.transforms.conditional_affine_coupling, dist.transforms.conditional_spline],
)
def test_a_flow_with_a_context_hides_what_it_depends_on(conditional):
    flow = conditional(3, 2).condition(CONTEXT)
    fn = dist.TransformedDistribution(dist.Normal(torch.zeros(4, 3), 1.0).to_event(1), [flow])
    with pytest.raises(NotImplementedError, match="may have parameters that all data share"):
        parameters(fn)


def test_transforms_without_parameters_are_known():
    normal = dist.Normal(torch.randn(4, 3), 1.0).to_event(1)
    fn = dist.TransformedDistribution(normal, [dist.transforms.CorrCholeskyTransform()])
    again = with_parameters(fn, [part[:2] for part in parameters(fn)], Size([2]))
    value = fn.sample()
    torch.testing.assert_close(again.log_prob(value[:2]), fn.log_prob(value)[:2])


def test_dimensions_that_a_constraint_does_not_count_belong_to_a_value():
    """Pyro's mixture of diagonal normals calls its means, [*batch, K, D], real numbers."""
    fn = dist.MixtureOfDiagNormals(torch.randn(4, 2, 3), torch.rand(4, 2, 3) + 0.3, torch.randn(4, 2))
    seen = []
    map_parameters(fn, lambda tensor, shape, events: seen.append((shape, events)) or tensor)
    assert (Size([4, 2, 3]), 2) in seen
