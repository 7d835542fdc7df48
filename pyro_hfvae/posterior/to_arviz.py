"""Prior, posterior, predictive draws and densities of a model and a guide as ArviZ groups."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pyro.poutine import Trace
from torch import Tensor

from pyro_hfvae.blocks import Layout
from pyro_hfvae.distributions import unwrap
from pyro_hfvae.infer.traces import observed_sites
from pyro_hfvae.posterior.draws import draw_guide, predict, simulate
from pyro_hfvae.posterior.inference_data import make_inference_data
from pyro_hfvae.posterior.layout import LatentArrays, read_arrays
from pyro_hfvae.posterior.pointwise import MARGINAL, marginal, number_log_probs, without_number
from pyro_hfvae.posterior.programs import Program, fix

__all__ = ["to_arviz"]

DRAWN = ("posterior", "prior", "posterior_predictive", "prior_predictive", "sample_stats")
TAKEN = ("chain", "draw", "data", MARGINAL)


@torch.no_grad()
def to_arviz(
    model: Program,
    guide: Program,
    *args: Any,
    draws: int = 100,
    chains: int = 1,
    blocks: Layout | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    constant_data: Mapping[str, ArrayLike] | None = None,
    **kwargs: Any,
) -> Any:
    """Draws from model and guide, and puts everything into ArviZ's groups.

    - ``posterior``: z ~ q(z|x_n), a variable for each block, with the dims chain, draw, data, BLOCK_variable, and
      BLOCK_category where the block's variables are categorical;
    - ``prior``: z ~ p(z), in the same form;
    - ``posterior_predictive`` and ``prior_predictive``: x ~ p(x|z) of the draws of either;
    - ``observed_data``: what the observed sites hold; ``constant_data``: what is given as such;
    - ``log_likelihood``: ``marginal`` is log p(x_n) by importance weights, in nats, over all observed sites; ``az.loo``
      and ``az.compare`` take it, and their k̂ is that of the weights. Beside it, as a coordinate with the name of each
      observed site, stands what leaves out one number of a datum, for ``az.plot_loo_pit``; sites that are masked, or
      whose numbers have a density only together, have none;
    - ``sample_stats``: ``lp`` = log p(x, z), ``log_prior``, ``log_q`` and ``log_weight`` = log p(x, z) - log q(z|x).

    The draws are those of the guide, not of the exact posterior: ``log_weight`` reweights them. They are
    independent, within a chain and between chains. Every draw is of the same data: a subsampling plate draws its
    indices once.

    Args:
        model: the generative program.
        guide: the inference program.
        args: arguments of both, one batch of B data.
        draws: S, of each chain.
        chains: number of chains.
        blocks: the layout, as for the objective; each site by default. A block with variables of several sites has a
            variable BLOCK.SITE for each.
        coords: dimension to its coordinates; ``data`` is numbered by default.
        dims: observed site, or constant, to the names of its dimensions after ``data``; SITE_dim_0 and so on by
            default.
        constant_data: name to an array, [B, ...] with one entry for each datum, or of any other shape.
        kwargs: keyword arguments of both programs.

    Returns:
        An ``arviz.InferenceData`` (a DataTree from ArviZ 1.0 on); ``to_netcdf`` saves it.

    Raises:
        ValueError: model and guide do not sample the same sites, for each datum; names that are taken; coordinates or
            names of dimensions that do not fit; importance weights of a datum that are not a number.
        NotImplementedError: the guide has a point estimate (Delta) of a site; names it.
    """
    for number, what in ((draws, "draws"), (chains, "chains")):
        if number < 1:
            raise ValueError(f"the number of {what} must be 1 or more, got {number}")
    model, guide = fix(model, guide, *args, **kwargs)
    first = draw_guide(model, guide, *args, **kwargs)
    layout = read_arrays(first.guide_trace, blocks)
    kept: dict[str, list[dict[str, Tensor]]] = {group: [] for group in DRAWN}
    log_probs: list[dict[str, Tensor]] = []
    for index in range(draws * chains):
        drawn = first if index == 0 else draw_guide(model, guide, *args, **kwargs)
        simulated = simulate(model, *args, **kwargs)
        kept["posterior"].append(layout.read(drawn.values))
        kept["prior"].append(layout.read(simulated.latents))
        kept["posterior_predictive"].append(predict(model, drawn.guide_trace, *args, **kwargs))
        kept["prior_predictive"].append(simulated.observed)
        kept["sample_stats"].append(
            {
                "lp": drawn.log_prior + drawn.log_likelihood,
                "log_prior": drawn.log_prior,
                "log_q": drawn.log_q,
                "log_weight": drawn.log_weight,
            }
        )
        log_probs.append(number_log_probs(drawn.model_trace))
    stacked = {group: _stack(parts) for group, parts in kept.items()}
    log_weights = stacked["sample_stats"]["log_weight"]
    observed = {name: cast(Tensor, site["value"]) for name, site in observed_sites(first.model_trace).items()}
    alone = sum(value[0].numel() for value in observed.values()) == 1
    numbers = {name: value.float() for name, value in without_number(log_weights, _stack(log_probs), alone).items()}
    stacked["log_likelihood"] = {MARGINAL: marginal(log_weights)} | numbers
    groups = {
        group: {name: _array(value.reshape(chains, draws, *value.shape[1:])) for name, value in arrays.items()}
        for group, arrays in stacked.items()
    }
    groups["observed_data"] = {name: _array(value) for name, value in observed.items()}
    if constant_data:
        groups["constant_data"] = {name: _array(value) for name, value in constant_data.items()}
    for name in _counts(first.model_trace):
        for group in ("observed_data", "posterior_predictive", "prior_predictive"):
            groups[group][name] = groups[group][name].astype(np.int64)
    size = len(first.log_q)
    named = _names(layout, groups, dims or {}, size)
    labels: dict[str, Sequence[Any]] = {"data": range(size)}
    for array in layout.arrays:
        labels |= array.coords
    return make_inference_data(groups, named, _with_coords(labels, coords or {}, named, groups), auxiliary=numbers)


def _names(
    layout: LatentArrays,
    groups: Mapping[str, Mapping[str, NDArray[Any]]],
    given: Mapping[str, Sequence[str]],
    size: int,
) -> dict[str, list[str]]:
    """Variable to the names of its dimensions after chain and draw; no two variables have one name."""
    named: dict[str, list[str]] = {array.name: array.dims for array in layout.arrays}
    for group, what in (("observed_data", "observed site"), ("constant_data", "constant")):
        for name, values in groups.get(group, {}).items():
            if name in named:
                if name in groups["observed_data"] and what == "constant":
                    raise ValueError(f"the constant '{name}' has the name of an observed site: give it another")
                raise ValueError(f"the {what} '{name}' and a block have one name: give the block another")
            if name in TAKEN:
                raise ValueError(f"the {what} '{name}' has a name that the ArviZ groups need: give it another")
            named[name] = _dims(name, values, size, given.get(name))
    for name in given:
        if name not in groups["observed_data"] and name not in groups.get("constant_data", {}):
            raise ValueError(f"dims name '{name}', which is neither an observed site nor a constant")
    return named | {name: ["data"] for name in [*groups["sample_stats"], MARGINAL]}


def _dims(name: str, values: NDArray[Any], size: int, given: Sequence[str] | None) -> list[str]:
    """Names of the dimensions of data; ``data`` is the first where there is an entry for each datum."""
    first = ["data"] if values.ndim and len(values) == size else []
    count = values.ndim - len(first)
    if given is None:
        return [*first, *(f"{name}_dim_{place}" for place in range(count))]
    if len(given) != count or name in given:
        raise ValueError(
            f"dims of '{name}' must be {count} other names, of its dimensions after 'data', got {list(given)}"
        )
    return [*first, *given]


def _with_coords(
    labels: Mapping[str, Sequence[Any]],
    given: Mapping[str, Sequence[Any]],
    named: Mapping[str, Sequence[str]],
    groups: Mapping[str, Mapping[str, NDArray[Any]]],
) -> dict[str, Sequence[Any]]:
    """The coordinates with those given, which must be those of a dimension of as many entries."""
    lengths: dict[str, int] = {}
    for arrays in groups.values():
        for name, values in arrays.items():
            if name in named:
                trailing = values.shape[values.ndim - len(named[name]) :]
                lengths |= dict(zip(named[name], trailing, strict=True))
    for name, entries in given.items():
        if name not in lengths:
            raise ValueError(f"coords name '{name}', which is no dimension; dimensions are {', '.join(lengths)}")
        if len(entries) != lengths[name]:
            raise ValueError(f"coords give {len(entries)} values of the dimension '{name}', which has {lengths[name]}")
    return {**labels, **given}


def _counts(trace: Trace) -> list[str]:
    """Observed sites of whole numbers, which ArviZ distinguishes from others by the type of the array."""
    return [
        name
        for name, site in observed_sites(trace).items()
        if cast(Any, unwrap(site["fn"]).support).is_discrete and bool((site["value"] == site["value"].round()).all())
    ]


def _stack(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Draws of each name, [S, B, ...]."""
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


def _array(values: ArrayLike) -> NDArray[Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    return np.asarray(values)
