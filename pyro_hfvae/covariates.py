"""Covariates of data: what comes with x by name, and is given to a prior, a decoder or an encoder."""

from collections.abc import Mapping, Sequence
from operator import index

import torch
from torch import Tensor

from pyro_hfvae.data.data import Data

__all__ = ["covariate_widths", "join_covariates", "widths_of"]


def covariate_widths(data: Data | None) -> dict[str, int]:
    """Name and number of entries of each tensor that a datum has beside x."""
    if data is None:
        return {}
    return {name: tensor.shape[1:].numel() for name, tensor in data.batch(torch.tensor([0])).others.items()}


def widths_of(given: Mapping[str, int] | Sequence[str], available: Mapping[str, int]) -> dict[str, int]:
    """Name and number of entries of the covariates that a program is given.

    Args:
        given: their names, or names and numbers of entries.
        available: those of the data.

    Raises:
        ValueError: the data have no such covariate; names those that they have.
    """
    if isinstance(given, str):
        raise ValueError(f"given must be a list of covariates, got '{given}'")
    if isinstance(given, Mapping):
        return {name: index(width) for name, width in given.items()}
    for name in given:
        if name not in available:
            raise ValueError(f"the data have no covariate '{name}'; they have: {', '.join(available) or 'none'}")
    return {name: available[name] for name in given}


def join_covariates(widths: Mapping[str, int], covariates: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """Covariates side by side, ``[B, width]``, in the type of a tensor.

    Raises:
        ValueError: the program was called without one of them, or it has another size; names it.
    """
    found = []
    for name, width in widths.items():
        if name not in covariates:
            raise ValueError(f"the program needs the covariate '{name}', got: {', '.join(covariates) or 'none'}")
        tensor = covariates[name].flatten(1) if covariates[name].dim() > 1 else covariates[name][:, None]
        if tensor.shape[-1] != width:
            raise ValueError(f"the covariate '{name}' has {tensor.shape[-1]} entries for each datum, expected {width}")
        found.append(tensor.to(like))
    return torch.cat(found, -1)
