"""What goes out with each entry of the log: the entry itself, and what it means to other services."""

from headrace_data.identity import MerkleTree
from headrace_runtime.kafka.envelopes import encode, event_headers
from headrace_runtime.records import Outgoing
from headrace_runtime.topics import (
    COMPRESSION_REQUESTED,
    DATASET_REQUESTED,
    EVALUATION_REQUESTED,
    MODEL_REFUSED,
    MODEL_RELEASED,
    PIPELINE_APPLIED,
    TRAINING_DECIDED,
    TRAINING_REQUESTED,
    Topic,
)

from headrace_model_registry.core import facts
from headrace_model_registry.core.facts import LogEntry
from headrace_model_registry.transport.converters import to_log_entry, to_message

EMITTED: dict[type[facts.Event], Topic] = {
    facts.PipelineApplied: PIPELINE_APPLIED,
    facts.DatasetRequested: DATASET_REQUESTED,
    facts.TrainingRequested: TRAINING_REQUESTED,
    facts.CompressionRequested: COMPRESSION_REQUESTED,
    facts.EvaluationRequested: EVALUATION_REQUESTED,
    facts.TrainingDecided: TRAINING_DECIDED,
    facts.ModelReleased: MODEL_RELEASED,
    facts.ModelRefused: MODEL_REFUSED,
}
"""What it tells other services."""

ENDED: dict[type[facts.Event], Topic] = {
    facts.PipelineDeleted: PIPELINE_APPLIED,
    facts.ModelWithdrawn: MODEL_RELEASED,
}
"""What ends a message of a compacted topic: a tombstone under its key tells other services."""


def outgoing_of(entry: LogEntry, source: str, tree: MerkleTree) -> list[Outgoing]:
    """Return the messages to write for an entry, in the current trace: the log's, and what others are told.

    `tree` is that of all entries before; it has this one afterwards.
    """
    line = to_log_entry(entry)
    line.entries_before, line.root_before = tree.leaves, tree.root()
    messages = [encode(line, source=source)]
    tree.append(messages[0].value or b"")
    kind = type(entry.event)
    if kind in EMITTED:
        messages.append(encode(to_message(entry.event), source=source))
    if topic := ENDED.get(kind):
        headers = event_headers(to_message(entry.event), source)
        messages.append(Outgoing(topic.name, topic.key_of(entry.event).encode(), None, headers))
    return messages
