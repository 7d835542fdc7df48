"""Calls what a configuration names by import path, so that whatever it raises ends in a line that names it."""

import inspect
import traceback
from collections.abc import Callable, Mapping
from typing import Any, get_args

from pyro_hfvae.data import Data

__all__ = ["Construct", "Refusal", "construct", "refuse_nulls", "where_raised"]


class Refusal(BaseException):
    """Carries an error through jsonargparse, which catches every Exception where it tries the types of a union."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class Construct:
    """Calls :func:`construct` for jsonargparse: its errors as refusals, until ``instantiating`` is set to False.

    What has an argument ``data`` of type :class:`~pyro_hfvae.data.Data` is given the data of the configuration, which
    are made first, so that the sizes of programs follow from them.
    """

    def __init__(self) -> None:
        self.instantiating = True
        self.data: Data | None = None

    def __call__(self, make: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Calls a class or function.

        Raises:
            TypeError: it does not take these arguments, so that jsonargparse tries another type.
            Refusal: it raised an error.
        """
        if self.data is not None and kwargs.get("data") is None and _takes_data(make):
            kwargs["data"] = self.data
        made = self._made(make, *args, **kwargs)
        if isinstance(made, Data):
            self.data = made
        return made

    def _made(self, make: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if not self.instantiating:
            return construct(make, *args, **kwargs)
        signature = _signature(make)
        if signature is not None:
            signature.bind(*args, **kwargs)
        try:
            return construct(make, *args, **kwargs)
        except Exception as error:
            raise Refusal(error) from error


def construct(make: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Calls a class or function that a configuration names.

    Raises:
        ValueError, NotImplementedError, OSError: its own, which say what is wrong with the input; or a ValueError for
            any other error, with what was called, the kind of error, its reason and where it was raised.
    """
    name = f"{make.__module__}.{make.__qualname__}"
    refuse_nulls(make, kwargs, f"{name}: ")
    try:
        return make(*args, **kwargs)
    except Exception as error:
        text = " ".join(str(error).split())
        if text and isinstance(error, ValueError | NotImplementedError | OSError):
            raise
        reason = f"{type(error).__name__}: {text}".removesuffix(": ")
        raise ValueError(f"{name}: {reason} {where_raised(error)}") from error


def refuse_nulls(make: Callable[..., Any], arguments: Mapping[str, Any], name: str) -> None:
    """Raises ValueError, beginning with ``name``, for an argument that is null and must be a number, a text or a list.

    A configuration's ``null`` reaches a constructor whatever the type of its argument is.
    """
    signature = _signature(make)
    for argument, value in arguments.items():
        if value is None and signature is not None and _never_null(signature.parameters.get(argument)):
            raise ValueError(f"{name}{argument} must not be null")


def where_raised(error: Exception) -> str:
    """The file and the line that raised an error, in brackets."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"({place.filename}, line {place.lineno})"


def _signature(make: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(make, eval_str=True)
    except (NameError, TypeError, ValueError):  # of a class written in C, or with names that only type checkers see
        return None


def _takes_data(make: Callable[..., Any]) -> bool:
    """Whether it has an argument for the data."""
    signature = _signature(make)
    parameter = None if signature is None else signature.parameters.get("data")
    return parameter is not None and (parameter.annotation is Data or Data in get_args(parameter.annotation))


def _never_null(parameter: inspect.Parameter | None) -> bool:
    if parameter is None or parameter.default is None:
        return False
    kind = parameter.annotation
    return kind in (int, float, bool, str) or getattr(kind, "__origin__", None) in (dict, list, tuple)
