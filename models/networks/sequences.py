"""Decoders of sequences: from a latent vector to the parameters of each time step."""

from typing import cast

from torch import Tensor, nn

from pyro_hfvae.networks import dense_layers, halvings, positive

__all__ = ["ConvSequenceDecoder", "RecurrentDecoder"]


class RecurrentDecoder(nn.Module):
    """A gated recurrent unit that starts from the latents and is given them at each step.

    After Fabius and van Amersfoort, Variational Recurrent Auto-Encoders (2014), whose latents give the first state. The
    steps are not given what was observed before, so that a sequence is decoded from its latents alone.

    Args:
        latent_size: size of the latent vector, the sum over blocks.
        length: T, the number of time steps; None takes that of the data.
        outputs: how many parameters each time step has; None takes what the observation asks for.
        hidden: size of the recurrent state.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self, latent_size: int, length: int | None = None, outputs: int | None = None, hidden: int = 128
    ) -> None:
        super().__init__()
        latent_size, self.length, outputs, hidden = positive(
            latent_size=latent_size, length=length, outputs=outputs, hidden=hidden
        )
        self.first = nn.Linear(latent_size, hidden)
        self.recurrent = nn.GRU(latent_size, hidden, batch_first=True)
        self.last = nn.Linear(hidden, outputs)

    def forward(self, z: Tensor) -> Tensor:
        """Latents ``[..., latent_size]`` to parameters ``[..., T, outputs]``."""
        rows = z.reshape(-1, z.shape[-1])
        states, _ = self.recurrent(rows[:, None].expand(-1, self.length, -1), self.first(rows).tanh()[None])
        steps = cast(Tensor, self.last(states))  # [B, T, outputs]
        return steps.reshape(*z.shape[:-1], *steps.shape[1:])


class ConvSequenceDecoder(nn.Module):
    """Two dense layers, then transposed convolutions over time, the mirror of ``ConvSequenceEncoder``.

    The first convolution has 4 to 8 places, or T if there are fewer, and each doubles them.

    Args:
        latent_size: size of the latent vector, the sum over blocks.
        length: T, the number of time steps; None takes that of the data.
        outputs: how many parameters each time step has; None takes what the observation asks for.
        width: channels of the convolutions.
        hidden: units of the dense layer.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        latent_size: int,
        length: int | None = None,
        outputs: int | None = None,
        width: int = 64,
        hidden: int = 128,
    ) -> None:
        super().__init__()
        latent_size, self.length, outputs, width, hidden = positive(
            latent_size=latent_size, length=length, outputs=outputs, width=width, hidden=hidden
        )
        doublings = halvings(self.length)
        places = -(-self.length // 2**doublings)
        layers = [*dense_layers(latent_size, (hidden, width * places)), nn.Unflatten(-1, (width, places))]
        for _ in range(doublings):
            layers += [nn.ConvTranspose1d(width, width, 4, 2, 1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv1d(width, outputs, 3, 1, 1))

    def forward(self, z: Tensor) -> Tensor:
        """Latents ``[..., latent_size]`` to parameters ``[..., T, outputs]``."""
        steps = cast(Tensor, self.layers(z.reshape(-1, z.shape[-1])))[..., : self.length].mT  # [B, T, outputs]
        return steps.reshape(*z.shape[:-1], *steps.shape[1:])
