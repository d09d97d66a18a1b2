"""What a pipeline's history takes in: files and topics, and what came of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from headrace_data.files import FORMATS
from headrace_data.spec import Pipeline
from headrace_runtime.errors import InvalidInput

MOST_FILES = 1_000
"""Files of one request: it is one message of the log, and its files are taken in together."""
_LONGEST_NAME = 255
_TOPIC = re.compile(r"(?!headrace\.|__)[A-Za-z0-9._-]{1,249}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Artifact:
    """Bytes in the object store: location, digest and size in bytes.

    `beside_bytes` is the size of the objects that they name by their digests and cannot be read without, such as the
    weights beside a graph.
    """

    uri: str
    digest: str
    size_bytes: int
    beside_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """The size of all of it."""
        return self.size_bytes + self.beside_bytes


@dataclass(frozen=True, slots=True)
class BackfillFile:
    """A file of rows."""

    name: str
    format: str
    artifact: Artifact


@dataclass(frozen=True, slots=True)
class BackfillTopic:
    """The part of a topic that was written between two moments; None for its beginning, and for its end."""

    topic: str
    start_time: datetime | None = None
    end_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Backfill:
    """Files or a topic to take into a history. `time` is empty where the stream says what tells the event time.

    To `rebuild` is to make segments again of what the pipeline's own topic still has.
    """

    files: tuple[BackfillFile, ...] = ()
    topic: BackfillTopic | None = None
    time: str = ""
    rebuild: bool = False


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What came of a backfill: rows that are new, rows that broke a rule, by rule, and rows that were there already."""

    rows: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    known: int = 0
    faults: tuple[str, ...] = ()


def require_sound(wanted: Backfill, pipeline: Pipeline) -> None:
    """Raise InvalidInput for what no pipeline, or not this one, can take in."""
    if bool(wanted.files) == (wanted.topic is not None):
        raise InvalidInput("backfill: expected files or a topic, got " + ("both" if wanted.files else "neither"))
    if wanted.files and wanted.rebuild:
        raise InvalidInput("backfill: expected a topic to rebuild of, got files")
    if wanted.files and pipeline.stream.personal is not None:
        kept = "which keeps its records for a while, as the object store would keep files as they are"
        raise InvalidInput(f"backfill: expected a topic beside stream.personal, {kept}, got files")
    if len(wanted.files) > MOST_FILES:
        raise InvalidInput(f"backfill.files: expected at most {MOST_FILES}, got {len(wanted.files)}")
    for number, file in enumerate(wanted.files):
        _require_file(file, f"backfill.files[{number}]")
    topic = wanted.topic
    if topic is None:
        return
    if wanted.rebuild and topic.topic != pipeline.stream.topic:
        raise InvalidInput(f"backfill.topic: expected {pipeline.stream.topic!r} to rebuild of, got {topic.topic!r}")
    if not wanted.rebuild and (not _TOPIC.fullmatch(topic.topic) or topic.topic == pipeline.stream.topic):
        other = f"another producers' topic than {pipeline.stream.topic!r}, which the pipeline reads by itself"
        raise InvalidInput(f"backfill.topic: expected {other}, got {topic.topic!r}")
    if topic.start_time and topic.end_time and topic.start_time >= topic.end_time:
        raise InvalidInput(f"backfill.topic: expected a time before {topic.end_time}, got {topic.start_time}")


def _require_file(file: BackfillFile, path: str) -> None:
    if not 0 < len(file.name) <= _LONGEST_NAME or not file.name.isprintable():
        raise InvalidInput(f"{path}.name: expected 1 to {_LONGEST_NAME} printable characters, got {file.name[:80]!r}")
    if file.format not in FORMATS:
        raise InvalidInput(f"{path}.format: expected {', '.join(FORMATS)}, got {file.format!r}")
    if not _DIGEST.fullmatch(file.artifact.digest):
        raise InvalidInput(f"{path}.artifact: expected a file in the object store, got {file.artifact.digest!r}")
