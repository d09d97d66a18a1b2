"""What the core needs of the outside."""

from typing import Protocol

from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import Fact
from headrace_model_registry.core.queries import Lag


class Topics(Protocol):
    """The cluster's topics, and how far their readers are."""

    def partitions_of(self, topic: str) -> int:
        """Return the number of partitions; 0 when the topic does not exist."""

    def create(self, topic: str) -> None:
        """Create a producers' topic unless it exists."""

    def create_record_topics(self, pipeline: str, partitions: int) -> None:
        """Create a pipeline's own topics unless they exist. Raises FailedPrecondition when they do not fit."""

    def lags(self) -> list[Lag]:
        """Return how far each consumer group is behind."""


class Writer(Protocol):
    """The one way into the log."""

    def write(self, fact: Fact) -> Catalogue:
        """Record a fact with all that follows from it, and return the catalogue once that is committed.

        Returns the catalogue as it is when the fact is known already. Raises FailedPrecondition when it cannot be
        recorded, and Unavailable when it is not known whether it was.
        """
