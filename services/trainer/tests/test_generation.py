"""A run on prompts and answers: a model of language from the object store, learned on, written as GGUF, measured."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from headrace_data.dataset import DatasetReader
from headrace_data.folder import FileRef, Folder
from headrace_data.manifest import Manifest, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.windows import only_dataset
from headrace_engines.beside import is_language, put
from headrace_learning.language_models.gguf_files import prompt_of, read_gguf
from headrace_learning.training.checkpoint import Checkpoint
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.adapters.artifacts import StoredArtifacts
from headrace_trainer.core.memory import Memory
from headrace_trainer.core.run import Plan, Trained, run
from headrace_trainer.core.version import version_manifest

pytestmark = pytest.mark.slow

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: mill}}
stream:
  topic: mill
  schema:
    - {{name: id, type: int64, role: id}}
    {prompt}
    - {{name: answer, type: string, role: label}}
prepare: {{transform: {{{transform}}}}}
train:
  task: generation
  network: {{kind: causal-lm, digest: "{digest}", sizeBytes: {size}, length: 96, rank: 4}}
  optimizer: {{learningRate: 0.02}}
  epochs: {epochs}
  batchSize: 16
"""
PROMPT = "- {name: prompt, type: string, role: feature}"


class Notebook:
    """Keeps nothing but what it was told."""

    def __init__(self) -> None:
        self.told: list[Mapping[str, float]] = []

    def newest(self, subject: str) -> Checkpoint | None:
        return None

    def due(self, *, midway: bool) -> bool:
        return False

    def save(self, checkpoint: Checkpoint) -> None:
        pass

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        self.told.append(metrics)


def pipeline_of(tiny_gguf: Callable[..., bytes], store: ObjectStore, *, asks: bool = True, epochs: int = 3) -> Pipeline:
    file = store.put(tiny_gguf())
    folder = Folder({"model.gguf": FileRef(file.digest, file.size_bytes)}).to_json()
    prompt, transform = (PROMPT, "prompt: {encode: text}") if asks else ("", "")
    digest = store.put(folder).digest
    return load_pipeline(
        DOCUMENT.format(digest=digest, size=len(folder), prompt=prompt, transform=transform, epochs=epochs)
    )


def frozen(pipeline: Pipeline, store: ObjectStore, rows: int = 60) -> Manifest:
    lines = []
    for place in range(rows):
        row: dict[str, Any] = {"id": place, "answer": "the river" if place % 2 else "all day long"}
        if pipeline.stream.features:
            row["prompt"] = f"{'who turns' if place % 2 else 'when turns'} the mill {place}?"
        lines.append(json.dumps(row).encode())
    checked = RecordChecker(pipeline.stream).check(lines, [0] * len(lines), range(len(lines)))
    writer = SegmentWriter(pipeline, store)
    writer.add(checked.batch)
    provenance = Provenance(cluster_id="c", topic="mill", topic_id="", sources=(), clean_ranges=(), rejected={})
    return only_dataset(writer.finish(provenance), pipeline, store)


def trained(plan: Plan, store: ObjectStore, memory: Memory | None = None) -> tuple[Trained, Notebook]:
    notebook = Notebook()
    reader = DatasetReader(plan.dataset, store)
    return run(plan, reader, notebook, notebook, memory, StoredArtifacts(store)), notebook


def test_prompts_and_answers_become_a_file_that_answers(
    tiny_gguf: Callable[..., bytes], store: ObjectStore, tmp_path: Path
) -> None:
    pipeline = pipeline_of(tiny_gguf, store)
    dataset = frozen(pipeline, store)
    assert dataset.classes == ()
    plan = Plan("train-1", pipeline, dataset)
    found, notebook = trained(plan, store, Memory(folder=tmp_path))
    assert isinstance(found.graph, Path)
    assert is_language(found.graph)
    perplexities = [told["validation_perplexity"] for told in notebook.told]
    assert perplexities[-1] < 0.2 * perplexities[0]
    assert found.metrics["perplexity"] < 4
    assert found.metrics["bits_per_byte"] < found.metrics["baseline_bits_per_byte"]
    assert {"nats_per_token", "exact_answers"} <= found.metrics.keys()
    assert found.export_difference < 0.01
    manifest = json.loads(version_manifest(plan, found, store.put(found.weights), put(found.graph, store)))
    assert [each["name"] for each in manifest["inputs"]] == ["text_input", "stream", "sampling_parameters"]
    assert manifest["outputs"] == [{"name": "text_output", "type": "string", "shape": [1]}]
    assert {"transformers", "gguf", "peft"} <= manifest["libraries"].keys()
    assert "beside" not in manifest["graph"]
    assert prompt_of(found.graph).feature == "prompt"
    # The weights are those of the file, which has half their digits.
    held = safetensors.torch.load(found.weights)
    _, tensors, _ = read_gguf(found.graph.read_bytes())
    for name, values in tensors.items():
        own = held[f"network.body.{name.removeprefix('model.')}"].numpy()
        assert np.allclose(values, own, atol=1e-2, rtol=1e-3), name


def test_streamed_texts_without_a_prompt_are_learned_whole(tiny_gguf: Callable[..., bytes], store: ObjectStore) -> None:
    pipeline = pipeline_of(tiny_gguf, store, asks=False)
    plan = Plan("train-1", pipeline, frozen(pipeline, store))
    found, notebook = trained(plan, store, Memory(rows_bytes=1, validation_bytes=1))
    assert isinstance(found.graph, bytes)
    assert notebook.told[-1]["validation_perplexity"] < 0.2 * notebook.told[0]["validation_perplexity"]
    assert found.metrics["perplexity"] < 5
    assert prompt_of(found.graph).feature == ""


def test_a_model_that_knew_nothing_learns_words_and_answers(store: ObjectStore) -> None:
    network = "{{kind: new-causal-lm, layers: 1, width: 64, heads: 2, vocabulary: 512, length: 64}}"
    begun = DOCUMENT.index("{{kind: causal-lm"), DOCUMENT.index("rank: 4}}") + len("rank: 4}}")
    document = DOCUMENT[: begun[0]] + network + DOCUMENT[begun[1] :]
    pipeline = load_pipeline(
        document.format(prompt=PROMPT, transform="prompt: {encode: text}", epochs=10).replace("0.02", "0.005")
    )
    plan = Plan("train-1", pipeline, frozen(pipeline, store))
    (first, _), (second, _) = (trained(plan, store) for _ in range(2))
    assert first.metrics["exact_answers"] == 1.0
    assert first.metrics["perplexity"] < 1.3
    shape, _, words = read_gguf(first.graph if isinstance(first.graph, bytes) else b"")
    assert (shape.layers, shape.width, shape.places) == (1, 64, 64)
    assert "Ġmill" in words.tokens  # one token of what comes again and again
    assert first.graph == second.graph
