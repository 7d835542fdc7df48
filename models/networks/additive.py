"""A decoder that decodes each block apart: what is learnt of one block holds beside any value of the others."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from pyro_hfvae.blocks import block_sizes
from pyro_hfvae.factories import make
from pyro_hfvae.models.networks.images import ConvDecoder
from pyro_hfvae.networks import ImageSize

__all__ = ["AdditiveDecoder"]


class AdditiveDecoder(nn.Module):
    r"""A decoder for each block of the latents; their outputs are pooled.

    .. math:: f(z) = \sum_d f_d(z_d) \qquad\text{or}\qquad f(z) = \log \sum_d \exp f_d(z_d)

    No term depends on two blocks, so that blocks that were never seen together are decoded as they were apart:
    Lachapelle et al., Additive Decoders for Latent Variables Identification and Cartesian-Product Extrapolation
    (NeurIPS 2023). The second way adds what the outputs are logarithms of, such as the expression of genes: Moinfar and
    Theis, Unsupervised Deep Disentangled Representation of Single-Cell Omics (2024), who also subtract the logarithm of
    the number of blocks, which is left to the biases here. With one block both are its decoder.

    Args:
        latent_size: size of the latent vector, the sum over blocks.
        blocks: name and size of each block, in the order in which the latent vector is put together; None takes those
            of the program.
        decoder: called with the size of a block, and with those of the sizes below that it takes by name; makes the
            decoder of the block.
        pooling: ``"sum"`` or ``"logsumexp"``.
        channels: of an image, for the decoders of the blocks, as are all below; None takes that of the data.
        size: height and width of an image.
        image_shape: C, H, W of an image.
        length: T, the number of time steps of a sequence.
        outputs: how many parameters a datum or a time step has.

    Raises:
        ValueError: there are no blocks, a name or a size of one is none, the sizes do not add up to that of the latent
            vector, or there is no such way of pooling.
    """

    def __init__(
        self,
        latent_size: int,
        blocks: Mapping[str, int] | None = None,
        decoder: Callable[[int], nn.Module] = ConvDecoder,
        pooling: Literal["sum", "logsumexp"] = "sum",
        channels: int | None = None,
        size: ImageSize | None = None,
        image_shape: tuple[int, int, int] | None = None,
        length: int | None = None,
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        if not blocks:
            raise ValueError("blocks must name each block of the latent vector with its size, got none")
        self.sizes, _ = block_sizes(blocks, {})
        if sum(self.sizes.values()) != latent_size:
            raise ValueError(f"the sizes of the blocks {self.sizes} must add up to {latent_size}, the latent vector's")
        if pooling not in ("sum", "logsumexp"):
            raise ValueError(f"pooling must be sum or logsumexp, got {pooling!r}")
        self.pooling = pooling
        sizes = {"channels": channels, "size": size, "image_shape": image_shape, "length": length, "outputs": outputs}
        known = {name: value for name, value in sizes.items() if value is not None}
        self.blocks = nn.ModuleDict({name: make(decoder, width, **known) for name, width in self.sizes.items()})

    def forward(self, z: Tensor) -> Tensor:
        """Latents ``[..., latent_size]`` to what the decoders of the blocks give, pooled, ``[..., outputs]``."""
        blocks = z.split(list(self.sizes.values()), -1)
        outputs = torch.stack([decoder(block) for decoder, block in zip(self.blocks.values(), blocks, strict=True)])
        return outputs.sum(0) if self.pooling == "sum" else outputs.logsumexp(0)
