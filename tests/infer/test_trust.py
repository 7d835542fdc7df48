"""What is said about estimates that cannot be trusted."""

import math
import warnings

import pytest
import torch

from pyro_hfvae.infer import BlockTerms, EstimateWarning, Full, Stratified, Terms, VariableTerms, predicted_bias
from pyro_hfvae.infer.marginals import Group, Posteriors, expected_log_marginals
from pyro_hfvae.infer.trust import Watch


def terms_with(total, block, variable=0.1):
    def number(value):
        return torch.tensor(float(value))

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
        whole = Posteriors(value, loc, scale, ())
        (exact,) = expected_log_marginals(whole, [group], Full().references(whole, 2000))
        conditional = torch.distributions.Normal(loc, scale).log_prob(value).sum(-1)
        information.append((conditional - exact).mean())
        for which in torch.randperm(2000, generator=generator).split(500):
            some = Posteriors(value[:, which], loc[:, which], scale[:, which], ())
            (found,) = expected_log_marginals(some, [group], Stratified().references(some, 2000))
            difference.append((exact[:, which] - found).mean())
    measured = float(torch.stack(difference).mean())
    predicted = predicted_bias(float(torch.stack(information).mean()), 500, 2000)
    assert 0.5 * measured < predicted < 2 * measured
    assert predicted_bias(5.0, 2000, 2000) == 0.0
    assert predicted_bias(7.6, 2, 2000) == pytest.approx(math.log(2000) - 7.6)  # no more than what is left to log N
    assert predicted_bias(-0.3, 64, 2000) == 0.0


def test_the_ceiling_and_the_split_are_each_warned_of_once():
    watch = Watch(4000)
    with pytest.warns(EstimateWarning, match=r"ceiling log N = 8\.29 nats"):
        watch.look(terms_with(8.28, 0.1), 4000)
    with pytest.warns(
        EstimateWarning, match=r"cannot be trusted: with 64 references of 4000 .* low by about 2\.59 nats"
    ):
        watch.look(terms_with(8.28, 7.0), 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch.look(terms_with(8.28, 7.0), 64)


@pytest.mark.parametrize(
    ("terms", "references"),
    [(terms_with(8.0, 7.0), 4000), (terms_with(3.0, 1.0), 1024), (terms_with(9.0, 9.0), None)],
)
def test_nothing_is_said_without_reason(terms, references):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Watch(4000).look(terms, references)


def test_one_estimate_in_a_hundred_is_looked_at():
    watch = Watch(4000)
    assert [step for step in range(1, 301) if watch.due()] == [100, 200, 300]
