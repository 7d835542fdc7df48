"""Warnings of estimates that cannot be trusted."""

import math
import warnings
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from aggregates import Batch, Group, estimated

from pyro_hfvae import HierarchicalELBO
from pyro_hfvae.infer import BlockTerms, EstimateWarning, Exact, Minibatch, Terms, VariableTerms
from pyro_hfvae.infer.diagnostics import EstimateMonitor, predicted_bias


def number(value):
    return torch.tensor(float(value))


def terms_with(total, block, variable=0.1):
    def of_block():
        variables = {name: VariableTerms(number(variable), number(0)) for name in ("z[0]", "z[1]")}
        return BlockTerms(number(block), number(block), number(0), number(0), variables, discrete=False)

    rest = [number(0)] * 3
    return Terms(number(0), number(total), *rest, {"a": of_block(), "b": of_block()})


def test_predicted_bias_is_about_the_measured_one():
    """Five variables at s = .3: 2,000 posteriors, 500 of them as references.

    Half to double: the prediction takes e^I for the mean of q(z|x)/q(z), which is larger, and only the first order.
    """
    generator = torch.Generator().manual_seed(0)
    loc = math.sqrt(1 - 0.3**2) * torch.randn(1, 2000, 5, generator=generator)
    scale = torch.full_like(loc, 0.3)
    group = Group((0, 1, 2, 3, 4))
    difference, information = [], []
    for _ in range(4):
        value = loc + scale * torch.randn(loc.shape, generator=generator)
        (exact,) = estimated(Exact(), Batch(value, loc, scale), [group], 2000)
        conditional = torch.distributions.Normal(loc, scale).log_prob(value).sum(-1)
        information.append((conditional - exact).mean())
        for which in torch.randperm(2000, generator=generator).split(500):
            (found,) = estimated(Minibatch(), Batch(value, loc, scale)[which], [group], 2000)
            difference.append((exact[:, which] - found).mean())
    measured = float(torch.stack(difference).mean())
    predicted = predicted_bias(float(torch.stack(information).mean()), 500, 2000)
    assert 0.5 * measured < predicted < 2 * measured
    assert predicted_bias(5.0, 2000, 2000) == 0.0
    assert predicted_bias(7.6, 2, 2000) == pytest.approx(math.log(2000) - 7.6)  # no more than what is left to log N
    assert predicted_bias(-0.3, 64, 2000) == 0.0


def test_the_ceiling_and_the_split_are_each_warned_of_once():
    monitor = EstimateMonitor(4000)
    with pytest.warns(EstimateWarning, match=r"ceiling log N = 8\.29 nats"):
        monitor.check(terms_with(8.28, 0.1), 4000)
    with pytest.warns(
        EstimateWarning, match=r"cannot be trusted: with 64 references of 4000 .* low by about 2\.59 nats"
    ):
        monitor.check(terms_with(8.28, 7.0), 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.check(terms_with(8.28, 7.0), 64)


@pytest.mark.parametrize(
    ("terms", "references"),
    [(terms_with(8.0, 7.0), 4000), (terms_with(3.0, 1.0), 1024), (terms_with(9.0, 9.0), None)],
)
def test_no_warning_without_reason(terms, references):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        EstimateMonitor(4000).check(terms, references)


def below(dimension=0.0, within=0.0, log_normaliser=0.0):
    """Terms of which a block's own are given."""
    block = BlockTerms(*[number(0)] * 2, number(within), number(dimension), {}, discrete=False,
                       log_normaliser=number(log_normaliser))  # fmt: skip
    return Terms(*[number(0)] * 5, {"a": block})


@pytest.mark.parametrize(
    ("terms", "match"),
    [
        (below(dimension=-0.6), r"^the dimension term of block 'a' is estimated at -0\.60 nats, but cannot be below 0"),
        (
            below(within=-1.7, log_normaliser=1.1),
            r"^the within term of block 'a' with its normaliser .* at -0\.60 nats",
        ),
        (replace(below(), between=number(-1.7), log_normaliser=number(1.1)), r"^the between term with its normaliser"),
    ],
)
def test_a_divergence_below_its_bound_is_warned_of_once(terms, match):
    monitor = EstimateMonitor(4000)
    with pytest.warns(EstimateWarning, match=match):
        monitor.check(terms, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.check(terms, 64)


@pytest.mark.parametrize("terms", [below(dimension=-0.4), below(within=-3.0), below(within=-1.5, log_normaliser=1.1)])
def test_within_its_bound_there_is_no_warning(terms):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        EstimateMonitor(4000).check(terms, 64)


def test_one_training_step_in_a_hundred_is_checked(monkeypatch):
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 0.5).to_event(1))

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    module, x = HierarchicalELBO(50, between=2.0)(model, guide), torch.randn(4, 2)
    checked = []
    monkeypatch.setattr(EstimateMonitor, "check", lambda *_: checked.append(module.steps + 1))
    for _ in range(300):
        module(x)
        module.step()
        with torch.no_grad():
            module(x)
    assert checked == [100, 200, 300]
