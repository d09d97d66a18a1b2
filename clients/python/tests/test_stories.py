"""`get --as-of`, `rollback`, `lineage` and `where`: what they ask for, their JSON and their tables."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from headrace.events.v1.prediction_pb2 import PredictionServed
from headrace.events.v1.record_pb2 import SourceRange
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_client import RegistryClient

PREDICTION = "019a0b1c-2d3e-7f4a-8b5c-6d7e8f901234"
KINDS = ["pipelines", "datasets", "runs", "versions", "releases"]


def fits(output):
    return max(len(line.rstrip()) for line in output.splitlines()) <= 80


@pytest.fixture
def followed(registry, canned):
    dataset = canned.dataset()
    dataset.frozen.sources.append(SourceRange(partition=-3, start=4, end=6))
    registry.lineage = messages.GetLineageResponse(
        prediction=PredictionServed(
            prediction_id=PREDICTION,
            model="digits",
            version_id=canned.digest("e"),
            variant="int8",
            rows=1,
            duration_us=412,
        ),
        serve_time=canned.release().release_time,
        version=canned.version(messages.VERSION_STATE_RELEASED),
        runs=[canned.training(messages.RUN_STATE_SUCCEEDED), canned.compression(messages.RUN_STATE_SUCCEEDED)],
        dataset=dataset,
        topic="scans",
        origin=canned.version(messages.VERSION_STATE_REPLACED),
    )
    registry.lineage.runs[0].origin = registry.lineage.origin.trained.version_id
    return registry


@pytest.mark.parametrize("kind", KINDS)
def test_a_past_moment_is_sent_with_every_list(headrace, registry, kind):
    assert headrace("get", kind, "digits", "--as-of", "2026-05-17T14:30:00.25Z", "--json").exit_code == 0
    assert registry.requests[-1].as_of.ToDatetime(UTC) == datetime(2026, 5, 17, 14, 30, 0, 250_000, UTC)
    assert headrace("get", kind, "--json").exit_code == 0
    assert not registry.requests[-1].HasField("as_of")


@pytest.mark.parametrize(("text", "ago"), [("5m", 300), ("1h30m", 5400), ("250ms", 0.25)])
def test_a_duration_is_a_moment_ago(headrace, registry, text, ago):
    before = datetime.now(UTC)
    headrace("get", "releases", "--as-of", text)
    sent = registry.requests[-1].as_of.ToDatetime(UTC) + timedelta(seconds=ago)
    assert before <= sent <= datetime.now(UTC)


def test_a_time_without_a_zone_is_the_reader_s(headrace, registry):
    headrace("get", "releases", "--as-of", "2026-05-17 14:30")
    sent = registry.requests[-1].as_of.ToDatetime(UTC)
    assert sent == datetime(2026, 5, 17, 14, 30).astimezone(UTC)


@pytest.mark.parametrize("text", ["yesterday", "5", "-5m", "2026-13-01", "9999999999h", "0001-01-01T00:00+14:00"])
def test_what_is_no_moment_is_wrong_usage(headrace, registry, text):
    result = headrace("get", "releases", f"--as-of={text}")
    assert result.exit_code == 2
    assert "--as-of" in result.stderr
    assert not registry.requests


def test_nothing_there_at_a_past_moment_is_said(headrace, registry):
    registry.pipelines = []
    result = headrace("get", "pipelines", "digits", "--as-of", "2026-05-17T14:30Z")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no pipelines of 'digits' at 2026-05-1" in result.stderr


def test_a_rollback_tells_what_is_served(headrace, registry, canned):
    registry.releases = [canned.release(ordinal=3)]
    result = headrace("rollback", "digits")
    assert result.exit_code == 0
    assert registry.requests == [messages.RollbackModelRequest(model="digits")]
    assert "digits version 3, fp32, is champion again (epoch 3)" in result.stdout


def test_a_rollback_to_a_version_as_json(headrace, registry, canned):
    release = canned.release(ordinal=2)
    release.released.reason = "rollback"
    release.released.cache_ttl_s = 60
    registry.releases = [release]
    answer = json.loads(headrace("rollback", "digits", "--to", "2", "--json").stdout)
    assert registry.requests == [messages.RollbackModelRequest(model="digits", ordinal=2)]
    assert (answer["ordinal"], answer["epoch"], answer["reason"], answer["cache_ttl_s"]) == (2, 2, "rollback", 60)


def test_a_recalibration_tells_its_run(headrace, registry):
    assert "run recalibrate-7 makes the variants of digits's champion again" in headrace("recalibrate", "digits").stdout
    assert json.loads(headrace("recalibrate", "digits", "--json").stdout) == {"run_id": "recalibrate-7"}
    assert registry.requests == [messages.RecalibrateModelRequest(model="digits")] * 2


def test_rollouts_are_shown_with_why_they_ended_and_moved_by_hand(headrace, registry):
    shown = headrace("rollout", "digits").stdout
    assert "digits version 2: with 10 % of the calls: 5 of 123 calls failed, limit 1.00%" in shown
    assert "rolled back" in shown
    assert "shadow" in shown
    assert registry.requests == [messages.ListRolloutsRequest(model="digits")]
    back, going = json.loads(headrace("rollout", "digits", "advance", "--json").stdout)
    assert registry.requests[1] == messages.MoveRolloutRequest(model="digits", advance=True)
    assert (back["outcome"], back["share"], back["counts"]["failed"]) == ("rolled back", 10, 5)
    assert back["counts"]["candidate_median_s"] == pytest.approx(0.000349, rel=0.01)
    assert (going["outcome"], going["stage"], going["counts"], going["quality"]) == (None, "shadow", None, None)
    assert (back["quality"]["candidate"]["value"], back["quality"]["champion"]) == (0.7, None)


def test_a_canary_says_which_version_is_better_and_ends_with_it(headrace, registry):
    result = headrace("canary", "digits", "3", "--last", "24h")
    assert result.exit_code == 1, "it is worse"
    assert registry.requests[0] == messages.TryCanaryRequest(
        model="digits", version="3", against="champion", last_s=86_400
    )
    text = " ".join(result.stdout.split())
    assert "digits version 3 is worse than version 2 by accuracy, with 95% certainty" in text
    assert "0.9100 0.9500 -0.0400 (-0.0600 to -0.0200)" in text
    assert "site=north/accuracy 40 0.5000 0.9000" in text
    assert "500 rows of 3 segments" in text
    told = json.loads(headrace("canary", "digits", "3", "--json").stdout)
    assert (told["verdict"], told["measures"][0]["low"], told["alike"]) == ("worse", -0.06, {"agreement": 0.93})


def test_a_rollback_that_cannot_be_is_a_failure_with_its_reason(headrace, registry):
    registry.refusal = (grpc.StatusCode.FAILED_PRECONDITION, "there is no release of model digits before version 1")
    result = headrace("rollback", "digits")
    assert result.exit_code == 1
    assert "there is no release of model digits before version 1" in result.stderr
    assert headrace("rollback", "digits", "--to", "0").exit_code == 2


def test_a_lineage_as_json(headrace, followed, canned):
    answer = json.loads(headrace("lineage", PREDICTION, "--json").stdout)
    assert followed.requests == [messages.GetLineageRequest(id=PREDICTION)]
    assert answer["prediction"] == {
        "prediction_id": PREDICTION,
        "model": "digits",
        "version_id": canned.digest("e"),
        "variant": "int8",
        "rows": 1,
        "cached": False,
        "duration_us": 412,
        "serve_time": "2023-11-14T22:13:20.250Z",
    }
    assert answer["version"]["version_id"] == canned.digest("e")
    assert [run["kind"] for run in answer["runs"]] == ["training", "compression"]
    assert answer["dataset"]["sources"][0] == {"partition": 0, "start": 0, "end": 1800}
    assert answer["topic"] == "scans"
    assert answer["origin"]["version_id"] == answer["runs"][0]["origin"] == canned.digest("e")


def test_a_lineage_as_tables(headrace, followed):
    output = headrace("lineage", PREDICTION).stdout
    assert fits(output)
    links = ("prediction", "version", "compression", "training", "origin", "dataset")
    assert [line.split()[0] for line in output.splitlines() if line.startswith(links)] == list(links)
    assert PREDICTION in output
    assert "digits version 1, released" in output
    ranges = [line.split() for line in output.splitlines() if line.startswith(("scans", "headrace.push"))]
    assert ranges == [["scans", "0", "0", "1799"], ["headrace.push.accepted.v1", "2", "4", "5"]]


def test_a_lineage_of_a_dataset_has_nothing_before_it_but_ranges(headrace, registry, canned):
    registry.lineage = messages.GetLineageResponse(dataset=canned.dataset(), topic="scans")
    answer = json.loads(headrace("lineage", "dddd", "--json").stdout)
    assert (answer["prediction"], answer["version"], answer["runs"]) == (None, None, [])
    assert "1257 train, 270 validation, 265 test" in headrace("lineage", "dddd").stdout


def test_an_ambiguous_id_is_a_failure_that_lists_them(headrace, registry):
    registry.refusal = (grpc.StatusCode.INVALID_ARGUMENT, "2 ids begin with 'train-': run train-1, run train-2")
    result = headrace("lineage", "train-")
    assert result.exit_code == 1
    assert "run train-1, run train-2" in result.stderr


@pytest.fixture
def fates(registry, canned):
    why = messages.RecordRejection(stage="ingestion", rule="type", field="pixels", reason="expected numbers [got text]")
    trained = [canned.version(messages.VERSION_STATE_RELEASED)]
    registry.fates = [
        messages.RecordFate(pipeline="a", rejection=why),
        messages.RecordFate(
            pipeline="b",
            dataset_id=canned.digest("d"),
            split="train",
            versions=trained,
            event_time=Timestamp(seconds=1_764_374_400, nanos=250_000_000),
        ),
        messages.RecordFate(pipeline="c", waiting=True),
        messages.RecordFate(pipeline="d"),
        messages.RecordFate(pipeline="e", rejection=why, dataset_id=canned.digest("d"), split="test"),
        messages.RecordFate(pipeline="f", deleted_unread=True),
        messages.RecordFate(
            pipeline="g", dataset_id=canned.digest("d"), split="train", left_out="contaminated", versions=trained
        ),
        messages.RecordFate(pipeline="h", dataset_id=canned.digest("d"), split="train", left_out="new"),
    ]
    return registry


def test_fates_as_json(headrace, fates, canned):
    found = json.loads(headrace("where", "scans:1:17", "--json").stdout)
    assert fates.requests == [messages.GetRecordFateRequest(topic="scans", partition=1, offset=17)]
    assert [fate["fate"] for fate in found] == [
        "rejected",
        "in_dataset",
        "waiting",
        "left_out",
        "in_dataset",
        "deleted_unread",
        "left_out",
        "left_out",
    ]
    assert [fate["left_out"] for fate in found[4:7]] == [None, None, "contaminated"]
    assert found[0]["rejection"] == {
        "stage": "ingestion",
        "rule": "type",
        "field": "pixels",
        "reason": "expected numbers [got text]",
    }
    assert (found[1]["dataset_id"], found[1]["split"]) == (canned.digest("d"), "train")
    assert found[1]["event_time"] == "2025-11-29T00:00:00.250Z"
    assert [version["ordinal"] for version in found[1]["versions"]] == [1]
    assert found[2] | {"pipeline": ""} == {
        "pipeline": "",
        "fate": "waiting",
        "rejection": None,
        "dataset_id": None,
        "split": None,
        "event_time": None,
        "left_out": None,
        "held_segment": None,
        "versions": [],
        "deleted": False,
    }


def test_fates_as_a_table(headrace, fates):
    output = headrace("where", "scans:1:17").stdout
    assert fits(output)
    text = " ".join(output.split())
    assert "rejected by ingestion, rule type, field pixels: expected numbers [got text]" in text
    assert "train split of dataset dddddddddddd, learned by digits 1, event time 2025-11-29T00:00:00.250Z" in text
    assert "waiting" in text
    assert text.count("no dead letter tells why") == 1
    left_out = (
        "left out of the train split of dataset dddddddddddd (contaminated: it nearly repeats a row of validation"
    )
    assert f"{left_out} or test), learned by digits 1" in text
    assert "(new: for how it looks beside other rows)" in text
    assert "deleted unread it was deleted from the topic before the pipeline began to read there" in text


@pytest.mark.parametrize("place", ["scans", "scans:1", "scans:one:2", "scans:1:-2", ":1:2", "scans:1:2:"])
def test_what_is_no_place_is_wrong_usage(headrace, registry, place):
    result = headrace("where", place)
    assert result.exit_code == 2
    assert "TOPIC:PARTITION:OFFSET" in result.stderr
    assert not registry.requests


def test_a_record_that_is_not_there_is_a_failure(headrace, registry):
    registry.refusal = (grpc.StatusCode.NOT_FOUND, "there is no record scans:0:9 yet")
    result = headrace("where", "scans:0:9")
    assert result.exit_code == 1
    assert "there is no record scans:0:9 yet" in result.stderr


def test_the_library_takes_aware_moments(registry):
    moment = datetime(2026, 5, 17, 14, 30, tzinfo=UTC)
    with RegistryClient() as client:
        client.versions("digits", as_of=moment)
    assert registry.requests[-1].as_of.ToDatetime(UTC) == moment
