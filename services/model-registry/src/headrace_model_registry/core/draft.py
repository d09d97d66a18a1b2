"""What one transaction adds to the log: a draft of the catalogue that becomes the catalogue when it is committed."""

from datetime import datetime

from headrace_data.identity import MerkleTree

from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import LogEntry
from headrace_model_registry.core.objections import Objection, objection
from headrace_model_registry.core.policy import decide
from headrace_model_registry.core.wishes import Input, Wish


class Draft:
    """A copy of the catalogue on which the facts of one transaction are tried, each seeing what the ones before did.

    `catalogue` and `entries` are the outcome; the original stays as it was, so a failed transaction leaves no trace.
    `tree` is that of the log, for whoever turns entries into bytes to add them.
    """

    def __init__(self, committed: Catalogue, tree: MerkleTree | None = None) -> None:
        self.catalogue = committed.copy()
        self.tree = tree.copy() if tree else MerkleTree()
        self.entries: list[LogEntry] = []

    def take(self, fact: Input, now: datetime) -> list[LogEntry] | Objection:
        """Return the entries to write, a fact before what follows from it, or why nothing is to be written."""
        if reason := objection(fact, self.catalogue):
            return reason
        recorded = () if isinstance(fact, Wish) else (fact,)
        entries = [LogEntry(now, event) for event in (*recorded, *decide(fact, self.catalogue))]
        for entry in entries:
            self.catalogue.fold(entry)
        self.entries += entries
        return entries
