from __future__ import annotations

from dataclasses import replace

import pytest
from headrace_runtime.records import Outgoing, Record
from headrace_runtime.stream.dead_letters import MAX_VALUE_BYTES, DeadLetter, StoredLetter, read_letter
from headrace_runtime.telemetry.traces import links_to
from hypothesis import given
from hypothesis import strategies as st

PRODUCERS = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
REJECTIONS = "00-" + "c" * 32 + "-" + "d" * 16 + "-01"
LETTER = DeadLetter("ingestion", "type", "state", "state: expected a number", "meters", 1, 7, b"k", b"{}")


def stored(outgoing: Outgoing, offset: int = 3) -> StoredLetter:
    return read_letter(Record(outgoing.topic, 0, offset, outgoing.key, outgoing.value, outgoing.headers, 1_700))


def headers_of(outgoing: Outgoing) -> dict[str, bytes]:
    return dict(outgoing.headers)


@given(
    letter=st.builds(
        DeadLetter,
        stage=st.sampled_from(["ingestion", "preprocessing"]),
        rule=st.text(max_size=20),
        field=st.text(max_size=20),
        reason=st.text(max_size=200),
        topic=st.just("meters"),
        partition=st.integers(0, 2**31 - 1),
        offset=st.integers(0, 2**63 - 1),
        key=st.none() | st.binary(max_size=20),
        value=st.none() | st.binary(max_size=200),
        end=st.just(0) | st.integers(1, 2**63 - 1),
        timestamp_ms=st.just(0) | st.integers(1, 2**63 - 1),
        headers=st.lists(st.tuples(st.sampled_from(["own", "other"]), st.binary(max_size=9)), max_size=3),
    )
)
def test_a_letter_is_read_as_it_was_written(letter: DeadLetter) -> None:
    outgoing = letter.outgoing("p")
    assert outgoing.key is not None or outgoing.value is not None, "Kafka's client takes no message without both"
    found = stored(outgoing)
    written = letter if outgoing.value == letter.value else replace(letter, value=b"")
    assert replace(found.letter, headers=list(found.letter.headers)) == replace(written, headers=list(letter.headers))
    assert (found.id, found.time_ms, found.is_cut) == ("0:3", 1_700, False)


def test_a_replayed_record_keeps_its_time_also_from_a_letter_that_tells_none() -> None:
    timed = replace(LETTER, timestamp_ms=1_764_374_400_123)
    again = replace(LETTER, timestamp_ms=5).after_replay(stored(timed.outgoing("p")).replay_headers())
    assert again.timestamp_ms == 1_764_374_400_123
    again = replace(LETTER, timestamp_ms=5).after_replay(stored(LETTER.outgoing("p")).replay_headers())
    assert again.timestamp_ms == 5
    # A producer's word for no time, or for one before 1970, is none of a letter's.
    assert stored(replace(LETTER, timestamp_ms=-1).outgoing("p")).letter.timestamp_ms == 0


def test_a_letter_may_stand_for_a_range_of_records() -> None:
    range_ = replace(LETTER, key=None, value=None, offset=100, end=250)
    found = stored(range_.outgoing("p")).letter
    assert replace(found, headers=()) == replace(range_, value=b"")
    assert [offset for offset in range(90, 260) if found.holds("meters", 1, offset)] == list(range(100, 250))
    assert not found.holds("meters", 0, 100)
    assert not found.holds("other", 1, 100)
    assert [offset for offset in range(20) if LETTER.holds("meters", 1, offset)] == [7]


def test_a_reason_that_is_no_text_in_utf_8_is_told_all_the_same() -> None:
    told = replace(LETTER, reason="UnicodeEncodeError: \ud800").outgoing("meters")
    assert stored(told).letter.reason == r"UnicodeEncodeError: \ud800"


def test_a_producer_cannot_forge_what_a_letter_tells() -> None:
    forged = [("dead-replays", b"2"), ("dead-stage", b"x"), ("dead-value-bytes", b"9"), ("own", b"1")]
    found = stored(replace(LETTER, headers=forged).outgoing("p"))
    assert (found.letter.replays, found.letter.stage, found.is_cut) == (0, "ingestion", False)
    assert list(found.letter.headers) == [("own", b"1")]


def test_a_record_that_is_too_large_for_the_topic_is_cut_and_says_so() -> None:
    many = [("own", b"x" * 100_000), ("traceparent", PRODUCERS.encode())]
    huge = replace(LETTER, value=b"x" * (MAX_VALUE_BYTES + 5), key=b"k" * 100_000, headers=many)
    outgoing = huge.outgoing("p")
    assert outgoing.size < 8 * 1024 * 1024
    found = stored(outgoing)
    assert (found.is_cut, found.value_bytes) == (True, MAX_VALUE_BYTES + 5)
    assert outgoing.key is None
    assert [name for name, _ in found.letter.headers] == ["traceparent"]


def test_a_replay_keeps_the_origin_and_counts() -> None:
    own = [("own", b"1"), ("traceparent", PRODUCERS.encode())]
    first = stored(replace(LETTER, headers=own).outgoing("p"), offset=3)
    again = replace(LETTER, topic="headrace.push.accepted.v1", partition=0, offset=99, headers=first.letter.headers)
    second = stored(again.after_replay(first.replay_headers()).outgoing("p"), offset=8)
    assert (second.letter.topic, second.letter.partition, second.letter.offset) == ("meters", 1, 7)
    assert (second.letter.replays, second.letter.replay_of) == (1, "0:3")
    assert second.letter.headers == own
    assert again.after_replay(first.replay_headers()).outgoing("p", 1).partition == first.partition == 0
    # A later stage has none of the producer's headers; the trace comes by those of the replay.
    row = DeadLetter("preprocessing", "outOfRange", "level", "why", "headrace.push.accepted.v1", 0, 99, None, b"{}")
    third = stored(row.after_replay(second.replay_headers()).outgoing("p"))
    assert (third.letter.topic, third.letter.replays, third.letter.replay_of) == ("meters", 2, "0:8")
    assert third.letter.headers == [("traceparent", PRODUCERS.encode())]
    assert row.after_replay([("ce_id", b"1")]) == row


def test_a_replay_links_to_the_rejection_and_to_the_producer() -> None:
    outgoing = replace(LETTER, headers=[("traceparent", PRODUCERS.encode())]).outgoing("p")
    assert headers_of(outgoing)["dead-traceparent"] == PRODUCERS.encode()
    outgoing = replace(outgoing, headers=[*outgoing.headers, ("traceparent", REJECTIONS.encode())])
    found = stored(outgoing)
    assert found.trace_id == "c" * 32
    links = links_to(found.contexts)
    assert [f"{link.context.trace_id:032x}" for link in links] == ["c" * 32, "a" * 32]


@pytest.mark.parametrize("traceparent", ["", "rubbish", REJECTIONS[:-2] + "00"])
def test_a_trace_that_was_not_recorded_is_none(traceparent: str) -> None:
    headers = [("traceparent", traceparent.encode())] if traceparent else []
    assert read_letter(Record("dead", 0, 0, None, None, headers)).trace_id == ""


def test_a_foreign_message_is_read_as_far_as_it_goes() -> None:
    found = read_letter(Record("dead", 2, 5, None, b"?", [("dead-partition", b"x")]))
    assert (found.id, found.letter.stage, found.letter.topic, found.letter.partition) == ("2:5", "", "", -1)


@pytest.mark.parametrize("number", ["9" * 25, str(2**63), "9" * 5_000, "-1", "1e3", "", "٣" * 30])
def test_a_number_that_can_be_none_is_read_as_none(number: str) -> None:
    names = ("partition", "offset", "end", "replays", "value-bytes")
    headers = [(f"dead-{name}", number.encode()) for name in names]
    found = read_letter(Record("dead", 0, 5, None, b"?", [*headers, ("dead-rule", b"json")], 2**62))
    letter = found.letter
    assert (letter.partition, letter.offset, letter.end, letter.replays, found.value_bytes) == (-1, -1, 0, 0, 1)
    assert (letter.rule, found.time_ms) == ("json", 253_402_300_799_999)


def test_a_partition_is_no_larger_than_kafka_has() -> None:
    headers = [("dead-partition", str(2**31).encode()), ("dead-offset", str(2**31).encode())]
    letter = read_letter(Record("dead", 0, 5, None, b"?", headers)).letter
    assert (letter.partition, letter.offset) == (-1, 2**31)
