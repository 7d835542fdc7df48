"""LOO-PIT against the closed forms of a linear Gaussian model."""

import linear_gaussian as lg
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import kstest

from pyro_hfvae.posterior import leave_one_out, uniformity_p_value


@pytest.mark.parametrize("guide", [lg.Guide(), lg.Guide(scale=1.3)])
def test_leave_one_out_against_the_conditional_normal(guide):
    torch.manual_seed(0)
    x = lg.data(4)
    (left_out,) = leave_one_out(lg.model, guide, x, draws=400)
    covariance = lg.LOADINGS @ lg.LOADINGS.mT + lg.NOISE**2 * torch.eye(4)
    for n in range(4):
        (j,) = (x[n] == left_out.observed[n]).nonzero()[0].tolist()
        rest = [i for i in range(4) if i != j]
        solved = torch.linalg.solve(covariance[rest][:, rest], covariance[rest, j])
        mean, variance = solved @ x[n, rest], covariance[j, j] - solved @ covariance[rest, j]
        exact = dist.Normal(mean, variance.sqrt()).cdf(x[n, j]).item()
        # 400 draws, of which weights leave a hundred or more: a share has a standard error of up to .05.
        assert left_out.pit()[n] == pytest.approx(exact, abs=0.12)


def test_leave_one_out_catches_a_wrong_noise():
    torch.manual_seed(0)
    (right,) = leave_one_out(lg.model, lg.Guide(), lg.data(150), draws=200)
    assert kstest(right.pit(), "uniform").pvalue > 0.01
    (wrong,) = leave_one_out(lg.model, lg.Guide(), 2.5 * lg.data(150), draws=200)
    assert uniformity_p_value(wrong.pit()) < 0.001


def test_a_number_that_tells_nearly_all_is_left_out():
    """Without the first number the posterior is 14 times as wide: draws of q(z|x) do not reach its ends."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            scale = torch.tensor([0.05, 1.0])
            pyro.sample("x", dist.Normal(z[:, None].expand(-1, 2), scale).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal((400 * x[:, 0] + x[:, 1]) / 402, 402**-0.5))

    torch.manual_seed(0)
    z = torch.randn(100, 1)
    x = z + torch.randn(100, 2) * torch.tensor([0.05, 1.0])
    (left_out,) = leave_one_out(model, guide, x, draws=400)
    first = torch.tensor(left_out.observed) == x[:, 0]
    assert 30 < first.sum() < 70
    exact = torch.where(
        first,
        dist.Normal(x[:, 1] / 2, (0.5 + 0.05**2) ** 0.5).cdf(x[:, 0]),
        dist.Normal(x[:, 0] / 1.0025, (0.05**2 / 1.0025 + 1) ** 0.5).cdf(x[:, 1]),
    )
    # Half of 400 draws, weighted: a share has a standard error of .05 at most; 4 of them.
    assert left_out.pit() == pytest.approx(exact.numpy(), abs=0.2)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_datum_of_one_number_is_predicted_by_the_prior(shape):
    """The posterior is 25 times as narrow as the prior: its draws, however weighted, say nothing of p(x)."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z.reshape(-1, *shape), 0.04).to_event(len(shape)), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.reshape(-1) / 1.0016, 0.04 / 1.0016**0.5))

    torch.manual_seed(0)
    x = torch.randn(100, *shape) * 1.0016**0.5
    (left_out,) = leave_one_out(model, guide, x, draws=300)
    # A share of 300 draws has a standard error of .03 at most; 4 of them.
    exact = dist.Normal(0.0, 1.0016**0.5).cdf(x).flatten().numpy()
    assert left_out.pit() == pytest.approx(exact, abs=0.12)


def test_refusals():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Bernoulli(logits=z), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))

    with pytest.raises(NotImplementedError, match=r"LOO-PIT does not apply to the observed site 'x' \(Bernoulli\)"):
        leave_one_out(model, guide, torch.zeros(3), draws=25)
    with pytest.raises(ValueError, match="PSIS needs 25 draws or more, got 24"):
        leave_one_out(lg.model, lg.Guide(), lg.data(2), draws=24)
