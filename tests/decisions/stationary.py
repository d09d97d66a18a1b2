"""Cuts a stream that stays as it is, and counts for how many cuts a version would be trained; then one that changes.

    python tests/decisions/stationary.py --cuts 200 --rows 300

Each cut is a real segment in a real store, scored by the compressor's own evaluation of a network that learned from the
first cut, and decided on by the registry's own policy; nothing runs beside this process.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from headrace.events.v1 import evaluation_pb2
from headrace_compressor.transport.evaluation_converters import to_assignment, to_fact
from headrace_compressor.transport.evaluations import evaluate
from headrace_data.dataset import DatasetReader
from headrace_data.history import Entry, keep
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import Segment, SegmentWriter
from headrace_data.spec import load_pipeline
from headrace_data.windows import only_dataset
from headrace_learning.export import export_graph
from headrace_learning.families.mlp import mlp
from headrace_learning.features import Feature
from headrace_learning.large import whole
from headrace_learning.served import ServedClassifier
from headrace_model_registry.core import facts
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.draft import Draft
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.objections import Objection
from headrace_model_registry.core.wishes import Input
from headrace_model_registry.transport.converters import from_message, to_message
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.child import Reporter

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: stationary}
stream:
  topic: stationary
  schema:
    - {name: id, type: string, role: id}
    - {name: age, type: float32, role: feature}
    - {name: income, type: float32, role: feature}
    - {name: clicks, type: int32, role: feature}
    - {name: bought, type: int8, role: label, range: [0, 1]}
prepare: {transform: {age: {scale: standard}, income: {scale: standard}, clicks: {scale: standard}}}
train: {network: {kind: mlp}, when: {worse: 0.02, drift: 0.2}}
"""
FEATURES = {"age": "float32", "income": "float32", "clicks": "int32"}
PROVENANCE = Provenance(cluster_id="test", topic="stationary", topic_id="", sources=(), clean_ranges=(), rejected={})
START = datetime(2026, 1, 1, tzinfo=UTC)


class Pipeline:
    """One pipeline with its store, its registry's log and the version that is served."""

    def __init__(self, folder: Path, rows: int, seed: int) -> None:
        self._store = ObjectStore(str(folder))
        self._pipeline = load_pipeline(DOCUMENT)
        self._random = np.random.default_rng(seed)
        self._rows = rows
        self._catalogue, self._moment = Catalogue(), START
        self._offset = 0
        spec = facts.PipelineSpec(self._pipeline.canonical_json(), self._pipeline.digest)
        self.learn(facts.PipelineApplied(self._pipeline.name, spec, 1))
        self._serve_a_first_version()

    def learn(self, fact: Input) -> Sequence[facts.Event]:
        """Record a fact, and return what followed."""
        draft, self._moment = Draft(self._catalogue), self._moment + timedelta(minutes=10)
        outcome = draft.take(fact, self._moment)
        if isinstance(outcome, Objection):
            raise TypeError(outcome.reason)
        self._catalogue = draft.catalogue
        return [entry.event for entry in outcome[1:]]

    def cut(self, shift: float = 0.0) -> facts.TrainingDecided:
        """Cut a segment whose ages are so many deviations off, and return what is decided."""
        entry = keep(self._segment(shift), self._pipeline, self._store)
        frozen = self._frozen(entry.segment_id, _artifact(entry.manifest), entry)
        (request,) = self.learn(frozen)
        command = cast("evaluation_pb2.EvaluationRequested", to_message(request))
        assignment = to_assignment(command) | {"store_url": self._store.url}
        result = evaluate(assignment, Reporter(io.StringIO())) | {"attempt": 1}
        evaluated = from_message(facts.ModelEvaluated, to_fact(command, json.loads(json.dumps(result))))
        decided, *_ = self.learn(evaluated)
        assert isinstance(decided, facts.TrainingDecided)
        return decided

    def _serve_a_first_version(self) -> None:
        manifest = only_dataset(self._segment(0.0), self._pipeline, self._store)
        stored = _artifact(self._store.put(manifest.to_json()))
        _, training = self.learn(self._frozen(manifest.dataset_id, stored))
        assert isinstance(training, facts.TrainingRequested)
        graph = _artifact(self._store.put(_learned(DatasetReader(manifest, self._store))))
        version_id = "sha256:" + "1" * 64
        (compression,) = self.learn(
            facts.ModelTrained(
                run_id=training.run_id,
                pipeline=training.pipeline,
                model=training.pipeline,
                version_id=version_id,
                dataset_id=manifest.dataset_id,
                manifest=stored,
                graph=graph,
                weights=graph,
                metrics={"accuracy": 0.9},
                task="classification",
            )
        )
        assert isinstance(compression, facts.CompressionRequested)
        fp32 = facts.Variant("fp32", graph, {"accuracy": 0.9, "agreement": 1.0, "relative_logit_error": 0.0})
        score = facts.Evaluation(version_id, manifest.dataset_id, 100, {"accuracy": 0.9}, "classification")
        self.learn(facts.ModelCompressed(compression.run_id, training.pipeline, version_id, (fp32,), (score,)))
        assert self._catalogue.champion(training.pipeline) is not None

    def _frozen(self, dataset_id: str, manifest: Artifact, entry: Entry | None = None) -> facts.DatasetFrozen:
        segment = None
        if entry is not None and entry.sketch is not None:
            places = _artifact(entry.manifest), _artifact(entry.sketch)
            segment = facts.SegmentReference(entry.segment_id, *places, entry.rows)
        rows, digest = facts.SplitRows(1, 1, 1), self._pipeline.digest
        return facts.DatasetFrozen(self._pipeline.name, dataset_id, digest, manifest, rows, segment=segment)

    def _segment(self, shift: float) -> Segment:
        values = [json.dumps(value).encode() for value in self._drawn(shift)]
        offsets = list(range(self._offset, self._offset + len(values)))
        self._offset += len(values)
        checked = RecordChecker(self._pipeline.stream).check(values, [0] * len(values), offsets, None)
        assert checked.batch is not None
        writer = SegmentWriter(self._pipeline, self._store)
        writer.add(checked.batch)
        return writer.finish(PROVENANCE)

    def _drawn(self, shift: float) -> Iterator[dict[str, Any]]:
        random = self._random
        for number in range(self._rows):
            age, income = random.normal(), random.lognormal()
            clicks = int(random.poisson(3))
            chance = 1 / (1 + np.exp(-(2 * age + income + clicks / 2 - 3)))
            row = {"age": age + shift, "income": income, "clicks": clicks, "bought": int(random.random() < chance)}
            yield {"id": f"{self._offset}-{number}", **row}


def _artifact(stored: Any) -> Artifact:
    return Artifact(stored.uri, stored.digest, stored.size_bytes)


def _learned(reader: DatasetReader) -> bytes:
    """Return the graph of a network that has learned from the training split."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    columns = reader.columns("train")
    truth = torch.from_numpy(columns.pop("bought").astype(np.int64))
    transforms = reader.manifest.transforms
    features = [Feature(transforms[name], kind) for name, kind in FEATURES.items()]
    model = ServedClassifier(features, (len(features),), mlp(len(features), [16], 2))
    inputs, optimizer = model.prepare(columns), torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        torch.autograd.backward(torch.nn.functional.cross_entropy(model(inputs)[0], truth))
        optimizer.step()
    return whole(export_graph(model, [0, 1], {name: values[:8] for name, values in columns.items()}).data)


def run(cuts: int, rows: int, seed: int = 0) -> tuple[Counter[str], facts.TrainingDecided]:
    """Return the causes of the decisions on so many cuts of one distribution, and the decision on one of another."""
    with tempfile.TemporaryDirectory() as folder:
        pipeline = Pipeline(Path(folder), rows, seed)
        causes = Counter(pipeline.cut().cause for _ in range(cuts))
        return causes, pipeline.cut(shift=2.0)


def main() -> int:
    """Run it, print what was decided, and return 0 where at most one cut in 200 was a false alarm."""
    parser = argparse.ArgumentParser(description="Decisions on a stream that stays as it is.")
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--rows", type=int, default=300, help="rows of each cut")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    causes, changed = run(arguments.cuts, arguments.rows, arguments.seed)
    alarms = arguments.cuts - causes["quiet"]
    print(f"cuts={arguments.cuts} rows={arguments.rows} alarms={alarms} causes={dict(causes)}")
    print(f"then another distribution: {changed.reason}")
    return 0 if alarms <= max(1, arguments.cuts // 200) and changed.trained else 1


if __name__ == "__main__":
    sys.exit(main())
