"""Networks made by what a program is given: a class, a function, a partial, or what a configuration names."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from pyro_hfvae.covariates import covariate_widths
from pyro_hfvae.data.data import Data

__all__ = ["image_sizes", "make", "sizes_of"]

T = TypeVar("T")


def make(factory: Callable[..., T], *arguments: Any, **known: Any) -> T:
    """Calls a factory with the arguments, and with what is known of the data as far as it takes that by name.

    A class gets the keywords of its constructor, a function those of its own: ``lambda size: Net(size)`` gets the size
    alone. What a ``functools.partial`` was given already stays as it is, except None: a configuration gives every
    option a value, so None is how one that follows from the data is left open.

    Args:
        factory: a class, a function or a partial of one.
        arguments: by position.
        known: by keyword, for those parameters that have such a name.
    """
    called: Callable[..., Any] = factory
    given: set[str] = set()
    if isinstance(factory, partial):
        given = {name for name, value in factory.keywords.items() if value is not None}
        if getattr(factory.func, "__module__", "").startswith("jsonargparse"):
            called = factory.args[-1]  # the class; what is called is a function of jsonargparse, with two arguments
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):  # of a class written in C
        return factory(*arguments)
    given |= signature.bind_partial(*arguments).arguments.keys() if arguments else set()
    takes = {
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    return factory(*arguments, **{name: value for name, value in known.items() if name in takes - given})


def image_sizes(shape: Sequence[int]) -> dict[str, Any]:
    """What networks of images may ask for: ``channels``, ``size`` (H, W) and ``image_shape`` (C, H, W)."""
    channels, height, width = shape
    return {"channels": channels, "size": (height, width), "image_shape": (channels, height, width)}


def sizes_of(data: Data | None) -> dict[str, Any]:
    """What an encoder may ask for of some data, by name.

    Images have ``channels``, ``size`` and ``image_shape``, tables ``columns``, other rows of numbers ``inputs``, and
    sequences ``length`` and ``inputs``; all have ``covariates``, the names and sizes of what comes with x.
    """
    if data is None:
        return {}
    shape = data.shape
    found: dict[str, Any] = {"covariates": covariate_widths(data)}
    if len(shape) == 3:
        return found | image_sizes(shape)
    if len(shape) == 2:
        return found | {"length": shape[0], "inputs": shape[1]}
    columns = getattr(data, "columns", ())
    return found | ({"columns": columns} if columns else {"inputs": shape[0]} if shape else {})
