"""Simulated data take the place of the real ones, wherever they lie, or are refused by name."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_hfvae.posterior import run_checks, simulation_based_calibration
from pyro_hfvae.posterior.arguments import one_datum

SIZE = 200


def programs(data_of, read_of=None):
    """A normal model of one number, and its exact posterior, of data that lie where data_of finds them."""

    def model(*args, **kwargs):
        x = data_of(*args, **kwargs)
        with pyro.plate("data", x.numel()):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x.flatten())

    def guide(*args, **kwargs):
        x = (read_of or data_of)(*args, **kwargs)
        with pyro.plate("data", x.numel()):
            pyro.sample("z", dist.Normal(x.flatten() / 2, 0.5**0.5))

    return model, guide


@pytest.mark.parametrize(
    ("data_of", "args", "kwargs"),
    [
        (lambda x: x, (torch.zeros(SIZE),), {}),
        (lambda x: x, (), {"x": torch.zeros(SIZE)}),
        (lambda batch: batch["x"], ({"x": torch.zeros(SIZE, 1), "id": list(range(SIZE))},), {}),
        (lambda parts, scale: parts[1]["x"], ([None, {"x": torch.zeros(SIZE)}],), {"scale": 1.0}),
    ],
    ids=["scalar", "keyword", "dictionary", "nested"],
)
def test_data_anywhere(data_of, args, kwargs):
    torch.manual_seed(0)
    found = simulation_based_calibration(*programs(data_of), *args, draws=49, **kwargs)
    # Were the guide still given the zeros, z would be off: its ranks would be those of a standard normal.
    assert min(found.p_values().values()) > 0.01 / 2
    assert len(found.ranks["z"]) == SIZE


def test_rows_of_a_subsample():
    def model(x):
        with pyro.plate("data", len(x), subsample_size=150) as rows:
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[rows])

    def guide(x):
        with pyro.plate("data", len(x), subsample_size=150) as rows:
            pyro.sample("z", dist.Normal(x[rows] / 2, 0.5**0.5))

    torch.manual_seed(0)
    found = simulation_based_calibration(model, guide, torch.randn(SIZE), draws=49)
    assert min(found.p_values().values()) > 0.01 / 2
    assert len(found.ranks["z"]) == 150


@pytest.mark.parametrize(
    ("args", "kwargs", "name"),
    [
        ((torch.randn(SIZE), torch.randn(SIZE, 1)), {}, "argument 2"),
        ((torch.randn(SIZE),), {"h": torch.randn(SIZE)}, "argument 'h'"),
        ((torch.randn(SIZE), {"h": torch.randn(SIZE)}), {}, r"argument 2\['h'\]"),
    ],
)
def test_what_only_the_guide_reads_is_refused(args, kwargs, name):
    """It may be computed from the data, as h = f(x), and would then be that of other data than the simulated ones."""

    def read(x, h):
        return h["h"] if isinstance(h, dict) else h

    model, guide = programs(lambda x, h: x, read)
    with pytest.raises(ValueError, match=f"the guide reads {name}, which the model does not: if it is computed from"):
        simulation_based_calibration(model, guide, *args, draws=2, **kwargs)


def test_covariates_and_what_nobody_reads_are_kept():
    seen = []

    def model(x, c, nothing):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(c, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x, c, nothing):
        seen.append((c, nothing))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal((x + c) / 2, 0.5**0.5))

    torch.manual_seed(0)
    c, nothing = torch.linspace(-3, 3, SIZE), torch.randn(SIZE)
    found = simulation_based_calibration(model, guide, torch.zeros(SIZE), c, nothing, draws=49)
    assert min(found.p_values().values()) > 0.01 / 2
    assert torch.equal(seen[-1][0], c)
    assert torch.equal(seen[-1][1], nothing)


def test_whole_numbers_cannot_hold_normal_draws():
    model, guide = programs(lambda x: x.float())
    with pytest.raises(ValueError, match="argument 1 holds the data of the observed site 'x' as torch.int64, which"):
        simulation_based_calibration(model, guide, torch.zeros(SIZE, dtype=torch.long), draws=2)


def test_counts_stay_counts():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Gamma(torch.tensor(2.0), 1.0))
            pyro.sample("x", dist.Poisson(z), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Gamma(2.0 + x, 2.0))

    torch.manual_seed(0)
    found = simulation_based_calibration(model, guide, torch.zeros(SIZE, dtype=torch.long), draws=49)
    assert min(found.p_values().values()) > 0.01 / 2


def test_one_datum():
    x, labels, weights = torch.arange(6.0).reshape(3, 2), torch.tensor([1, 2, 3]), torch.ones(2, 3)
    (batch, again), named = one_datum((({"x": x, "labels": labels}, x), {"labels": labels}), 1, 3)
    kept, number = weights, 5
    assert batch["x"].tolist() == again.tolist() == [[2.0, 3.0]]
    assert batch["labels"].tolist() == named["labels"].tolist() == [2]
    assert one_datum(((kept, number), {}), 1, 3) == ((kept, number), {})


def test_all_checks_of_scalar_data_in_a_dictionary_with_keywords():
    model, guide = programs(lambda batch, scale: batch["x"])
    torch.manual_seed(0)
    x = torch.randn(SIZE) * 2**0.5
    checks = run_checks(
        model, guide, ({"x": x[:50]},), ({"x": x},), [({"x": part},) for part in x.split(100)], draws=50,
        calibration_draws=19, predictive_draws=39, scale=1.0,
    )  # fmt: skip
    assert checks.quality.gap == pytest.approx(0, abs=1e-5)
    assert [check.statistic for check in checks.predictive] == ["value"]
    assert checks.leave_one_out[0].observed.shape == (50,)
