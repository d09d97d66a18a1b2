"""Live quality on its way through the registry: shown, and never recorded."""

from headrace.events.v1 import quality_pb2
from headrace.registry.v1 import registry_service_pb2 as pb
from headrace_model_registry.core.queries import PipelineStatus, ProgressBoard
from headrace_model_registry.transport.consumer import to_progress
from headrace_model_registry.transport.converters import fill
from headrace_runtime.kafka.envelopes import encode
from headrace_runtime.records import Record


def told(version: str, rows: int) -> quality_pb2.QualityMeasured:
    message = quality_pb2.QualityMeasured(
        pipeline="loans", model="loans", version_id=version, rows=rows, metrics={"accuracy": 0.75}, awaiting_labels=3
    )
    message.since_time.FromSeconds(1_700_000_000)
    return message


def test_the_newest_figures_of_each_version_are_shown():
    board = ProgressBoard()
    for message in (told("one", 1), told("two", 5), told("one", 4)):
        sent = encode(message, source="test")
        progress = to_progress(Record(sent.topic, 0, 0, sent.key, sent.value, sent.headers, 0))
        assert progress is not None
        board = board.showing(progress)
    shown = tuple(board.qualities.values())
    status = PipelineStatus(None, None, (), None, None, "", qualities=shown)
    answer = fill(pb.WatchPipelineResponse(), status)
    assert list(answer.qualities) == [told("two", 5), told("one", 4)]
