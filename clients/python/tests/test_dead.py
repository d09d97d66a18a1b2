"""`dead`: what its tables, JSON and exit codes tell of an ingestion service with canned letters on a real socket."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from headrace.events.v1.pipeline_pb2 import PipelineApplied, PipelineSpec
from headrace.ingestion.v1 import ingestion_service_pb2 as messages
from headrace.ingestion.v1 import ingestion_service_pb2_grpc as services
from headrace_data.spec import load_pipeline

BROKEN = messages.DeadLetter(
    id="0:4",
    stage="ingestion",
    rule="json",
    reason="expected a JSON object, got bytes that are no JSON",
    topic="digits",
    partition=0,
    offset=17,
    key=b"k",
    value=b'{"id"\x1b[31m\xff',
    reject_time=Timestamp(seconds=1_700_000_000, nanos=250_000_000),
    trace_id="ab" * 16,
)
OUTSIDE = messages.DeadLetter(
    id="1:9",
    stage="preprocessing",
    rule="outOfRange",
    field="pixels",
    reason="pixels: element 3: expected 0 to 16, got 40",
    topic="digits",
    partition=1,
    offset=8,
    value=b'{"id":"a","pixels":[40.0]}',
    reject_time=Timestamp(seconds=1_700_000_001),
    replays=1,
)
TOLD = {name: getattr(OUTSIDE, name) for name in ("stage", "rule", "field", "reason", "topic", "partition", "offset")}
DIGITS = Path(__file__).parents[3] / "examples" / "digits" / "pipeline.yaml"
SENT = b'{"id": "a", "pixels": [40], "more": 1}'


@dataclass
class FakeIngestion(services.IngestionServiceServicer):
    letters: list[messages.DeadLetter] = field(default_factory=lambda: [BROKEN, OUTSIDE])
    outcomes: dict[str, tuple[Any, str]] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)
    refusal: tuple[grpc.StatusCode, str] | None = None
    counts: bool = True

    def _chosen(self, request: Any, context: Any) -> list[messages.DeadLetter]:
        self.requests.append(request)
        if self.refusal:
            context.abort(*self.refusal)
        return [letter for letter in self.letters if request.filter.id in ("", letter.id)]

    def ListDeadLetters(self, request: Any, context: Any) -> Any:  # noqa: N802
        chosen = self._chosen(request, context)
        for letter in chosen[: request.limit or None]:
            answer = messages.ListDeadLettersResponse(letter=letter)
            if request.filter.id and letter.stage == "preprocessing":
                answer.letter.original = SENT
            yield answer
        if request.count and self.counts:
            yield messages.ListDeadLettersResponse(counts=Counter(letter.rule for letter in chosen))

    def ReplayDeadLetters(self, request: Any, context: Any) -> Any:  # noqa: N802
        for letter in self._chosen(request, context):
            outcome, reason = self.outcomes.get(letter.id, (messages.REPLAY_OUTCOME_ACCEPTED, ""))
            yield messages.ReplayDeadLettersResponse(letter=letter, outcome=outcome, reason=reason)


@pytest.fixture
def ingestion(monkeypatch):
    fake = FakeIngestion()  # type: ignore[abstract]  # nobody pushes
    server = grpc.server(ThreadPoolExecutor(2))
    services.add_IngestionServiceServicer_to_server(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("HEADRACE_INGESTION_ADDRESS", f"127.0.0.1:{port}")
    yield fake
    server.stop(grace=None).wait()


def test_letters_are_listed_with_rule_and_reason(headrace, ingestion):
    result = headrace("dead", "list", "digits", "--limit", "7")
    assert result.exit_code == 0
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    assert "0:4" in result.stdout
    assert "outOfRange" in result.stdout
    assert "2 in all: json 1, outOfRange 1" in result.stdout
    assert (ingestion.requests[0].pipeline, ingestion.requests[0].limit) == ("digits", 7)


@pytest.mark.parametrize(
    ("limit", "told"), [("1", "the first 1 of 2: json 1, outOfRange 1"), ("2", "2 in all: json 1, outOfRange 1")]
)
def test_a_limit_says_how_many_there_are(headrace, ingestion, limit, told):
    assert told in headrace("dead", "list", "digits", "--limit", limit).stdout
    assert len(json.loads(headrace("dead", "list", "digits", "--limit", limit, "--json").stdout)) == int(limit)


def test_an_ingestion_of_before_does_not_count(headrace, ingestion):
    ingestion.counts = False
    assert "1 shown: json 1" in headrace("dead", "list", "digits", "--limit", "1").stdout


def test_letters_as_json(headrace, ingestion):
    result = headrace("dead", "list", "digits", "--json")
    assert json.loads(result.stdout) == [
        {
            "id": "0:4",
            "stage": "ingestion",
            "rule": "json",
            "field": None,
            "reason": "expected a JSON object, got bytes that are no JSON",
            "origin": {"topic": "digits", "partition": 0, "offset": 17},
            "reject_time": "2023-11-14T22:13:20.250Z",
            "replays": 0,
            "trace_id": "ab" * 16,
            "key": "k",
            "key_base64": None,
            "value": None,
            "value_base64": "eyJpZCIbWzMxbf8=",
            "original": None,
            "original_base64": None,
            "withheld": False,
        },
        {
            "id": "1:9",
            "stage": "preprocessing",
            "rule": "outOfRange",
            "field": "pixels",
            "reason": "pixels: element 3: expected 0 to 16, got 40",
            "origin": {"topic": "digits", "partition": 1, "offset": 8},
            "reject_time": "2023-11-14T22:13:21.000Z",
            "replays": 1,
            "trace_id": None,
            "key": None,
            "key_base64": None,
            "value": '{"id":"a","pixels":[40.0]}',
            "value_base64": None,
            "original": None,
            "original_base64": None,
            "withheld": False,
        },
    ]


def test_where_becomes_the_filter(headrace, ingestion):
    headrace("dead", "list", "digits", "--where", "stage=ingestion,rule=type,field=pixels,id=0:4")
    assert ingestion.requests[0].filter == messages.DeadLetterFilter(
        stage="ingestion", rule="type", field="pixels", id="0:4"
    )


@pytest.mark.parametrize("where", ["size=3", "rule", "rule=", "rule=a,rule=b"])
def test_a_where_that_means_nothing_is_wrong_usage(headrace, ingestion, where):
    result = headrace("dead", "replay", "digits", "--where", where)
    assert result.exit_code == 2
    assert "stage=…" in result.stderr
    assert ingestion.requests == []


def test_letters_are_told_by_rule_and_field_with_what_accepts_them(headrace, registry, canned, ingestion, tmp_path):
    pipeline = load_pipeline(DIGITS.read_bytes())
    spec = PipelineSpec(json=pipeline.canonical_json(), digest=pipeline.digest)
    registry.pipelines = [PipelineApplied(pipeline="digits", spec=spec, partitions=3)]
    bad = {"id": "a", "image": "a", "pixels": [[0.0] * 7 + [40.0]] * 8, "digit": 1}
    ingestion.letters = [
        BROKEN,
        *[messages.DeadLetter(**TOLD, id=f"1:{place}", value=json.dumps(bad).encode()) for place in (9, 10)],
    ]
    result = headrace("dead", "groups", "digits", "--limit", "9")
    assert result.stdout.splitlines() == [
        "outOfRange, field pixels: 2 by preprocessing",
        "  such as 1:9: pixels: element 3: expected 0 to 16, got 40",
        "  accepted by (2 of 2 that were tried):",
        "    stream.schema.pixels.range: [0, 40.0]",
        "json: 1 by ingestion",
        "  such as 0:4: expected a JSON object, got bytes that are no JSON",
        "3 in all: json 1, outOfRange 2",
    ]
    assert "headrace dead replay digits" in result.stderr
    (first, second) = json.loads(headrace("dead", "groups", "digits", "--json").stdout)
    assert first == {
        "stage": "preprocessing",
        "rule": "outOfRange",
        "field": "pixels",
        "letters": 2,
        "example": {"id": "1:9", "reason": "pixels: element 3: expected 0 to 16, got 40"},
        "changes": ["stream.schema.pixels.range: [0, 40.0]"],
        "accepts": 2,
        "gaps": 0,
        "tried": 2,
    }
    assert (second["rule"], second["field"], second["changes"], second["accepts"]) == ("json", None, [], None)
    output = tmp_path / "changed.yaml"
    assert f"`headrace apply {output}`" in headrace("dead", "groups", "digits", "--output", str(output)).stderr
    assert [each.range for each in load_pipeline(output.read_bytes()).stream.fields if each.range] == [(0, 40), (0, 9)]
    assert headrace("dead", "groups", "digits", "--output", str(output)).exit_code == 1
    ingestion.letters = [BROKEN]
    told = headrace("dead", "groups", "digits", "--output", str(tmp_path / "none.yaml"))
    assert (told.exit_code, "would plainly accept its dead letters" in told.stderr) == (1, True)
    ingestion.letters = []
    assert headrace("dead", "groups", "digits").stderr == "no dead letters of 'digits'\n"


def test_show_gives_the_producers_bytes_and_no_control_characters(headrace, ingestion):
    result = headrace("dead", "show", "digits")
    assert result.exit_code == 0
    assert "origin    digits:0:17" in result.stdout
    assert 'value     {"id"\\x1b[31m\\xff' in result.stdout
    assert f"sent      {SENT.decode()}" in result.stdout
    assert 'row       {"id":"a","pixels":[40.0]}' in result.stdout
    assert "\x1b" not in result.stdout


def test_a_long_value_is_cut_in_text_only(headrace, ingestion):
    ingestion.letters = [messages.DeadLetter(id="0:1", stage="ingestion", rule="oversized", value=b"x" * 50_000)]
    assert "(50000 bytes; --json prints all)" in headrace("dead", "show", "digits").stdout
    (shown,) = json.loads(headrace("dead", "show", "digits", "--json").stdout)
    assert shown["value"] == "x" * 50_000


def test_nothing_to_show_is_a_failure_and_nothing_to_list_is_none(headrace, ingestion):
    ingestion.letters = []
    result = headrace("dead", "show", "digits", "--where", "id=0:1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no dead letter of 'digits' with id=0:1" in result.stderr
    result = headrace("dead", "list", "digits")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no dead letters of 'digits'\n")
    assert json.loads(headrace("dead", "list", "digits", "--json").stdout) == []


@pytest.mark.parametrize(
    ("outcome", "word", "code"),
    [
        (messages.REPLAY_OUTCOME_ACCEPTED, "accepted", 0),
        (messages.REPLAY_OUTCOME_REJECTED, "rejected", 1),
        (messages.REPLAY_OUTCOME_REPEATED, "repeated", 0),
        (messages.REPLAY_OUTCOME_EXHAUSTED, "exhausted", 0),
    ],
)
def test_a_replay_tells_the_outcome_of_every_letter(headrace, ingestion, outcome, word, code):
    ingestion.outcomes["0:4"] = (outcome, "still no JSON" if code else "")
    result = headrace("dead", "replay", "digits")
    assert result.exit_code == code
    assert word in result.stdout
    result = headrace("dead", "replay", "digits", "--json", "--dry-run", "--where", "id=0:4")
    assert result.exit_code == code
    assert json.loads(result.stdout) == [
        {
            "id": "0:4",
            "outcome": word,
            "reason": "still no JSON" if code else None,
            "stage": "ingestion",
            "rule": "json",
            "field": None,
            "replays": 0,
        }
    ]
    assert [request.dry_run for request in ingestion.requests] == [False, True]


def test_a_dry_run_says_that_nothing_was_sent(headrace, ingestion):
    assert "2 accepted; nothing was sent" in headrace("dead", "replay", "digits", "--dry-run").stdout


def test_a_refusal_is_one_line(headrace, ingestion):
    ingestion.refusal = (grpc.StatusCode.NOT_FOUND, "pipeline: expected one of digits, got 'letters'")
    for command in ("list", "show", "replay"):
        result = headrace("dead", command, "letters")
        assert result.exit_code == 1
        assert result.stderr == "error: pipeline: expected one of digits, got 'letters'\n"
