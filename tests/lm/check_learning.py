"""A model of 135 million parameters: imported, tuned on answers that it cannot know, written, rounded and measured."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from headrace_compressor.core.compression import make_variants, measure_variants
from headrace_compressor.core.measurement import Rows
from headrace_data.chunks import Chunks
from headrace_data.dataset import DatasetReader
from headrace_data.folder import FileRef, Folder
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import CausalLanguageModel, Gates, load_pipeline
from headrace_data.tasks import COMMON_GATES, TASKS
from headrace_data.windows import only_dataset
from headrace_engines.adapter_files import read_adapter
from headrace_engines.generator import Message
from headrace_learning.building import features_of
from headrace_learning.evaluation import evaluate_batches
from headrace_learning.families import causal_lm
from headrace_learning.heads.generation import ServedText
from headrace_learning.language_models.generating import answered, open_generator
from headrace_learning.language_models.network import LanguageNetwork
from headrace_learning.methods.method import Source, Training
from headrace_learning.text_export import written
from headrace_learning.training.checkpoint import Checkpoint
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.adapters.artifacts import StoredArtifacts
from headrace_trainer.core.memory import Memory
from headrace_trainer.core.run import Plan, Trained, run

sys.path.insert(0, str(Path(__file__).parent))

import smollm

pytestmark = pytest.mark.timeout(3600)

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: veldrun}}
stream:
  topic: veldrun
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: prompt, type: string, role: feature}}
    - {{name: answer, type: string, role: label}}
prepare: {{transform: {{prompt: {{encode: text}}}}, split: {{train: 0.7, validation: 0.1, test: 0.2}}}}
train:
  task: generation
  network: {{kind: causal-lm, digest: "{digest}", sizeBytes: {size}, length: 128, rank: 8}}
  optimizer: {{kind: adamw, learningRate: 0.001}}
  compute: {{threads: auto}}
  epochs: 3
  batchSize: 8
compress: {{variants: [{{kind: gguf-q8}}, {{kind: gguf-q4}}, {{kind: lora-adapter}}]}}
"""


class Notebook:
    """Keeps nothing, and prints how far it is."""

    def newest(self, subject: str) -> Checkpoint | None:
        return None

    def due(self, *, midway: bool) -> bool:
        return False

    def save(self, checkpoint: Checkpoint) -> None:
        pass

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        print(f"epoch {step} of {steps}: {json.dumps(dict(metrics))}, {eta_s:.0f} s to go", flush=True)


@dataclass(frozen=True)
class Learned:
    """What was learned, and what it began with."""

    trained: Trained
    variants: tuple[dict[str, Mapping[str, float]], Gates]
    seconds: float
    adapter: Path


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Learned:
    folder = tmp_path_factory.mktemp("lm")
    store = ObjectStore(str(folder / "store"))
    file = store.put_file(smollm.model())
    listed = Folder({"model.gguf": FileRef(file.digest, file.size_bytes)}).to_json()
    pipeline = load_pipeline(DOCUMENT.format(digest=store.put(listed).digest, size=len(listed)))
    lines = smollm.records()
    checked = RecordChecker(pipeline.stream).check(lines, [0] * len(lines), range(len(lines)))
    writer = SegmentWriter(pipeline, store)
    writer.add(checked.batch)
    provenance = Provenance(cluster_id="c", topic="veldrun", topic_id="", sources=(), clean_ranges=(), rejected={})
    dataset = only_dataset(writer.finish(provenance), pipeline, store)
    reader, notebook, artifacts = DatasetReader(dataset, store), Notebook(), StoredArtifacts(store)

    network = pipeline.train.network
    assert isinstance(network, CausalLanguageModel)
    family = causal_lm.FAMILY.opened(network, artifacts)
    features = family.features(features_of(pipeline, dataset.transforms))
    before = written(ServedText("answer", features, (), LanguageNetwork.of(family.base)), folder)
    began = time.monotonic()
    trained = run(Plan("train-1", pipeline, dataset), reader, notebook, notebook, Memory(folder=folder), artifacts)
    seconds = time.monotonic() - began
    chunks = Chunks(reader, "test")
    rows = Rows(dataset.dataset_id, chunks, len(chunks))
    training = Training(pipeline, reader, lambda: trained.weights, artifacts, folder=folder)
    made, _ = make_variants(Source(trained.graph, training=training), pipeline.compress.variants)
    measured: dict[str, Mapping[str, float]] = {"before": evaluate_batches(before, chunks)}
    measured |= {each.name: each.metrics for each in measure_variants(made, rows, lambda *_: None)}
    for name, metrics in measured.items():
        print(name, json.dumps(dict(metrics)), flush=True)
    adapter = made["adapter"].graph
    assert isinstance(adapter, Path)
    print("adapter", json.dumps(dict(made["adapter"].told)), flush=True)
    return Learned(trained, (measured, pipeline.compress.gates), seconds, adapter)


def test_it_learns_what_it_cannot_know(learned: Learned) -> None:
    measured, _ = learned.variants
    print(f"trained in {learned.seconds:.0f} s", json.dumps(dict(learned.trained.metrics)))
    before, after = measured["before"], measured["fp32"]
    assert after["perplexity"] < 0.4 * before["perplexity"]
    assert after["perplexity"] < 1.5
    assert after["exact_answers"] >= 0.5 > before["exact_answers"] == 0.0
    assert after["bits_per_byte"] < learned.trained.metrics["baseline_bits_per_byte"]
    assert learned.trained.export_difference < 0.01


def test_variants_pass_their_gates(learned: Learned) -> None:
    measured, gates = learned.variants
    sizes = {"q8": 0.56, "q4": 0.42, "adapter": 0.05}
    for name, size in sizes.items():
        own, reference = measured[name], measured["fp32"]
        for gate in (*TASKS["generation"].gates, *COMMON_GATES):
            value = gate.measured(own, reference)
            print(f"{name} {gate.name}: {value:.4f}, limit {getattr(gates, gate.setting)}")
        assert own["perplexity"] < 1.1 * reference["perplexity"]
        assert own["size_bytes"] < size * reference["size_bytes"]
    # The same numbers but for their last digit: what is rounded is the sum.
    assert measured["adapter"]["perplexity"] < 1.005 * measured["fp32"]["perplexity"]
    assert measured["adapter"]["greedy_agreement"] > 0.98
    assert measured["q8"]["exact_answers"] >= measured["fp32"]["exact_answers"] - 0.2


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # of peft
def test_peft_answers_with_the_adapter_as_the_engine_does(learned: Learned, tmp_path: Path) -> None:
    import peft
    import torch
    import transformers

    told = read_adapter(learned.adapter)
    (tmp_path / "adapter_model.safetensors").write_bytes(learned.adapter.read_bytes())
    (tmp_path / "adapter_config.json").write_text(json.dumps(told.config))
    # As `headrace pull` writes them.
    (folder := tmp_path / "base").mkdir()
    (folder / "model.gguf").write_bytes(learned.adapter.with_name(told.base).read_bytes())
    base: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32)
    tuned: Any = peft.PeftModel.from_pretrained(base, tmp_path)
    words: Any = transformers.AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")
    question = [{"role": "user", "content": "Which one is the river of Veldrun?"}]
    with closing(open_generator(learned.adapter)) as generator:
        prompt = generator.prompt([Message(**question[0])])
        given = answered(generator, prompt, 24)
    tokens = words(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        made = tuned.generate(input_ids=tokens, max_new_tokens=24, do_sample=False)[0, tokens.shape[1] :]
        with tuned.disable_adapter():
            before = tuned.generate(input_ids=tokens, max_new_tokens=24, do_sample=False)[0, tokens.shape[1] :]
    said = words.decode(made, skip_special_tokens=True)
    print(repr(given.text), repr(said), repr(words.decode(before, skip_special_tokens=True)), flush=True)
    assert said.strip() == given.text.strip()
    assert words.decode(before, skip_special_tokens=True).strip() != said.strip()
