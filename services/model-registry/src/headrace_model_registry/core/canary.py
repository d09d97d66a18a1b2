"""Holding a version against another on rows of the past: which run that is, and what came of it. No alias moves."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from headrace_data.spec import own_name

from headrace_model_registry.core import specs
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import CanaryJudged, CanaryRows, CompressionRequested
from headrace_model_registry.core.origins import reference
from headrace_model_registry.core.records import RunState, Version, VersionState
from headrace_model_registry.core.training import working_spec
from headrace_model_registry.core.verdict import task_learned
from headrace_model_registry.core.wishes import Canary

_LEAST_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class CanaryShown:
    """What came of a canary, as callers see it."""

    judged: CanaryJudged
    model: str
    ordinal: int
    champion_ordinal: int
    end_time: datetime


def wanted(catalogue: Catalogue, wish: Canary) -> CompressionRequested | str:
    """Return the run that holds a version against another, or why there is none to be had."""
    found = [_version(catalogue, wish.model, name) for name in (wish.version, wish.against)]
    for each in found:
        if isinstance(each, str):
            return each
    candidate, champion = (each for each in found if isinstance(each, Version))
    told = f"versions {candidate.ordinal} and {champion.ordinal} of model {wish.model}"
    if candidate.trained.version_id == champion.trained.version_id:
        return f"version {candidate.ordinal} of model {wish.model} cannot be held against itself"
    pipeline = candidate.trained.pipeline
    applied = catalogue.pipelines.get(pipeline)
    own, other = (catalogue.spec_of(each.trained.pipeline, each.trained.dataset_id) for each in (candidate, champion))
    if applied is None or wish.history is None or own is None or other is None:
        return f"pipeline {pipeline} has no rows any more that {told} could be held against each other on"
    if not (specs.same_rows(own, other) and task_learned(candidate.trained) is task_learned(champion.trained)):
        return f"{told} answer different questions, or take other features"
    spec = working_spec(pipeline, own, catalogue)
    if not (specs.same_split(own, other) and specs.same_split(own, spec)):
        return f"{told} were tested on rows that were split by another rule: one may have learned from the other's test"
    key = (own_name(pipeline, applied.incarnation), candidate.trained.version_id, champion.trained.version_id)
    return CompressionRequested(
        run_id="canary-" + specs.canary_digest(*key, wish.history.digest, wish.last_s, spec),
        pipeline=pipeline,
        candidate=reference(candidate.trained, catalogue),
        champion=reference(champion.trained, catalogue),
        spec=spec,
        canary=CanaryRows(wish.history, wish.last_s),
    )


def is_known(catalogue: Catalogue, request: CompressionRequested) -> bool:
    """Tell whether a run goes on, or has ended with a result."""
    run = catalogue.runs.get(request.run_id)
    return run is not None and run.state in (RunState.RUNNING, RunState.SUCCEEDED)


def pipeline_of(catalogue: Catalogue, wish: Canary) -> str:
    """Return the pipeline of the version that is asked about; empty for one that is not known."""
    found = _version(catalogue, wish.model, wish.version)
    return found.trained.pipeline if isinstance(found, Version) else ""


def listed(catalogue: Catalogue, model: str = "") -> list[CanaryShown]:
    """Return what came of the canaries of a model, or of all, in the order of their ends."""
    # The other version may be of another pipeline that feeds the model.
    known = {each.trained.version_id: each for each in catalogue.versions.values()}
    return [
        CanaryShown(judged, one.trained.model, one.ordinal, other.ordinal, time)
        for judged, time in catalogue.tried.canaries
        for one, other in [(known.get(judged.version_id), known.get(judged.champion_id))]
        if one is not None and other is not None and model in ("", one.trained.model)
    ]


def _version(catalogue: Catalogue, model: str, name: str) -> Version | str:
    own = [each for each in catalogue.versions.values() if each.trained.model == model]
    if not own:
        return f"model {model} has no version"
    alias = catalogue.aliases.get((model, name))
    wanted = alias.released.version_id if alias else name
    digits = wanted.removeprefix("sha256:")
    found = [
        each
        for each in own
        if name == str(each.ordinal)
        or (len(digits) >= _LEAST_DIGITS and each.trained.version_id.removeprefix("sha256:").startswith(digits))
    ]
    if len(found) != 1:
        known = ", ".join(str(each.ordinal) for each in own[-20:])
        return f"{len(found) or 'no'} versions of model {model} are called {name!r}; known are: {known}"
    (version,) = found
    if version.state is VersionState.RETIRED:
        return f"version {version.ordinal} of model {model} is retired: its pipeline retains it no longer"
    return version
