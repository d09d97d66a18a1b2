"""Labels and features around large numbers: what float32 or float64 cannot tell apart is never learned in silence."""

from collections.abc import Mapping

import numpy as np
import orjson
import pytest
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.windows import only_dataset
from headrace_learning.evaluation import predict_numbers
from headrace_learning.training.checkpoint import Checkpoint
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.core.precision import require_float32
from headrace_trainer.core.run import Plan, Trained, run
from headrace_trainer.core.version import version_manifest
from headrace_trainer.errors import TooManyDigits

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: large}}
stream:
  topic: large
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: {feature}, role: feature}}
    - {{name: y, type: {label}, role: label}}
prepare: {{{gaps}transform: {{x: {{scale: standard{impute}}}}}}}
train:
  task: regression
  network: {{kind: mlp, hidden: [16]}}
  optimizer: {{kind: adam, learningRate: 0.01}}
  epochs: 25
"""


class Forgetful:
    """Keeps neither checkpoints nor progress."""

    def newest(self, subject: str) -> Checkpoint | None:
        return None

    def due(self, *, midway: bool) -> bool:
        return not midway

    def save(self, checkpoint: Checkpoint) -> None:
        pass

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        pass


def pipeline_of(label: str = "float64", prediction: str = "", feature: str = "float32") -> Pipeline:
    gaps, impute = ("clean: {missing: keep}, ", ", impute: mean") if "nullable" in feature else ("", "")
    document = DOCUMENT.format(feature=feature, label=label, gaps=gaps, impute=impute)
    return load_pipeline(document + (f"  predictionType: {prediction}\n" if prediction else ""))


def train(pipeline: Pipeline, store: ObjectStore, offset: float, spread: float, far: int = 0) -> tuple[Trained, Plan]:
    """Train on 400 rows of y = offset + spread * x, x normal; a whole feature is `far` + 100 x."""
    generator = np.random.default_rng(5)
    rows = []
    for number in range(400):
        x = float(generator.normal())
        feature = x if pipeline.stream.field("x").type != "int64" else far + int(100 * x)
        y = offset + spread * x
        whole = pipeline.stream.label.type == "int64"
        rows.append({"id": f"r{number}", "x": feature, "y": int(offset) + int(spread * x) if whole else y})
    checked = RecordChecker(pipeline.stream).check([orjson.dumps(row) for row in rows], [0] * 400, range(400))
    assert not checked.rejected
    writer = SegmentWriter(pipeline, store)
    writer.add(checked.batch)
    manifest = only_dataset(
        writer.finish(Provenance(cluster_id="c", topic="large", topic_id="", sources=(), clean_ranges=(), rejected={})),
        pipeline,
        store,
    )
    plan = Plan("train-1", pipeline, manifest)
    return run(plan, DatasetReader(manifest, store), Forgetful(), Forgetful()), plan


@pytest.mark.parametrize(("offset", "spread"), [(1e12, 1.0), (1.7e9, 30.0), (-1e15, 50.0), (1e6, 0.001), (0.5, 1e-9)])
def test_float64_answers_keep_the_label_s_digits(store: ObjectStore, offset: float, spread: float) -> None:
    pipeline = pipeline_of(prediction="float64")

    outcome, plan = train(pipeline, store, offset, spread)

    assert outcome.metrics["rmse"] < 0.5 * outcome.metrics["baseline_rmse"]
    test = DatasetReader(plan.dataset, store).columns("test")
    predictions = predict_numbers(outcome.graph, test)
    assert len(set(predictions)) > 40
    manifest = orjson.loads(version_manifest(plan, outcome, store.put(b"w"), store.put(b"g")))
    assert manifest["outputs"] == [{"name": "prediction", "type": "float64", "shape": [-1]}]


@pytest.mark.parametrize(("offset", "spread"), [(1e12, 1.0), (1.7e9, 30.0), (1e8, 20.0), (0.0, 1e39)])
@pytest.mark.parametrize("prediction", ["", "float32"])
def test_what_float32_answers_cannot_say_is_refused_with_the_way_out(
    store: ObjectStore, offset: float, spread: float, prediction: str
) -> None:
    with pytest.raises(TooManyDigits, match=r"label 'y': answers of type float32 .*train\.predictionType: float64"):
        train(pipeline_of(prediction=prediction), store, offset, spread)


def test_the_refusal_names_steps_errors_and_a_narrow_label() -> None:
    label = pipeline_of(label="float32").stream.label
    predictions = 1.7e9 + np.linspace(-60, 60, 50)
    with pytest.raises(TooManyDigits) as refused:
        require_float32(label, [(predictions[:20], predictions[:20]), (predictions[20:], predictions[20:])], 30.0)
    assert "have steps of 128, where the label's deviation is 30: rmse 3" in str(refused.value)
    assert "as float32 rounds the label itself, give it the type float64" in str(refused.value)


def test_each_step_of_a_forecast_is_held_against_its_own_unit() -> None:
    label = pipeline_of("float64, shape: [2], places: [load, price]").stream.label
    truth = np.random.default_rng(1).normal([1e6, 1e9], [1e6, 1.0], (400, 2))
    answers = truth + np.random.default_rng(2).normal(size=(400, 2)) * [1e5, 0.1]
    with pytest.raises(TooManyDigits, match=r"label 'y' at 'price': answers of type float32 around 1e.09 have steps"):
        require_float32(label, [(answers, truth)], np.array([1e6, 1.0]))
    answers[:, 1] = truth[:, 1] = 5.0
    require_float32(label, [(answers[:9], truth[:9]), (answers[9:], truth[9:])], np.array([1e6, 1.0]))


@pytest.mark.parametrize(("offset", "spread"), [(0.0, 1.0), (4200.0, 800.0), (1e6, 100.0), (0.0, 1e-30), (1e4, 1.0)])
def test_float32_answers_that_are_good_enough_are_as_they_were(
    store: ObjectStore, offset: float, spread: float
) -> None:
    outcome, plan = train(pipeline_of(), store, offset, spread)

    assert outcome.metrics["rmse"] < 0.5 * outcome.metrics["baseline_rmse"]
    manifest = orjson.loads(version_manifest(plan, outcome, store.put(b"w"), store.put(b"g")))
    assert manifest["outputs"] == [{"name": "prediction", "type": "float32", "shape": [-1]}]


def test_whole_labels_beyond_float64_are_refused_by_name(store: ObjectStore) -> None:
    pipeline = pipeline_of(label="int64", prediction="float64")
    with pytest.raises(
        TooManyDigits, match=r"label 'y': expected whole numbers up to 9007199254740992, .*less a const"
    ):
        train(pipeline, store, 2**62, 300.0)
    outcome, _ = train(pipeline, store, 1_700_000_000_000_000_000, 1e9)
    assert outcome.metrics["rmse"] < 0.5 * outcome.metrics["baseline_rmse"]


@pytest.mark.parametrize("feature", ["int64", "int64, nullable: true"])
def test_whole_features_beyond_float64_are_refused_by_name(store: ObjectStore, feature: str) -> None:
    pipeline = pipeline_of(feature=feature)
    with pytest.raises(TooManyDigits, match="feature 'x': expected whole numbers up to 9007199254740992"):
        train(pipeline, store, 0.0, 1.0, far=2**60)
    outcome, _ = train(pipeline, store, 0.0, 1.0, far=2**52)
    assert outcome.metrics["rmse"] < 0.5 * outcome.metrics["baseline_rmse"]
