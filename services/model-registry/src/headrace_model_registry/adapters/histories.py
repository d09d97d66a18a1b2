"""Where the histories of pipelines are: the newest message of each in the topic of cuts."""

import logging
from collections.abc import Mapping

from headrace.events.v1 import segment_pb2
from headrace_runtime.errors import Unprocessable
from headrace_runtime.kafka import LogReader
from headrace_runtime.kafka.away import CALL_BOOTSTRAP_MS, kafka_answering
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import SEGMENT_CUT

from headrace_model_registry.core.facts.backfill import Artifact

logger = logging.getLogger(__name__)


def newest_histories(settings: KafkaSettings) -> Mapping[tuple[str, int], Artifact]:
    """Return the history of each pipeline that was ever cut, by name and incarnation.

    Raises Unavailable when Kafka does not answer.
    """
    found: dict[tuple[str, int], Artifact] = {}
    with (
        kafka_answering(settings, "the histories of pipelines cannot be read"),
        LogReader(settings, "registry.histories", CALL_BOOTSTRAP_MS) as reader,
    ):
        places = reader.partitions(SEGMENT_CUT.name)
        reader.start_at(dict.fromkeys(places))
        for records in reader.read_to(reader.ends(places)):
            for record in records:
                if record.value is None:
                    continue
                try:
                    cut = decode(record, segment_pb2.SegmentCut)
                except Unprocessable as error:
                    logger.warning("passed over %s: %s", record.coordinates, error)
                    continue
                history = cut.history
                found[cut.pipeline, cut.incarnation] = Artifact(history.uri, history.digest, history.size_bytes)
    return found
