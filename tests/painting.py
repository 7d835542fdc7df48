"""A model whose pictures are known: an image has a pixel for each number of its latents."""

import pyro
import pyro.distributions as dist
import torch
from torch.nn.functional import one_hot

from pyro_hfvae import Concrete
from pyro_hfvae.paint import LatentValues

X = torch.randn(7, 1, 2, 3, generator=torch.Generator().manual_seed(0))
WIDTHS = {"z": 1, "w": 1, "kind": 3}


def paint(z, w, kind):
    """An image [B, 1, 2, 3]: z and w above, the categories below."""
    return torch.cat([z, w, kind], -1).view(-1, 1, 2, 3)


def model(x):
    """Images are normal about what is painted."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        kind = pyro.sample("kind", Concrete(logits=torch.zeros(3)))
        pyro.sample("label", dist.Categorical(logits=torch.zeros(len(x), 4)), obs=torch.zeros(len(x)))
        pyro.sample("x", dist.Normal(paint(z, w[:, None], kind), 0.1).to_event(3), obs=x)


def guide(x):
    """Posterior means are pixels of the upper row, categories those of the lower; scales are large."""
    upper, lower = x.squeeze(1).unbind(1)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(upper[:, :2], 3.0).to_event(1))
        pyro.sample("w", dist.Normal(upper[:, 2], 3.0))
        pyro.sample("kind", Concrete(logits=lower))


def expected_modes(x):
    upper, lower = x.squeeze(1).unbind(1)
    return {"z": upper[:, :2], "w": upper[:, 2], "kind": one_hot(lower.argmax(-1), 3).float()}


def latents(x):
    return LatentValues(expected_modes(x), WIDTHS)


def pixels(values):
    """The six numbers of each latent, [B, 6]: what the model paints of it."""
    return torch.cat([values["z"], values["w"][:, None], values["kind"]], 1)
