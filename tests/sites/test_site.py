"""What every site can be asked, of every family, against torch's own distributions."""

import math
import pickle

import pyro.distributions as dist
import pytest
import torch
from torch import Size

from pyro_hfvae.distributions import Concrete, ConcreteDensity, StraightThroughConcrete
from pyro_hfvae.sites import DiscreteSite, Site, Univariate, read_site, register_site
from pyro_hfvae.sites.site import NOTHING, draw

S, B, V, K = 2, 4, 3, 3
AFFINE, SIGMOID = dist.transforms.AffineTransform(0.5, 2.0), dist.transforms.SigmoidTransform()
TRIANGLE = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.8, 0.0], [-0.3, 0.4, 1.2]]).double()


def lower(h):
    return 0.3 * h.unflatten(-1, (V, V)).tril(-1) + torch.diag_embed(0.3 + h[..., :V].sigmoid())


def low_rank(h):
    return dist.LowRankMultivariateNormal(h[..., :V], h[..., V : 2 * V, None], 0.3 + h[..., 2 * V :].sigmoid())


def mixture(component):
    return lambda h: dist.MixtureSameFamily(torch.distributions.Categorical(logits=h[..., :2]), component(h))


def pair(h):
    """Parameters of two components, [..., 2, V]."""
    return torch.stack([h[..., :V], h[..., V : 2 * V]], -2), 0.3 + torch.stack([h[..., 2 * V :], h[..., :V]], -2).exp()


def two_correlated(h):
    return dist.MultivariateNormal(pair(h)[0], scale_tril=torch.stack([lower(h), 2 * lower(h)], -3))


def behind(*transforms):
    return lambda h: dist.TransformedDistribution(dist.Normal(h[..., :V], 0.3 + h[..., V : 2 * V].exp()), [*transforms])


def normals_of(h, some):
    return dist.Normal(h[..., :V], 0.3 + h[..., V : 2 * V].exp())


def masses(fn, h):
    return fn(h.unflatten(-1, (V, K))).to_event(1)


# Name: the distribution from h, [..., V²], and that of some variables; None where variables are independent or one.
CONTINUOUS = {
    "Normal": (lambda h: normals_of(h, None).to_event(1), None),
    "Gamma": (lambda h: dist.Gamma(1 + h[..., :V].exp(), 1 + h[..., V : 2 * V].exp()).to_event(1), None),
    "Beta": (lambda h: dist.Beta(1 + h[..., :V].exp(), 1 + h[..., V : 2 * V].exp()).to_event(1), None),
    "Exponential": (lambda h: dist.Exponential(h[..., :V].exp()).to_event(1), None),
    "LogNormal": (lambda h: dist.LogNormal(h[..., :V], 0.3 + h[..., V : 2 * V].exp()).to_event(1), None),
    "logistic normal": (lambda h: behind(AFFINE, SIGMOID)(h).to_event(1), None),
    "Laplace": (lambda h: dist.Laplace(h[..., :V], h[..., V : 2 * V].exp()).to_event(1), None),
    "StudentT": (lambda h: dist.StudentT(3 + h[..., :V].exp(), h[..., V : 2 * V]).to_event(1), None),
    "shifted": (lambda h: behind(dist.transforms.AffineTransform(1.0, 2.0))(h).to_event(1), None),
    "mixtures of numbers": (
        lambda h: dist.MixtureSameFamily(
            torch.distributions.Categorical(logits=h[..., :6].unflatten(-1, (V, 2))),
            dist.Normal(h[..., :6].unflatten(-1, (V, 2)), 0.5 + h[..., 3:].exp().unflatten(-1, (V, 2))),
        ).to_event(1),
        None,
    ),
    "Dirichlets": (lambda h: dist.Dirichlet(1 + h.unflatten(-1, (V, V)).exp()).to_event(1), None),
    "Dirichlet": (lambda h: dist.Dirichlet(1 + h[..., :V].exp()), None),
    "flow": (lambda h: behind(dist.transforms.LowerCholeskyAffine(torch.zeros(V).double(), TRIANGLE))(h), None),
    "ConcreteDensity": (lambda h: ConcreteDensity(0.7, logits=h[..., :K]), None),
    "MultivariateNormal": (
        lambda h: dist.MultivariateNormal(h[..., :V], scale_tril=lower(h)),
        lambda h, some: dist.MultivariateNormal(h[..., some], (lower(h) @ lower(h).mT)[..., some, :][..., some]),
    ),
    "LowRankMultivariateNormal": (
        low_rank,
        lambda h, some: dist.MultivariateNormal(h[..., some], low_rank(h).covariance_matrix[..., some, :][..., some]),
    ),
    "mixture of normals": (
        mixture(lambda h: dist.Normal(*pair(h)).to_event(1)),
        lambda h, some: mixture(lambda h: dist.Normal(*(part[..., some] for part in pair(h))).to_event(1))(h),
    ),
    "mixture of multivariate normals": (
        mixture(two_correlated),
        lambda h, some: mixture(
            lambda h: dist.MultivariateNormal(
                pair(h)[0][..., some], two_correlated(h).covariance_matrix[..., some, :][..., some]
            )
        )(h),
    ),
}
DISCRETE = {
    "Concrete": lambda h: masses(lambda logits: Concrete(0.7, logits=logits), h),
    "StraightThroughConcrete": lambda h: masses(lambda logits: StraightThroughConcrete(0.7, logits=logits), h),
    "RelaxedOneHotCategorical": lambda h: masses(
        lambda logits: dist.RelaxedOneHotCategorical(torch.tensor(0.7).double(), logits=logits), h
    ),
    "OneHotCategorical": lambda h: masses(lambda logits: dist.OneHotCategorical(logits=logits), h),
    "Categorical": lambda h: masses(lambda logits: dist.Categorical(logits=logits), h),
    "Bernoulli": lambda h: dist.Bernoulli(logits=h[..., :V]).to_event(1),
    "RelaxedBernoulli": lambda h: dist.RelaxedBernoulli(torch.tensor(0.7).double(), logits=h[..., :V]).to_event(1),
}
MAKE = {name: make for name, (make, _) in CONTINUOUS.items()} | DISCRETE
ONE = ("Dirichlet", "flow", "ConcreteDensity")
"""One variable each."""


def site_of(name, *batch, dtype=torch.float64, seed=0):
    """A site, and what its parameters were made of, a leaf."""
    generator = torch.Generator().manual_seed(seed)
    h = (0.7 * torch.randn(*batch, V * V, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()
    fn = MAKE[name](h)
    torch.manual_seed(seed)
    return read_site("z", fn, fn.sample()), h


def log_prob_of(name, fn, h, value, some):
    """log-density of some variables by torch, whatever the site says."""
    part = CONTINUOUS[name][1]
    if part is not None:
        return part(h, list(some)).log_prob(value[..., list(some)])
    if name in ONE:
        return fn.log_prob(value)
    return fn.base_dist.log_prob(value)[..., list(some)].sum(-1)


def groups_of(site):
    last = site.variables - 1
    return [[0], [last], [0, last], list(range(last + 1))] if last else [[0]]


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("batch", [(B,), (S, B)])
def test_densities_of_groups_of_variables(name, batch):
    site, h = site_of(name, *batch)
    assert site.variables == (1 if name in ONE else V)
    assert not site.discrete
    for some in groups_of(site):
        found = site.log_prob(some)
        assert found.shape == batch
        torch.testing.assert_close(found, log_prob_of(name, site.fn, h, site.value, some))
    torch.testing.assert_close(site.log_prob(range(site.variables)), site.fn.log_prob(site.value))


@pytest.mark.parametrize("name", CONTINUOUS)
def test_densities_of_all_pairs(name):
    """By features and coefficients where there are some, and by a value with further dimensions in any case."""
    site, _ = site_of(name, B)
    reference, g = site_of(name, 5, seed=1)
    for some in groups_of(site):
        expected = log_prob_of(name, reference.fn, g, site.value[:, None], some)  # [B, M]
        pairs = reference.at(reference.fn, site.value[:, None].expand(B, 5, *site.fn.event_shape))
        torch.testing.assert_close(pairs.log_prob(some), expected)
        if (product := site.features(some)) is not None:
            f, base = product
            coefficients, constant = reference.coefficients(some)
            assert base.shape == (B,)
            assert constant.shape == (5,)
            torch.testing.assert_close(f @ coefficients.mT + constant + base[:, None], expected)
        else:
            assert reference.coefficients(some) is None


def test_which_families_are_products():
    found = {name for name in CONTINUOUS if site_of(name, B)[0].features([0]) is not None}
    univariate = {"Normal", "Gamma", "Beta", "Exponential", "LogNormal", "logistic normal", "shifted"}
    assert found == univariate | {"Dirichlet", "Dirichlets", "MultivariateNormal", "LowRankMultivariateNormal"}
    assert {name for name in CONTINUOUS if isinstance(site_of(name, B)[0], Univariate)} == univariate


def test_a_transform_that_may_be_shared_hides_what_it_depends_on():
    with pytest.raises(
        NotImplementedError, match="^the transform LowerCholeskyAffine may have parameters that all data"
    ):
        site_of("flow", B)[0].parameters()


KNOWN = [name for name in MAKE if name != "flow"]
"""Families whose parameters can be taken out."""
KEPT_TWICE = ("LowRankMultivariateNormal", "StudentT")
"""Families whose torch classes hold a parameter, or what is made of it, for the density and once more for samples."""


@pytest.mark.parametrize("name", KNOWN)
def test_parameters_make_the_same_distribution_to_the_bit(name):
    site, _ = site_of(name, B)
    parameters = site.parameters()
    assert all(part.shape[:1] == (B,) for part in parameters)
    again = read_site("z", site.with_parameters(parameters, Size([B])), site.value)
    some = [2, 0]
    fewer = read_site("z", site.with_parameters([part[some] for part in parameters], Size([2])), site.value[some])
    assert type(again) is type(fewer) is type(site)
    assert again.fn.event_shape == site.fn.event_shape
    assert fewer.fn.batch_shape == (2,)
    for ours, theirs, part in zip(again.parameters(), parameters, fewer.parameters(), strict=True):
        if site.discrete:  # masses are normalised once more
            torch.testing.assert_close(ours, theirs)
            torch.testing.assert_close(part, theirs[some])
        else:
            assert torch.equal(ours, theirs)
            assert torch.equal(part, theirs[some])
    if not site.discrete:
        whole = range(site.variables)
        assert torch.equal(again.log_prob(whole), site.log_prob(whole))
        torch.testing.assert_close(fewer.log_prob(whole), site.log_prob(whole)[some], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", KNOWN)
def test_gradients_reach_every_parameter(name):
    site, h = site_of(name, B)
    whole = range(site.variables)
    value = site.log_mass.square().sum() if site.discrete else site.log_prob(whole).square().sum()
    parameters = [part for part in site.parameters() if part.requires_grad]
    assert parameters
    (gradient,) = torch.autograd.grad(value, h, retain_graph=True)
    assert gradient.isfinite().all()
    assert gradient.any(-1).all()
    if not site.discrete:
        leaves = [part.detach().requires_grad_() for part in parameters]
        every = iter(leaves)
        given = [next(every) if part.requires_grad else part for part in site.parameters()]
        made = read_site("z", site.with_parameters(given, Size([B])), site.value)
        found = torch.autograd.grad(made.log_prob(whole).sum(), leaves, allow_unused=name in KEPT_TWICE)
        found = [part for part in found if part is not None]
        assert found
        assert all(part.isfinite().all() and part.any() for part in found)


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("shape", [(6, B), (6, S, B)])
def test_draws_given_some_variables_keep_them(name, shape):
    site, _ = site_of(name, B)
    torch.manual_seed(0)
    whole = site.draw(Size(shape))
    assert whole.shape == (*shape, *site.fn.event_shape)
    assert torch.equal(site.draw(Size(shape), range(site.variables)), site.value.expand_as(whole))
    if site.variables == 1:
        return
    if name.startswith("mixture of"):
        with pytest.raises(NotImplementedError, match="^site 'z' is a mixture, and some of its variables stand above"):
            site.draw(Size(shape), [1])
        return
    drawn = site.draw(Size(shape), [1])
    torch.testing.assert_close(drawn[..., 1] if name != "Dirichlets" else drawn[..., 1, :],
                               site.value[:, 1].expand(*shape, *site.value.shape[2:]))  # fmt: skip
    assert not torch.isclose(drawn, site.value.expand_as(drawn)).all(-1).any() or name == "Dirichlets"


@pytest.mark.parametrize("name", MAKE)
def test_a_site_keeps_its_type_and_is_wide_on_demand(name):
    site, _ = site_of(name, B, dtype=torch.float32) if "Relaxed" not in name and name != "flow" else site_of(name, B)
    wide = site.double()
    assert wide is site.double()
    assert wide.double() is wide
    if site.discrete:
        assert wide.log_mass.dtype == torch.float64
        torch.testing.assert_close(wide.log_mass.to(site.log_mass), site.log_mass)
        return
    whole = range(site.variables)
    if name not in ("flow", "ConcreteDensity"):
        assert site.log_prob(whole).dtype == torch.float32
        assert wide.log_prob(whole).dtype == torch.float64
    torch.testing.assert_close(wide.log_prob(whole).to(site.value), site.log_prob(whole), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", KNOWN)
def test_a_site_can_be_pickled(name):
    site, _ = site_of(name, B)
    site = read_site("z", site.with_parameters([part.detach() for part in site.parameters()], Size([B])), site.value)
    again = pickle.loads(pickle.dumps(site))
    assert type(again) is type(site)
    found, expected = (
        each.log_mass if site.discrete else each.log_prob(range(site.variables)) for each in (again, site)
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", [name for name in CONTINUOUS if name not in ONE])
def test_merged_variables_are_those_that_follow_one_another(name):
    site, _ = site_of(name, B)
    whole = site.merged(1)
    assert (whole.variables, site.variables) == (1, V)
    torch.testing.assert_close(whole.log_prob([0]), site.fn.log_prob(site.value))
    assert site.merged(V) is site
    if (product := whole.features([0])) is not None:
        coefficients, constant = whole.coefficients([0])
        torch.testing.assert_close((product[0] * coefficients).sum(-1) + constant + product[1], whole.log_prob([0]))


def test_outside_the_support_the_density_is_a_very_small_number():
    value = torch.tensor([[1.0, -1.0]], requires_grad=True)
    site = read_site("z", dist.Uniform(torch.zeros(1, 2), 2.0, validate_args=True).to_event(1), value)
    torch.testing.assert_close(site.log_prob([1]), torch.tensor([NOTHING]))
    assert site.log_prob([0]).isfinite().all()


def test_a_mean_without_closed_form_is_refused():
    for name in ("Normal", "mixtures of numbers", "Laplace"):
        site, _ = site_of(name, B)
        assert torch.equal(site.mean, site.fn.mean)
    with pytest.raises(
        NotImplementedError, match="^site 'z' is TransformedDistribution, whose mean has no closed form"
    ):
        _ = site_of("flow", B)[0].mean


def test_a_family_can_be_registered():
    class Uniform(dist.Uniform):
        pass

    @register_site(Uniform)
    class UniformSite(Site):
        pass

    fn = Uniform(torch.zeros(B, V), torch.ones(B, V)).to_event(1)
    assert type(read_site("z", fn, fn.sample())) is UniformSite
    assert type(read_site("z", dist.Uniform(torch.zeros(B, V), 1.0).to_event(1), torch.zeros(B, V))) is Site
    assert isinstance(site_of("Concrete", B)[0], DiscreteSite)


@pytest.mark.parametrize("family", [dist.Laplace, dist.Normal])
def test_variables_of_an_event_of_two_dimensions_in_c_order(family):
    fn = family(torch.arange(6.0).reshape(2, 3), 1.0).expand([4, 2, 3]).to_event(2)
    value = torch.randn(1, 4, 2, 3)
    found = read_site("z", fn, value).log_prob([1, 5])
    expected = family(torch.tensor([1.0, 5.0]), 1.0).log_prob(value.flatten(2)[..., [1, 5]]).sum(-1)
    torch.testing.assert_close(found, expected)


def test_one_ancestor_for_all_data_is_drawn_from_the_same_distribution():
    torch.manual_seed(0)
    for fn in (
        dist.Normal(torch.tensor([1.0, -2.0]), 0.5).to_event(1),
        dist.Normal(1.0, 0.5).expand([7, 2]).to_event(1),
    ):
        draws = draw(fn, Size([3, 10_001, 1, 1]))
        assert draws.shape == (3, 10_001, 1, 1, 2)
        assert draws.unique().numel() > 0.99 * draws.numel()  # float32 repeats a few by chance
        assert (draws.flatten(0, 3).std(0) - 0.5).abs().max() < 0.01
        assert (draws.flatten(0, 3)[:, 0].mean() - 1).abs() < 0.02


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (5, 4, 2, 3), (5, 4, 1, 3), (5, 1, 1, 1)])
@pytest.mark.parametrize("event", [(), (2,), (2, 2)])
def test_normal_variables_of_any_batch_shape(shape, event):
    fn = dist.Normal(torch.randn(Size([*shape, *event])), torch.rand(Size(event)) + 0.5).to_event(len(event))
    value = torch.randn(2, 3, *event)
    expected = fn.log_prob(value).expand(torch.broadcast_shapes(shape, (2, 3)))
    found = read_site("z", fn, value).log_prob(range(math.prod(event)))
    torch.testing.assert_close(found.expand(expected.shape), expected)


DIVERGENT = ["Normal", "Gamma", "Beta", "Exponential", "LogNormal", "logistic normal", "Laplace", "shifted",
             "Dirichlets", "Dirichlet", "MultivariateNormal", "LowRankMultivariateNormal", *DISCRETE]  # fmt: skip


@pytest.mark.parametrize("name", DIVERGENT)
@pytest.mark.parametrize("batch", [(B,), (S, B)])
def test_divergences_are_the_mean_difference_of_log_densities(name, batch):
    """KL(q || r) by draws of q, or the sum over categories."""
    (site, _), (other, _) = site_of(name, *batch), site_of(name, *batch, seed=1)
    found = site.divergence(other)
    joint = site.fine if not site.discrete else (site.variables,)
    assert found.shape == (*batch, *(joint if site.independent else site.cells))
    total = found.reshape(*batch, -1).sum(-1)
    if site.discrete:
        exact = sum((q.exp() * (q - r)).sum(-1) for q, r in zip(
            site.log_mass.unbind(-2), other.log_mass.unbind(-2), strict=True))  # fmt: skip
        torch.testing.assert_close(total, exact)
        return
    torch.manual_seed(0)
    value = site.fn.sample((20_000,))
    log_ratio = site.fn.log_prob(value) - other.fn.log_prob(value)
    error = log_ratio.std(0) / math.sqrt(len(value))
    assert ((log_ratio.mean(0) - total).abs() < 4.5 * error).all()
    assert (site.divergence(site).abs() < 1e-12).all()


@pytest.mark.parametrize("name", ["flow", "mixture of normals", "StudentT"])
def test_divergences_without_a_closed_form_are_refused(name):
    (site, _), (other, _) = site_of(name, B), site_of(name, B, seed=1)
    with pytest.raises(NotImplementedError, match="site 'z' is .*, whose divergence from another has no closed form"):
        site.divergence(other)


def test_a_point_has_no_divergence():
    site = read_site("z", dist.Delta(torch.zeros(B)))
    with pytest.raises(
        NotImplementedError, match="site 'z' is Delta, whose divergence from another has no closed form"
    ):
        site.divergence(site)
