"""What HierarchicalELBO cannot split is refused, by the name of the site."""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_hfvae import Concrete, HierarchicalELBO, NonFiniteError

X = torch.zeros(6, 3)


def normal(size=2, loc=0.0):
    return dist.Normal(torch.full((6, size), loc), 1.0).to_event(1)


def program(**sites):
    """A guide of the given sites; a model too if one of them is 'x', which is observed."""

    def run(x):
        for name, fn in sites.items():
            pyro.sample(name, fn, obs=x if name == "x" else None)

    return run


LIKELIHOOD = dist.Normal(torch.zeros(6, 3), 1.0).to_event(1)


@pytest.mark.parametrize(
    ("model", "guide", "error", "message"),
    [
        (
            program(z=normal(), x=LIKELIHOOD),
            program(z=normal(), style=normal()),
            ValueError,
            "the guide samples site 'style', which the model lacks; its latents: 'z'",
        ),
        (
            program(z=normal(), style=normal(), x=LIKELIHOOD),
            program(z=normal()),
            ValueError,
            "the guide lacks the model's latent site 'style'; it samples: 'z'",
        ),
        (program(z=normal()), program(z=normal()), ValueError, "the model observes nothing"),
        (program(x=LIKELIHOOD), program(), ValueError, "the guide samples no latent site"),
        (
            program(z=normal(3), x=LIKELIHOOD),
            program(z=normal(2)),
            ValueError,
            "site 'z' has the event shape (2,) in the guide but (3,) in the model",
        ),
        (
            program(z=dist.Normal(torch.zeros(6, 2), 1.0), x=LIKELIHOOD),
            program(z=dist.Normal(torch.zeros(6, 2), 1.0)),
            ValueError,
            "site 'z' has the batch shape (6, 2) in the guide; it must be (B,), one entry for each datum",
        ),
        (
            program(z=dist.Normal(torch.zeros(2), 1.0).to_event(1), x=LIKELIHOOD),
            program(z=dist.Normal(torch.zeros(2), 1.0).to_event(1)),
            ValueError,
            "site 'z' has the batch shape () in the guide",
        ),
        (
            program(z=normal(), x=dist.Normal(torch.zeros(6, 3), 1.0)),
            program(z=normal()),
            ValueError,
            "the observed site 'x' has log-probabilities of shape (6, 3), which is not one for each of the 6 data",
        ),
        (
            program(z=normal(), x=LIKELIHOOD),
            program(z=dist.VonMises(torch.zeros(6, 2), 1.0).to_event(1)),
            NotImplementedError,
            "site 'z' is VonMises in the guide, whose samples have no gradient; use a distribution with",
        ),
        (
            program(z=normal(), x=LIKELIHOOD),
            program(z=dist.Delta(torch.zeros(6, 2)).to_event(1)),
            NotImplementedError,
            "site 'z' is Delta in the guide, a point estimate, which has no density",
        ),
        (
            program(z=dist.Delta(torch.zeros(6, 2)).to_event(1), x=LIKELIHOOD),
            program(z=normal()),
            NotImplementedError,
            "site 'z' is Delta in the model, which has no density; use a narrow Normal",
        ),
        (
            program(z=normal(), x=LIKELIHOOD),
            program(z=normal().mask(False)),
            NotImplementedError,
            "site 'z' is a masked Normal in the guide: masked latents have no marginal",
        ),
        (
            program(y=dist.Dirichlet(torch.ones(6, 3)), x=LIKELIHOOD),
            program(y=Concrete(logits=torch.zeros(6, 3))),
            NotImplementedError,
            "site 'y' is Concrete in the guide but Dirichlet in the model; its prior must be OneHotCategorical or "
            "Concrete",
        ),
        (
            pyro.poutine.mask(program(z=normal(), x=LIKELIHOOD), mask=torch.ones(6, dtype=torch.bool)),
            program(z=normal()),
            NotImplementedError,
            "latent site 'z' is masked; masks are supported on observed sites only",
        ),
        (
            pyro.poutine.scale(program(z=normal(), x=LIKELIHOOD), scale=0.5),
            program(z=normal()),
            NotImplementedError,
            "site 'z' and site 'z' are scaled differently",
        ),
        (
            program(z=normal(), x=LIKELIHOOD),
            program(z=normal(), x=LIKELIHOOD),
            NotImplementedError,
            "the guide observes site 'x'",
        ),
    ],
)
def test_refused_by_name(model, guide, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        HierarchicalELBO(100).terms(model, guide, X)


def test_guide_whose_block_depends_on_another_block():
    """Regression: q(z^b|x^b', y^b') is the marginal of nothing; if q(z^b|x^b', y^b) is not known, none is made."""

    def guide(x):
        y = pyro.sample("y", Concrete(logits=torch.zeros(6, 3)))
        pyro.sample("z", dist.Normal(y[..., :2], 1.0).to_event(1))

    model = program(y=Concrete(logits=torch.zeros(3)), z=normal(), x=LIKELIHOOD)
    with pytest.raises(NotImplementedError, match="site 'z' of the guide depends on the relaxed sample of site 'y'"):
        HierarchicalELBO(100).terms(model, guide, X)


def dependent(conditional, parent=None, child=None):
    """A model with a site z whose prior is made of y's sample."""

    def model(x):
        with pyro.plate("data", 6):
            y = pyro.sample("y", Concrete(logits=torch.zeros(3)) if parent is None else parent)
            pyro.sample("z", conditional(y))
            pyro.sample("x", child or dist.Normal(torch.zeros(3), 1.0).to_event(1), obs=x)

    return model


OF_Y = program(y=Concrete(logits=torch.zeros(6, 3)), z=normal(3))
LEADING = "(write y[..., 0] for y[:, 0], flatten nothing)"


@pytest.mark.parametrize("loc", [lambda y: y[:, 0, None] * torch.ones(3), lambda y: y[:, [2, 0, 1]]])
def test_a_dependent_prior_must_keep_leading_dimensions(loc):
    """It fits by chance, and means something else."""
    message = "the prior of site 'z' changes where the latents get leading dimensions: for its marginals, a prior"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}.*{re.escape(LEADING)}$"):
        HierarchicalELBO(100).terms(dependent(lambda y: dist.Normal(loc(y), 1.0).to_event(1)), OF_Y, X)


@pytest.mark.parametrize(
    "loc",
    [
        lambda y: y.reshape(-1, 3),
        lambda y: torch.nn.functional.conv1d(y[:, None], torch.ones(3, 1, 3))[..., 0],
    ],
)
def test_what_fails_in_a_run_for_the_marginals_says_so(loc):
    with pytest.raises((RuntimeError, ValueError, IndexError)) as caught:
        HierarchicalELBO(100).terms(dependent(lambda y: dist.Normal(loc(y), 1.0).to_event(1)), OF_Y, X)
    assert caught.value.__notes__[0].startswith("The model was run for the marginals of y, z: for its marginals")
    assert LEADING in caught.value.__notes__[0]


def test_an_ancestor_without_reparameterised_samples():
    model = dependent(lambda y: dist.Normal(y, 1.0).to_event(1), parent=dist.VonMises(torch.zeros(3), 1.0).to_event(1))
    guide = program(y=normal(3), z=normal(3))
    with pytest.raises(NotImplementedError, match="^the prior of site 'y' has no reparameterised samples"):
        HierarchicalELBO(100).terms(model, guide, X)


def test_too_many_combinations_of_the_categories_that_a_prior_depends_on():
    model = dependent(
        lambda y: dist.Normal(y.sum((-1, -2))[..., None] * torch.ones(3), 1.0).to_event(1),
        parent=Concrete(logits=torch.zeros(13, 2)).to_event(1),
    )
    guide = program(y=Concrete(logits=torch.zeros(6, 13, 2)).to_event(1), z=normal(3))
    message = "the prior depends on 8,192 combinations of categories of the discrete sites 'y', which are enumerated"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}; at most 4,096 can be$"):
        HierarchicalELBO(100).terms(model, guide, X)


def test_more_prior_samples_than_memory_holds():
    model = dependent(lambda y: dist.Normal(y, 1.0).to_event(1), parent=normal(3))
    message = "the marginals of the prior below site 'y' would take 1,800,000,000 numbers at once; lower prior_samples"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        HierarchicalELBO(100, prior_samples=10**8).terms(model, program(y=normal(3), z=normal(3)), X)


def test_no_prior_samples():
    with pytest.raises(ValueError, match="^prior_samples must be 1 or more, got 0$"):
        HierarchicalELBO(100, prior_samples=0)


def test_the_check_draws_nothing_from_the_random_stream():
    model, guide = program(z=normal(), x=LIKELIHOOD), program(z=normal())
    elbo, values = HierarchicalELBO(100), []
    for _ in range(2):  # the first call checks, the second does not
        torch.manual_seed(0)
        values.append(elbo.terms(model, guide, X).elbo)
    assert values[0] == values[1]


def test_the_check_leaves_running_statistics_alone():
    norm = torch.nn.BatchNorm1d(3)

    class Guide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = norm

        def forward(self, x):
            pyro.sample("z", dist.Normal(self.norm(x)[:, :2], 1.0).to_event(1))

    guide = Guide()
    terms = HierarchicalELBO(100).terms(program(z=normal(), x=LIKELIHOOD), guide, X)
    assert norm.num_batches_tracked == 1
    terms.elbo.backward()  # nothing that the graph needs was written to
    assert norm.weight.grad is not None


@pytest.mark.parametrize(
    ("prior", "posterior", "likelihood", "message"),
    [
        (0.0, float("nan"), 0.0, "site 'z' of the guide has a loc that is not finite (12 of 12 numbers)"),
        (float("inf"), 0.0, 0.0, "site 'z' of the model has a loc that is not finite (12 of 12 numbers)"),
        (0.0, 0.0, float("nan"), "site 'x' of the model has a loc that is not finite (18 of 18 numbers)"),
    ],
)
def test_not_finite_names_the_site(prior, posterior, likelihood, message):
    with pyro.validation_enabled(False):
        model, guide = program(z=normal(loc=prior), x=normal(3, likelihood)), program(z=normal(loc=posterior))
        with pytest.raises(NonFiniteError, match="^" + re.escape(message)):
            HierarchicalELBO(100).terms(model, guide, X)


def test_batch_larger_than_data_and_batch_of_one():
    model, guide = program(z=normal(), x=LIKELIHOOD), program(z=normal())
    with pytest.raises(ValueError, match="a batch of 6 data is larger than data_size=5"):
        HierarchicalELBO(5).terms(model, guide, X)


def test_layout_errors_reach_the_user():
    model, guide = program(z=normal(), x=LIKELIHOOD), program(z=normal())
    with pytest.raises(ValueError, match=r"^z\[1\] is in block 'a' and again in block 'b'"):
        HierarchicalELBO(100, blocks={"a": ["z"], "b": ["z[1]"]}).terms(model, guide, X)
