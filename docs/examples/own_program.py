"""A model and a guide of one's own, and a plain PyTorch loop that trains them."""

import pyro
import pyro.distributions as dist
import torch
from own_images import Bars
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_hfvae import Concrete, HierarchicalELBO, Terms


class BarsModel(PyroModule):
    """Two blocks, ``direction`` and ``look``, from which a network paints the bar."""

    def __init__(self, look: int = 3, hidden: int = 64) -> None:
        super().__init__()
        self.look = look
        self.decoder = nn.Sequential(
            nn.Linear(2 + look, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 256),
            nn.Unflatten(-1, (1, 16, 16)),
        )

    def forward(self, x: Tensor) -> None:
        """Samples the blocks and observes the images x, [B, 1, 16, 16]."""
        with pyro.plate("data", len(x)):
            direction = pyro.sample("direction", Concrete(logits=x.new_zeros(2)))  # [B, 2]
            prior = dist.Normal(x.new_zeros(self.look), 1.0).to_event(1)
            look = pyro.sample("look", prior)  # [B, look]
            mean = self.decoder(torch.cat([direction, look], -1)).sigmoid()
            pyro.sample("x", dist.Normal(mean, 0.2).to_event(3), obs=x)


class BarsGuide(PyroModule):
    """The same two sites, independent given the image."""

    def __init__(self, look: int = 3, hidden: int = 64) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Flatten(),
            nn.Linear(256, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 2 + 2 * look),
        )

    def forward(self, x: Tensor) -> None:
        """Samples the blocks of the images x, [B, 1, 16, 16]."""
        features = self.encoder(x)
        loc, scale = features[:, 2:].chunk(2, -1)  # [B, look] each
        with pyro.plate("data", len(x)):
            pyro.sample("direction", Concrete(logits=features[:, :2]))
            pyro.sample("look", dist.Normal(loc, scale.exp()).to_event(1))


def train(steps: int = 1000, seed: int = 0) -> tuple[BarsModel, BarsGuide, Terms]:
    """Trains on all images; returns the programs and the terms, with the exact marginal."""
    pyro.settings.set(module_local_params=True)  # before the first PyroModule is made
    torch.manual_seed(seed)
    data = Bars().images(torch.arange(len(Bars())))
    model, guide = BarsModel(), BarsGuide()
    elbo = HierarchicalELBO(data_size=len(data), between=4.0)
    loss = elbo(model, guide)  # a torch.nn.Module with the parameters of both
    optimizer = torch.optim.Adam(loss.parameters(), lr=2e-3)
    for _ in range(steps):
        batch = data[torch.randperm(len(data))[:32]]
        optimizer.zero_grad()
        (loss(batch) / len(batch)).backward()  # the loss is a sum over the batch
        optimizer.step()
    return model, guide, elbo.aggregate_terms(model, guide, [(data,)])


if __name__ == "__main__":
    for name, term in train()[2].scalars().items():
        print(f"{name:>18} {term:9.2f}")
