"""Data of one's own: bars on 16 × 16 pixels."""

import torch
from torch import Tensor

from pyro_hfvae.data import Images

LINES, LEVELS = 14, 4


class Bars(Images):
    """A bar three pixels thick: 2 directions × 14 places × 4 grey levels, 112 images."""

    factor_names = ("direction", "place", "level")
    factor_sizes = (2, LINES, LEVELS)
    factor_kinds = ("categorical", "ordinal", "ordinal")
    image_shape = (1, 16, 16)

    def __len__(self) -> int:
        return 2 * LINES * LEVELS

    def images(self, indices: Tensor) -> Tensor:
        """Images at ``indices`` [B], [B, 1, 16, 16]."""
        factors = self.factors(indices)[:, :, None, None]
        direction, place, level = factors.unbind(1)  # each [B, 1, 1]
        row, column = torch.arange(16)[:, None], torch.arange(16)
        line = torch.where(direction == 0, row, column)  # [B, 16, 16]
        inside = (line >= place) & (line < place + 3)
        return (inside * (level + 1) / LEVELS).unsqueeze(1)

    def factors(self, indices: Tensor) -> Tensor:
        """Direction, place and level of the images at ``indices`` [B], [B, 3]."""
        return torch.stack(torch.unravel_index(indices, self.factor_sizes), 1)
