"""What messengers that act on named sites or blocks share: a name that was not sampled inside is a mistake."""

from abc import abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import TypeVar

from pyro.poutine.messenger import Messenger

__all__ = ["MetMessenger"]

_M = TypeVar("_M", bound="MetMessenger")


class MetMessenger(Messenger):
    """Notes which of the names that it was given it met, and refuses the others on leaving.

    Args:
        named: names of sites or blocks.
    """

    def __init__(self, named: Iterable[str]) -> None:
        super().__init__()
        self._named = tuple(named)
        self._met: set[str] = set()

    def __enter__(self: _M) -> _M:
        """Installs the messenger."""
        self._met = set()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Removes it, and refuses names that were not met."""
        super().__exit__(kind, error, traceback)
        for name in self._named:
            if kind is None and name not in self._met:
                raise ValueError(self._unmet(name))

    @abstractmethod
    def _unmet(self, name: str) -> str:
        """The complaint about a name that was not met."""
