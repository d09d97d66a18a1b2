"""What crosses the edge: commands become assignments, results become facts."""

import json
from typing import Any

import pytest
from headrace.events.v1 import artifact_pb2, model_pb2, pipeline_pb2, run_pb2
from headrace_compressor.transport.converters import to_assignment, to_fact

_GRAPH: dict[str, Any] = {"uri": "file:///store/graph", "digest": "sha256:" + "1" * 64, "size_bytes": 70_949}
_MANIFEST: dict[str, Any] = {"uri": "file:///store/manifest", "digest": "sha256:" + "2" * 64, "size_bytes": 812}

_WEIGHTS: dict[str, Any] = {"uri": "file:///store/weights", "digest": "sha256:" + "3" * 64, "size_bytes": 70_001}


def _version(name: str) -> run_pb2.VersionReference:
    return run_pb2.VersionReference(
        version_id=f"sha256:{name}",
        graph=artifact_pb2.Artifact(**_GRAPH),
        dataset=run_pb2.DatasetReference(dataset_id=f"sha256:{name}-rows", manifest=artifact_pb2.Artifact(**_MANIFEST)),
    )


def _command(champion: run_pb2.VersionReference | None = None) -> run_pb2.CompressionRequested:
    return run_pb2.CompressionRequested(
        run_id="run-1",
        pipeline="digits",
        candidate=_version("candidate"),
        spec=pipeline_pb2.PipelineSpec(json=b'{"kind":"Pipeline"}', digest="sha256:spec"),
        champion=champion,
    )


def test_an_assignment_is_json_and_names_everything_that_the_child_reads() -> None:
    champion = _version("champion")
    champion.weights.CopyFrom(artifact_pb2.Artifact(**_WEIGHTS))
    assignment = to_assignment(_command(champion=champion), "avx2")

    assert json.loads(json.dumps(assignment)) == assignment
    assert assignment == {
        "cpu_class": "avx2",
        "spec": '{"kind":"Pipeline"}',
        "candidate": {
            "version_id": "sha256:candidate",
            "graph": _GRAPH,
            "dataset": {"dataset_id": "sha256:candidate-rows", "manifest": _MANIFEST},
            "weights": None,
        },
        "champion": {
            "version_id": "sha256:champion",
            "graph": _GRAPH,
            "dataset": {"dataset_id": "sha256:champion-rows", "manifest": _MANIFEST},
            "weights": _WEIGHTS,
        },
    }


def test_without_a_champion_the_assignment_says_so() -> None:
    assert to_assignment(_command(), "avx2")["champion"] is None


def test_a_result_becomes_the_fact_with_the_variants_in_their_order() -> None:
    result: dict[str, Any] = {
        "run_id": "run-1",
        "attempt": 2,
        "cpu_class": "avx2",
        "variants": [
            {"name": "fp32", "graph": _GRAPH, "metrics": {"accuracy": 0.97, "size_bytes": 70_949.0}},
            {
                "name": "int8",
                "graph": _MANIFEST,
                "metrics": {"accuracy": 0.96, "size_bytes": 22_619.0},
                "told": {"onnxruntime": "1.31.1"},
            },
        ],
        "evaluations": [
            {
                "version_id": "sha256:candidate",
                "dataset_id": "sha256:candidate-rows",
                "rows": 270,
                "metrics": {"accuracy": 0.97},
            }
        ],
    }

    fact = to_fact(_command(champion=_version("champion")), json.loads(json.dumps(result)))

    assert fact == model_pb2.ModelCompressed(
        run_id="run-1",
        pipeline="digits",
        version_id="sha256:candidate",
        variants=[
            model_pb2.Variant(
                name="fp32",
                graph=artifact_pb2.Artifact(**_GRAPH),
                metrics={"accuracy": 0.97, "size_bytes": 70_949.0},
            ),
            model_pb2.Variant(
                name="int8",
                graph=artifact_pb2.Artifact(**_MANIFEST),
                metrics={"accuracy": 0.96, "size_bytes": 22_619.0},
                told={"onnxruntime": "1.31.1"},
            ),
        ],
        evaluations=[
            model_pb2.Evaluation(
                version_id="sha256:candidate", dataset_id="sha256:candidate-rows", rows=270, metrics={"accuracy": 0.97}
            )
        ],
        champion_id="sha256:champion",
        cpu_class="avx2",
        attempt=2,
    )
    assert to_fact(_command(), result).champion_id == ""


def test_what_a_compressor_of_before_measured_on_its_own_class_is_not_that_of_another() -> None:
    command = _command()
    command.cpu_class = "amx-int8"
    with pytest.raises(ValueError, match="expected measurements of amx-int8, got those of avx2"):
        to_fact(command, {"cpu_class": "avx2", "variants": [], "evaluations": [], "attempt": 1})
