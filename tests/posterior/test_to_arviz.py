"""ArviZ groups of programs of all kinds, through netCDF and back."""

import resource
import signal

import arviz
import linear_gaussian as lg
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_hfvae import Concrete
from pyro_hfvae.guides import ImageGuide, MLPEncoder
from pyro_hfvae.models import ImageModel, MLPDecoder
from pyro_hfvae.posterior import to_arviz, write_netcdf

GROUPS = {
    "posterior", "prior", "posterior_predictive", "prior_predictive", "observed_data", "log_likelihood", "sample_stats",
}  # fmt: skip


def groups_of(made):
    """Names of the groups, in either ArviZ."""
    return set(made.groups()) if callable(made.groups) else set(made.children)


def dataset(made, group):
    return made[group] if callable(made.groups) else made[group].to_dataset()


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("draws", [1, 3])
def test_groups_survive_netcdf(size, draws, tmp_path):
    torch.manual_seed(0)
    x = lg.data(size)
    made = to_arviz(lg.model, lg.Guide(), x, draws=draws)
    write_netcdf(made, tmp_path / "posterior.nc")
    assert [path.name for path in tmp_path.iterdir()] == ["posterior.nc"]
    read = arviz.from_netcdf(tmp_path / "posterior.nc")
    assert groups_of(read) == GROUPS
    for group in GROUPS:
        assert dataset(read, group).equals(dataset(made, group))
    for group in ("posterior", "prior"):
        assert read[group]["a"].dims == ("chain", "draw", "data", "a_variable")
        assert read[group]["a"].shape == (1, draws, size, 2)
        assert read[group].coords["a_variable"].values.tolist() == ["a[0]", "a[1]"]
        assert read[group].coords["b_variable"].values.tolist() == ["b"]
        assert read[group + "_predictive"]["x"].shape == (1, draws, size, 4)
        assert read[group + "_predictive"]["x"].dims == ("chain", "draw", "data", "x_dim_0")
    assert np.array_equal(read["observed_data"]["x"].values, x.numpy())


def test_densities_belong_to_the_draws():
    torch.manual_seed(0)
    x = lg.data(3)
    made = to_arviz(lg.model, lg.Guide(scale=0.5), x, draws=4)
    z = torch.tensor(np.concatenate([made["posterior"]["a"], made["posterior"]["b"]], -1))[0]
    loc, scale = lg.posterior(x)
    log_q = dist.Normal(loc, 0.5 * scale).log_prob(z).sum(-1)
    log_prior = dist.Normal(0.0, 1.0).log_prob(z).sum(-1)
    log_likelihood = dist.Normal(z @ lg.LOADINGS.mT, lg.NOISE).log_prob(x).sum(-1)
    stats = {name: torch.tensor(value.values)[0] for name, value in made["sample_stats"].items()}
    torch.testing.assert_close(stats["log_q"], log_q)
    torch.testing.assert_close(stats["log_prior"], log_prior)
    torch.testing.assert_close(stats["lp"], log_prior + log_likelihood)
    torch.testing.assert_close(stats["log_weight"], log_prior + log_likelihood - log_q)
    assert list(made["log_likelihood"].data_vars) == ["marginal"]
    assert made["log_likelihood"]["x"].dims == ("chain", "draw", "data", "x_dim_0")


def test_prior_and_posterior_are_drawn_from_their_own_program():
    torch.manual_seed(0)
    x = lg.data(3)
    made = to_arviz(lg.model, lg.Guide(shift=100.0), x, draws=2)
    assert (abs(made["prior"]["a"]) < 10).all()
    assert (made["posterior"]["a"] > 50).all()
    assert (abs(made["prior_predictive"]["x"]) < 20).all()
    assert (abs(made["posterior_predictive"]["x"]) > 20).any()


def test_chains_coordinates_and_constants(tmp_path):
    torch.manual_seed(0)
    x = lg.data(3)
    made = to_arviz(
        lg.model, lg.Guide(), x, draws=5, chains=2,
        coords={"data": ["p", "q", "r"], "organ": list("abcd"), "a_variable": ["first", "second"]},
        dims={"x": ["organ"], "table": ["row", "column"]},
        constant_data={"label": np.arange(3), "image": torch.zeros(3, 2), "table": torch.zeros(2, 2)},
    )  # fmt: skip
    write_netcdf(made, tmp_path / "posterior.nc")
    read = arviz.from_netcdf(tmp_path / "posterior.nc")
    assert read["posterior"]["a"].shape == (2, 5, 3, 2)
    assert len(np.unique(read["posterior"]["a"])) == 60  # no chain is the copy of another
    assert read["observed_data"]["x"].sel(data="q", organ="c").item() == x[1, 2].item()
    assert read["log_likelihood"]["x"].dims == ("chain", "draw", "data", "organ")
    assert read["posterior"]["a"].sel(a_variable="second").shape == (2, 5, 3)
    dims = {name: read["constant_data"][name].dims for name in ("label", "image", "table")}
    assert dims == {"label": ("data",), "image": ("data", "image_dim_0"), "table": ("row", "column")}


def test_keyword_arguments_reach_both_programs():
    def model(x, *, loc, noise=100.0):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(loc, 1.0))
            pyro.sample("x", dist.Normal(z, noise), obs=x)

    def guide(x, *, loc, noise=100.0):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc + x, noise))

    made = to_arviz(model, guide, x=torch.zeros(3), loc=50.0, noise=1e-3, draws=4)
    assert abs(made["posterior"]["z"].values - 50).max() < 0.1
    assert abs(made["prior"]["z"].values - 50).max() < 10
    assert abs(made["posterior_predictive"]["x"].values - 50).max() < 0.1


def test_blocks_name_the_variables():
    made = to_arviz(lg.model, lg.Guide(), lg.data(2), draws=2, blocks={"first": ["a[0]"], "rest": ["b", "a[1]"]})
    posterior = made["posterior"]
    assert set(posterior.data_vars) == {"first", "rest.b", "rest.a"}
    assert posterior.coords["rest.a_variable"].values.tolist() == ["a[1]"]
    assert posterior["first"].shape == (1, 2, 2, 1)


def test_programs_of_the_library_with_a_discrete_site(tmp_path):
    torch.manual_seed(0)
    with pyro.settings.context(module_local_params=True):
        model = ImageModel({"z": 2}, {"kind": 3}, lambda size: MLPDecoder(size, (1, 4, 4), (8,)))
        guide = ImageGuide({"z": 2}, {"kind": 3}, lambda: MLPEncoder((1, 4, 4), (8,)))
    x = torch.rand(3, 1, 4, 4).round()
    made = to_arviz(model, guide, x, draws=2)
    write_netcdf(made, tmp_path / "posterior.nc")
    kind = made["posterior"]["kind"]
    assert kind.dims == ("chain", "draw", "data", "kind_variable", "kind_category")
    assert kind.shape == (1, 2, 3, 1, 3)
    assert kind.values.sum(-1) == pytest.approx(1, abs=1e-5)
    drawn = made["posterior_predictive"]["x"].values
    assert set(np.unique(drawn)) <= {0, 1}
    assert drawn.shape == (1, 2, 3, 1, 4, 4)
    assert not np.array_equal(drawn[0, 0], x.numpy())


@pytest.mark.parametrize(
    ("fn", "shape", "categories"),
    [
        (lambda: dist.Categorical(torch.tensor([0.2, 0.8])), (1,), 2),
        (lambda: dist.OneHotCategorical(torch.tensor([0.2, 0.5, 0.3])), (1,), 3),
        (lambda: Concrete(probs=torch.tensor([0.2, 0.5, 0.3]).expand(4, 3)).to_event(1), (4,), 3),
        (lambda: dist.Dirichlet(torch.ones(3)), (1,), 3),
        (lambda: dist.Bernoulli(torch.tensor([0.2, 0.5])).to_event(1), (2,), None),
        (lambda: dist.Normal(torch.zeros(2, 3), 1.0).to_event(2), (6,), None),
        (lambda: dist.Poisson(2.0), (1,), None),
        (lambda: dist.MultivariateNormal(torch.zeros(3), torch.eye(3)), (3,), None),
    ],
)
def test_sites_of_every_kind(fn, shape, categories, tmp_path):
    def guide(x):
        with pyro.plate("data", len(x)):
            return pyro.sample("z", fn())

    def model(x):
        z = guide(x)
        with pyro.plate("again", len(x)):
            pyro.sample("x", dist.Normal(0.0 * z.reshape(len(x), -1).sum(1), 1.0), obs=x)

    made = to_arviz(model, guide, torch.zeros(2), draws=3)
    write_netcdf(made, tmp_path / "posterior.nc")
    expected = (1, 3, 2, *shape, *([categories] if categories else []))
    assert made["posterior"]["z"].shape == made["prior"]["z"].shape == expected


def test_a_layout_over_two_event_dimensions():
    def guide(x):
        with pyro.plate("data", len(x)):
            return pyro.sample("z", dist.Normal(torch.arange(6.0).reshape(2, 3), 1e-6).to_event(2))

    def model(x):
        z = guide(x)
        with pyro.plate("again", len(x)):
            pyro.sample("x", dist.Normal(0.0 * z.sum((-2, -1)), 1.0), obs=x)

    made = to_arviz(model, guide, torch.zeros(2), draws=1, blocks={"first": ["z[:, 0]"], "rest": ["z[:, 1:]"]})
    first, rest = made["posterior"]["first"], made["posterior"]["rest"]
    assert first.coords["first_variable"].values.tolist() == ["z[0,0]", "z[1,0]"]
    assert rest.coords["rest_variable"].values.tolist() == ["z[0,1]", "z[0,2]", "z[1,1]", "z[1,2]"]
    np.testing.assert_allclose(rest[0, 0, 0], [1, 2, 4, 5], atol=1e-4)


def test_an_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "posterior.nc"
    path.write_bytes(b"old")

    made = to_arviz(lg.model, lg.Guide(), lg.data(2), draws=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # as on a full disk
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            write_netcdf(made, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_refusals():
    with pytest.raises(ValueError, match="block 'a/b' has a '/' in its name"):
        to_arviz(lg.model, lg.Guide(), lg.data(2), blocks={"a/b": ["a", "b"]})
    with pytest.raises(ValueError, match="the observed site 'x' and a block have one name"):
        to_arviz(lg.model, lg.Guide(), lg.data(2), draws=1, blocks={"x": ["a"], "b": ["b"]})
    with pytest.raises(ValueError, match="the number of draws must be 1 or more, got 0"):
        to_arviz(lg.model, lg.Guide(), lg.data(2), draws=0)
    with pytest.raises(ValueError, match="the number of chains must be 1 or more, got 0"):
        to_arviz(lg.model, lg.Guide(), lg.data(2), chains=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"coords": {"colour": [1]}}, "coords name 'colour', which is no dimension; dimensions are data, a_variable"),
        ({"coords": {"data": [1, 2, 3]}}, "coords give 3 values of the dimension 'data', which has 2"),
        ({"dims": {"y": ["k"]}}, "dims name 'y', which is neither an observed site nor a constant"),
        ({"dims": {"x": ["i", "j"]}}, r"dims of 'x' must be 1 other names, of .* after 'data', got \['i', 'j'\]"),
        ({"constant_data": {"x": 1}}, "the constant 'x' has the name of an observed site"),
        ({"constant_data": {"a": 1}}, "the constant 'a' and a block have one name"),
        ({"constant_data": {"chain": 1}}, "the constant 'chain' has a name that the ArviZ groups need"),
    ],
)
def test_names_that_do_not_fit(options, said):
    with pytest.raises(ValueError, match=said):
        to_arviz(lg.model, lg.Guide(), lg.data(2), draws=1, **options)
