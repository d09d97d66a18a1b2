"""What the core needs of the outside."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Protocol

from headrace_data.manifest import Ref
from headrace_data.row_proofs import SegmentProof
from headrace_data.spec import Field

from headrace_model_registry.core.facts import DatasetFrozen, LogEntry
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.facts.hold import HeldSegment
from headrace_model_registry.core.fate import HeldRow, ProvenRow, RecordPlace, RecordRejection
from headrace_model_registry.core.queries import Lag
from headrace_model_registry.core.served import PredictionServed
from headrace_model_registry.core.wishes import Input


class Topics(Protocol):
    """The cluster's topics, and how far their readers are."""

    def partitions_of(self, topic: str) -> int:
        """Return the number of partitions; 0 when the topic does not exist."""

    def max_message_bytes(self, topic: str) -> int:
        """Return the largest message that a topic takes; 0 where that is not to be known."""

    def create(self, topic: str) -> None:
        """Create a producers' topic unless it exists."""

    def create_record_topics(self, pipeline: str, partitions: int) -> int:
        """Create a pipeline's own topics, or make them grow to so many partitions; return how many they have.

        Here and below, a pipeline is named by the name that it alone ever has.
        """

    def create_scored_topic(self, pipeline: str, source: str) -> None:
        """Create a pipeline's topic of answers to the records of a topic, or make it grow to as many partitions."""

    def begin_at_end(self, group: str, topic: str) -> None:
        """Have a consumer group that has read nothing of a topic begin with what is written from now on."""

    def belongings(self, pipelines: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the names of the topics and of the consumer groups that pipelines have of their own."""

    def groups(self, pipelines: Sequence[str]) -> list[str]:
        """Return the names of the consumer groups that pipelines may have of their own, without a look at any."""

    def left_of(self, pipelines: Sequence[str]) -> list[str]:
        """Return those of their own topics that exist."""

    def purge(self, pipelines: Sequence[str]) -> tuple[list[str], list[str]]:
        """Delete the topics and consumer groups of pipelines that have ended, and return the names of those deleted.

        Raises Unavailable when somebody still works with them.
        """

    def lags(self, readers: Iterable[tuple[str, str]]) -> list[Lag]:
        """Return how far each consumer group is behind, `readers` among them: groups with a topic that they read."""


class Writer(Protocol):
    """The one way into the log."""

    def write(self, fact: Input, until_s: float | None = None) -> Sequence[LogEntry]:
        """Record a fact or grant a wish, with all that follows, and return what was written once that is committed.

        Returns nothing when the fact is known already. Raises FailedPrecondition when it cannot be recorded or granted,
        and Unavailable when it is not known whether it was: in time for a caller that waits `until_s` (time.monotonic).
        """


class Predictions(Protocol):
    """The predictions that were served, as long as Kafka keeps them."""

    def starting_with(self, beginning: str, first_ms: int, last_ms: int) -> Mapping[str, PredictionServed]:
        """Return the predictions whose ids begin so, by id; ids tell that they were made from first_ms to last_ms."""


class Records(Protocol):
    """The producers' records and the dead letters of them."""

    def bounds_of(self, topic: str, partition: int) -> tuple[int, int] | None:
        """Return the first offset that is still there and the one behind the last committed record.

        None when there is no such partition.
        """

    def rejection_of(self, pipeline: str, place: RecordPlace, partition: int | None = None) -> RecordRejection | None:
        """Return why a record was last rejected in a pipeline, None when no dead letter tells.

        `partition` is that of the dead letter where it is not the record's own.
        """


class Datasets(Protocol):
    """The rows of frozen datasets."""

    def row_of(self, frozen: DatasetFrozen, place: RecordPlace) -> HeldRow | None:
        """Return the row that a record became, None when the dataset has none.

        The topic must be the dataset's, or a backfill's of it.
        """

    def row_of_segment(self, segment: HeldSegment, place: RecordPlace) -> HeldRow | None:
        """Return the row of a suspected segment that a record of the pipeline's topic became, None when it has none."""


class RowProver(Protocol):
    """Proofs of rows of frozen datasets."""

    def prove(
        self, frozen: DatasetFrozen, places: Sequence[RecordPlace], schemas: Mapping[str, Sequence[Field]]
    ) -> tuple[list[ProvenRow], list[SegmentProof]]:
        """Return the rows that records became, and the proofs of the segments that hold them.

        `schemas` are the fields by digest of schema. Raises InvalidInput when the dataset has no such row.
        """


class LogLines(Protocol):
    """The log as Kafka holds it."""

    def lines(self) -> Generator[tuple[int, bytes]]:
        """Yield offset and bytes of each committed entry. Raises Unavailable when Kafka does not answer."""


class Signing(Protocol):
    """The operator's key, if there is one."""

    @property
    def key(self) -> str:
        """SHA-256 of the raw public key, 64 hexadecimal digits; empty without a key."""

    def sign(self, data: bytes) -> str:
        """Return an Ed25519 signature in base64; empty without a key."""


class StoredFile(Protocol):
    """A file of the object store."""

    @property
    def name(self) -> str:
        """Its name in the store."""

    @property
    def size_bytes(self) -> int:
        """How many bytes it has."""

    @property
    def write_s(self) -> float:
        """When it was written or put last, in seconds since the epoch."""


class Objects(Protocol):
    """The object store. Every method raises Unavailable when it fails."""

    def get(self, artifact: Artifact | Ref) -> bytes:
        """Return an artifact's bytes. Raises NotFound, and Corrupt when they are others."""

    def read(self, name: str) -> bytes | None:
        """Return a named file's bytes, None when there is none."""

    def write(self, name: str, data: bytes) -> None:
        """Write a named file over an older one."""

    def beginning(self, name: str, count: int) -> bytes:
        """Return the first bytes of a file; none when it is not there."""

    def files(self, prefix: str) -> Sequence[StoredFile]:
        """Return all files in a folder and below, in no order."""

    def remove(self, name: str, written_before_s: float) -> bool:
        """Remove a file unless it was written or put since then; return whether it is gone."""
