"""What readers see: the committed catalogue and the latest progress, and a word to whoever waits for a change."""

import threading
from collections.abc import Callable

from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import Progress
from headrace_model_registry.core.queries import ProgressBoard

Listener = Callable[[], None]


class State:
    """Holds values that are replaced and never changed, so reading needs no lock.

    One thread publishes catalogues, one publishes progress, any number reads. Listeners are called in the publishing
    thread and must return at once.
    """

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self.board = ProgressBoard()
        self._listeners: frozenset[Listener] = frozenset()
        self._lock = threading.Lock()

    def publish(self, catalogue: Catalogue) -> None:
        """Make a catalogue the one in force."""
        self.catalogue = catalogue
        self.wake()

    def show(self, progress: list[Progress]) -> None:
        """Make these the latest progress, in their order."""
        board = self.board
        for each in progress:
            board = board.showing(each)
        self.board = board
        self.wake()

    def listen(self, listener: Listener) -> None:
        """Call listener after every change."""
        with self._lock:
            self._listeners |= {listener}

    def forget(self, listener: Listener) -> None:
        """Call listener no more."""
        with self._lock:
            self._listeners -= {listener}

    def wake(self) -> None:
        """Call the listeners though nothing changed."""
        for listener in self._listeners:
            listener()
