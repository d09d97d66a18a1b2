"""What readers see: the committed catalogue and the latest progress, and a word to whoever waits for a change."""

import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import takewhile

from headrace_data.identity import MerkleTree

from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import LogEntry
from headrace_model_registry.core.progress import Progress
from headrace_model_registry.core.queries import ProgressBoard

Listener = Callable[[], None]


class State:
    """Holds values that are replaced and never changed, and a log that only grows, so reading needs no lock.

    One thread publishes catalogues, one publishes progress, any number reads. Listeners are called in the publishing
    thread and must return at once.
    """

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self.board = ProgressBoard()
        self.tree = MerkleTree()
        """That of the log's committed entries."""
        self._log: list[LogEntry] = []
        self._listeners: frozenset[Listener] = frozenset()
        self._lock = threading.Lock()

    def publish(self, catalogue: Catalogue, entries: Iterable[LogEntry] = (), tree: MerkleTree | None = None) -> None:
        """Make a catalogue the one in force; `entries` are the lines of the log that led to it from the one before.

        `tree` is that of the log with them.
        """
        self._log.extend(entries)
        self.tree = tree or self.tree
        self.catalogue = catalogue
        self.wake()

    def entries(self) -> tuple[LogEntry, ...]:
        """Return the lines of the log, oldest first."""
        return tuple(self._log)

    def as_of(self, moment: datetime | None) -> Catalogue:
        """Return the catalogue as it was at a moment (aware), or as it is when that is None.

        The log is folded anew up to its first entry of later than that: its order is the truth, also where a clock
        went back. Takes time in proportion to the log.
        """
        if moment is None:
            return self.catalogue
        catalogue = Catalogue()
        for entry in takewhile(lambda entry: entry.occur_time <= moment, tuple(self._log)):
            catalogue.fold(entry)
        return catalogue

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
