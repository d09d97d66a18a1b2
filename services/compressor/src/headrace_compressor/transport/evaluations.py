"""What an evaluation asks for, done: the version that is served, on the rows of a new segment."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from headrace_data.bounds import CERTAINTY
from headrace_data.chunks import Chunks
from headrace_data.dataset import DatasetReader
from headrace_data.drift import Index, drift
from headrace_data.errors import DataError
from headrace_data.manifest import Manifest, SegmentManifest
from headrace_data.parts import default_chunk_rows
from headrace_data.sketch_files import from_bytes
from headrace_data.sketches import Sketch
from headrace_data.slices import reading_of, splits_of
from headrace_data.spec import Pipeline, parse_canonical
from headrace_data.split import SPLITS, SplitName
from headrace_data.tasks import Slices
from headrace_data.unseen import Unseen
from headrace_learning.errors import LearningError
from headrace_learning.graphs import classes_of_graph, task_of_graph
from headrace_runtime.errors import Corrupt, NotFound
from headrace_runtime.local_files import working_folder
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_runtime.runs.child import Assignment, Reporter, WorkRefused

from headrace_compressor.core.scoring import Scorer, answers_index
from headrace_compressor.errors import CompressionError
from headrace_compressor.transport.assignments import version_of

_PSI: Final = "psi"
_MOST_ROWS: Final = 50_000
"""Rows of a dataset that are all looked at for drift."""


def evaluate(assignment: Assignment, reporter: Reporter) -> dict[str, Any]:
    """Score the version on the test split of its own dataset and on the segment, and return both and what moved."""
    try:
        with working_folder() as folder:
            return _evaluate(assignment, reporter, folder)
    except (CompressionError, DataError, LearningError, NotFound, Corrupt) as error:
        # Specs, segments and graphs are read by their digests: what is wrong with them stays wrong.
        raise WorkRefused(str(error)) from error


def _evaluate(assignment: Assignment, reporter: Reporter, folder: Path) -> dict[str, Any]:
    store = ObjectStore(assignment["store_url"])
    pipeline = parse_canonical(assignment["spec"].encode())
    reference, told = assignment["version"], assignment["segment"]
    version = version_of(reference, store, folder)
    task = task_of_graph(version.graph)
    learned = Manifest.from_json(store.get(Artifact(**reference["dataset"]["manifest"])))
    segment = SegmentManifest.from_json(store.get(Artifact(**told["manifest"])))

    fields = [field for field in learned.fields if field.name in pipeline.train.slices]
    test = Chunks(DatasetReader(learned, store, fields, grouped=task.grouped), "test")
    unseen = Unseen(segment, learned, pipeline, store, fields, grouped=task.grouped)
    slices = Slices.of(fields, (columns for columns, _ in test))
    scorer = Scorer(version.graph, pipeline.positive)
    before, answered_before = scorer.score(test, slices, f"the test split of {learned.dataset_id}")
    reporter.progress(1, 2, {}, 0.0)
    now, answered_now = scorer.score(unseen, slices, f"segment {segment.segment_id}")
    reporter.progress(2, 2, {}, 0.0)
    answers = answers_index(task, classes_of_graph(version.graph), answered_before, answered_now)
    return {
        "task": task.kind,
        "certainty": CERTAINTY,
        "before": asdict(before),
        "now": asdict(now),
        "inputs": _inputs(learned, told["sketch"], pipeline, store),
        "answers": None if answers is None else _told("", answers),
    }


def _inputs(
    learned: Manifest, stored: dict[str, Any] | None, pipeline: Pipeline, store: ObjectStore
) -> list[dict[str, Any]]:
    """Return how far each field is from what it was in the version's dataset."""
    if stored is None:
        return []
    drifts = drift(_sketch(learned, pipeline, store), from_bytes(store.get(Artifact(**stored)), pipeline))
    return [_told(each.field, each.index) for each in drifts if each.index is not None]


def _sketch(learned: Manifest, pipeline: Pipeline, store: ObjectStore) -> Sketch:
    """Return what is known of a dataset's rows; of a large one the test split tells enough."""
    sketch, reading, size = Sketch(pipeline), reading_of(pipeline), default_chunk_rows(pipeline.stream.fields)
    splits: Sequence[SplitName] = SPLITS if learned.rows <= _MOST_ROWS else ("test",)
    for _, batch in DatasetReader(learned, store).rows(splits):
        for start in range(0, len(batch), size):
            chunk = batch.slice(start, size)
            sketch.add(chunk, 0, splits_of(chunk, reading))
    return sketch


def _told(field: str, index: Index) -> dict[str, Any]:
    return {"field": field, "measure": _PSI, **index._asdict()}
