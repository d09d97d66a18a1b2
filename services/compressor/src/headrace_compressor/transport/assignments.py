"""What an assignment asks for, done: measured variants in the object store, and versions beside each other."""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from headrace_data.chunks import Chunks
from headrace_data.dataset import DatasetReader
from headrace_data.errors import DataError
from headrace_data.manifest import Manifest
from headrace_data.spec import Pipeline, parse_canonical
from headrace_data.tasks import Slices, Task
from headrace_engines import beside
from headrace_learning.errors import LearningError
from headrace_learning.graphs import task_of_graph
from headrace_learning.methods.calibration import of_dataset
from headrace_learning.methods.method import Source, Training
from headrace_runtime.local_files import working_folder
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_runtime.process.memory import total_bytes
from headrace_runtime.runs.child import Assignment, Reporter, WorkRefused

from headrace_compressor.core.compression import Version, compare, make_variants, measure_variants
from headrace_compressor.core.measurement import Rows, joined
from headrace_compressor.errors import CompressionError
from headrace_compressor.transport.artifacts import StoredArtifacts


def measure(assignment: Assignment, reporter: Reporter) -> dict[str, Any]:
    """Compress and measure the candidate, compare it with the champion, and return the result."""
    try:
        with working_folder() as folder:
            return _measure(assignment, reporter, folder)
    except (CompressionError, DataError, LearningError) as error:
        # Specs, datasets and graphs are read by their digests: what is wrong with them stays wrong.
        raise WorkRefused(str(error)) from error


def _measure(assignment: Assignment, reporter: Reporter, folder: Path) -> dict[str, Any]:
    store = ObjectStore(assignment["store_url"])
    pipeline = parse_canonical(assignment["spec"].encode())
    references = [each for each in (assignment["candidate"], assignment["champion"]) if each is not None]
    versions = {each["version_id"]: version_of(each, store, folder) for each in references}
    candidate = versions[assignment["candidate"]["version_id"]]
    # The spec may ask for another task already than the one that the version learned.
    task = task_of_graph(candidate.graph)
    splits = {each["dataset"]["dataset_id"]: _rows(each["dataset"], store, pipeline, task) for each in references}
    own = splits[candidate.dataset_id]

    training = _training(assignment["candidate"], store, pipeline, task, folder)
    calibration = of_dataset(training.reader, pipeline.train.seed)
    source = Source(candidate.graph, calibration, training, assignment["cpu_class"])
    made, others = make_variants(source, pipeline.compress.variants)
    if pipeline.compress.gates.membership_auc is not None:
        own = replace(own, members=Chunks(training.reader, "train"))
    variants = measure_variants(made, own, reporter.progress)
    rows = list(splits.values())
    if len(rows) > 1 and task.measure(pipeline.compress.gates.measure).adds_up is None:
        rows.append(joined(rows))
    evaluations = list(compare(list(versions.values()), rows))
    return {
        "cpu_class": assignment["cpu_class"],
        "variants": [
            {
                "name": each.name,
                "graph": asdict(beside.put(each.graph, store)) | beside.told(each.graph),
                "beside": beside.digests(each.graph),
                "metrics": each.metrics,
                "told": dict(each.told),
            }
            for each in variants
        ],
        "not_applicable": [{"variant": name, "reason": each.reason} for name, each in others.items()],
        "evaluations": [asdict(each) for each in evaluations if each.dataset_id],
        "joined": [asdict(each) for each in evaluations if not each.dataset_id],
    }


def version_of(reference: dict[str, Any], store: ObjectStore, folder: Path) -> Version:
    """Return a version that an assignment names, its graph as it was trained."""
    told = dict(reference["graph"])
    graph = beside.get(told.pop("beside_bytes", 0), Artifact(**told), store, folder)
    return Version(reference["version_id"], reference["dataset"]["dataset_id"], graph)


def _training(reference: dict[str, Any], store: ObjectStore, pipeline: Pipeline, task: Task, folder: Path) -> Training:
    """Return how a version was trained. Its rows and weights are read when a method asks for them."""
    manifest = Manifest.from_json(store.get(Artifact(**reference["dataset"]["manifest"])))
    reader = DatasetReader(manifest, store, grouped=task.grouped)
    weights = reference.get("weights")
    read = None if weights is None else partial(store.get, Artifact(**weights))
    return Training(pipeline, reader, read, StoredArtifacts(store), total_bytes(), folder)


def _rows(reference: dict[str, Any], store: ObjectStore, pipeline: Pipeline, task: Task) -> Rows:
    manifest = Manifest.from_json(store.get(Artifact(**reference["manifest"])))
    # The champion's dataset may have other fields.
    fields = [field for field in manifest.fields if field.name in pipeline.train.slices]
    chunks = Chunks(DatasetReader(manifest, store, fields, grouped=task.grouped), "test")
    slices = Slices.of(fields, (columns for columns, _ in chunks))
    return Rows(reference["dataset_id"], chunks, len(chunks), pipeline.positive, slices)
