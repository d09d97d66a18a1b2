"""A run on texts: rows of a dataset, a BERT from the object store, and a graph that takes texts."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from headrace_data.dataset import DatasetReader
from headrace_data.folder import FileRef, Folder
from headrace_data.manifest import Manifest, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.windows import only_dataset
from headrace_learning.errors import NotLearnable
from headrace_learning.evaluation import Answerer
from headrace_learning.large import whole
from headrace_learning.training.checkpoint import Checkpoint
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.adapters.artifacts import StoredArtifacts
from headrace_trainer.core.memory import Memory
from headrace_trainer.core.run import Plan, Trained, run
from headrace_trainer.core.version import version_manifest
from headrace_trainer.errors import DoesNotFit

pytestmark = pytest.mark.slow

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: reviews}}
stream:
  topic: reviews
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: review, type: string, role: feature, nullable: true}}
    - {{name: {label}, role: label}}
prepare:
  clean: {{missing: keep}}
  transform:
    review: {{impute: {{constant: it is so so}}, encode: text}}
train:
  network: {{kind: encoder, digest: "{digest}", sizeBytes: {size}, length: 16}}
  optimizer: {{learningRate: 0.01}}
  epochs: 5
  batchSize: 16
"""


class Notebook:
    """Keeps nothing."""

    def newest(self, subject: str) -> Checkpoint | None:
        return None

    def due(self, *, midway: bool) -> bool:
        return False

    def save(self, checkpoint: Checkpoint) -> None:
        pass

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        pass


PAIR = (
    DOCUMENT.replace(
        "    - {{name: {label}", "    - {{name: reply, type: string, role: feature}}\n    - {{name: {label}"
    )
    .replace("    review: {{", "    reply: {{encode: text}}\n    review: {{")
    .replace("length: 16", "length: 16, tune: frozen")
)
"""Whether a reply is of one mood with a review."""


def pipeline_of(
    tiny_bert: Path, store: ObjectStore, label: str = "mood, type: string", document: str = DOCUMENT
) -> Pipeline:
    kept = {path.name: store.put_file(path) for path in tiny_bert.iterdir()}
    folder = Folder({name: FileRef(file.digest, file.size_bytes) for name, file in kept.items()}).to_json()
    return load_pipeline(document.format(digest=store.put(folder).digest, size=len(folder), label=label))


def frozen(pipeline: Pipeline, store: ObjectStore, rows: int = 240) -> Manifest:
    random, lines = np.random.default_rng(0), []
    for place in range(rows):
        good = bool(place % 2)
        words = random.choice(["good", "great", "fine"] if good else ["bad", "awful", "dull"], 3).tolist()
        text = None if place % 40 == 0 else f"a {words[0]} film: the plot is {words[1]} and so {words[2]}"
        label = pipeline.stream.label
        answer: object = ("good" if good else "bad") if label.type == "string" else 100.0 + 10 * good
        reply = "so it is" if good else "it was not so dull and not so bad"
        replied = {"reply": reply} if len(pipeline.stream.features) > 1 else {}
        lines.append(json.dumps({"id": place, "review": text, label.name: answer, **replied}).encode())
    checked = RecordChecker(pipeline.stream).check(lines, [0] * len(lines), range(len(lines)))
    writer = SegmentWriter(pipeline, store)
    writer.add(checked.batch)
    provenance = Provenance(cluster_id="c", topic="reviews", topic_id="", sources=(), clean_ranges=(), rejected={})
    return only_dataset(writer.finish(provenance), pipeline, store)


def trained(plan: Plan, store: ObjectStore, memory: Memory | None = None) -> Trained:
    notebook = Notebook()
    return run(plan, DatasetReader(plan.dataset, store), notebook, notebook, memory, StoredArtifacts(store))


def test_texts_of_a_dataset_become_a_graph_that_takes_texts(tiny_bert: Path, store: ObjectStore) -> None:
    pipeline = pipeline_of(tiny_bert, store, document=DOCUMENT.replace("length: 16", "length: 16, embedding: true"))
    plan = Plan("train-1", pipeline, frozen(pipeline, store))
    found = trained(plan, store)
    assert found.metrics["accuracy"] > 0.9
    answers = Answerer(found.graph).answers({"review": np.array(["a great film", "awful, the plot", ""], dtype=object)})
    assert answers["label"].tolist()[:2] == ["good", "bad"]
    manifest = json.loads(version_manifest(plan, found, store.put(found.weights), store.put(whole(found.graph))))
    assert manifest["inputs"] == [{"name": "review", "type": "string", "shape": [-1], "optional": True}]
    assert manifest["outputs"][-1] == {"name": "embedding", "type": "float32", "shape": [-1, 32]}
    assert {"transformers", "tokenizers", "peft"} <= manifest["libraries"].keys()
    # Rows that do not fit into memory are streamed, and learned from as well.
    streamed = trained(plan, store, Memory(rows_bytes=1, validation_bytes=1))
    assert streamed.metrics["accuracy"] > 0.9


def test_texts_that_are_read_in_part_are_counted_beside_the_version(tiny_bert: Path, store: ObjectStore) -> None:
    pipeline = pipeline_of(tiny_bert, store)
    network = pipeline.train.network
    short = pipeline.model_copy(
        update={
            "train": pipeline.train.model_copy(
                update={"network": network.model_copy(update={"length": 8, "tune": "frozen"}), "epochs": 1}
            )
        }
    )
    dataset = frozen(pipeline, store)
    found = trained(Plan("train-1", short, dataset), store)
    reader = DatasetReader(dataset, store)
    texts = reader.columns("test")["review"]
    # Of the words and two marks around them eight are kept; what stands for a missing text has six.
    assert found.beside == {"cut/review": float((texts != "").mean())}
    assert found.beside["cut/review"] > 0.9


@pytest.mark.parametrize("memory", [None, Memory(rows_bytes=1, validation_bytes=1)])
def test_pairs_of_a_dataset_become_a_graph_that_takes_two_texts(
    tiny_bert: Path, store: ObjectStore, memory: Memory | None
) -> None:
    pipeline = pipeline_of(tiny_bert, store, document=PAIR)
    plan = Plan("train-1", pipeline, frozen(pipeline, store))
    found = trained(plan, store, memory)
    assert found.metrics["accuracy"] > 0.9
    # Of eleven words and as many, and three marks around them, sixteen are kept: both are cut where both are long.
    assert found.beside["cut/review"] > 0.9
    assert 0.3 < found.beside["cut/reply"] < 0.7
    manifest = json.loads(version_manifest(plan, found, store.put(found.weights), store.put(whole(found.graph))))
    assert [(each["name"], each.get("optional", False)) for each in manifest["inputs"]] == [
        ("review", True),
        ("reply", False),
    ]
    texts = {name: np.array(["a great film", ""], dtype=object) for name in ("review", "reply")}
    assert Answerer(found.graph).answers(texts)["probabilities"].shape == (2, 2)


def test_a_number_is_told_from_texts(tiny_bert: Path, store: ObjectStore) -> None:
    pipeline = pipeline_of(tiny_bert, store, "stars, type: float32")
    found = trained(Plan("train-1", pipeline, frozen(pipeline, store)), store)
    assert found.metrics["rmse"] < 3 < 5 * math.sqrt(0.5)


def test_what_there_is_no_room_or_no_folder_for_is_told(tiny_bert: Path, store: ObjectStore, tmp_path: Path) -> None:
    pipeline = pipeline_of(tiny_bert, store)
    plan = Plan("train-1", pipeline, frozen(pipeline, store))
    with pytest.raises(DoesNotFit, match="expected"):
        trained(plan, store, Memory(total_bytes=10_000))
    notebook, elsewhere = Notebook(), StoredArtifacts(ObjectStore(str(tmp_path / "other")))
    with pytest.raises(NotLearnable, match=r"train.network.digest: expected .* in the object store"):
        run(plan, DatasetReader(plan.dataset, store), notebook, notebook, None, elsewhere)
