"""A selector that tells which sockets it knows at no cost.

kafka-python (3.0.12) asks before each wait whether a socket is registered, which it hardly ever is. The selector of
Python's library then writes an error with the socket's text, for which the kernel is asked for both of its addresses:
a tenth of the time of the client's threads.
"""

from __future__ import annotations

import selectors
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike


class KnownSockets(selectors.DefaultSelector):
    """The platform's selector, but for that question. Not thread-safe, as that is not."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, selectors.SelectorKey] = {}
        """By file descriptor."""

    def register(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        """Wait for events of a file, too. Raises KeyError when it is registered, ValueError when it is closed."""
        return self._keep(super().register(fileobj, events, data))

    def modify(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        """Wait for other events of a file, or with other data. Raises KeyError when it is not registered."""
        return self._keep(super().modify(fileobj, events, data))

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Wait for no events of a file any more. Raises KeyError when it is not registered."""
        key = super().unregister(fileobj)
        self._known.pop(key.fd, None)
        return key

    def get_key(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Return what is registered of a file. Raises KeyError when it is not."""
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        # A closed file has no number any more, and is looked for among all.
        return self._known[number] if number >= 0 else super().get_key(fileobj)

    def _keep(self, key: selectors.SelectorKey) -> selectors.SelectorKey:
        self._known[key.fd] = key
        return key
