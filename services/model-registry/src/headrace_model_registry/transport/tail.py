"""Follows what is shown while work goes on and may be lost, and looks out for another registry."""

from collections.abc import Sequence

from headrace_runtime.kafka import Fenced, LogReader
from headrace_runtime.process.service import Background
from headrace_runtime.records import Record
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import REGISTRY_LOG

from headrace_model_registry.core.state import State
from headrace_model_registry.transport.consumer import PROGRESS, to_progress

POLL_TIMEOUT_S = 5.0
RECENT = 1_000
"""Messages of each partition that are read again at the start, so a new registry shows the work in hand."""


class Tail(Background):
    """Shows the latest progress of pipelines and runs; a member of no group, for every message concerns it.

    An entry of the log that `writer` (its source) has not written means that another registry took over, and that this
    one knows less than the log: it fails, instead of answering from the past until it is told to write.
    """

    def __init__(self, settings: KafkaSettings, state: State, writer: str) -> None:
        super().__init__("registry tail")
        self._settings = settings
        self._state = state
        self._writer = writer

    def run(self) -> None:
        """Follow the topics until stopped."""
        with LogReader(self._settings, "registry.tail") as reader:
            progress = [place for topic in PROGRESS for place in reader.partitions(topic.name)]
            recent = {place: max(0, end - RECENT) for place, end in reader.ends(progress).items()}
            reader.start_at(recent | reader.ends(reader.partitions(REGISTRY_LOG.name)))
            self.wake = reader.wake
            while not self.stopping.is_set():
                self._see(reader.poll(POLL_TIMEOUT_S, self.stopping.is_set))

    def _see(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.topic == REGISTRY_LOG.name and record.header("ce_source") != f"/{self._writer}":
                raise Fenced(f"another registry writes {REGISTRY_LOG.name} since offset {record.offset}")
        polled = [to_progress(record) for record in records if record.topic != REGISTRY_LOG.name]
        if progress := [each for each in polled if each is not None]:
            self._state.show(progress)
