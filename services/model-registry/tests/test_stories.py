"""Lineage and record fates over small fakes of Kafka and the store."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from headrace_model_registry.core import facts, prediction_ids
from headrace_model_registry.core.facts import RunKind
from headrace_model_registry.core.facts.backfill import Backfilled
from headrace_model_registry.core.fate import HeldRow, RecordFate, RecordPlace, RecordRejection
from headrace_model_registry.core.lineage import Lineage
from headrace_model_registry.core.records import RunState, VersionState
from headrace_model_registry.core.served import PredictionServed
from headrace_model_registry.core.state import State
from headrace_model_registry.core.stories import Stories
from headrace_runtime.errors import InvalidInput, NotFound
from headrace_runtime.kafka.envelopes import new_id
from hypothesis import given
from hypothesis import strategies as st

PREDICTION = "019a0b1c-2d3e-7f4a-8b5c-6d7e8f901234"
MOMENT = datetime(2026, 11, 29, tzinfo=UTC)
SIBLING = "019a0b1c-2d3e-7f4a-8b5c-6d7e8f909999"


class Kept:
    """Predictions, records and rows that Kafka and the store still hold."""

    def __init__(self):
        self.predictions, self.rejections, self.rows, self.bounds = {}, {}, {}, {("digits", 0): (0, 1000)}
        self.windows, self.asked = [], []

    def starting_with(self, beginning, first_ms, last_ms):
        self.windows.append((first_ms, last_ms))
        return {key: served for key, served in self.predictions.items() if key.startswith(beginning)}

    def bounds_of(self, topic, partition):
        return self.bounds.get((topic, partition))

    def rejection_of(self, pipeline, place, partition=None):
        return self.rejections.get((pipeline, place, *([] if partition is None else [partition])))

    def row_of(self, frozen, place):
        self.asked.append(frozen.dataset_id)
        split, _, left_out = self.rows.get((frozen.dataset_id, place), "").partition(" ")
        return HeldRow(split, MOMENT, left_out) if split else None


@pytest.fixture
def kept():
    return Kept()


class Teller:
    """Stories of what the ledger holds when they are told."""

    def __init__(self, ledger, kept):
        self.ledger, self.state = ledger, State()
        self.stories = Stories(self.state, kept, kept, kept)

    def lineage(self, name):
        self.state.publish(self.ledger.catalogue)
        return self.stories.lineage(name)

    def fates(self, place):
        self.state.publish(self.ledger.catalogue)
        return self.stories.fates(place)


@pytest.fixture
def stories(ledger, kept):
    return Teller(ledger, kept)


def served(released, prediction_id=PREDICTION):
    return PredictionServed(prediction_id, "digits", released.version_id, released.variant)


def test_a_prediction_leads_back_to_the_producers_topic(story, ledger, kept, stories):
    released = story.release()
    kept.predictions = {PREDICTION: served(released)}
    found = stories.lineage(PREDICTION)
    assert found.prediction == served(released)
    assert found.serve_time == datetime.fromtimestamp(0x019A0B1C2D3E / 1000, UTC)
    assert (found.version.trained.version_id, found.version.state) == (released.version_id, VersionState.RELEASED)
    assert [(run.kind, run.state) for run in found.runs] == [
        (RunKind.TRAINING, RunState.SUCCEEDED),
        (RunKind.COMPRESSION, RunState.SUCCEEDED),
    ]
    assert found.dataset.frozen.sources == (facts.SourceRange(0, 0, 1000),)
    assert found.topic == "digits"


def test_each_link_leads_to_what_lies_before_it_only(story, ledger, stories):
    released = story.release()
    training, compression = ledger.catalogue.runs
    version = ledger.catalogue.champion("digits")
    dataset = ledger.catalogue.newest_dataset("digits")

    whole = stories.lineage(released.version_id)
    assert (whole.prediction, whole.serve_time, whole.version) == (None, None, version)
    assert [run.run_id for run in whole.runs] == [training, compression]
    assert stories.lineage(compression) == whole
    assert stories.lineage(training) == Lineage(runs=whole.runs[:1], dataset=dataset, topic="digits")
    assert stories.lineage(dataset.frozen.dataset_id) == Lineage(dataset=dataset, topic="digits")


def test_a_beginning_that_only_one_id_has_is_enough_with_or_without_the_scheme(story, ledger, stories):
    released = story.release()
    digits = released.version_id.removeprefix("sha256:")
    for beginning in (released.version_id[:20], digits[:12], f"  {digits[:12].upper()} "):
        assert stories.lineage(beginning).version.trained.version_id == released.version_id
    training = next(iter(ledger.catalogue.runs))
    assert stories.lineage(training[:14]).runs[0].run_id == training


def test_a_beginning_of_several_ids_lists_them(story, ledger, stories):
    story.release(1)
    with pytest.raises(InvalidInput) as raised:
        stories.lineage("sha256:")
    version, dataset = ledger.catalogue.releases[0].released.version_id, story.world.frozen(story.applied).dataset_id
    assert str(raised.value) == f"2 ids begin with 'sha256:': dataset {dataset}, version {version}"


def test_a_long_list_of_ids_is_cut(story, stories):
    for number in range(13):
        story.fail(number)
    with pytest.raises(InvalidInput, match=r"^13 ids begin with 'train-': run train-.* and 3 more$"):
        stories.lineage("train-")


def test_predictions_are_found_by_a_beginning_and_several_are_listed(story, kept, stories):
    released = story.release()
    kept.predictions = {each: served(released, each) for each in (PREDICTION, SIBLING)}
    assert stories.lineage(PREDICTION[:-2]).prediction.prediction_id == PREDICTION
    with pytest.raises(InvalidInput, match=f"2 ids begin with .*: prediction {PREDICTION}, prediction {SIBLING}$"):
        stories.lineage(PREDICTION[:8])


def test_a_prediction_of_a_version_that_nobody_knows_stands_alone(story, kept, stories):
    released = replace(story.release(), version_id="sha256:gone")
    kept.predictions = {PREDICTION: served(released)}
    found = stories.lineage(PREDICTION)
    assert found.prediction.version_id == "sha256:gone"
    assert (found.version, found.runs, found.dataset, found.topic) == (None, (), None, "")


@pytest.mark.parametrize(("name", "searched"), [("nothing", False), ("019a0b1", False), (PREDICTION, True)])
def test_an_id_that_nobody_has_is_said_to_be_none(stories, kept, name, searched):
    with pytest.raises(NotFound, match=f"begins with '{name}'"):
        stories.lineage(name)
    assert bool(kept.windows) is searched


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_id_is_no_id(stories, name):
    with pytest.raises(InvalidInput, match="the id is empty"):
        stories.lineage(name)


@given(st.integers(8, prediction_ids.LENGTH))
def test_the_window_of_a_beginning_holds_the_moment_of_its_id(length):
    whole = new_id()
    window = prediction_ids.window_ms(whole[:length])
    assert window is not None
    first, last = window
    made_ms = prediction_ids.made_at(whole).timestamp() * 1000
    assert first <= round(made_ms) <= last
    assert last - first < 70_000


@pytest.mark.parametrize(
    "text", ["019a0b1", "019a0b1g", "019a0b1c-2d3e-4f4a", "019a0b1c-2d3e-7f4a-7b5c", f"{PREDICTION}0"]
)
def test_what_no_prediction_s_id_begins_with_has_no_window(text):
    assert prediction_ids.window_ms(text) is None
    assert prediction_ids.made_at(text) is None


HERE = RecordPlace("digits", 0, 7)
WHY = RecordRejection("ingestion", "type", "pixels", "expected a number, got a text")
NOWHERE = RecordFate("digits", None, "", "", (), waiting=False)


def test_a_record_that_no_dataset_covers_waits(story, stories):
    assert stories.fates(HERE) == [replace(NOWHERE, waiting=True)]


def test_a_rejected_record_tells_why(story, kept, stories):
    kept.rejections[("digits", HERE)] = WHY
    assert stories.fates(HERE) == [replace(NOWHERE, rejection=WHY)]
    story.train()
    assert stories.fates(HERE) == [replace(NOWHERE, rejection=WHY)]


def test_a_record_of_a_dataset_names_its_split_and_versions(story, kept, stories, ledger, world):
    dataset = world.frozen(story.applied)
    kept.rows[(dataset.dataset_id, HERE)] = "validation"
    story.release()
    version = ledger.catalogue.champion("digits")
    assert stories.fates(HERE) == [
        RecordFate("digits", None, dataset.dataset_id, "validation", (version,), False, event_time=MOMENT)
    ]


def test_the_newest_dataset_with_the_record_counts(story, kept, stories, world):
    first, second = (world.frozen(story.applied, number) for number in (1, 2))
    kept.rows |= {(first.dataset_id, HERE): "train", (second.dataset_id, HERE): "test"}
    for number in (1, 2, 3):
        story.fail(number)
    (found,) = stories.fates(HERE)
    assert (found.dataset_id, found.split) == (second.dataset_id, "test")


def test_versions_of_every_window_with_the_record_are_named(story, kept, stories, ledger, world):
    frozen = [world.frozen(story.applied, number) for number in range(1, 6)]
    kept.rows = {(each.dataset_id, HERE): "train" for each in (*frozen[:2], *frozen[3:])}
    for number in (1, 2, 3):
        story.release(number)
    story.fail(4)
    story.train(5)
    (found,) = stories.fates(HERE)
    assert (found.dataset_id, [version.ordinal for version in found.versions]) == (frozen[4].dataset_id, [1, 2])
    assert frozen[3].dataset_id not in kept.asked


def test_versions_of_datasets_that_left_a_record_out_did_not_learn_from_it(story, kept, stories, world):
    frozen = [world.frozen(story.applied, number) for number in (1, 2, 3)]
    kept.rows = {(each.dataset_id, HERE): "train nearDuplicates" for each in frozen}
    kept.rows[frozen[0].dataset_id, HERE] = "train"
    for number in (1, 2):
        story.release(number)
    story.fail(3)
    (found,) = stories.fates(HERE)
    assert (found.dataset_id, found.split, found.left_out) == (frozen[2].dataset_id, "train", "nearDuplicates")
    assert [version.ordinal for version in found.versions] == [1]


def test_a_row_of_a_file_is_looked_for_in_every_window_since(story, kept, stories, ledger, world):
    row = RecordPlace("old.csv", 0, 7)
    filled = replace(world.frozen(story.applied, 1), backfilled=Backfilled(10))
    (training,) = ledger.learn(filled)
    ledger.decide(world.compressed(ledger.decide(world.trained(training))))
    story.release(2)
    story.release(3)
    kept.rows = {(world.frozen(story.applied, number).dataset_id, row): "test" for number in (1, 2)}
    (found,) = stories.fates(row)
    assert [version.ordinal for version in found.versions] == [1, 2]


def test_a_record_with_a_dead_letter_and_a_row_has_both(story, kept, stories, world):
    kept.rejections[("digits", HERE)] = WHY
    kept.rows[(world.frozen(story.applied).dataset_id, HERE)] = "train"
    story.train()
    (found,) = stories.fates(HERE)
    assert (found.rejection, found.split) == (WHY, "train")


def test_a_record_of_a_range_that_was_cut_without_it_waits_for_nothing(story, stories):
    story.train()
    assert stories.fates(HERE) == [NOWHERE]


def test_a_record_that_was_deleted_before_the_first_read_waits_for_nothing(story, kept, stories, ledger, world):
    dataset = world.frozen(story.applied)
    ledger.learn(replace(dataset, sources=(facts.SourceRange(0, 8, 1000), facts.SourceRange(1, 0, 5))))
    before, first = RecordPlace("digits", 0, 7), RecordPlace("digits", 0, 8)
    kept.bounds |= {("digits", 0): (8, 2000), ("digits", 2): (8, 2000)}
    assert stories.fates(before) == [replace(NOWHERE, deleted_unread=True)]
    assert stories.fates(first) == [NOWHERE]
    kept.rejections[("digits", before)] = WHY
    assert stories.fates(before) == [replace(NOWHERE, rejection=WHY)]
    # What was read may be deleted before its dataset is cut, and of a partition without a dataset nothing is known.
    kept.bounds[("digits", 0)] = (1500, 2000)
    for waits in (RecordPlace("digits", 0, 1200), RecordPlace("digits", 2, 7)):
        assert stories.fates(waits) == [replace(NOWHERE, waiting=True)]
    # The records of a topic that was made anew begin at zero.
    kept.rejections.clear()
    kept.bounds[("digits", 0)] = (0, 20)
    assert stories.fates(before) == [replace(NOWHERE, waiting=True)]


def test_a_row_of_a_file_is_told_of_by_the_pipeline_that_took_it_in(story, kept, stories, ledger, world):
    taken, refused, nobodys = (RecordPlace("old.csv", 0, row) for row in range(3))
    ledger.learn(world.frozen(story.applied))
    with pytest.raises(NotFound, match=r"are read: digits; and no backfill .* took in old\.csv:0:0"):
        stories.fates(taken)
    filled = replace(world.frozen(story.applied, 2), backfilled=Backfilled(10))
    ledger.learn(filled)
    kept.rows = {(filled.dataset_id, taken): "test"}
    why = kept.rejections["digits", refused, 0] = RecordRejection("backfill", "type", "x", "expected a number")
    (found,) = stories.fates(taken)
    assert (found.pipeline, found.dataset_id, found.split, found.event_time) == (
        "digits",
        filled.dataset_id,
        "test",
        MOMENT,
    )
    assert stories.fates(refused) == [RecordFate("digits", why, "", "", (), waiting=False)]
    with pytest.raises(NotFound):
        stories.fates(nobodys)


def test_every_pipeline_of_the_topic_tells_its_own(story, kept, stories, ledger, world):
    ledger.learn(world.applied(name="another", topic="digits"))
    ledger.learn(world.applied(name="elsewhere"))
    kept.rejections[("another", HERE)] = WHY
    assert stories.fates(HERE) == [
        replace(NOWHERE, pipeline="another", rejection=WHY),
        replace(NOWHERE, waiting=True),
    ]


def test_what_is_no_record_yet_is_named(story, stories):
    for place, words in (
        (RecordPlace("letters", 0, 1), "no pipeline reads topic 'letters'; topics that are read: digits"),
        (RecordPlace("digits", 9, 1), "topic digits has no partition 9"),
        (RecordPlace("digits", 0, 1000), "no record digits:0:1000 yet: partition 0 ends before offset 1000"),
        (RecordPlace("digits", 0, -1), "no record digits:0:-1"),
    ):
        with pytest.raises(NotFound) as raised:
            stories.fates(place)
        assert words in str(raised.value)


def test_a_deleted_pipeline_is_still_told_of(story, kept, stories, ledger, world):
    released = story.release()
    kept.predictions = {PREDICTION: served(released, PREDICTION)}
    kept.rows[(world.frozen(story.applied).dataset_id, HERE)] = "train"
    before = stories.lineage(released.version_id), stories.lineage(PREDICTION), stories.fates(HERE)
    ledger.learn(facts.PipelineDeleted("digits"))
    (told,) = stories.fates(HERE)
    after = stories.lineage(released.version_id), stories.lineage(PREDICTION), [replace(told, deleted=False)]
    assert after == before
    assert told.deleted
    ledger.learn(world.next_life(story.applied))
    past, now = sorted(stories.fates(HERE), key=lambda each: not each.deleted)
    assert past == told
    assert (now.deleted, now.waiting) == (False, True)
