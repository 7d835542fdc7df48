"""Encoders of sequences, each with a length of its own: what lies beyond its end does not count."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from pyro_hfvae.networks import check_lengths, dense_layers, halvings, positive, within

__all__ = ["ConvSequenceEncoder", "RecurrentEncoder"]


class RecurrentEncoder(nn.Module):
    """Gated recurrent units that read a sequence forwards and backwards; the features are their last states.

    Cho et al., Learning Phrase Representations using RNN Encoder-Decoder (2014), in both directions as by Schuster and
    Paliwal, Bidirectional Recurrent Neural Networks (1997).

    Args:
        inputs: V, the numbers of each time step; None takes that of the data.
        hidden: size of the state in each direction; there are twice as many features.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, inputs: int | None = None, hidden: int = 128) -> None:
        super().__init__()
        self.inputs, hidden = positive(inputs=inputs, hidden=hidden)
        self.features = 2 * hidden
        self.recurrent = nn.GRU(self.inputs, hidden, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Sequences to features.

        Args:
            x: ``[B, T, V]``, of any T.
            lengths: how many time steps each has, ``[B]``; None for T.

        Returns:
            ``[B, features]``.

        Raises:
            ValueError: sequences of another V, or a length that is not from 1 to T.
        """
        if x.ndim != 3 or x.shape[-1] != self.inputs:
            raise ValueError(f"the encoder takes sequences [B, T, {self.inputs}], got {list(x.shape)}")
        if lengths is None:
            _, last = self.recurrent(x)  # [2, B, hidden]
        else:
            check_lengths(lengths, x)
            _, last = self.recurrent(pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False))
        return cast(Tensor, last.transpose(0, 1).flatten(1))


class ConvSequenceEncoder(nn.Module):
    """Convolutions over time, which halve it to 4 to 7 places, then a dense layer.

    Each time step has a further input, which is 1 within the sequence; beyond it all are 0.

    Args:
        inputs: V, the numbers of each time step; None takes that of the data.
        length: T, the number of time steps of all sequences with what fills them up; None takes that of the data.
        width: channels of the convolutions.
        hidden: units of the dense layer, the number of features.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self, inputs: int | None = None, length: int | None = None, width: int = 64, hidden: int = 128
    ) -> None:
        super().__init__()
        self.inputs, self.length, width, self.features = positive(
            inputs=inputs, length=length, width=width, hidden=hidden
        )
        layers: list[nn.Module] = [nn.Conv1d(self.inputs + 1, width, 3, 1, 1), nn.ReLU()]
        for _ in range(halvings(self.length)):
            layers += [nn.Conv1d(width, width, 4, 2, 1), nn.ReLU()]  # the last of 2 k + 1 steps is in the k-th window
        places = self.length >> halvings(self.length)
        self.layers = nn.Sequential(*layers, nn.Flatten(), *dense_layers(width * places, (self.features,)))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Sequences to features.

        Args:
            x: ``[B, T, V]``.
            lengths: how many time steps each has, ``[B]``; None for T.

        Returns:
            ``[B, hidden]``.

        Raises:
            ValueError: sequences of another T or V, or a length that is not from 1 to T.
        """
        if x.ndim != 3 or x.shape[1:] != (self.length, self.inputs):
            raise ValueError(f"the encoder takes sequences [B, {self.length}, {self.inputs}], got {list(x.shape)}")
        inside = within(lengths, x)[..., None]  # [B, T, 1]
        steps = torch.cat([x.where(inside, 0.0), inside.to(x)], -1)  # [B, T, V + 1]
        return cast(Tensor, self.layers(steps.mT))
