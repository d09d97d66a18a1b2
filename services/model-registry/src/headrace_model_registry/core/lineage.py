"""Where a thing comes from: from a prediction, version, run or dataset back to the producers' topic."""

from dataclasses import dataclass, replace
from datetime import datetime

from headrace_model_registry.core import prediction_ids, specs
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import RunKind, TrainingRequested
from headrace_model_registry.core.queries import ProgressBoard, Run, run_of
from headrace_model_registry.core.records import Dataset, RunRecord, Version
from headrace_model_registry.core.served import PredictionServed

_SCHEME = "sha256:"


@dataclass(frozen=True, slots=True)
class Lineage:
    """The chain behind a thing. What does not lie before it is None or empty, and so is what nobody knows of."""

    prediction: PredictionServed | None = None
    serve_time: datetime | None = None
    version: Version | None = None
    runs: tuple[Run, ...] = ()
    dataset: Dataset | None = None
    topic: str = ""
    origin: Version | None = None


def matches(catalogue: Catalogue, beginning: str) -> dict[str, str]:
    """Return the ids of versions, runs and datasets that begin so, each with what it names.

    The digits of a digest are enough, without "sha256:", because tables show them so.
    """
    kinds = {dataset_id: "dataset" for _, dataset_id in catalogue.datasets}
    kinds |= dict.fromkeys(catalogue.runs, "run")
    kinds |= {version_id: "version" for _, version_id in catalogue.versions}
    return {
        name: kind
        for name, kind in kinds.items()
        if name.startswith(beginning) or name.removeprefix(_SCHEME).startswith(beginning)
    }


def of_prediction(catalogue: Catalogue, board: ProgressBoard, served: PredictionServed) -> Lineage:
    """Return what lies behind a prediction."""
    moment = prediction_ids.made_at(served.prediction_id)
    for home in catalogue.homes:
        if version := _version(home, served.version_id):
            return replace(_of_version(home, board, version), prediction=served, serve_time=moment)
    return Lineage(served, moment)


def of_thing(catalogue: Catalogue, board: ProgressBoard, name: str) -> Lineage:
    """Return what lies behind a version, run or dataset of the catalogue, with the thing itself."""
    if run := catalogue.runs.get(name):
        return _of_run(catalogue, board, run)
    if version := _version(catalogue, name):
        return _of_version(catalogue, board, version)
    # The same rows may be frozen by several pipelines: the latest tells.
    found = [dataset for (_, dataset_id), dataset in catalogue.datasets.items() if dataset_id == name]
    return _of_dataset(catalogue, found[-1] if found else None)


def _of_version(catalogue: Catalogue, board: ProgressBoard, version: Version) -> Lineage:
    trained = version.trained
    runs = [
        run
        for run in catalogue.runs.values()
        if run.request.run_id == trained.run_id
        or (run.kind is RunKind.COMPRESSION and run.subject == trained.version_id)
    ]
    behind = _of_dataset(catalogue, catalogue.datasets.get((trained.pipeline, trained.dataset_id)))
    ordered = sorted(runs, key=lambda run: run.kind is not RunKind.TRAINING)
    told = tuple(run_of(run, board) for run in ordered)
    return replace(behind, version=version, runs=told, origin=_origin_of(catalogue, told))


def _of_run(catalogue: Catalogue, board: ProgressBoard, run: RunRecord) -> Lineage:
    if isinstance(run.request, TrainingRequested):
        behind = _of_dataset(catalogue, catalogue.datasets.get((run.request.pipeline, run.subject)))
        told = (run_of(run, board),)
        return replace(behind, runs=told, origin=_origin_of(catalogue, told))
    version = _version(catalogue, run.subject)
    if version is None:
        return Lineage(runs=(run_of(run, board),))
    behind = _of_version(catalogue, board, version)
    training = [each for each in behind.runs if each.kind is RunKind.TRAINING]
    return replace(behind, runs=(*training, run_of(run, board)))


def _origin_of(catalogue: Catalogue, runs: tuple[Run, ...]) -> Version | None:
    named = next((run.origin for run in runs if run.origin), "")
    return next((found for home in catalogue.homes if (found := _version(home, named))), None)


def _of_dataset(catalogue: Catalogue, dataset: Dataset | None) -> Lineage:
    if dataset is None:
        return Lineage()
    spec = catalogue.spec_of(dataset.frozen.pipeline, dataset.frozen.dataset_id)
    return Lineage(dataset=dataset, topic=specs.topic(spec) if spec else "")


def _version(catalogue: Catalogue, version_id: str) -> Version | None:
    found = [version for (_, name), version in catalogue.versions.items() if name == version_id]
    return found[-1] if found else None
