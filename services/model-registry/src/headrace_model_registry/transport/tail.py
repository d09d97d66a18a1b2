"""Follows the progress topics: what is shown while work goes on, and may be lost."""

from headrace_runtime.kafka import LogReader
from headrace_runtime.service import Background
from headrace_runtime.settings import KafkaSettings

from headrace_model_registry.core.state import State
from headrace_model_registry.transport.consumer import PROGRESS, to_progress

RECENT = 1_000
"""Messages of each partition that are read again at the start, so a new registry shows the work in hand."""


class ProgressTail(Background):
    """Shows the latest progress of pipelines and runs; a member of no group, for every message concerns it."""

    def __init__(self, settings: KafkaSettings, state: State) -> None:
        super().__init__("registry progress")
        self._settings = settings
        self._state = state

    def run(self) -> None:
        """Follow the topics until stopped."""
        with LogReader(self._settings, "registry.progress") as reader:
            places = [place for topic in PROGRESS for place in reader.partitions(topic.name)]
            reader.start_at({place: max(0, end - RECENT) for place, end in reader.ends(places).items()})
            while not self.stopping.is_set():
                polled = [to_progress(record) for record in reader.poll(0.2)]
                if progress := [each for each in polled if each is not None]:
                    self._state.show(progress)
