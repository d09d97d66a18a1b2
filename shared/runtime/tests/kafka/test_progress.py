"""What is committed stays committed, whatever a broker tells later; but a topic that was made anew begins again."""

from headrace_runtime.kafka.progress import Progress
from headrace_runtime.records import Record

IDS = {"raw": "first", "other": "another"}


def records(*offsets: int, topic: str = "raw", partition: int = 0) -> list[Record]:
    return [Record(topic, partition, offset, None, None) for offset in offsets]


def test_records_before_a_committed_offset_are_told() -> None:
    progress = Progress()
    assert progress.behind(records(0, 1, 2), IDS.__getitem__) == {}
    progress.committed({("raw", 0): 3, ("raw", 1): 1}, IDS)
    assert progress.behind(records(3), IDS.__getitem__) == {}
    assert progress.behind([*records(2, 3), *records(1, partition=1)], IDS.__getitem__) == {("raw", 0): 3}


def test_an_older_commit_takes_nothing_back() -> None:
    progress = Progress()
    progress.committed({("raw", 0): 3}, IDS)
    progress.committed({("raw", 0): 2}, IDS)
    assert progress.behind(records(2), IDS.__getitem__) == {("raw", 0): 3}


def test_offsets_of_one_topic_say_nothing_of_another_of_its_name() -> None:
    progress = Progress()
    both = [*records(0), *records(0, topic="other")]
    progress.committed({("raw", 0): 3, ("other", 0): 5}, IDS)
    later = IDS | {"raw": "second"}
    assert progress.behind(both, later.__getitem__) == {("other", 0): 5}
    progress.committed({("raw", 0): 1}, later)
    # A reader of the first topic may still commit when the second one is read already.
    progress.committed({("raw", 0): 4}, IDS)
    assert progress.behind(both, later.__getitem__) == {("raw", 0): 1, ("other", 0): 5}


def test_without_the_id_of_the_topic_any_record_may_be_new() -> None:
    progress = Progress()
    progress.committed({("raw", 0): 3}, {})
    assert progress.behind(records(0), lambda _: "") == {}


def test_a_group_has_one_progress() -> None:
    assert Progress.of("a") is Progress.of("a") is not Progress.of("b")
