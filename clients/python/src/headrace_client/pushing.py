"""Files of rows into a pipeline by ingestion's push: each row once, however often the file is pushed within a day.

A batch is a piece of the file as it is read, and its id names the file's digest and the place of its first row. So a
repeat, such as after a process was killed, makes the same batches, and those that were accepted are answered at once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from headrace.ingestion.v1 import ingestion_service_pb2 as messages
from headrace_data.files import Rows, rows_of_file
from headrace_data.spec import Pipeline

from headrace_client.backfilling import format_of
from headrace_client.ingestion import IngestionClient
from headrace_client.row_files import digest, opened

MOST_BYTES: Final = 4 * 2**20
"""Bytes of records in a batch, unless a single one is larger; ingestion takes messages of 8 MiB."""
MOST_EXAMPLES: Final = 3
"""Rejected rows that are told of each rule."""
_AS_SENT: Final = ("json", "json-schema")
"""Formats of streams as which lines of JSON are what producers send."""


@dataclass
class Pushed:
    """What became of a file, so far."""

    name: str
    rows: int = 0
    accepted: int = 0
    again: int = 0
    """Rows of batches that were pushed before: nothing of them was written now."""
    rejected: Counter[str] = field(default_factory=Counter)
    """By rule."""
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """The first rejected rows, by rule."""

    def add(self, batch: Batch, answer: messages.PushResponse) -> None:
        """Count what became of a batch."""
        count = len(batch.rows.values)
        self.rows += count
        self.accepted += answer.accepted
        self.again += count if answer.repeated_batch else 0
        for each in answer.rejected:
            self.rejected[each.rule] += 1
            if len(told := self.examples[each.rule]) < MOST_EXAMPLES:
                told.append(f"{batch.called(each.index)}: {batch.rows.faults.get(each.index, each.reason)}")


@dataclass
class Batch:
    """Some rows of a file that are pushed together."""

    batch_id: str
    rows: Rows
    read: int
    """How many bytes of the file were read by then."""
    names: Sequence[str] = ()
    """What rows are called that are files."""

    def called(self, at: int) -> str:
        """Return what a row is called; others than files by their number from 1, as people count."""
        return self.names[at] if self.names else f"row {self.rows.numbers[at] + 1}"


class Push(Protocol):
    """The push of something into a pipeline."""

    size_bytes: int
    """Bytes of all that is read."""

    def run(self, ingestion: IngestionClient, on_progress: Callable[[Pushed, int], None]) -> Pushed:
        """Push what was not yet, and return what became of all; `on_progress` is told it, and how many bytes were read.

        Raises InputInvalid for what cannot be read, and what the client does.
        """


class FilePush:
    """The push of one file into a pipeline."""

    def __init__(self, pipeline: Pipeline, path: Path, file_format: str = "", encoding: str = "") -> None:
        """Without a format the file's name tells it. Raises InputInvalid when that does not, or it is not in UTF-8."""
        self._pipeline = pipeline
        self._path = path
        self.size_bytes = path.stat().st_size
        self._format = file_format or format_of(path)
        self._encoding = encoding
        self._digest = digest(path, self._format, encoding)
        stream = pipeline.stream
        as_sent = self._format == "jsonl" and stream.format_kind in _AS_SENT and stream.registry is None
        self._form = messages.RECORD_FORM_UNSPECIFIED if as_sent else messages.RECORD_FORM_FILE_ROW

    def run(self, ingestion: IngestionClient, on_progress: Callable[[Pushed, int], None]) -> Pushed:
        """Push the file's rows: see `Push`."""
        with opened(self._path, self._encoding) as (rows, file):
            batches: dict[str, Batch] = {}
            return run(self._path.name, ingestion, self._requests(rows, file, batches), batches, on_progress)

    def _requests(self, rows: BinaryIO, file: BinaryIO, batches: dict[str, Batch]) -> Iterator[messages.PushRequest]:
        told = "-".join(filter(None, (self._format, self._encoding)))
        for piece in rows_of_file(rows, self._format, self._pipeline.stream):
            for part in _parts(piece):
                batch_id = f"file/{self._digest[:32]}/{told}/{part.numbers[0]}+{len(part.numbers)}"
                batches[batch_id] = Batch(batch_id, part, file.tell())
                # A message of Kafka without a value is none of a file.
                values = [value or b"" for value in part.values]
                yield messages.PushRequest(
                    pipeline=self._pipeline.name, batch_id=batch_id, records=values, form=self._form
                )


def run(
    name: str,
    ingestion: IngestionClient,
    requests: Iterator[messages.PushRequest],
    batches: dict[str, Batch],
    on_progress: Callable[[Pushed, int], None],
) -> Pushed:
    """Push batches, which `requests` put among `batches` by their ids, and return what became of all."""
    pushed = Pushed(name)
    for request, answer in ingestion.push_all(requests):
        batch = batches.pop(request.batch_id)
        pushed.add(batch, answer)
        on_progress(pushed, batch.read)
    return pushed


def _parts(rows: Rows) -> Iterator[Rows]:
    """Yield rows in halves that a message can hold: where these are is told by the rows alone."""
    count = len(rows.values)
    if count > 1 and sum(len(value or b"") for value in rows.values) > MOST_BYTES:
        yield from _parts(_part(rows, 0, count // 2))
        yield from _parts(_part(rows, count // 2, count))
    elif count:
        yield rows


def _part(rows: Rows, start: int, stop: int) -> Rows:
    faults = {at - start: why for at, why in rows.faults.items() if start <= at < stop}
    return Rows(rows.numbers[start:stop], rows.values[start:stop], faults=faults)
