"""Variants of a ranking, and rankings beside each other: rows of a group are measured together wherever they are."""

import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from headrace_compressor.core.compression import Version, compare, make_variants
from headrace_compressor.core.measurement import Rows, evaluate, joined
from headrace_compressor.transport.assignments import measure
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Variant, load_pipeline
from headrace_data.tasks.ranking import SCORE, Relevances, measures_of
from headrace_data.transforms import FittedTransform
from headrace_data.windows import only_dataset
from headrace_learning.evaluation import Answerer
from headrace_learning.export import export_graph
from headrace_learning.families.mlp import mlp
from headrace_learning.features import Feature
from headrace_learning.graphs import Array
from headrace_learning.heads import HEADS
from headrace_learning.large import whole
from headrace_learning.methods.method import Source
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.child import Reporter

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: shop}
stream:
  topic: shop
  schema:
    - {name: user, type: string, role: group}
    - {name: x, type: float32, shape: [8], role: feature}
    - {name: bought, type: int32, role: label}
train: {network: {kind: mlp, hidden: [64, 64]}, task: ranking}
"""
PIPELINE = load_pipeline(DOCUMENT)


@pytest.fixture(scope="module")
def ranker() -> Version:
    torch.manual_seed(5)
    seen = Relevances()
    seen.add(np.array([[0.0, 1.0], [1.0, 1.0]]))
    feature = Feature(FittedTransform("x", "none", np.zeros(8), np.ones(8)), "float32", (8,))
    model = HEADS["ranking"](PIPELINE, (), seen).serve([feature], (8,), mlp(8, [64, 64], 1))
    return Version("sha256:order", "sha256:shop", export_graph(model, (), {"x": np.ones((5, 8), np.float32)}).data)


def rows_of(version: Version, dataset_id: str, seed: int) -> tuple[Rows, Array, Array]:
    """Return rows whose best ones the version scores highest, but for noise; groups lie in all of the batches."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(600, 8)).astype(np.float32)
    scores = Answerer(version.graph).answers({"x": x})[SCORE]
    relevance = np.maximum(np.round(scores / scores.std() + generator.normal(size=600) / 2), 0)
    truth = np.stack([relevance, generator.integers(0, 25, 600)], axis=1)
    batches = [({"x": x[at::7]}, truth[at::7]) for at in range(7)]
    return Rows(dataset_id, batches, 600), scores, truth


def test_a_variant_is_measured_by_the_order_that_it_gives(ranker: Version) -> None:
    rows, scores, truth = rows_of(ranker, "sha256:shop", 1)
    assert evaluate(ranker.graph, rows) == pytest.approx(measures_of(scores, truth), rel=1e-6)
    int8 = evaluate(make_variants(Source(whole(ranker.graph)), [Variant(kind="int8-dynamic")])[0]["int8"].graph, rows)
    before = measures_of(scores, truth)["ndcg_at_10"]
    assert before != int8["ndcg_at_10"] == pytest.approx(before, abs=0.05)


def test_of_joined_rows_a_group_is_one_whatever_dataset_its_rows_are_in(ranker: Version) -> None:
    first, second = rows_of(ranker, "sha256:one", 2), rows_of(ranker, "sha256:two", 3)
    (together,) = compare([ranker], [joined([first[0], second[0]])])
    scores, truth = (np.concatenate([one, other]) for one, other in zip(first[1:], second[1:], strict=True))
    assert (together.task, together.rows) == ("ranking", 1200)
    assert together.metrics == pytest.approx(measures_of(scores, truth), rel=1e-6)


@pytest.mark.parametrize("asked", ["ranking", "regression"])
def test_a_version_is_measured_as_what_it_is_whatever_the_spec_asks_for_meanwhile(
    ranker: Version, tmp_path: Path, asked: str
) -> None:
    """A spec that is applied while a version learns is the one that it is compressed by."""
    store, generator = ObjectStore(str(tmp_path)), np.random.default_rng(6)
    pipeline = load_pipeline(DOCUMENT.replace("task: ranking", f"task: {asked}"))
    records = [
        json.dumps({"user": f"u{at % 40}", "x": generator.normal(size=8).tolist(), "bought": at // 40 % 3}).encode()
        for at in range(400)
    ]
    writer = SegmentWriter(pipeline, store)
    writer.add(RecordChecker(pipeline.stream).check(records, [0] * 400, range(400)).batch)
    told = Provenance(cluster_id="c", topic="shop", topic_id="", sources=(), clean_ranges=(), rejected={})
    manifest = only_dataset(writer.finish(told), pipeline, store)
    dataset = {"dataset_id": manifest.dataset_id, "manifest": asdict(store.put(manifest.to_json()))}
    candidate = {"version_id": ranker.version_id, "graph": asdict(store.put(whole(ranker.graph))), "dataset": dataset}
    spec = pipeline.canonical_json().decode()
    assignment = {"store_url": str(tmp_path), "spec": spec, "candidate": candidate, "champion": None, "cpu_class": ""}
    result = measure(assignment, Reporter(io.StringIO()))
    (fp32,), (evaluation,) = result["variants"], result["evaluations"]
    assert 0 < fp32["metrics"]["ndcg_at_10"] == evaluation["metrics"]["ndcg_at_10"]
    assert evaluation["task"] == "ranking"
