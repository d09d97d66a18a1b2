import pytest
from headrace.events.v1 import artifact_pb2, model_pb2, pipeline_pb2, run_pb2
from headrace_runtime.topics import MODEL_TRAINED, TRAINING_REQUESTED, topic_of
from headrace_trainer.core.cost import Prices
from headrace_trainer.settings import Settings
from headrace_trainer.transport.consumer import training
from pydantic import ValidationError

TRAINING = training(checkpoint_s=2.5)
COMMAND = run_pb2.TrainingRequested(
    run_id="run",
    pipeline="digits",
    dataset=run_pb2.DatasetReference(
        dataset_id="sha256:d", manifest=artifact_pb2.Artifact(uri="file:///m", digest="sha256:m", size_bytes=3)
    ),
    spec=pipeline_pb2.PipelineSpec(json='{"unit":"µm"}'.encode(), digest="sha256:s"),
)


def _artifact(name: str) -> dict[str, object]:
    return {"uri": f"file:///{name}", "digest": f"sha256:{name}", "size_bytes": len(name)}


def test_the_child_is_told_spec_and_dataset() -> None:
    assert TRAINING.assignment(COMMAND) == {
        "spec": '{"unit":"µm"}',
        "dataset": {
            "dataset_id": "sha256:d",
            "manifest": {"uri": "file:///m", "digest": "sha256:m", "size_bytes": 3},
        },
        "checkpoint_s": 2.5,
        "packages": [],
    }


def test_the_child_is_told_what_to_begin_from() -> None:
    command = run_pb2.TrainingRequested(origin=run_pb2.VersionReference(version_id="sha256:v"))
    command.MergeFrom(COMMAND)
    command.origin.weights.CopyFrom(artifact_pb2.Artifact(uri="file:///w", digest="sha256:w", size_bytes=5))
    command.origin.dataset.manifest.CopyFrom(artifact_pb2.Artifact(uri="file:///o", digest="sha256:o", size_bytes=4))
    assert TRAINING.assignment(command)["origin"] == {
        "version_id": "sha256:v",
        "weights": {"uri": "file:///w", "digest": "sha256:w", "size_bytes": 5},
        "dataset": {"uri": "file:///o", "digest": "sha256:o", "size_bytes": 4},
    }


def test_a_result_becomes_the_fact() -> None:
    fact = TRAINING.fact(
        COMMAND,
        {
            "run_id": "run",
            "attempt": 2,
            "model": "digit-reader",
            "version_id": "sha256:v",
            "manifest": _artifact("manifest"),
            "graph": _artifact("graph"),
            "weights": _artifact("weights"),
            "metrics": {"accuracy": 0.98, "accuracy/3": 1.0},
            "epochs": 31,
        },
    )

    assert fact == model_pb2.ModelTrained(
        run_id="run",
        pipeline="digits",
        model="digit-reader",
        version_id="sha256:v",
        dataset_id="sha256:d",
        manifest=artifact_pb2.Artifact(uri="file:///manifest", digest="sha256:manifest", size_bytes=8),
        graph=artifact_pb2.Artifact(uri="file:///graph", digest="sha256:graph", size_bytes=5),
        weights=artifact_pb2.Artifact(uri="file:///weights", digest="sha256:weights", size_bytes=7),
        metrics={"accuracy": 0.98, "accuracy/3": 1.0},
        attempt=2,
        epochs=31,
    )


def test_a_version_says_what_it_may_tell_of_a_row() -> None:
    result: dict[str, object] = {name: _artifact(name) for name in ("manifest", "graph", "weights")}
    result |= {"attempt": 1, "model": "m", "version_id": "sha256:v", "metrics": {}, "epochs": 1}
    private = TRAINING.fact(COMMAND, result | {"privacy": {"epsilon": 2.9, "delta": 1e-5}})
    assert isinstance(private, model_pb2.ModelTrained)
    assert private.privacy == model_pb2.PrivacySpent(epsilon=2.9, delta=1e-5)
    for said in ({}, {"privacy": None}):
        assert not TRAINING.fact(COMMAND, result | said).HasField("privacy")


def test_a_version_says_what_it_cost_where_there_are_prices() -> None:
    result = {
        "model": "m",
        "version_id": "v",
        "metrics": {},
        "attempt": 1,
        "epochs": 1,
        "cpu_s": 1800.0,
        "gpu_s": 900.0,
    }
    result |= {name: _artifact(name) for name in ("manifest", "graph", "weights")}
    prices = Prices(cpu_hour=0.04, gpu_hour=2.4, currency="EUR")

    fact, free = training(2.5, prices=prices).fact(COMMAND, result), TRAINING.fact(COMMAND, result)

    assert isinstance(fact, model_pb2.ModelTrained)
    assert isinstance(free, model_pb2.ModelTrained)
    assert (fact.gpu_s, fact.currency) == (900.0, "EUR")
    assert fact.cost == pytest.approx(0.02 + 0.6)
    assert (free.gpu_s, free.HasField("cost"), free.currency) == (900.0, False, "")


def test_what_has_no_price_of_its_own_costs_nothing() -> None:
    assert Prices(cpu_hour=0.036).cost(cpu_s=100.0, gpu_s=7200.0) == pytest.approx(0.001)
    assert Prices(gpu_hour=0.0).cost(cpu_s=100.0, gpu_s=1.0) == 0.0
    assert Prices(currency="EUR").cost(cpu_s=100.0, gpu_s=1.0) is None


def test_prices_are_settings() -> None:
    settings = Settings(price_cpu_hour=0.05, price_currency=" EUR ")
    assert settings.prices == Prices(cpu_hour=0.05, currency="EUR")
    assert Settings().prices == Prices()
    with pytest.raises(ValidationError, match="price_gpu_hour"):
        Settings(price_gpu_hour=-1.0)


def test_command_and_fact_have_their_topics() -> None:
    assert topic_of(TRAINING.command) == TRAINING_REQUESTED
    assert topic_of(model_pb2.ModelTrained) == MODEL_TRAINED
    assert TRAINING.kind == run_pb2.RUN_KIND_TRAINING
