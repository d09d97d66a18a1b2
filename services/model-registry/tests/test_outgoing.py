"""What goes out with an entry of the log."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from headrace.registry.v1 import registry_log_pb2
from headrace_data.identity import MerkleTree
from headrace_model_registry.core import facts
from headrace_model_registry.core.facts import Event, LogEntry
from headrace_model_registry.transport.converters import to_log_entry
from headrace_model_registry.transport.outgoing import EMITTED, ENDED, outgoing_of
from headrace_runtime.topics import DATASET_REQUESTED, MODEL_RELEASED, PIPELINE_APPLIED, REGISTRY_LOG

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("event", "told", "key", "is_end"),
    [
        (facts.DatasetRequested("p", "one"), DATASET_REQUESTED, b"p", False),
        (facts.PipelineDeleted("p"), PIPELINE_APPLIED, b"p", True),
        (facts.ModelWithdrawn("m", "champion", 3, "p"), MODEL_RELEASED, b"m@champion", True),
        (facts.DatasetFailed("p", "nothing new"), None, None, False),
        (facts.TrainingSuperseded("run", "p", "newer"), None, None, False),
    ],
)
def test_an_entry_goes_into_the_log_and_to_those_whom_it_concerns(
    event: Event, told: object, key: bytes | None, is_end: bool
) -> None:
    entry = LogEntry(NOW, event)
    tree = MerkleTree()
    tree.append(b"an entry of before the log was chained")
    before, expected = tree.copy(), to_log_entry(entry)
    expected.entries_before, expected.root_before = 1, before.root()
    logged, *others = outgoing_of(entry, "registry/1", tree)
    assert logged.topic == REGISTRY_LOG.name
    assert registry_log_pb2.LogEntry.FromString(logged.value or b"") == expected
    before.append(logged.value or b"")
    assert (tree.leaves, tree.root()) == (2, before.root())
    assert [(each.topic, each.key, each.value is None) for each in others] == (
        [(told.name, key, is_end)] if told else []  # type: ignore[attr-defined]
    )
    assert all(dict(each.headers)["ce_source"] == b"/registry/1" for each in (logged, *others))


def test_nobody_is_told_of_the_end_of_what_it_was_never_told() -> None:
    assert not EMITTED.keys() & ENDED.keys()
    assert {*ENDED.values()} <= {*EMITTED.values()}
