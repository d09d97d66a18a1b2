"""A model of more than 10 million parameters that knows nothing: learned from a stream of text, stopped on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import load_pipeline
from headrace_data.windows import only_dataset
from headrace_learning.language_models.generating import answered, open_generator
from headrace_learning.language_models.gguf_files import prompt_of
from headrace_learning.training.checkpoint import Checkpoint, from_bytes, to_bytes
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.core.memory import Memory
from headrace_trainer.core.run import Plan, run

pytestmark = pytest.mark.timeout(3600)

ROOT = Path(__file__).parents[2]
BYTES = 140_000
"""Of text that is learned from, measured and looked at."""
CHECKPOINTS = 3
"""Checkpoints that the first attempt leaves."""
DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: prose}
stream:
  topic: prose
  schema:
    - {name: id, type: int64, role: id}
    - {name: text, type: string, role: label}
prepare: {split: {train: 0.8, validation: 0.1, test: 0.1}}
train:
  task: generation
  network: {kind: new-causal-lm, layers: 8, width: 320, heads: 5, vocabulary: 4096, length: 128}
  optimizer: {kind: adamw, learningRate: 0.002}
  compute: {threads: auto}
  epochs: 2
  batchSize: 8
"""


class Killed(Exception):
    """The process that trains is gone."""


class Notebook:
    """Keeps the newest checkpoint, as bytes, and is taken for killed after some."""

    def __init__(self) -> None:
        self.kept: tuple[bytes, bytes] | None = None
        self.losses: list[float] = []
        self.left: int | None = CHECKPOINTS
        """How many more are kept before the process is gone; None for no end."""
        self._saved = time.monotonic()

    def newest(self, subject: str) -> Checkpoint | None:
        return from_bytes(*self.kept) if self.kept else None

    def due(self, *, midway: bool) -> bool:
        return time.monotonic() - self._saved >= (2.0 if self.left is not None else 30.0)

    def save(self, checkpoint: Checkpoint) -> None:
        self.kept, self._saved = to_bytes(checkpoint), time.monotonic()
        if self.left is not None:
            self.left -= 1
            if not self.left:
                raise Killed

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        self.losses.append(metrics["validation_loss"])
        print(f"epoch {step} of {steps}: {json.dumps(dict(metrics))}, {eta_s:.0f} s to go", flush=True)


def records() -> list[bytes]:
    """Return paragraphs of this project's documents, each a record."""
    found: list[str] = []
    for path in sorted((ROOT / "docs").rglob("*.md")):
        for paragraph in path.read_text(encoding="utf-8").split("\n\n"):
            if len(paragraph) > 80 and not paragraph.startswith(("|", "```", "    ", "#")):
                found.append(" ".join(paragraph.split()))
    taken, size = [], 0
    for place, text in enumerate(found):
        taken.append(json.dumps({"id": place, "text": text}).encode())
        size += len(text.encode())
        if size > BYTES:
            break
    return taken


def test_a_stream_of_text_is_learned_from_scratch_and_from_where_it_stopped(tmp_path: Path) -> None:
    store, pipeline = ObjectStore(str(tmp_path / "store")), load_pipeline(DOCUMENT)
    lines = records()
    checked = RecordChecker(pipeline.stream).check(lines, [0] * len(lines), range(len(lines)))
    writer = SegmentWriter(pipeline, store)
    writer.add(checked.batch)
    provenance = Provenance(cluster_id="c", topic="prose", topic_id="", sources=(), clean_ranges=(), rejected={})
    dataset = only_dataset(writer.finish(provenance), pipeline, store)
    reader, notebook, memory = DatasetReader(dataset, store), Notebook(), Memory(folder=tmp_path)
    plan = Plan("train-1", pipeline, dataset)

    with pytest.raises(Killed):
        run(plan, reader, notebook, notebook, memory)
    left = notebook.newest("")
    assert left is not None
    assert left.place > (0, 0)
    print(f"{len(lines)} records; the first attempt left epoch {left.epoch}, batches {left.place[1]}", flush=True)
    notebook.left = None
    trained = run(plan, reader, notebook, notebook, memory)
    print(json.dumps(dict(trained.metrics)), flush=True)

    assert trained.fitted.parameters >= 10_000_000
    assert len(notebook.losses) == pipeline.train.epochs
    assert notebook.losses[-1] < notebook.losses[0]
    assert trained.metrics["bits_per_byte"] < trained.metrics["baseline_bits_per_byte"]
    assert trained.export_difference < 0.05
    with closing(open_generator(trained.graph)) as generator:
        answer = answered(generator, f"{prompt_of(trained.graph).beginning}The registry", 24)
    print(repr(answer.text))
    assert answer.tokens
    assert answer.text.strip()
