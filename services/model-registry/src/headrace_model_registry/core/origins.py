"""Which version a training run begins from: `train.from` of its spec, looked up when the run is planned.

Afterwards the request tells: whoever is released or let go meanwhile, a run that is done again begins from the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from headrace_data.spec import NamedVersion, Pipeline, named_version

from headrace_model_registry.core import specs
from headrace_model_registry.core.catalogue import Catalogue, Key
from headrace_model_registry.core.facts import (
    CHAMPION,
    DatasetReference,
    Decision,
    ModelReleased,
    ModelTrained,
    TrainingRequested,
    VersionReference,
)
from headrace_model_registry.core.records import Version, VersionState


def begun(request: TrainingRequested, catalogue: Catalogue, decisions: Sequence[Decision] = ()) -> TrainingRequested:
    """Return the request with the version that it begins from; `decisions` are what was decided just before it."""
    version = _version(specs.parse(request.spec), catalogue, decisions)
    return replace(request, origin=reference(version.trained, catalogue) if version else None)


def reference(trained: ModelTrained, catalogue: Catalogue) -> VersionReference:
    """Return where a version is with its dataset."""
    frozen = catalogue.datasets[trained.pipeline, trained.dataset_id].frozen
    # The uncompressed graph, also of a champion that is served in a smaller form: version is compared with version.
    dataset = DatasetReference(frozen.dataset_id, frozen.manifest)
    return VersionReference(trained.version_id, trained.graph, dataset, trained.weights)


def objection(pipeline: Pipeline, catalogue: Catalogue) -> str:
    """Return why no run by a spec could begin from the version that it names; empty when one could, or none is named.

    A champion that is not there yet is no fault: the first run begins from the seed.
    """
    named = _named(pipeline)
    if named is None:
        return ""
    if named.pipeline and named.pipeline not in catalogue.pipelines:
        known = ", ".join(sorted(catalogue.pipelines)) or "none"
        return f"train.from: expected a pipeline that is in force, got {named.pipeline!r}; known are: {known}"
    if not named.ordinal or _version(pipeline, catalogue):
        return ""
    model = _model(pipeline, named, catalogue)
    ordinals = [version.ordinal for version in _of_model(model, catalogue)]
    known = ", ".join(map(str, ordinals[-20:])) or "none"
    return f"train.from: expected a version of model {model!r} that is kept, got {named.ordinal}; known are: {known}"


def named_in_force(catalogue: Catalogue) -> Iterator[Key]:
    """Yield the versions that specs in force name: runs may begin from them as long as they do."""
    for applied in catalogue.pipelines.values():
        version = _version(specs.parse(applied.spec), catalogue)
        if version is not None:
            yield version.trained.pipeline, version.trained.version_id


def _version(pipeline: Pipeline, catalogue: Catalogue, decisions: Sequence[Decision] = ()) -> Version | None:
    """Return the version that a pipeline's runs begin from now, None for the seed, or where it is not there."""
    named = _named(pipeline)
    model = named and _model(pipeline, named, catalogue)
    if named is None or model is None:
        return None
    if named.ordinal:
        found = [version for version in _of_model(model, catalogue) if version.ordinal == named.ordinal]
        return found[-1] if found else None
    for decision in decisions:
        if isinstance(decision, ModelReleased) and (decision.model, decision.alias) == (model, CHAMPION):
            return catalogue.versions[decision.pipeline, decision.version_id]
    return catalogue.champion(model)


def _named(pipeline: Pipeline) -> NamedVersion | None:
    return None if pipeline.train.origin is None else named_version(pipeline.train.origin)


def _model(pipeline: Pipeline, named: NamedVersion, catalogue: Catalogue) -> str | None:
    """Return the model whose version is named; None when the pipeline that is named is not in force."""
    if not named.pipeline or named.pipeline == pipeline.name:
        return pipeline.model
    other = catalogue.pipelines.get(named.pipeline)
    return specs.parse(other.spec).model if other else None


def _of_model(model: str | None, catalogue: Catalogue) -> list[Version]:
    versions = (version for version in catalogue.versions.values() if version.trained.model == model)
    return [version for version in versions if version.state is not VersionState.RETIRED]
