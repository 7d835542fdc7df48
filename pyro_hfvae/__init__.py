"""Structured, disentangled deep generative models as Pyro programs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyro_hfvae.distributions import Concrete, nearest_category
    from pyro_hfvae.infer import (
        HFVAE,
        BlockTerms,
        Capacity,
        GroupTerms,
        HierarchicalELBO,
        HierarchicalModule,
        Memory,
        NonFiniteError,
        Terms,
        VariableTerms,
    )
    from pyro_hfvae.metrics import encode
    from pyro_hfvae.poutine import gate, observe_labels, swap
    from pyro_hfvae.schedules import Cosine, Cyclical, Linear, Steps
    from pyro_hfvae.sites import register_site
else:

    def __getattr__(name: str) -> Any:
        """A public name, or a module that has some, when it is first used: the command takes signals before that."""
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if name in __all__:
            for module in _MODULES:
                found = import_module(f"{__name__}.{module}")
                if name in found.__all__:
                    return getattr(found, name)
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


_MODULES = ("distributions", "infer", "metrics", "poutine", "schedules", "sites")

__all__ = [
    "HFVAE",
    "BlockTerms",
    "Capacity",
    "Concrete",
    "Cosine",
    "Cyclical",
    "GroupTerms",
    "HierarchicalELBO",
    "HierarchicalModule",
    "Linear",
    "Memory",
    "NonFiniteError",
    "Steps",
    "Terms",
    "VariableTerms",
    "encode",
    "gate",
    "nearest_category",
    "observe_labels",
    "register_site",
    "swap",
]
__version__ = "0.1.0"
