"""Predictions that were served, found again in Kafka by their ids."""

import logging
import time
from collections.abc import Callable, Iterable

from headrace.events.v1.prediction_pb2 import PredictionServed as PredictionMessage
from headrace.events.v1.prediction_pb2 import PredictionsServed
from headrace_runtime.errors import Unprocessable
from headrace_runtime.kafka import LogReader
from headrace_runtime.kafka.away import CALL_BOOTSTRAP_MS, kafka_answering
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.records import Place, Record
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import PREDICTION_SERVED

from headrace_model_registry.core import prediction_ids
from headrace_model_registry.core.served import PredictionServed

logger = logging.getLogger(__name__)

CLOCK_MS = 1_000
"""How far the clock of a replica may have gone back between making an id and sending it."""
LATEST_MS = 300_000
"""How long after the call its event is sent at the latest, retries included."""
FRESH_S = 3.0
"""How old a prediction is at least that is surely in Kafka: a younger one is waited for."""
PAUSE_S = 0.1


class KafkaPredictions:
    """Looks through the part of the topic that was written when such ids were made, and little more.

    Raises Unavailable when Kafka does not answer.
    """

    def __init__(self, settings: KafkaSettings, to_served: Callable[[PredictionMessage], PredictionServed]) -> None:
        """`to_served` returns what a message says."""
        self._settings = settings
        self._to_served = to_served

    def starting_with(self, beginning: str, first_ms: int, last_ms: int) -> dict[str, PredictionServed]:
        """Return the predictions whose ids begin so, by id; ids tell that they were made from first_ms to last_ms."""
        now_ms = time.time() * 1_000
        deadline = time.monotonic() + (min(last_ms, now_ms) - now_ms) / 1_000 + FRESH_S
        with (
            kafka_answering(self._settings, "predictions cannot be looked at"),
            LogReader(self._settings, "registry.predictions", CALL_BOOTSTRAP_MS) as reader,
        ):
            while True:
                found = self._look(reader, beginning, first_ms, last_ms)
                if found or time.monotonic() > deadline:
                    return found
                time.sleep(PAUSE_S)

    def _look(self, reader: LogReader, beginning: str, first_ms: int, last_ms: int) -> dict[str, PredictionServed]:
        complete = len(beginning) == prediction_ids.LENGTH
        places = reader.partitions(PREDICTION_SERVED.name)
        ranges = _ranges(reader, places, max(0, first_ms - CLOCK_MS), last_ms + LATEST_MS)
        reader.start_at({place: start for place, (start, _) in ranges.items()})
        found: dict[str, PredictionServed] = {}
        for records in reader.read_to({place: end for place, (_, end) in ranges.items()}):
            for record in records:
                for served in _predictions(record):
                    if served.prediction_id.startswith(beginning):
                        found[served.prediction_id] = self._to_served(served)
            if found and complete:
                break
        return found


def _predictions(record: Record) -> Iterable[PredictionMessage]:
    try:
        return decode(record, PredictionsServed).predictions
    except Unprocessable as error:
        logger.warning("predictions are left out: %s", error)
        return ()


def _ranges(reader: LogReader, places: list[Place], from_ms: int, to_ms: int) -> dict[Place, tuple[int, int]]:
    """Return first offset and end of what was written in a time, for partitions where there is anything."""
    starts = reader.offsets_at(dict.fromkeys(places, from_ms))
    behind = reader.offsets_at(dict.fromkeys(places, to_ms))
    found = {}
    for place, end in reader.ends(places).items():
        start, later = starts[place], behind[place]
        if start is not None:
            found[place] = (start, end if later is None else min(later, end))
    return found
