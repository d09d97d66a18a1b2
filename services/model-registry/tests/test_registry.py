"""What callers get: writes through the writer, reads from what is committed."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from headrace_model_registry.core.facts import DatasetRequested, PipelineDeleted, RunKind
from headrace_model_registry.core.progress import DatasetProgressed, PipelineTroubled, RunProgressed
from headrace_model_registry.transport.watch import Watchers
from headrace_runtime.errors import FailedPrecondition, InvalidInput, NotFound, Unavailable


def test_a_pipeline_is_applied_with_the_partitions_of_its_producers_topic(registry, cluster, world):
    answer = registry.apply_pipeline(world.document(), create_topic=False)
    assert answer.changed
    assert answer.applied == world.applied()
    assert cluster.topics["digits.raw"] == cluster.topics["digits.dead"] == 3
    assert registry.list_pipelines("") == [answer.applied]


def test_the_same_spec_again_changes_and_writes_nothing(registry, writer, world):
    registry.apply_pipeline(world.document(), create_topic=False)
    again = registry.apply_pipeline(b"# only a comment is new\n" + world.document(), create_topic=False)
    assert not again.changed
    assert len(writer.written) == 1


def test_another_spec_changes_what_is_in_force(registry, world):
    registry.apply_pipeline(world.document(), create_topic=False)
    changed = registry.apply_pipeline(world.document(seed=9, highest=20), create_topic=False)
    assert changed.changed
    assert registry.list_pipelines("digits") == [changed.applied]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (b"topic: digits", b"topic: others", "topic"),
        (b"  schema:", b"  key: digit\n  schema:", "key"),
        (b"shape: [64]", b"shape: [100]", "schema field 'pixels'"),
        (b"type: float32", b"type: int64", "schema field 'pixels'"),
        (b"name: digit,", b"name: number,", "schema field 'digit', schema field 'number'"),
    ],
)
def test_another_stream_under_the_same_name_is_refused(registry, cluster, writer, world, old, new, named):
    registry.apply_pipeline(world.document(), create_topic=False)
    changed = world.document().replace(old, new)
    assert changed != world.document()
    with pytest.raises(FailedPrecondition) as raised:
        registry.apply_pipeline(changed, create_topic=True)
    assert str(raised.value) == (
        f"pipeline digits exists with another stream section ({named}), and rows of the old one may wait in its "
        "topics: apply the new one under another name; with train.model: digits it serves the same model"
    )
    assert len(writer.written) == 1
    assert "others" not in cluster.topics
    assert registry.apply_pipeline(changed.replace(b"name: digits}", b"name: digits-2}"), create_topic=True).changed


def test_a_stream_that_holds_the_old_rows_too_is_mended_under_its_name(registry, world):
    registry.apply_pipeline(world.document(), create_topic=False)
    wider = world.document().replace(b"range: [0, 16]", b"unit: ink, nullable: true, range: [-1, 16.5]")
    assert registry.apply_pipeline(wider, create_topic=False).changed
    with pytest.raises(FailedPrecondition, match="schema field 'pixels'"):
        registry.apply_pipeline(wider.replace(b"nullable: true", b"nullable: false"), create_topic=False)


def test_fields_in_another_order_are_another_stream(registry, world):
    registry.apply_pipeline(world.document(), create_topic=False)
    lines = world.document().splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if b"- {name:" in line)
    lines[first], lines[first + 1] = lines[first + 1], lines[first]
    with pytest.raises(FailedPrecondition, match=r"\(the order of the schema\)"):
        registry.apply_pipeline(b"".join(lines), create_topic=False)


def test_a_pipeline_that_scores_has_a_topic_of_answers_and_a_place_to_begin(registry, cluster, world):
    applied = registry.apply_pipeline(world.document(), create_topic=False)
    assert ("digits.scored" in cluster.topics, cluster.begun) == (False, [])
    document = world.document().replace(b"cache: redis", b"cache: redis, scoring: {topic: asked}")
    with pytest.raises(FailedPrecondition, match="topic 'asked' of pipeline digits does not exist"):
        registry.apply_pipeline(document, create_topic=False)
    cluster.topics["asked"] = 5
    changed = registry.apply_pipeline(document, create_topic=False)
    assert changed.changed
    assert changed.applied.partitions == applied.applied.partitions == 3
    assert cluster.topics["digits.scored"] == 5
    assert cluster.begun == [("inference.digits", "asked")]
    registry.list_lags()
    assert ("inference.digits", "asked") in cluster.readers
    earliest = document.replace(b"asked}", b"asked, start: earliest}")
    assert registry.apply_pipeline(earliest, create_topic=False).changed
    assert len(cluster.begun) == 1


def test_a_dry_run_checks_and_writes_nothing(registry, cluster, writer, world):
    topics = dict(cluster.topics)
    would = registry.apply_pipeline(world.document(), create_topic=False, dry_run=True)
    assert (would.changed, would.applied) == (True, world.applied())
    elsewhere = world.document().replace(b"topic: digits", b"topic: nowhere")
    with pytest.raises(FailedPrecondition, match="does not exist"):
        registry.apply_pipeline(elsewhere, create_topic=False, dry_run=True)
    assert registry.apply_pipeline(elsewhere, create_topic=True, dry_run=True).changed
    assert (writer.written, cluster.topics) == ([], topics)


def test_every_problem_of_a_spec_is_named_with_line_and_path(registry, cluster, writer, world):
    wrong = world.document(width=0, seed="many", cache="sometimes")
    with pytest.raises(InvalidInput) as raised:
        registry.apply_pipeline(wrong, create_topic=True)
    text = str(raised.value)
    for line, path in ((9, "stream.schema[1].shape[0]"), (14, "train.seed"), (19, "serve.cache")):
        assert f"line {line}: {path}: " in text
    assert writer.written == []
    assert set(cluster.topics) == {"digits"}


def test_a_missing_topic_is_named_with_the_cure(registry, cluster, writer, world):
    del cluster.topics["digits"]
    with pytest.raises(FailedPrecondition, match=r"topic 'digits' of pipeline digits does not exist.*--create-topic"):
        registry.apply_pipeline(world.document(), create_topic=False)
    assert writer.written == []
    assert cluster.topics == {}


def test_a_missing_topic_is_created_when_asked_for(registry, cluster, world):
    del cluster.topics["digits"]
    assert registry.apply_pipeline(world.document(), create_topic=True).applied.partitions == 2
    assert cluster.topics["digits"] == cluster.topics["digits.clean"] == 2


def test_a_dataset_is_asked_for_by_a_new_id_each_time(registry, writer, world):
    registry.apply_pipeline(world.document(), create_topic=False)
    assert [registry.freeze_dataset("digits") for _ in range(2)] == ["id-1", "id-2"]
    assert writer.written[1:] == [DatasetRequested("digits", "id-1"), DatasetRequested("digits", "id-2")]


def test_an_unknown_pipeline_is_named_with_the_known_ones(registry, world):
    with pytest.raises(NotFound, match="pipeline 'digit' was never applied; known pipelines: none"):
        registry.freeze_dataset("digit")
    registry.apply_pipeline(world.document(), create_topic=False)
    with pytest.raises(NotFound, match="known pipelines: digits"):
        registry.status("digit")


def test_lists_are_those_of_the_committed_catalogue(registry, story, state, ledger):
    released = story.release()
    assert registry.list_releases("") == []
    state.publish(ledger.catalogue)
    assert [release.released for release in registry.list_releases("digits")] == [released]
    assert len(registry.list_datasets("digits")) == len(registry.list_versions("digits")) == 1
    assert len(registry.list_runs("digits")) == 2
    assert [lag.group for lag in registry.list_lags()] == ["ingestion.digits", "ingestion.digits.1", "trainer"]


def test_lists_of_a_past_moment_are_those_of_the_log_until_then(registry, story, state, ledger):
    story.release()
    state.publish(ledger.catalogue, ledger.log)
    state.show([RunProgressed(next(iter(ledger.catalogue.runs)), "digits", RunKind.TRAINING, 1, 3, 40)])
    (release,) = registry.list_releases("digits")
    before = release.release_time - timedelta(microseconds=1)
    assert registry.list_releases("digits", before) == []
    assert registry.list_releases("digits", release.release_time) == [release]
    assert len(registry.list_versions("digits", before)) == len(registry.list_datasets("digits", before)) == 1
    assert [run.progress for run in registry.list_runs("digits", before)] == [None, None]
    assert [run.progress is None for run in registry.list_runs("digits")] == [False, True]
    assert registry.list_pipelines("", ledger.log[0].occur_time - timedelta(seconds=1)) == []


def test_a_rollback_answers_with_the_release_that_it_made(registry, story, state, ledger, writer):
    first, second = story.release(1), story.release(2)
    writer.shown = len(ledger.log)
    state.publish(ledger.catalogue, ledger.log)
    release = registry.rollback_model("digits", 0)
    assert (release.released.version_id, release.released.reason) == (first.version_id, "rollback")
    assert release.released.epoch == second.epoch + 1
    assert registry.list_releases("digits")[-1] == release


def test_a_rollback_of_an_unknown_model_is_named_with_the_known_ones(registry, story, state, ledger):
    with pytest.raises(NotFound, match="model 'digits' has no version; known models: none"):
        registry.rollback_model("digits", 0)
    story.release()
    state.publish(ledger.catalogue)
    with pytest.raises(NotFound, match="model 'digit' has no version; known models: digits"):
        registry.rollback_model("digit", 0)


def test_progress_wakes_listeners_until_they_are_forgotten(state):
    woken = []
    listener = lambda: woken.append(state.board.filling["digits"].rows)  # noqa: E731
    state.listen(listener)
    state.show([DatasetProgressed("digits", 1, 10), DatasetProgressed("digits", 2, 10)])
    state.forget(listener)
    state.show([DatasetProgressed("digits", 3, 10)])
    assert woken == [2]


def test_a_stream_shows_the_state_now_and_whenever_it_changes(registry, state, world):
    registry.apply_pipeline(world.document(), create_topic=False)
    watchers = Watchers(state)

    async def follow():
        seen: list[Any] = []
        async with aclosing(watchers.watch(lambda: registry.status("digits"))) as statuses:
            while len(seen) < 3:
                status = await anext(statuses)
                seen.append(status.filling and status.filling.rows)
                state.show([DatasetProgressed("digits", len(seen), 10)])
        return seen

    assert asyncio.run(asyncio.wait_for(follow(), 10)) == [None, 1, 2]


def test_what_is_no_change_is_not_shown(state):
    watchers = Watchers(state)
    looks = iter(["a", "a", "a", "b"])

    def look():
        state.wake()
        return next(looks)

    async def follow():
        async with aclosing(watchers.watch(look)) as values:
            return [await anext(values), await anext(values)]

    assert asyncio.run(asyncio.wait_for(follow(), 10)) == ["a", "b"]


def test_changes_in_quick_succession_are_shown_as_one(state):
    watchers = Watchers(state)

    async def follow():
        seen: list[Any] = []
        async with aclosing(watchers.watch(lambda: dict(state.board.filling))) as boards:
            while len(seen) < 2:
                seen.append([progress.rows for progress in (await anext(boards)).values()])
                for rows in range(1, 100):
                    state.show([DatasetProgressed("digits", rows, 100)])
        return seen

    assert asyncio.run(asyncio.wait_for(follow(), 10)) == [[], [99]]


def test_a_stream_ends_when_the_registry_stops(state):
    watchers = Watchers(state)

    async def follow():
        async with aclosing(watchers.watch(lambda: state.board)) as boards:
            async for _ in boards:
                watchers.stop()

    with pytest.raises(Unavailable, match="stopping"):
        asyncio.run(asyncio.wait_for(follow(), 10))


def test_a_stream_that_ends_is_woken_no_more(state):
    watchers = Watchers(state)

    async def look_once():
        async with aclosing(watchers.watch(lambda: state.board)) as boards:
            await anext(boards)

    asyncio.run(look_once())
    state.show([DatasetProgressed("digits", 1, 10)])
    assert state.board.filling["digits"].rows == 1


def test_the_status_tells_what_is_wrong_with_the_pipeline_alone(registry, state, world):
    registry.apply_pipeline(world.document(), create_topic=False)
    now = datetime.now(UTC)
    mine, other = (PipelineTroubled(name, "ingestion", "0", "", "no topic", now, 0) for name in ("digits", "letters"))
    state.show([mine, other])
    assert registry.status("digits").troubles == (mine,)


def test_a_stream_of_an_unknown_pipeline_is_refused(registry, state):
    watchers = Watchers(state)

    async def look_once():
        async with aclosing(watchers.watch(lambda: registry.status("none"))) as statuses:
            await anext(statuses)

    with pytest.raises(NotFound, match="'none' was never applied"):
        asyncio.run(look_once())


def test_a_deletion_says_what_it_did_and_what_stays(registry, cluster, world):
    registry.apply_pipeline(world.document(), create_topic=False)
    answer = registry.delete_pipeline("digits", purge=False)
    assert answer.deleted == PipelineDeleted("digits")
    assert (answer.purged, answer.groups) == (False, ("ingestion.digits",))
    assert answer.topics == ("digits.raw", "digits.clean", "digits.dead")
    assert set(answer.topics) < set(cluster.topics)
    with pytest.raises(NotFound, match="'digits' was deleted; known pipelines: none"):
        registry.delete_pipeline("digits", purge=False)
    with pytest.raises(NotFound, match="'digits' was deleted"):
        registry.freeze_dataset("digits")
    with pytest.raises(NotFound, match="'other' was never applied"):
        registry.delete_pipeline("other", purge=True)


def test_a_pipeline_of_a_deleted_one_s_name_has_topics_of_its_own(registry, cluster, world):
    registry.apply_pipeline(world.document(), create_topic=False)
    registry.delete_pipeline("digits", purge=False)
    # Another schema: nothing of the old one waits in the new topics.
    answer = registry.apply_pipeline(world.document(width=100), create_topic=False)
    assert (answer.applied.incarnation, answer.changed) == (1, True)
    assert cluster.topics["digits.1.raw"] == 3
    assert not registry.apply_pipeline(world.document(width=100), create_topic=False).changed
    assert [lag.group for lag in registry.list_lags()] == ["ingestion.digits.1", "trainer"]


def test_a_purge_never_takes_a_pipeline_that_was_applied_again(registry, cluster, state, world):
    old, new = ([f"{name}.{stage}" for stage in ("raw", "clean", "dead")] for name in ("digits", "digits.1"))
    registry.apply_pipeline(world.document(), create_topic=False)
    with pytest.raises(NotFound, match="no pipeline 'digits' was deleted"):
        registry.delete_leftovers("digits")
    registry.delete_pipeline("digits", purge=False)
    registry.apply_pipeline(world.document(), create_topic=False)
    with pytest.raises(FailedPrecondition, match=r"'digits' is in force again, and digits.raw, .* delete leftovers"):
        registry.delete_pipeline("digits", purge=True)
    assert "digits" in state.catalogue.pipelines
    assert set(cluster.topics) == {"digits", *old, *new}

    purged = registry.delete_leftovers("digits")
    assert (list(purged.topics), purged.in_force) == (old, True)
    assert set(cluster.topics) == {"digits", *new}
    answer = registry.delete_pipeline("digits", purge=True)
    assert (answer.deleted, list(answer.topics)) == (PipelineDeleted("digits", 1), new)
    assert set(cluster.topics) == {"digits"}
    again = registry.delete_pipeline("digits", purge=True)
    assert (again.deleted, again.topics) == (None, ())
    assert registry.delete_leftovers("digits").in_force is False
