"""What messengers that act on named sites or blocks share: a name that was not sampled inside is a mistake."""

from abc import abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import TypeVar

from pyro.poutine.messenger import Messenger

__all__ = ["NamedMessenger"]

_M = TypeVar("_M", bound="NamedMessenger")


class NamedMessenger(Messenger):
    """Notes which of the names that it was given are sampled, and refuses the others on leaving.

    Args:
        names: of sites or blocks.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self._names = tuple(names)
        self._sampled: set[str] = set()

    def __enter__(self: _M) -> _M:
        """Installs the messenger."""
        self._sampled = set()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Removes it, and refuses names that were not sampled."""
        super().__exit__(kind, error, traceback)
        for name in self._names:
            if kind is None and name not in self._sampled:
                raise ValueError(self._not_sampled(name))

    @abstractmethod
    def _not_sampled(self, name: str) -> str:
        """The complaint about a name that was not sampled."""
