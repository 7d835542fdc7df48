"""Data outside of the support of their likelihood are refused before training, and nothing else is."""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_hfvae.train.support import refuse_outside_support

X = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
PIXELS = (X * 255).round()
MASK = torch.tensor([True, True, False, False]).view(4, 1, 1, 1)
LOGITS = torch.zeros(4, 1, 3, 3)
BERNOULLI = dist.Bernoulli(logits=LOGITS, validate_args=False).to_event(3)
NORMAL = dist.Normal(LOGITS, 1.0).to_event(3)


def observe(fn, value):
    def model():
        with pyro.plate("data", 4):
            pyro.sample("x", fn, obs=value)

    with pyro.validation_enabled(False):
        return poutine.trace(model).get_trace()


@pytest.mark.parametrize(
    ("fn", "value"),
    [
        (BERNOULLI, X),
        (BERNOULLI, (X > 0.5).float()),
        (NORMAL, X * 2 - 1),
        (NORMAL, X * 255 + 0.3),
        (NORMAL, (X > 0.5).float()),
        (dist.Poisson(LOGITS.exp()).to_event(3), PIXELS),
        (dist.Normal(torch.zeros(4, 5), 1.0).to_event(1), torch.arange(20.0).view(4, 5)),
        (dist.Normal(LOGITS, 1.0).mask(MASK).to_event(3), torch.where(MASK, X, torch.nan)),
        (dist.Categorical(logits=torch.zeros(4, 3)), torch.tensor([0, 1, 2, 2])),
        (dist.OneHotCategorical(logits=torch.zeros(4, 3)), torch.eye(3)[[0, 1, 2, 2]]),
        (dist.Delta(X, event_dim=3), X),
    ],
)
def test_what_is_taken(fn, value):
    refuse_outside_support(observe(fn, value))


@pytest.mark.parametrize(
    ("fn", "value", "message"),
    [
        (BERNOULLI, PIXELS, "outside of the support of its distribution, Bernoulli: expected values from 0 to 1"),
        (BERNOULLI, X * 2 - 1, "outside of the support of its distribution, Bernoulli: expected values from 0 to 1"),
        (NORMAL, PIXELS, "but its distribution, Normal, is continuous: divide pixels by 255"),
        (NORMAL, X / 255 * 255 * 255 // 1, "but its distribution, Normal, is continuous: divide pixels by 255"),
        (dist.Beta(LOGITS.exp(), 1.0).to_event(3), PIXELS, "outside of the support of its distribution, Beta"),
        (dist.Poisson(LOGITS.exp()).to_event(3), X, "outside of the support of its distribution, Poisson"),
        (dist.Categorical(logits=torch.zeros(4, 3)), torch.tensor([0, 1, 2, 3]), "go from 0 to 3, outside of the"),
    ],
)
def test_what_is_refused(fn, value, message):
    with pytest.raises(ValueError, match=f"^the (data|images) of the observed site 'x' .*{re.escape(message)}"):
        refuse_outside_support(observe(fn, value))
