"""Which backfills a pipeline can take in."""

from datetime import UTC, datetime

import pytest
from headrace_data.spec import load_pipeline
from headrace_model_registry.core.facts.backfill import Artifact, Backfill, BackfillFile, BackfillTopic, require_sound
from headrace_runtime.errors import InvalidInput

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
OLD = Artifact("store/old", "sha256:" + "0" * 64, 10)
SOUND = BackfillFile("old.csv", "csv", OLD)
OLD_TOPIC = "expected another producers' topic than 'digits', which the pipeline reads by itself, got "
UNSOUND = {
    "files or a topic, got neither": Backfill(),
    "files or a topic, got both": Backfill((SOUND,), BackfillTopic("old")),
    r"files\[0\].name: expected 1 to 255 printable": Backfill((BackfillFile("a\n", "csv", OLD),)),
    r"files\[1\].format: expected csv, jsonl, parquet, arrow, got 'xls'": Backfill(
        (SOUND, BackfillFile("b", "xls", OLD))
    ),
    r"files\[0\].artifact: expected a file in the object store, got '../x'": Backfill(
        (BackfillFile("a", "csv", Artifact("", "../x", 1)),)
    ),
    "expected at most 1000, got 1001": Backfill((SOUND,) * 1001),
    f"{OLD_TOPIC}'digits'": Backfill(topic=BackfillTopic("digits")),
    f"{OLD_TOPIC}'headrace.registry.log.v1'": Backfill(topic=BackfillTopic("headrace.registry.log.v1")),
    f"{OLD_TOPIC}'old scans'": Backfill(topic=BackfillTopic("old scans")),
    "expected a topic to rebuild of, got files": Backfill((SOUND,), rebuild=True),
    "expected 'digits' to rebuild of, got 'old'": Backfill(topic=BackfillTopic("old"), rebuild=True),
    "expected a time before": Backfill(topic=BackfillTopic("old", MOMENT, MOMENT)),
}


def test_files_of_a_pipeline_with_personal_fields_are_refused(world):
    personal = b"stream:\n  personal: {fields: {email: drop}}"
    pipeline = load_pipeline(world.document().replace(b"stream:", personal, 1))
    with pytest.raises(InvalidInput, match=r"expected a topic beside stream\.personal"):
        require_sound(Backfill((SOUND,)), pipeline)
    require_sound(Backfill(topic=BackfillTopic("old")), pipeline)


@pytest.mark.parametrize("reason", UNSOUND)
def test_a_backfill_that_no_pipeline_can_take_in_is_refused(world, reason):
    with pytest.raises(InvalidInput, match=reason):
        require_sound(UNSOUND[reason], load_pipeline(world.document()))


@pytest.mark.parametrize(
    "wanted",
    [
        Backfill((SOUND,), time="at"),
        Backfill(topic=BackfillTopic("old", MOMENT)),
        Backfill(topic=BackfillTopic("digits", MOMENT), rebuild=True),
    ],
)
def test_others_are_taken(world, wanted):
    require_sound(wanted, load_pipeline(world.document()))
