from headrace_data.manifest import OffsetRange
from headrace_preprocessing.core.lives import Lives
from headrace_runtime.records import Record

PUSHED = ""


def add(lives: Lives, topic_id: str, partition: int, offset: int, rows: int) -> None:
    source = OffsetRange(partition=-1 - partition if topic_id == PUSHED else partition, start=0, end=rows)
    record = Record("clean", partition, offset, None, None)
    filling = lives.add(topic_id, record, rows, {"json": 1}, [source], 0.0)
    filling.time_sources.add(topic_id or "accept")
    filling.unread["amount"] += rows
    filling.writer_schemas.add("sha256:1")


def test_what_waits_of_a_topic_that_is_gone_is_told_apart() -> None:
    lives = Lives(lambda: "new")
    assert lives.meet("old") is None
    add(lives, "old", 0, 5, 40)
    add(lives, PUSHED, 1, 3, 10)
    gone = lives.meet("new")
    assert gone is not None
    assert (gone.rows, gone.ranges()) == (40, (OffsetRange(partition=0, start=0, end=40),))
    add(lives, "new", 1, 4, 20)
    waiting = lives.waiting()
    assert (waiting.rows, waiting.rejected["json"], waiting.unread["amount"]) == (30, 2, 30)
    assert waiting.writer_schemas == {"sha256:1"}
    assert (gone.time_sources, waiting.time_sources) == ({"old"}, {"accept", "new"})
    assert lives.firsts() == {("clean", 1): 3}
    assert (lives.topic_id, lives.gone) == ("new", {"old"})


def test_an_earlier_topic_may_be_met_after_a_later_one() -> None:
    lives = Lives(lambda: "new")
    lives.meet("new")
    add(lives, "new", 1, 0, 20)
    assert lives.meet("old") is None
    assert (lives.topic_id, lives.gone, lives.waiting().rows) == ("new", {"old"}, 20)


def test_a_topic_that_was_made_again_twice_leaves_both_behind() -> None:
    lives = Lives(lambda: "newest")
    lives.meet("old")
    add(lives, "old", 0, 0, 1)
    lives.meet("new")
    assert (lives.topic_id, lives.gone, lives.waiting().rows) == ("newest", {"old", "new"}, 0)


def test_without_a_topic_the_last_one_met_is_the_later_one() -> None:
    lives = Lives(str)
    lives.meet("old")
    lives.meet("new")
    assert (lives.topic_id, lives.gone) == ("new", {"old"})
