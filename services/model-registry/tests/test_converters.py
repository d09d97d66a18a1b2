"""Every dataclass of the core maps to the message of its name and back, with every field."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import IntEnum
from types import NoneType, UnionType
from typing import get_args, get_origin, get_type_hints

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from headrace.events.v1 import dataset_pb2, model_pb2, pipeline_pb2, run_pb2
from headrace.registry.v1 import registry_log_pb2, registry_service_pb2
from headrace_model_registry.core import (
    catalogue,
    facts,
    fate,
    lineage,
    progress,
    queries,
    records,
    registry,
)
from headrace_model_registry.core.facts import (
    Event,
    LogEntry,
    backfill,
    classes,
    datasets,
    models,
    pipelines,
    remarks,
    runs,
    trial,
)
from headrace_model_registry.transport.consumer import to_progress
from headrace_model_registry.transport.converters import (
    _MESSAGES,
    fill,
    from_log_entry,
    from_message,
    listing,
    moment_of,
    to_log_entry,
    to_message,
)
from headrace_runtime.errors import InvalidInput, Unprocessable
from headrace_runtime.records import Record
from headrace_runtime.topics import PIPELINE_TROUBLED
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.slow

STEADY = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The same on a machine with much else to do."""

EVENTS = get_args(Event)
RESPONSES: dict[type, type[Message]] = {
    registry.Applied: registry_service_pb2.ApplyPipelineResponse,
    queries.PipelineStatus: registry_service_pb2.WatchPipelineResponse,
    lineage.Lineage: registry_service_pb2.GetLineageResponse,
}
MAPPED = [
    kind
    for module in (
        facts,
        backfill,
        classes,
        datasets,
        models,
        pipelines,
        remarks,
        runs,
        trial,
        progress,
        catalogue,
        records,
        queries,
        fate,
    )
    for kind in vars(module).values()
    if isinstance(kind, type) and is_dataclass(kind) and kind.__name__ in _MESSAGES
]

TEXT = st.text(max_size=8)
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def values_of(kind):
    """Return a strategy for instances of a dataclass, with every field in play."""
    return st.builds(kind, **{name: _values(hint, kind, name) for name, hint in get_type_hints(kind).items()})


def _values(hint, kind, name):
    origin = get_origin(hint)
    if origin is UnionType:
        (needed,) = (part for part in get_args(hint) if part is not NoneType)
        return st.none() | _values(needed, kind, name)
    if origin is tuple:
        return st.lists(values_of(get_args(hint)[0]), max_size=2).map(tuple)
    if origin is Mapping:
        return st.dictionaries(TEXT, _values(get_args(hint)[1], kind, name), max_size=3)
    if is_dataclass(hint):
        return st.deferred(lambda: values_of(hint))
    if hint is int:
        return _integers(kind, name)
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return st.sampled_from(hint)
    return {
        str: TEXT,
        bytes: st.binary(max_size=8),
        bool: st.booleans(),
        float: st.floats(allow_nan=False),
        datetime: MOMENTS,
    }[hint]


def _integers(kind, name):
    message: type[Message] = RESPONSES.get(kind) or _MESSAGES[kind.__name__]
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None:  # a map
        field = field.message_type.fields_by_name["value"]
    bits, low = {
        field.TYPE_UINT32: (32, 0),
        field.TYPE_UINT64: (64, 0),
        field.TYPE_INT32: (31, -(2**31)),
        field.TYPE_INT64: (63, -(2**63)),
    }[field.type]
    return st.integers(low, 2**bits - 1)


@pytest.mark.parametrize("kind", [*MAPPED, *RESPONSES], ids=lambda kind: kind.__name__)
def test_a_dataclass_has_exactly_the_fields_of_its_message(kind):
    message: type[Message] = RESPONSES.get(kind) or _MESSAGES[kind.__name__]
    expected = [field.name for field in message.DESCRIPTOR.fields]
    if kind is LogEntry:
        expected = ["occur_time", "event"]
    assert [field.name for field in fields(kind)] == expected


@pytest.mark.parametrize("kind", [kind for kind in MAPPED if kind is not LogEntry], ids=lambda kind: kind.__name__)
@STEADY
@given(data=st.data())
def test_values_survive_the_way_to_bytes_and_back(kind, data):
    value = data.draw(values_of(kind))
    message = to_message(value)
    assert from_message(kind, type(message).FromString(message.SerializeToString())) == value


@STEADY
@given(data=st.data())
@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_a_line_of_the_log_survives_the_way_to_bytes_and_back(kind, data):
    entry = LogEntry(data.draw(MOMENTS), data.draw(values_of(kind)))
    message = registry_log_pb2.LogEntry.FromString(to_log_entry(entry).SerializeToString())
    assert from_log_entry(message) == entry


@STEADY
@given(status=values_of(queries.PipelineStatus))
def test_a_status_fills_its_response(status):
    message = fill(registry_service_pb2.WatchPipelineResponse(), status)
    assert message.HasField("filling") is (status.filling is not None)
    assert from_message(queries.PipelineStatus, message) == status


@STEADY
@given(runs=st.lists(values_of(queries.Run), max_size=3))
def test_a_list_fills_its_response(runs):
    response = listing(registry_service_pb2.ListRunsResponse(), runs)
    assert [from_message(queries.Run, run) for run in response.runs] == runs


def test_every_event_of_the_log_has_a_dataclass():
    oneof = registry_log_pb2.LogEntry.DESCRIPTOR.oneofs_by_name["event"]
    assert {field.message_type.name for field in oneof.fields} == {kind.__name__ for kind in EVENTS}


@pytest.mark.parametrize(
    ("own", "theirs"), [(facts.RunKind, run_pb2.RunKind), (facts.CachePolicy, model_pb2.CachePolicy)]
)
def test_enums_have_the_numbers_of_the_contract(own, theirs):
    prefix = {facts.RunKind: "RUN_KIND_", facts.CachePolicy: "CACHE_POLICY_"}[own]
    assert {prefix + member.name: member.value for member in own} == dict(theirs.items())


@pytest.mark.parametrize(
    ("own", "theirs", "prefix"),
    [
        (records.RunState, registry_service_pb2.RunState, "RUN_STATE_"),
        (records.VersionState, registry_service_pb2.VersionState, "VERSION_STATE_"),
    ],
)
def test_states_have_the_numbers_of_the_contract(own, theirs, prefix):
    assert {prefix + member.name: member.value for member in own} == dict(theirs.items())


def test_a_missing_part_is_named():
    with pytest.raises(Unprocessable, match=r"headrace\.events\.v1\.DatasetFrozen\.manifest is not set"):
        from_message(facts.DatasetFrozen, dataset_pb2.DatasetFrozen(pipeline="digits"))


def test_an_unknown_enum_value_is_named():
    with pytest.raises(Unprocessable, match=r"RunFailed\.kind is 9, expected one of 0 \(UNSPECIFIED\), 1 \(TRAINING\)"):
        from_message(facts.RunFailed, run_pb2.RunFailed(kind=9))  # type: ignore[arg-type]


def test_an_entry_of_a_newer_registry_is_not_guessed_at():
    with pytest.raises(Unprocessable, match="no event"):
        from_log_entry(registry_log_pb2.LogEntry())


NO_TIMES = [
    Timestamp(seconds=2**60),
    Timestamp(seconds=-(2**63)),
    Timestamp(seconds=253_402_300_800),
    Timestamp(nanos=-1),
    Timestamp(nanos=2**31 - 1),
]
"""Times that no calendar has: a message may hold any number."""


@pytest.mark.parametrize("stamp", NO_TIMES, ids=str)
def test_a_time_that_no_calendar_has_is_named(stamp):
    troubled = pipeline_pb2.PipelineTroubled(pipeline="digits", occur_time=stamp)
    with pytest.raises(Unprocessable, match=r"PipelineTroubled\.occur_time: expected a time between the years"):
        from_message(progress.PipelineTroubled, troubled)
    # One such message is passed over, and no other with it.
    assert to_progress(Record(PIPELINE_TROUBLED.name, 0, 7, None, troubled.SerializeToString())) is None
    entry = registry_log_pb2.LogEntry(occur_time=stamp, dataset_requested=dataset_pb2.DatasetRequested(pipeline="p"))
    with pytest.raises(Unprocessable, match=r"LogEntry\.occur_time: expected a time between the years"):
        from_log_entry(entry)
    with pytest.raises(InvalidInput, match=r"as_of: expected a time between the years"):
        moment_of(registry_service_pb2.ListVersionsRequest(as_of=stamp))
