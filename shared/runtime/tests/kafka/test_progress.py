"""What is committed stays committed, whatever a broker tells later; but a topic that was made anew begins again."""

from headrace_runtime.kafka.progress import Progress
from headrace_runtime.records import Record


def records(*offsets: int, topic: str = "raw", partition: int = 0) -> list[Record]:
    return [Record(topic, partition, offset, None, None) for offset in offsets]


def test_records_before_a_committed_offset_are_told() -> None:
    progress = Progress()
    assert progress.behind(records(0, 1, 2), lambda _: "id") == {}
    progress.committed({("raw", 0): 3, ("raw", 1): 1})
    assert progress.behind(records(3), lambda _: "id") == {}
    assert progress.behind([*records(2, 3), *records(1, partition=1)], lambda _: "id") == {("raw", 0): 3}


def test_an_older_commit_takes_nothing_back() -> None:
    progress = Progress()
    progress.behind(records(0), lambda _: "id")
    progress.committed({("raw", 0): 3})
    progress.committed({("raw", 0): 2})
    assert progress.behind(records(2), lambda _: "id") == {("raw", 0): 3}


def test_offsets_of_a_topic_that_was_made_anew_are_forgotten() -> None:
    progress = Progress()
    both = [*records(0), *records(0, topic="other")]
    progress.behind(both, str)
    progress.committed({("raw", 0): 3, ("other", 0): 5})
    assert progress.behind(both, lambda topic: "next" if topic == "raw" else topic) == {("other", 0): 5}


def test_without_the_id_of_the_topic_any_record_may_be_new() -> None:
    progress = Progress()
    progress.behind(records(0), lambda _: "")
    progress.committed({("raw", 0): 3})
    assert progress.behind(records(0), lambda _: "") == {}


def test_a_group_has_one_progress() -> None:
    assert Progress.of("a") is Progress.of("a") is not Progress.of("b")
