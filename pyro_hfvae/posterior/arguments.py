"""Arguments of programs: simulated data in the place of the real ones, and the arguments of one datum."""

from collections.abc import Mapping
from typing import Any, cast

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor
from torch.utils import _pytree as pytree

from pyro_hfvae.batch import Arguments
from pyro_hfvae.infer.traces import latent_sites, observed_sites
from pyro_hfvae.posterior.programs import FixedProgram

__all__ = ["one_datum", "with_observed"]


@torch.no_grad()
def with_observed(
    model: FixedProgram, guide: FixedProgram, observed: Mapping[str, Tensor], args: tuple[Any, ...], kwargs: Any
) -> Arguments:
    """The arguments with the data replaced by other data.

    The argument that holds the data of an observed site is the one whose numbers the site observes, in whatever shape;
    of a subsampling plate, the one whose rows it observes.

    Args:
        model: the generative program.
        guide: the inference program.
        observed: observed site to the data to put in, [B, ...].
        args: their arguments, one batch.
        kwargs: their keyword arguments.

    Raises:
        ValueError: an observed site whose data are none of the arguments as they stand, whose simulated data the
            argument cannot hold, or an argument that looks computed from the data; names site and argument.
    """
    trace = poutine.trace(model).get_trace(*args, **kwargs)
    paths, leaves, form = _flat(args, kwargs)
    replaced: set[int] = set()
    values = list(leaves)
    for name, value in observed.items():
        held = cast(Tensor, trace.nodes[name]["value"])
        rows = _rows(trace.nodes[name], model.subsample)
        places = [place for place, leaf in enumerate(leaves) if _holds(leaf, held, rows)]
        if not places:
            raise ValueError(
                f"the data of the observed site '{name}' are none of the model's arguments as they stand, so that data "
                "simulated for it cannot be given to the guide: pass what the site observes as an argument"
            )
        for place in places:
            values[place] = _put(leaves[place], value, rows, name, paths[place])
        replaced.update(places)
    simulated = cast(Arguments, pytree.tree_unflatten(values, form))
    plates = [cast(int, cast(Any, site["fn"]).size) for site in model.subsample.nodes.values()]
    sizes = {len(next(iter(observed.values()))), *plates}
    for place, leaf in enumerate(leaves):
        if place not in replaced and isinstance(leaf, Tensor) and leaf.dim() and len(leaf) in sizes:
            moved = cast(
                Arguments, pytree.tree_unflatten([*values[:place], leaf.roll(1, 0), *values[place + 1 :]], form)
            )
            if not _reads(model, simulated, moved) and _reads(guide, simulated, moved):
                raise ValueError(
                    f"the guide reads {paths[place]}, which the model does not: if it is computed from the data, it "
                    "does not belong to simulated ones; compute it in the guide"
                )
    return simulated


def one_datum(arguments: Arguments, place: int, size: int) -> Arguments:
    """The arguments of one of B = size data; tensors without an entry for each datum are taken as a whole."""

    def part(leaf: Any) -> Any:
        return leaf[place : place + 1] if isinstance(leaf, Tensor) and leaf.dim() and len(leaf) == size else leaf

    return cast(Arguments, pytree.tree_map(part, arguments))


def _flat(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[list[str], list[Any], Any]:
    """Names for messages, leaves, and what puts leaves together again."""
    pairs, form = pytree.tree_flatten_with_path((args, dict(kwargs)))
    paths = []
    for path, _ in pairs:
        kind, first, *rest = cast(tuple[Any, ...], path)
        name = f"argument {first.idx + 1}" if kind.idx == 0 else f"argument '{first.key}'"
        paths.append(name + pytree.keystr(tuple(rest)))
    return paths, [leaf for _, leaf in pairs], form


def _rows(site: Mapping[str, Any], subsample: Trace) -> Tensor | None:
    """The rows of the data that a subsampling plate around an observed site has drawn."""
    for frame in site["cond_indep_stack"]:
        if frame.name in subsample:
            return cast(Tensor, subsample.nodes[frame.name]["value"])
    return None


def _holds(leaf: object, held: Tensor, rows: Tensor | None) -> bool:
    """Whether an argument holds the numbers that a site observes, all of them or in some rows."""
    if not isinstance(leaf, Tensor):
        return False
    if rows is not None and leaf.dim() and len(leaf) > int(rows.max()) and _same_numbers(leaf[rows], held):
        return True
    return _same_numbers(leaf, held)


def _same_numbers(one: Tensor, other: Tensor) -> bool:
    if one.numel() != other.numel():
        return False
    return one is other or torch.equal(one.reshape(other.shape).to(other.dtype), other)


def _put(leaf: Tensor, value: Tensor, rows: Tensor | None, site: str, path: str) -> Tensor:
    """The argument with the values of a site in it."""
    whole = value.numel() == leaf.numel()
    shaped = value.reshape(leaf.shape if whole else leaf[rows].shape)
    cast_to = shaped.to(leaf.dtype)
    if not torch.equal(cast_to.to(shaped.dtype), shaped) and not leaf.is_floating_point():
        raise ValueError(
            f"{path} holds the data of the observed site '{site}' as {leaf.dtype}, which cannot hold what the model "
            f"draws ({shaped.dtype}): pass the data as {shaped.dtype}"
        )
    return cast_to if whole else leaf.index_copy(0, cast(Tensor, rows), cast_to)


def _reads(program: FixedProgram, given: Arguments, moved: Arguments) -> bool:
    """Whether the densities of a program's own draw change with its arguments."""
    with torch.random.fork_rng(), pyro.validation_enabled(False):
        torch.manual_seed(0)
        before = poutine.trace(program).get_trace(*given[0], **given[1])
        torch.manual_seed(0)
        try:
            after = poutine.trace(poutine.replay(program, trace=before)).get_trace(*moved[0], **moved[1])
            return any(
                not torch.equal(_log_prob(site), _log_prob(after.nodes[name]))
                for name, site in [*latent_sites(before).items(), *observed_sites(before).items()]
            )
        except (ValueError, RuntimeError, KeyError):  # other sites, or values that the program refuses
            return True


def _log_prob(site: Mapping[str, Any]) -> Tensor:
    return cast(Tensor, site["fn"].log_prob(site["value"])).nan_to_num()
