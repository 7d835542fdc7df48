"""Prior, posterior, predictive draws and densities of a model and a guide as ArviZ groups."""

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hfvae.blocks import Layout
from pyro_hfvae.posterior.draws import Program, draw_guide, predict, simulate
from pyro_hfvae.posterior.inference_data import make_inference_data
from pyro_hfvae.posterior.layout import read_arrays

__all__ = ["to_arviz"]


@torch.no_grad()
def to_arviz(model: Program, guide: Program, *args: Any, draws: int = 100, blocks: Layout | None = None) -> Any:
    """Draws from model and guide, and puts everything into ArviZ's groups.

    - ``posterior``: z ~ q(z|x_n), a variable for each block, with the dims chain, draw, data, BLOCK_variable, and
      BLOCK_category where the block's variables are categorical;
    - ``prior``: z ~ p(z), in the same form;
    - ``posterior_predictive`` and ``prior_predictive``: x ~ p(x|z) of the draws of either;
    - ``observed_data``: what the observed sites hold;
    - ``log_likelihood``: ``data_log_likelihood`` = log p(x_n|z), in nats, summed over the observed sites;
    - ``sample_stats``: ``lp`` = log p(x, z), ``log_prior``, ``log_q`` and ``log_weight`` = log p(x, z) - log q(z|x).

    The draws are those of the guide, not of the exact posterior: ``log_weight`` says how to reweight them. The one
    chain is there because ArviZ wants it; the draws are independent.

    Args:
        model: the generative program.
        guide: the inference program.
        args: arguments of both, one batch of B data.
        draws: S.
        blocks: the layout, as for the objective; each site by default. A block with variables of several sites has a
            variable BLOCK.SITE for each.

    Returns:
        An ``arviz.InferenceData`` (a DataTree from ArviZ 1.0 on); ``to_netcdf`` saves it.

    Raises:
        ValueError: model and guide do not sample the same sites, for each datum; names the site.
    """
    if draws < 1:
        raise ValueError(f"the number of draws must be 1 or more, got {draws}")
    first = draw_guide(model, guide, *args)
    layout = read_arrays(first.guide_trace, blocks)
    kept: dict[str, list[dict[str, Tensor]]] = {
        name: [] for name in ("posterior", "prior", "posterior_predictive", "prior_predictive", "sample_stats")
    }
    for index in range(draws):
        drawn = first if index == 0 else draw_guide(model, guide, *args)
        simulated = simulate(model, *args)
        kept["posterior"].append(layout.read(drawn.values))
        kept["prior"].append(layout.read(simulated.latents))
        kept["posterior_predictive"].append(predict(model, drawn.guide_trace, *args))
        kept["prior_predictive"].append(simulated.observed)
        kept["sample_stats"].append(
            {
                "lp": drawn.log_prior + drawn.log_likelihood,
                "log_prior": drawn.log_prior,
                "log_q": drawn.log_q,
                "log_weight": drawn.log_weight,
                "log_likelihood": drawn.log_likelihood,
            }
        )
    groups = {group: _stack(parts) for group, parts in kept.items()}
    groups["log_likelihood"] = {"data_log_likelihood": groups["sample_stats"].pop("log_likelihood")}
    sites = first.model_trace.nodes
    observed = {name: cast(Tensor, sites[name]["value"]) for name in kept["prior_predictive"][0]}
    groups["observed_data"] = {name: _array(value) for name, value in observed.items()}
    dims: dict[str, list[str]] = {array.name: array.dims for array in layout.arrays}
    for name, value in observed.items():
        if name in dims:
            raise ValueError(f"the observed site '{name}' and a block have one name: give the block another")
        dims[name] = ["data", *(f"{name}_dim_{place}" for place in range(value.dim() - 1))]
    dims |= {name: ["data"] for name in [*groups["sample_stats"], "data_log_likelihood"]}
    coords: dict[str, Any] = {"data": list(range(len(first.log_q)))}
    for array in layout.arrays:
        coords |= array.coords
    return make_inference_data(groups, dims, coords)


def _stack(parts: list[dict[str, Tensor]]) -> dict[str, NDArray[Any]]:
    """Draws of each name as one chain, [1, S, B, ...]."""
    return {name: np.stack([_array(part[name]) for part in parts])[None] for name in parts[0]}


def _array(tensor: Tensor) -> NDArray[Any]:
    tensor = tensor.detach().cpu()
    return np.asarray(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)
