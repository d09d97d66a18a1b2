"""`validate` and `apply`."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from textwrap import dedent

import grpc
import pytest
from headrace.events.v1.pipeline_pb2 import PipelineApplied, PipelineSpec
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_client import RegistryClient, applying
from headrace_data.spec import load_pipeline

GOOD = dedent(
    """\
    apiVersion: headrace/v1
    kind: Pipeline
    metadata: {name: digits}
    stream:
      topic: scans
      format: json
      key: id
      schema:
        - {name: id, type: string, role: id}
        - {name: pixels, type: float32, shape: [2, 2], role: feature, range: [0, 16]}
        - {name: digit, type: int64, role: label, range: [0, 9]}
    prepare:
      split: {train: 0.7, validation: 0.15, test: 0.15}
    train:
      network: {kind: mlp, hidden: [8]}
      epochs: 2
    """
)
BAD = GOOD.replace("epochs: 2", "epochs: many").replace("range: [0, 9]", "range: [9, 0]")


@pytest.fixture
def write(tmp_path):
    def write(text, name="pipeline.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_a_valid_file(headrace, write):
    path = write(GOOD)
    result = headrace("validate", path)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{path}: pipeline 'digits' is valid\n"
    answer = json.loads(headrace("validate", path, "--json").stdout)
    assert answer.pop("spec_digest").startswith("sha256:")
    assert answer == {"file": path, "valid": True, "pipeline": "digits", "problems": []}


def test_every_problem_with_line_and_path(headrace, write):
    path = write(BAD)
    result = headrace("validate", path)
    assert result.exit_code == 1
    problems = result.stderr.splitlines()
    assert len(problems) == 2
    assert problems[0].startswith(f"error: {path}:11: stream.schema[2].range: ")
    assert problems[1].startswith(f"error: {path}:16: train.epochs: ")


def test_problems_as_json(headrace, write):
    path = write(BAD)
    result = headrace("validate", path, "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["valid"], answer["pipeline"], answer["spec_digest"]) == (False, None, None)
    assert [(problem["line"], problem["path"]) for problem in answer["problems"]] == [
        (11, "stream.schema[2].range"),
        (16, "train.epochs"),
    ]


@pytest.mark.parametrize("text", ["", "{", "- a\n- b\n", "a: \x00"])
def test_what_is_no_pipeline_at_all(headrace, write, text):
    result = headrace("validate", write(text))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "unexpected" not in result.stderr.splitlines()[0].partition("(")[0] or "YAML" in result.stderr


def test_validate_reads_standard_input(headrace):
    assert headrace("validate", "-", stdin=GOOD).exit_code == 0


def test_apply(headrace, registry, write):
    result = headrace("apply", write(GOOD))
    assert result.exit_code == 0, result.output
    applied = [one for one in registry.requests if isinstance(one, messages.ApplyPipelineRequest)]
    assert applied == [messages.ApplyPipelineRequest(document=GOOD.encode())]
    assert "pipeline 'digits' is in force" in result.stdout
    assert "it reads topic 'scans' (3 partitions) and serves model 'digits'" in result.stdout


def test_apply_tells_of_a_topic_that_takes_no_large_records(headrace, registry, write):
    for registry.most, is_told in ((4096, True), (1_048_588, False), (0, False)):
        told = "topic 'scans' takes messages of at most 4,096 bytes (max.message.bytes)"
        assert (told in headrace("apply", write(GOOD)).stderr.replace("\n", " ")) is is_told


@pytest.mark.parametrize(
    "told", ["{kind: avro, schemaFile: scan.avsc}", "\n    kind: avro\n    schemaFile: 'scan.avsc' # it"]
)
def test_a_schema_may_lie_in_a_file_beside_the_document(headrace, registry, write, told):
    path = write(GOOD.replace("format: json", f"format: {told}"))
    folder = Path(path).parent
    missing = headrace("apply", path)
    assert missing.exit_code == 1
    assert f"stream.format.schemaFile: {folder / 'scan.avsc'} cannot be read" in missing.stderr
    names = ("id", "px", "digit")
    fields = [{"name": name, "type": "string", "doc": 'ü, "quoted"\n'} for name in names]
    schema = json.dumps({"type": "record", "name": "Scan", "fields": fields}, ensure_ascii=False, indent=1)
    (folder / "scan.avsc").write_text(schema)
    done = headrace("apply", path)
    assert done.exit_code == 0, done.output
    (applied,) = (one for one in registry.requests if isinstance(one, messages.ApplyPipelineRequest))
    assert load_pipeline(applied.document).stream.format_told["schema"] == schema
    assert applied.document.count(b"\n") == Path(path).read_bytes().count(b"\n")


def test_apply_again_changes_nothing(headrace, registry, write):
    registry.changed = False
    assert "nothing changed" in headrace("apply", write(GOOD)).stdout


FREEZE = GOOD.replace("  split:", "  freeze: {afterIdle: 9s}\n  split:")
TRAIN = GOOD.replace("epochs: 2", "epochs: 3")
ELSEWHERE = GOOD.replace("topic: scans", "topic: elsewhere")
SELECTED = GOOD.replace("topic: scans", "topic: scans\n  select: id, px AS pixels, digit")
NEWEST = applying.PREPARED_AGAIN.format(rows="those of the newest cut")
PREPARE = GOOD.replace("train: 0.7, validation: 0.15", "train: 0.8, validation: 0.05")


def applied(text):
    pipeline = load_pipeline(text)
    spec = PipelineSpec(json=pipeline.canonical_json(), digest=pipeline.digest)
    return PipelineApplied(pipeline="digits", spec=spec, partitions=3)


@pytest.mark.parametrize(
    ("dataset_of", "before", "after", "said"),
    [
        (GOOD, GOOD, TRAIN, "its train section changed: the newest dataset, dddddddddddd, is trained on next"),
        (GOOD, GOOD, PREPARE, NEWEST),
        (GOOD, GOOD, ELSEWHERE, applying.NEW_ROWS),
        (GOOD, GOOD, SELECTED, applying.NEW_ROWS),
        (SELECTED, SELECTED, SELECTED.replace("epochs: 2", "epochs: 3").replace("px", "image"), applying.NEW_ROWS),
        (GOOD, GOOD, FREEZE, applying.SAME_ROWS),
        (GOOD, FREEZE, TRAIN, "its train section changed: the newest dataset, dddddddddddd, is trained on next"),
        # The dataset that a change before this one leads to is not there yet.
        (GOOD, PREPARE, PREPARE.replace("epochs: 2", "epochs: 3"), NEWEST),
        (None, GOOD, TRAIN, applying.NO_DATASET),
    ],
)
def test_what_follows_from_a_change(canned, dataset_of, before, after, said):
    class Registry(RegistryClient):
        def datasets(self, pipeline="", *, as_of=None):
            return [canned.dataset(spec_digest=load_pipeline(dataset_of).digest)] if dataset_of else []

        def pipelines(self, pipeline="", *, as_of=None):
            assert as_of == datetime.fromisoformat("2023-11-14T22:13:20.250Z")
            return [applied(dataset_of)]

    with Registry() as registry:
        assert applying.consequence(registry, applied(before), applied(after)) == said


WINDOWS = {
    "all": "all 1,792 in 3 segments",
    "{rows: 500}": "the newest 500 of 1,792 in 3 segments",
    "{last: 2d}": "those of the last 2 days among 1,792 in 3 segments",
}


@pytest.mark.parametrize("window", WINDOWS)
def test_what_follows_names_the_rows_of_the_window(canned, window):
    class Registry(RegistryClient):
        def datasets(self, pipeline="", *, as_of=None):
            dataset = canned.dataset(spec_digest=load_pipeline(GOOD).digest)
            dataset.frozen.segments, dataset.frozen.segment_rows = 3, 1792
            return [dataset]

    wider = GOOD.replace("  split:", f"  window: {window}\n  split:")
    with Registry() as registry:
        said = applying.consequence(registry, applied(GOOD), applied(wider))
        assert said == applying.PREPARED_AGAIN.format(rows=WINDOWS[window])
        looser = wider.replace("range: [0, 16]", "nullable: true, range: [0, 17]").replace(
            "  split:", "  clean: {missing: keep, outOfRange: keep}\n  transform: {pixels: {impute: mean}}\n  split:"
        )
        said = applying.consequence(registry, applied(GOOD), applied(looser))
        rules = "prepare.clean.missing, prepare.clean.outOfRange, schema field pixels"
        assert said.endswith(applying.LOOSER.format(rules=rules))


def test_a_condition_less_is_a_looser_rule(canned):
    bound = GOOD.replace("  split:", '  clean: {where: [digit < 9, "pixels[1] > 0"]}\n  split:')

    class Registry(RegistryClient):
        def datasets(self, pipeline="", *, as_of=None):
            return [canned.dataset(spec_digest=load_pipeline(bound).digest)]

    with Registry() as registry:
        said = applying.consequence(registry, applied(bound), applied(bound.replace("digit < 9, ", "")))
    assert said == NEWEST + applying.LOOSER.format(rules="prepare.clean.where")


def test_a_dry_run_says_what_would_follow(headrace, registry, canned, write):
    registry.pipelines = [applied(GOOD)]
    registry.datasets = [canned.dataset(spec_digest=load_pipeline(GOOD).digest)]
    result = headrace("apply", write(GOOD), "--dry-run")
    assert [one.dry_run for one in registry.requests if isinstance(one, messages.ApplyPipelineRequest)] == [True]
    assert "pipeline 'digits' would be in force; nothing was changed" in result.stdout
    assert result.stdout.splitlines()[2:] == [applying.SAME_ROWS]


def test_apply_says_what_follows(headrace, registry, canned, write):
    registry.pipelines = [applied(GOOD)]
    assert headrace("apply", write(GOOD)).stdout.splitlines()[2:] == [applying.NO_DATASET]
    registry.datasets = [canned.dataset(spec_digest=load_pipeline(GOOD).digest)]
    assert headrace("apply", write(GOOD)).stdout.splitlines()[2:] == [applying.SAME_ROWS]


@pytest.mark.parametrize("name", ["digits", "another"])
def test_apply_says_nothing_of_what_it_cannot_read_or_of_a_first_spec(headrace, registry, canned, write, name):
    registry.pipelines = [canned.pipeline(name)]
    assert len(headrace("apply", write(GOOD)).stdout.splitlines()) == 2


def test_apply_as_json(headrace, registry, canned, write):
    result = headrace("apply", write(GOOD), "--create-topic", "--json")
    assert registry.requests[0].create_topic
    assert json.loads(result.stdout) == {
        "pipeline": "digits",
        "model": "digits",
        "topic": "scans",
        "partitions": 3,
        "spec_digest": canned.spec,
        "changed": True,
    }


def test_apply_sends_nothing_that_is_wrong(headrace, registry, write):
    result = headrace("apply", write(BAD))
    assert result.exit_code == 1
    assert ":16: train.epochs: " in result.stderr
    assert registry.requests == []


def test_apply_without_the_producers_topic(headrace, registry, write):
    words = "topic 'scans' does not exist: create it, or apply with --create-topic"
    registry.refusal = (grpc.StatusCode.FAILED_PRECONDITION, words)
    result = headrace("apply", write(GOOD))
    assert (result.exit_code, result.stderr) == (1, f"error: {words}\n")
