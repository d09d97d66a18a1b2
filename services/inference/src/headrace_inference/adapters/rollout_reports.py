"""What a replica counts of candidates, told to the registry while they are tried."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

from headrace.events.v1.rollout_pb2 import RolloutObserved
from headrace_runtime.kafka.envelopes import encode, new_id
from headrace_runtime.kafka.producers import best_effort_producer, send
from headrace_runtime.process.service import Background
from headrace_runtime.settings import KafkaSettings
from kafka import KafkaProducer
from kafka import errors as kafka_errors

from headrace_inference.core.releases import Fault, Stage
from headrace_inference.core.rollout import Tallies, Tally
from headrace_inference.core.shelf import Shelf

logger = logging.getLogger(__name__)

REPORT_EVERY_S = 1.0
SAME_EVERY = 30
"""What has not changed is told again after so many looks: a message may be lost."""


class RolloutReports(Background):
    """Tells every second what changed. Counts only grow, so a message that is lost is made good by the next one.

    A connection to Kafka is open only while there is a candidate.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        source: str,
        shelf: Shelf,
        tallies: Tallies,
        to_event: Callable[[Tally, str], RolloutObserved],
    ) -> None:
        super().__init__(f"{source} rollouts")
        self._settings = settings
        self._source = source
        self._shelf = shelf
        self._tallies = tallies
        self._to_event = to_event
        self._replica = new_id()
        self._producer: KafkaProducer | None = None
        self._told: dict[str, tuple[RolloutObserved, int]] = {}
        """By model, what was told last, and how many looks ago."""

    def run(self) -> None:
        """Tell until stopped, and once more then."""
        while not self.stopping.wait(REPORT_EVERY_S):
            self._tell()
        self._tell()
        self._close()

    def _tell(self) -> None:
        tallies = {tally.release.model: tally for tally in self._tried()}
        self._told = {model: told for model, told in self._told.items() if model in tallies}
        if not tallies:
            self._close()
        for model, tally in tallies.items():
            event = self._to_event(tally, self._replica)
            before, looks = self._told.get(model, (None, 0))
            if event == before and looks < SAME_EVERY:
                self._told[model] = (event, looks + 1)
            elif self._send(event):
                self._told[model] = (event, 0)

    def _tried(self) -> list[Tally]:
        """Return the tallies of all candidates; those that do not load have counted nothing."""
        tried = [self._tallies.of(version.release) for version in self._shelf.candidates.values()]
        for failing in self._shelf.failing:
            if failing.release.stage is not Stage.NONE and failing.fault is Fault.UNFIT:
                tally = self._tallies.of(failing.release)
                tally.fault = failing.reason
                tried.append(tally)
        return tried

    def _send(self, event: RolloutObserved) -> bool:
        try:
            if self._producer is None:
                self._producer = best_effort_producer(self._settings, f"{self._source}.rollouts", 0.0)
            send(self._producer, encode(event, source=self._source))
        except (kafka_errors.KafkaError, OSError) as error:
            logger.warning("what was counted of a candidate of model %s cannot be told now: %r", event.model, error)
            return False
        return True

    def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(kafka_errors.KafkaError):
                producer.close(timeout=5)
