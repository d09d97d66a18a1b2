"""`validate` and `apply`."""

from __future__ import annotations

import json
from textwrap import dedent

import grpc
import pytest
from headrace.registry.v1 import registry_service_pb2 as messages

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
    assert registry.requests == [messages.ApplyPipelineRequest(document=GOOD.encode())]
    assert "pipeline 'digits' is in force" in result.stdout
    assert "it reads topic 'scans' (3 partitions) and serves model 'digits'" in result.stdout


def test_apply_again_changes_nothing(headrace, registry, write):
    registry.changed = False
    assert "nothing changed" in headrace("apply", write(GOOD)).stdout


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
