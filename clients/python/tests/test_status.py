"""`status`: what runs, what is behind, what is served."""

from __future__ import annotations

import json

import grpc
import pytest
from headrace.events.v1.pipeline_pb2 import PipelineTroubled
from headrace.events.v1.quality_pb2 import QualityMeasured
from headrace.registry.v1 import registry_service_pb2 as messages


def test_everything_is_well(headrace, registry, inference, canned):
    registry.releases = [canned.release(), canned.release("f", 2)]
    registry.lags = [
        messages.Lag(group="headrace-trainer", topic="headrace.training.requested.v1", messages=0),
        messages.Lag(group="headrace-preprocessing", topic="headrace.records.digits.raw.v1", messages=7, suspected=2),
    ]
    result = headrace("status", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    rollouts = [each["text"] for each in told.pop("rollouts")]
    assert rollouts == ["version 3 computes in the shadow (step 1 of 4): 12 of 100 calls have come"]
    assert [(each["pipeline"], each["cause"], each["trained"]) for each in told.pop("decisions")] == [
        ("digits", "quiet", False)
    ], "the last of each pipeline"
    assert told == {
        "services": [
            {
                "name": "model-registry",
                "state": "running",
                "address": registry.address,
                "uptime_s": None,
                "resident_bytes": None,
            },
            {
                "name": "inference",
                "state": "running",
                "address": inference.address,
                "uptime_s": None,
                "resident_bytes": None,
            },
        ],
        "lags": [
            {"group": "headrace-trainer", "topic": "headrace.training.requested.v1", "messages": 0, "suspected": 0},
            {
                "group": "headrace-preprocessing",
                "topic": "headrace.records.digits.raw.v1",
                "messages": 7,
                "suspected": 2,
            },
        ],
        "troubles": [],
        "lane": "python",
        "models": [{"model": "digits", "versions": ["1", "2"], "platform": "onnxruntime", "keeps_answers": None}],
        "qualities": {},
        "scoring": [],
        "problems": [],
    }
    text = headrace("status").stdout
    assert "headrace.records.digits.raw.v1" in text
    assert "headrace.training.requested.v1" not in text, "who is not behind is not listed"
    assert "processes died in 2 partitions" in text
    assert "lane: python" in text
    assert f"digits: {rollouts[0]}" in " ".join(text.split())
    assert "pipeline digits: the newest dataset is not trained because accuracy is" in text
    assert "model digits: version 1, 2 served" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


def test_what_waits_for_a_dataset_is_called_no_backlog(headrace, registry, inference):
    registry.lags = [messages.Lag(group="registry", topic="headrace.run.failed.v1", messages=1)]
    assert "each dataset" not in headrace("status").stdout
    registry.lags.append(messages.Lag(group="freeze.digits", topic="headrace.dataset.requested.v1", messages=4))
    assert "freeze.PIPELINE moves on with each dataset" in headrace("status").stdout


def test_what_is_wrong_with_a_pipeline_is_told(headrace, registry, inference):
    registry.troubles = [PipelineTroubled(pipeline="grow", part="ingestion.grow", instance="0", reason="no topic")]
    lost = PipelineTroubled(pipeline="lost", part="ingestion.lost", subject="lost:0:0-9", reason="was deleted")
    registry.troubles.append(lost)
    result = headrace("status")
    assert result.exit_code == 3
    assert "pipeline lost (ingestion.lost, instance ): was deleted" in result.stdout
    assert "pipeline grow (ingestion.grow, instance 0): no topic" in result.stdout
    assert "pipelines that need a hand: grow" in result.stdout
    trouble, _ = json.loads(headrace("status", "--json").stdout)["troubles"]
    assert (trouble["pipeline"], trouble["reason"]) == ("grow", "no topic")
    registry.troubles = [lost]
    assert headrace("status").exit_code == 0


@pytest.mark.parametrize(("keeps", "told"), [(True, "hot predictions kept"), (False, "hot predictions not kept")])
def test_what_inference_decided_of_hot_predictions_is_told(headrace, registry, inference, canned, keeps, told):
    registry.releases = [canned.release()]
    inference.optional, inference.keeps = {}, keeps
    assert f"model digits: version 1, 2 served, {told}" in headrace("status").stdout
    assert [each["keeps_answers"] for each in json.loads(headrace("status", "--json").stdout)["models"]] == [keeps]


def test_a_model_that_is_not_served_yet(headrace, registry, inference, canned):
    registry.releases = [canned.release()]
    inference.model = "letters"
    assert "model digits: released, not served yet" in headrace("status").stdout


def test_a_registry_that_is_down(headrace, inference):
    result = headrace("status", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert [row["state"] for row in answer["services"]] == ["unreachable", "running"]
    assert answer["problems"] == ["cannot reach the registry at 127.0.0.1:1: is the platform up? run `headrace up`"]


def test_an_inference_that_is_down(headrace, registry, canned):
    registry.releases = [canned.release()]
    result = headrace("status")
    assert result.exit_code == 1
    assert "unreachable" in result.stdout
    assert "error: cannot reach inference at 127.0.0.1:1" in result.stderr


def test_an_inference_that_loads(headrace, registry, inference):
    inference.is_ready = False
    result = headrace("status", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["services"][1]["state"] == "not ready"
    assert answer["problems"] == [f"inference at {inference.address} is not ready"]


def test_a_registry_that_fails(headrace, registry, inference):
    registry.refusal = (grpc.StatusCode.INTERNAL, "internal error, trace 17")
    result = headrace("status", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["services"][0]["state"] == "failing"
    assert "internal error, trace 17" in answer["problems"][0]


def test_live_quality_is_told_of_pipelines_that_have_it_measured(headrace, registry, inference, canned):
    registry.pipelines = [canned.pipeline(), canned.pipeline("other")]
    registry.pipelines[0].spec.json, registry.pipelines[1].spec.json = b'{"serve":{"quality":true}}', b'{"serve":{}}'
    measured = QualityMeasured(version_id="sha256:" + "a" * 64, rows=80, awaiting_labels=3)
    measured.metrics.update({"log_loss": 0.3, "accuracy": 0.925})
    registry.states = {0: [canned.state(qualities=[measured])], 1: [canned.state()]}
    told = json.loads(headrace("status", "--json").stdout)["qualities"]
    assert [each["rows"] for each in told["digits"]] == [80]
    text = " ".join(headrace("status").stdout.split())
    assert "pipeline digits: live quality: no answer is measured yet" in text
    assert "other" not in text
    registry.states = {2: [canned.state(qualities=[measured])]}
    text = " ".join(headrace("status").stdout.split())
    assert "pipeline digits: version aaaaaaaaaaaa: live accuracy 0.9250, 80 answered rows with a label; 3 wait" in text


def test_it_is_told_which_records_are_answered_on_which_topic(headrace, registry, inference, canned):
    registry.pipelines = [canned.pipeline(), canned.pipeline("other"), canned.pipeline("plain")]
    registry.pipelines[0].spec.json = b'{"serve":{"scoring":{"topic":"asked","start":"latest"}}}'
    registry.pipelines[1].spec.json = b'{"serve":{"scoring":{"start":"latest"}},"stream":{"topic":"sent"}}'
    registry.pipelines[1].incarnation = 2
    registry.pipelines[2].spec.json = b'{"serve":{}}'
    told = json.loads(headrace("status", "--json").stdout)["scoring"]
    assert [(each["topic"], each["answers"]) for each in told] == [
        ("asked", "headrace.records.digits.scored.v1"),
        ("sent", "headrace.records.other.2.scored.v1"),
    ]
    text = " ".join(headrace("status").stdout.split())
    assert "pipeline digits: records of asked are answered on headrace.records.digits.scored.v1" in text
