"""The metadata of committed offsets, ours and that of other programs and of earlier versions."""

import pytest
from headrace_runtime.kafka.stamps import Membership, Stamp
from headrace_runtime.poison.bisection import Mark
from kafka.structs import ConsumerGroupMetadata

EARLIER = '{"begun":2,"until":7,"in_a_row":1}'
"""What was committed before there were stamps."""


@pytest.mark.parametrize(
    "stamp", [Stamp("", "", ""), Stamp("", "", EARLIER), Stamp("c/1", "4fQ-_w", ""), Stamp("c", "4fQ-_w", EARLIER)]
)
def test_a_stamp_is_read_as_it_was_written(stamp: Stamp) -> None:
    assert Stamp.read(stamp.text()) == stamp


@pytest.mark.parametrize("metadata", ["", None, "begun 3", "topic=3", EARLIER])
def test_other_metadata_is_a_note_about_no_topic(metadata: str | None) -> None:
    assert Stamp.read(metadata) == Stamp("", "", metadata or "")


def test_a_mark_of_earlier_is_still_read() -> None:
    assert Mark.read(Stamp.read(EARLIER).note) == Mark(2, 7, 1)


def test_offsets_of_topics_without_an_id_have_their_note_alone() -> None:
    membership = Membership(ConsumerGroupMetadata("group", 1, "member", None), "c1", {"raw": "4fQ-_w"})
    metadata = membership.metadata({("raw", 0): 3, ("other", 0): 5}, {("other", 0): "begun 1"})
    assert metadata == {("raw", 0): "headrace topic=c1/4fQ-_w", ("other", 0): "begun 1"}
    assert membership.group == "group"
