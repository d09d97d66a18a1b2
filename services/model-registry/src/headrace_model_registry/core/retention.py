"""Which versions are kept: all, unless a pipeline says what it retains."""

from collections.abc import Collection
from datetime import datetime

from headrace_model_registry.core import origins, rollback, specs
from headrace_model_registry.core.catalogue import Catalogue, Key
from headrace_model_registry.core.facts import CHAMPION
from headrace_model_registry.core.records import Version, VersionState
from headrace_model_registry.core.wishes import Rollback


def let_go(catalogue: Catalogue, moment: datetime) -> list[Version]:
    """Return the versions that are not retired yet and that no pipeline retains, by pipeline and oldest first.

    What is served under an alias, what a rollback would serve next, a candidate, and what `train.from` of a pipeline
    names are kept in any case.
    """
    needed = _needed(catalogue)
    return [
        version
        for pipeline in catalogue.pipelines
        for version in _beyond(catalogue, pipeline, moment)
        if (pipeline, version.trained.version_id) not in needed
    ]


def _needed(catalogue: Catalogue) -> Collection[Key]:
    releases = list(catalogue.aliases.values())
    for model, alias in catalogue.aliases:
        earlier = rollback.target(catalogue, Rollback(model)) if alias == CHAMPION else ""
        if not isinstance(earlier, str):
            releases.append(earlier)
    candidates = (key for key, version in catalogue.versions.items() if version.state is VersionState.CANDIDATE)
    return {
        *candidates,
        *origins.named_in_force(catalogue),
        *((each.released.pipeline, each.released.version_id) for each in releases),
    }


def _beyond(catalogue: Catalogue, pipeline: str, moment: datetime) -> list[Version]:
    """Return a pipeline's versions that are too many, or too old, for what it retains."""
    retain = specs.parse(catalogue.pipelines[pipeline].spec).retain
    if retain is None:
        return []
    versions = [version for (name, _), version in catalogue.versions.items() if name == pipeline]
    kept = [version for version in versions if version.state is not VersionState.RETIRED]
    older = kept[: -retain.versions] if retain.versions is not None else kept
    return [version for version in older if not (retain.age and _age_s(catalogue, version, moment) <= retain.age)]


def _age_s(catalogue: Catalogue, version: Version, moment: datetime) -> float:
    """Return how long ago a version was trained, in seconds; 0 when nobody knows."""
    run = catalogue.runs.get(version.trained.run_id)
    return (moment - run.end_time).total_seconds() if run and run.end_time else 0.0
