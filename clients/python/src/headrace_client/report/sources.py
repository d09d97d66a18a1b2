"""Where a report's facts come from: the registry's RPCs, and the object store that its artifacts lie in."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_data.dataset import DatasetReader
from headrace_data.errors import DataError
from headrace_data.manifest import Manifest
from headrace_data.parts import row_bytes
from headrace_data.spec import REFERENCE_VARIANT
from headrace_data.tasks import TASKS, Task, task_of, task_of_outputs
from headrace_data.tasks.multilabel import LABELS

from headrace_client.decision_views import decision_view, evaluated_view
from headrace_client.errors import AnswerInvalid, ExtraMissing, NotFound, StoreFailed
from headrace_client.holding import held_view
from headrace_client.registry import RegistryClient
from headrace_client.report.facts import Answers, Array, DatasetFacts, Estimates, Tags, Texts, VersionFacts
from headrace_client.report.importance import importance
from headrace_client.views import View, dataset_view, release_view, run_view, version_view

if TYPE_CHECKING:
    from headrace.events.v1.artifact_pb2 import Artifact
    from headrace_engines.beside import Graph
    from headrace_engines.model import Tensor
    from headrace_runtime.object_store import ObjectStore

STORE_SETTING = "HEADRACE_STORE_URL"
MOST_ROWS: Final = 100_000
MOST_BYTES: Final = 128 * 2**20
"""Rows of a split that are read, and what they may take in memory; give or take a file, and one file at least."""
_BATCH: Final = 256
_ID = re.compile(r"(sha256:)?[0-9a-f]{4,64}|train-[0-9a-f]{4,32}|[0-9a-f-]{8,36}")
_ORDINAL = re.compile(r"(.+):([1-9][0-9]{0,8})")


def find(registry: RegistryClient, name: str, *, dataset: bool = False) -> VersionFacts | DatasetFacts:
    """Return the facts about what a name stands for; with `dataset` about the dataset that lies behind it.

    A name is a model's (its newest version), MODEL:ORDINAL, a pipeline's (its newest dataset) or the unique beginning
    of a version's, run's, prediction's or dataset's id. Raises NotFound, StoreFailed and ExtraMissing.
    """
    found = named(registry, name)
    if isinstance(found, messages.Version):
        return dataset_facts(registry, _dataset_of(registry, found)) if dataset else version_facts(registry, found)
    return dataset_facts(registry, found)


def named(registry: RegistryClient, name: str) -> messages.Version | messages.Dataset:
    """Return what a name stands for, as `find` has it. Raises NotFound."""
    match = _ORDINAL.fullmatch(name)
    versions = registry.versions(match[1] if match else name)
    if match:
        versions = [version for version in versions if version.ordinal == int(match[2])]
    if versions:
        return versions[-1]
    if not match and (datasets := registry.datasets(name)):
        return datasets[-1]
    if match is None and _ID.fullmatch(name):
        lineage = registry.lineage(name)
        if lineage.HasField("version"):
            return lineage.version
        if lineage.HasField("dataset"):
            return lineage.dataset
    if not match and registry.pipelines(name):
        raise NotFound(f"pipeline '{name}' has no dataset yet: `headrace wait {name}` says what it waits for")
    raise NotFound(f"there is no version, model, dataset or pipeline '{name}': `headrace get` lists them")


def _dataset_of(registry: RegistryClient, version: messages.Version) -> messages.Dataset:
    for dataset in registry.datasets(version.trained.pipeline):
        if dataset.frozen.dataset_id == version.trained.dataset_id:
            return dataset
    raise NotFound(f"the registry does not know dataset {version.trained.dataset_id} any more")


def dataset_facts(registry: RegistryClient, dataset: messages.Dataset) -> DatasetFacts:
    """Return a dataset with its rows. Raises StoreFailed."""
    frozen = dataset.frozen
    with store_of(frozen.manifest.uri) as store:
        manifest = Manifest.from_json(store.get(frozen.manifest))
        columns = DatasetReader(manifest, store).head(_most_rows(manifest))
    trained = [one for one in registry.versions() if one.trained.dataset_id == frozen.dataset_id]
    views = [version_view(one) for one in trained]
    return DatasetFacts(dataset_view(dataset), manifest, columns, views, held=_held(registry, frozen.pipeline))


def _held(registry: RegistryClient, pipeline: str) -> list[View]:
    return [held_view(each) for each in registry.held(pipeline)]


def version_facts(registry: RegistryClient, version: messages.Version) -> VersionFacts:
    """Return a version with what it answers to its test split. Raises StoreFailed."""
    trained = version.trained
    lineage = registry.lineage(trained.version_id)
    every = registry.releases(trained.model)
    releases = [one for one in every if one.released.version_id == trained.version_id]
    release = releases[-1] if releases else None
    graph, variant = (
        (release.released.graph, release.released.variant) if release else (trained.graph, REFERENCE_VARIANT)
    )
    with store_of(trained.manifest.uri) as store:
        manifest = json.loads(store.get(trained.manifest))
        data = Manifest.from_json(store.get(lineage.dataset.frozen.manifest))
        task = task_of(trained.task, trained.metrics)
        columns = DatasetReader(data, store, grouped=task.grouped).head(_most_rows(data))["test"]
        answers, important = _answered(task, graph, variant, store, columns, data, manifest)
        curve = list(_curve(store, trained.run_id))
    label = data.label
    return VersionFacts(
        version_view(version),
        manifest,
        answers,
        f"{label.name} ({label.unit})" if label.unit else label.name,
        curve,
        [run_view(run) for run in lineage.runs],
        dataset_view(lineage.dataset),
        lineage.topic,
        release_view(release) if release else None,
        important,
        [evaluated_view(one) for one in registry.evaluations(trained.pipeline)],
        [decision_view(one) for one in registry.decisions(trained.pipeline)],
        _held(registry, trained.pipeline),
    )


def _answered(
    task: Task,
    graph: Artifact,
    variant: str,
    store: ObjectStore,
    columns: Mapping[str, Array],
    data: Manifest,
    manifest: Mapping[str, Any],
) -> tuple[Answers | Tags | Estimates | Texts, dict[str, float]]:
    if task.answers_texts:
        return Texts(variant, columns[data.label.name]), {}
    with _fetched(graph, store) as fetched:
        return answers_of(fetched, variant, columns, data, manifest)


def answers_of(
    graph: Graph, variant: str, columns: Mapping[str, Array], data: Manifest, manifest: Mapping[str, Any]
) -> tuple[Answers | Tags | Estimates, dict[str, float]]:
    """Return what a graph answers to some rows, and how important each feature is for that.

    Raises AnswerInvalid when it is no graph that Headrace serves.
    """
    answer, told = _opened(graph)
    places = told.labels
    outputs, truth = answer(columns), columns[data.label.name]
    if (task := task_of_outputs(outputs)) is None:
        known = " or ".join(", ".join(each.outputs) for each in TASKS.values())
        raise AnswerInvalid(f"expected a graph that answers {known}, got {set(outputs)}")
    features = {field.name: columns[field.name] for field in data.features}
    found = importance(answer, features, truth, task, manifest["classes"] or places, told.steps)
    if LABELS in outputs:
        return Tags(variant, truth, outputs[LABELS], places), found
    if (point := task.point(outputs, places)) is not None:
        values = truth[:, 0] if task.grouped else truth
        return Estimates(variant, values, point, in_unit=task.answers_numbers), found
    flag, probabilities = data.label.type == "bool", outputs["probabilities"]
    return Answers(variant, truth, outputs["label"], probabilities, manifest["classes"], flag), found


@contextmanager
def _fetched(graph: Artifact, store: ObjectStore) -> Iterator[Graph]:
    """Yield a graph, whose weights may lie beside it on the disk meanwhile."""
    try:
        from headrace_engines import beside
        from headrace_runtime.local_files import working_folder
    except ModuleNotFoundError as error:
        raise ExtraMissing("report", "report") from error
    with working_folder() as folder:
        yield beside.get(graph.beside_bytes, graph, store, folder)


def _opened(graph: Graph) -> tuple[Callable[[Mapping[str, Array]], dict[str, Array]], Tensor]:
    """Return what answers rows by a graph, outputs by name, and what it tells of its first output."""
    try:
        from headrace_engines import ENGINES, ONNX
        from headrace_engines.model import run_in_batches
    except ModuleNotFoundError as error:
        raise ExtraMissing("report", "report") from error
    model = ENGINES[ONNX](graph, None)
    names = [output.name for output in model.outputs]

    def answer(columns: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(names, run_in_batches(model, columns, names, _BATCH), strict=True))

    return answer, model.outputs[0]


def _most_rows(manifest: Manifest) -> int:
    """Return of how many rows of each split a report is, so that one of any dataset fits into memory."""
    return min(MOST_ROWS, MOST_BYTES // row_bytes(manifest.fields))


def _curve(store: ObjectStore, run_id: str) -> Iterator[Mapping[str, float]]:
    """Yield a run's measurements by epoch; what a later attempt measured again counts."""
    from headrace_runtime.runs.folder import attempt_of

    found: dict[float, Mapping[str, float]] = {}
    names = [name for name in store.list(f"runs/{run_id}") if name.endswith("/curve.json")]
    for name in sorted(filter(attempt_of, names), key=attempt_of):
        # A curve that cannot be read is not drawn: the report is about more than that.
        with suppress(ValueError, TypeError, KeyError):
            found.update({point["epoch"]: point for point in json.loads(store.read(name) or b"[]")})
    yield from (found[epoch] for epoch in sorted(found))


@contextmanager
def store_of(uri: str, command: str = "report") -> Iterator[ObjectStore]:
    """Yield the store that an artifact lies in; a setting wins over what the artifact says.

    Raises ExtraMissing, which names the command, and StoreFailed for whatever fails within the block.
    """
    try:
        from headrace_runtime.errors import HeadraceError
        from headrace_runtime.object_store import ObjectStore
    except ModuleNotFoundError as error:
        raise ExtraMissing(command, "report") from error
    url = os.environ.get(STORE_SETTING) or uri.rpartition("/sha256/")[0]
    try:
        yield ObjectStore(url)
    except (HeadraceError, DataError) as error:
        raise StoreFailed(f"{error}; {STORE_SETTING} names another store than {url}") from error
