"""What of the object store is needed, as the catalogue has it: where the references begin that keep objects.

* Everything that is served, and every version that was not retired, with its dataset and what a rollback would serve.
* The dataset that a pipeline froze last; every one, unless the pipeline says what it retains.
* What runs that are asked for and have not ended read, and their folders as a whole; but not what measurements of
  retired versions do, for whose class there may be no compressor.
* The history of each pipeline in force: the segments that its windows may take.
* The file that a spec names: of a pipeline in force, a run that has not ended, or a version that was not retired.

A deleted pipeline keeps its versions and their datasets, as ever; of its segments only those that these name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from headrace_data.spec import Kept

from headrace_model_registry.core import specs
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import (
    CompressionRequested,
    DatasetReference,
    EvaluationRequested,
    ModelReleased,
    PipelineSpec,
    TrainingRequested,
    VersionReference,
)
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.records import Release, RunRecord, RunState, Version, VersionState

HISTORY, DATASET, VERSION, RUN, SPEC = "segments of pipelines", "datasets", "versions", "runs", "specs of pipelines"
"""What keeps an object."""
RUNS_ON: Final = timedelta(days=7)
"""How long a run of a deleted pipeline is taken to go on: nobody records its end."""

Histories = Mapping[tuple[str, int], Artifact]
"""The newest history of each pipeline, by name and incarnation."""


@dataclass(slots=True)
class Roots:
    """Where the references begin; each with what keeps it."""

    histories: list[Artifact] = field(default_factory=list)
    """Documents that list segments, by their manifests and sketches."""
    replayed: list[Artifact] = field(default_factory=list)
    """Such documents that runs read: where a run has ended, its own may be gone."""
    documents: dict[Artifact, str] = field(default_factory=dict)
    """JSON documents, and graphs with weights beside them: themselves, and every digest in them."""
    folders: set[str] = field(default_factory=set)
    """Digests of lists of files that specs name: themselves, and every file in them."""
    artifacts: dict[Artifact, str] = field(default_factory=dict)
    """Objects that name nothing else."""
    live_runs: set[str] = field(default_factory=set)
    """Runs whose folders are needed as a whole."""
    told_runs: set[str] = field(default_factory=set)
    """Runs that have ended: what tells of them is needed, and their checkpoints are not."""


def roots(catalogue: Catalogue, histories: Histories, moment: datetime) -> Roots:
    """Return what is needed at a moment (aware)."""
    found = Roots()
    for home in catalogue.homes:
        is_gone = home is not catalogue
        for pipeline, applied in home.pipelines.items():
            history = None if is_gone else histories.get((pipeline, applied.incarnation))
            if history is not None:
                found.histories.append(history)
            # Without a history, the first cut makes one of all datasets.
            keeps_all = specs.parse(applied.spec).retain is None or (history is None and not is_gone)
            if not is_gone:
                _add_named(found, applied.spec)
            _add_pipeline(found, home, pipeline, keeps_all=keeps_all)
        for run in home.runs.values():
            if _is_under_way(run, home) or (is_gone and _may_go_on(run, moment)):
                _add_run(found, run)
        for release in (*home.aliases.values(), *_of_kept(home)):
            for graph in _served(release.released):
                _add_graph(found, graph, VERSION)
    return found


def _of_kept(home: Catalogue) -> Iterator[Release]:
    """Yield the releases of versions that were not retired: what a rollback serves.

    Their variants alone would not do: a recalibration replaces those whether or not a release followed from it.
    """
    for release in home.releases:
        version = home.versions.get((release.released.pipeline, release.released.version_id))
        if version is not None and version.state is not VersionState.RETIRED:
            yield release


def _served(released: ModelReleased) -> Iterator[Artifact]:
    yield released.graph
    yield from (each.graph for of_class in released.classes for each in of_class.variants)
    if released.unmeasured is not None:
        yield released.unmeasured.graph


def _add_pipeline(found: Roots, home: Catalogue, pipeline: str, *, keeps_all: bool) -> None:
    own = [version for (name, _), version in home.versions.items() if name == pipeline]
    kept = [version for version in own if version.state is not VersionState.RETIRED]
    for version in kept:
        _add_version(found, version)
        request = home.runs[version.trained.run_id].request if version.trained.run_id in home.runs else None
        if isinstance(request, TrainingRequested):
            _add_named(found, request.spec)
    named = {version.trained.dataset_id for version in kept}
    newest = home.newest_dataset(pipeline)
    for (name, dataset_id), dataset in home.datasets.items():
        if name == pipeline and (keeps_all or dataset_id in named or dataset is newest):
            found.documents.setdefault(dataset.frozen.manifest, DATASET)
    versions = {version.trained.version_id for version in kept}
    trained = {version.trained.run_id for version in kept}
    for run_id, run in home.runs.items():
        if run.request.pipeline == pipeline and (keeps_all or run_id in trained or run.subject in versions):
            found.told_runs.add(run_id)


def _add_version(found: Roots, version: Version) -> None:
    trained = version.trained
    found.documents[trained.manifest] = VERSION
    found.artifacts[trained.weights] = VERSION
    for graph in (trained.graph, *_variants(version)):
        _add_graph(found, graph, VERSION)


def _add_graph(found: Roots, graph: Artifact, kept_by: str) -> None:
    """Add a graph; one with weights beside it names them by their digests, as a document does."""
    (found.documents if graph.beside_bytes else found.artifacts).setdefault(graph, kept_by)


def _variants(version: Version) -> Iterator[Artifact]:
    for variants in (version.variants, *(each.variants for each in version.elsewhere)):
        yield from (variant.graph for variant in variants)


def _add_named(found: Roots, spec: PipelineSpec) -> None:
    """Add the file that a spec names, and of a folder its list with every file in it."""
    network = specs.parse(spec).train.network
    if isinstance(network, Kept):
        if network.is_folder:
            found.folders.add(network.digest)
        else:
            found.artifacts.setdefault(Artifact("", network.digest, network.size_bytes), SPEC)


def _is_under_way(run: RunRecord, home: Catalogue) -> bool:
    """Tell whether a run has not ended. What is measured of a version that was retired counts for nothing."""
    if run.state not in (RunState.RUNNING, RunState.WAITING):
        return False
    version = None if run.holds_up else home.versions.get((run.request.pipeline, run.subject))
    return version is None or version.state is not VersionState.RETIRED


def _may_go_on(run: RunRecord, moment: datetime) -> bool:
    return run.state is RunState.FAILED and run.end_time is not None and moment - run.end_time < RUNS_ON


def _add_run(found: Roots, run: RunRecord) -> None:
    found.live_runs.add(run.request.run_id)
    if isinstance(run.request, TrainingRequested):
        _add_named(found, run.request.spec)
    if isinstance(run.request, CompressionRequested) and run.request.canary is not None:
        found.replayed.append(run.request.canary.history)
    for dataset in _read_by(run):
        found.documents.setdefault(dataset.manifest, RUN)
    for version in _compared_by(run):
        _add_graph(found, version.graph, RUN)
    if isinstance(run.request, TrainingRequested) and run.request.origin and run.request.origin.weights:
        found.artifacts.setdefault(run.request.origin.weights, RUN)
    if isinstance(run.request, EvaluationRequested):
        found.documents.setdefault(run.request.segment.manifest, RUN)
        if run.request.segment.sketch is not None:
            found.artifacts.setdefault(run.request.segment.sketch, RUN)


def _read_by(run: RunRecord) -> Iterator[DatasetReference]:
    if isinstance(run.request, TrainingRequested):
        yield run.request.dataset
        if run.request.origin is not None:
            yield run.request.origin.dataset
    yield from (version.dataset for version in _compared_by(run))


def _compared_by(run: RunRecord) -> Iterator[VersionReference]:
    if isinstance(run.request, EvaluationRequested):
        yield run.request.version
    if isinstance(run.request, CompressionRequested):
        yield run.request.candidate
        if run.request.champion is not None:
            yield run.request.champion
