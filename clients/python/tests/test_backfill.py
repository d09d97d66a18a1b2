"""`backfill`: files into the object store, the request, and what is said of what came of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from headrace.events.v1.backfill_pb2 import Backfilled
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_client.backfilling import FORMATS
from headrace_data.files import FORMATS as READ
from headrace_runtime.object_store import ObjectStore

TOLD = Backfilled(rows=40, rejected={"type": 2}, known=3, faults=["old.csv row 7: x: expected\x1b a number"])


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("HEADRACE_STORE_URL", str(tmp_path / "store"))
    one, other = tmp_path / "old.csv", tmp_path / "older.ndjson"
    one.write_text("x,y\n1,2\n")
    other.write_text('{"x": 1}\n')
    return one, other


def answered(registry, canned):
    registry.states = [canned.state(dataset=canned.dataset("c", request_id="request-7"))]
    registry.states[0].dataset.frozen.backfilled.CopyFrom(TOLD)
    registry.datasets = [canned.dataset("c"), canned.dataset("d")]


def asked(registry) -> messages.FreezeDatasetRequest:
    (request,) = (each for each in registry.requests if isinstance(each, messages.FreezeDatasetRequest))
    return request


def test_files_are_kept_and_named(headrace, registry, canned, files):
    answered(registry, canned)
    result = headrace("backfill", "digits", str(files[1]), str(files[0]), "--time", "at", "--json")
    assert result.exit_code == 0, result.stderr
    wanted = asked(registry).backfill
    assert [(file.name, file.format) for file in wanted.files] == [("older.ndjson", "jsonl"), ("old.csv", "csv")]
    assert wanted.time == "at"
    assert not wanted.HasField("topic")
    store = ObjectStore(str(files[0].parent / "store"))
    assert [store.get(file.artifact) for file in wanted.files] == [b'{"x": 1}\n', b"x,y\n1,2\n"]
    answer = json.loads(result.stdout)
    assert answer["request_id"] == "request-7"
    assert answer["backfilled"] == {"rows": 40, "known": 3, "rejected": {"type": 2}, "faults": [TOLD.faults[0]]}
    assert answer["dataset"]["dataset_id"] == canned.digest("c")


def test_a_text_in_another_encoding_is_told_and_kept_in_utf_8(headrace, registry, canned, files):
    answered(registry, canned)
    files[0].write_bytes("x,y\n1,süß\n".encode("windows-1252"))
    result = headrace("backfill", "digits", str(files[0]))
    assert (result.exit_code, "say --encoding windows-1252" in result.stderr) == (1, True)
    result = headrace("backfill", "digits", str(files[0]), "--encoding", "windows-1252")
    assert result.exit_code == 0, result.stderr
    store = ObjectStore(str(files[0].parent / "store"))
    assert store.get(asked(registry).backfill.files[0].artifact).decode() == "x,y\n1,süß\n"


def test_what_came_of_it_is_said_in_words(headrace, registry, canned, files):
    answered(registry, canned)
    result = headrace("backfill", "digits", str(files[0]))
    assert result.stdout.splitlines() == [
        "40 rows are new, 3 were there already",
        "2 rejected (type 2): `headrace dead list digits --where stage=backfill` shows them",
        "  old.csv row 7: x: expected\\x1b a number",
        f"dataset {canned.digest('c')} as before: its window takes no row that is new",
        "1257 train, 270 validation, 265 test rows",
    ]
    answered(registry, canned)
    registry.datasets = [canned.dataset("d")]
    assert f"dataset {canned.digest('c')}\n" in headrace("backfill", "digits", str(files[0])).stdout


def test_a_file_that_may_lie_nowhere_is_not_kept(headrace, registry, files):
    registry.pipelines[0].spec.json = json.dumps({"stream": {"personal": {"fields": {"email": "drop"}}}}).encode()
    result = headrace("backfill", "digits", str(files[0]))
    assert result.exit_code == 1
    assert "pipeline 'digits' has personal fields, and the object store would keep a file as it is" in result.stderr
    assert not (files[0].parent / "store").exists()
    assert not any(isinstance(each, messages.FreezeDatasetRequest) for each in registry.requests)


def test_a_topic_is_asked_for_between_two_moments(headrace, registry, canned):
    answered(registry, canned)
    moments = ("--from", "2026-05-01T00:00Z", "--to", "2026-06-01T00:00Z")
    assert headrace("backfill", "digits", "--topic", "old-scans", *moments).exit_code == 0
    topic = asked(registry).backfill.topic
    assert (topic.topic, topic.start_time, topic.end_time) == (
        "old-scans",
        Timestamp(seconds=1_777_593_600),
        Timestamp(seconds=1_780_272_000),
    )


def test_without_waiting_only_the_request_is_told(headrace, registry, files):
    result = headrace("backfill", "digits", str(files[0]), "--no-wait", "--json")
    assert json.loads(result.stdout) == {
        "pipeline": "digits",
        "request_id": "request-7",
        "backfilled": None,
        "dataset": None,
    }


def test_a_backfill_that_fails_says_why(headrace, registry, canned, files):
    registry.states = [canned.state(failure="the backfill changed nothing: old.csv: expected a column 'z', got 'x'")]
    result = headrace("backfill", "digits", str(files[0]))
    assert result.exit_code == 1
    assert "the backfill changed nothing: old.csv: expected a column 'z', got 'x'" in result.stderr
    assert "the freeze failed" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "give files or --topic, one of them"),
        (("old.csv", "--topic", "t"), "not both"),
        (("old.csv", "--from", "2d"), "expected a --topic"),
        (("none.csv",), "does not exist"),
        (("--topic", "t", "--from", "soon"), "expected an ISO time"),
    ],
)
def test_wrong_usage_is_named(headrace, registry, files, monkeypatch, arguments, reason):
    monkeypatch.chdir(files[0].parent)
    result = headrace("backfill", "digits", *arguments)
    assert result.exit_code == 2
    assert reason in " ".join(result.stderr.replace("│", " ").split())
    assert not registry.requests


def test_a_file_whose_format_nobody_knows_is_named(headrace, registry, files):
    odd = files[0].rename(files[0].with_suffix(".dat"))
    result = headrace("backfill", "digits", str(odd))
    assert result.exit_code == 1
    assert "old.dat: expected a name that ends with .csv" in result.stderr
    assert not any(isinstance(each, messages.FreezeDatasetRequest) for each in registry.requests)
    assert headrace("backfill", "digits", str(odd), "--format", "csv", "--no-wait").exit_code == 0


def test_the_store_is_that_of_the_platform_unless_a_setting_names_one(headrace, registry, files, tmp_path, monkeypatch):
    monkeypatch.delenv("HEADRACE_STORE_URL")
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    result = headrace("backfill", "digits", str(files[0]), "--no-wait")
    assert result.exit_code == 2
    assert "expected HEADRACE_STORE_URL with the object store of the platform" in result.stderr
    document = {"store_url": str(tmp_path / "objects"), "addresses": {}}
    (tmp_path / "platform.json").write_text(json.dumps(document))
    assert headrace("backfill", "digits", str(files[0]), "--no-wait").exit_code == 0
    assert len(list((tmp_path / "objects" / "sha256").rglob("*"))) == 2


def test_every_format_of_a_name_is_one_that_is_read():
    assert set(FORMATS.values()) == set(READ)


def test_a_rebuild_names_the_pipelines_own_topic_and_says_what_came_of_it(headrace, registry, canned):
    answered(registry, canned)
    registry.pipelines = [canned.pipeline("digits")]
    result = headrace("rebuild", "digits", "--from", "2026-01-01T00:00+00:00", "--to", "2026-02-01T00:00+00:00")
    assert result.exit_code == 0, result.stderr
    wanted = asked(registry).backfill
    assert (wanted.rebuild, wanted.topic.topic, len(wanted.files)) == (True, "scans", 0)
    assert (wanted.topic.start_time.seconds, wanted.topic.end_time.seconds) == (1_767_225_600, 1_769_904_000)
    assert result.stdout.splitlines()[:2] == [
        "40 rows are in segments that are other ones now, 3 in segments that came out as before",
        "2 rejected (type 2)",
    ]


def test_a_rebuild_as_json(headrace, registry, canned):
    answered(registry, canned)
    registry.pipelines = [canned.pipeline("digits")]
    answer = json.loads(headrace("rebuild", "digits", "--from", "30d", "--json").stdout)
    assert (answer["rows"], answer["known"], answer["dataset"]["dataset_id"]) == (40, 3, canned.digest("c"))


def test_a_rebuild_of_no_pipeline_is_refused(headrace, registry):
    result = headrace("rebuild", "nothing", "--from", "30d")
    assert result.exit_code == 1
    assert "there is no pipeline 'nothing'" in result.stderr
