"""The variants of a released version made again with rows of a newer dataset: nothing is trained.

What int8 makes of activations is fitted to the rows that it was calibrated on. Where those of a stream have moved on
and no newer version was good enough, the champion can be fitted to the newer ones. To the compressor this is a
compression like any other, of a version whose dataset is the newer one; the verdict over it compares with nobody.
"""

from typing import Final

from headrace_data.spec import own_name

from headrace_model_registry.core import specs
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import (
    CHAMPION,
    CompressionRequested,
    DatasetReference,
    RunKind,
    VersionReference,
)
from headrace_model_registry.core.records import RunRecord, RunState
from headrace_model_registry.core.wishes import Recalibration

REASON: Final = "recalibrated"
"""What a release says whose variants were made again."""
_PREFIX: Final = "recalibrate-"


def is_one(run: RunRecord) -> bool:
    """Tell whether a run makes variants of a released version again."""
    return run.request.run_id.startswith(_PREFIX)


def kind(run: RunRecord) -> RunKind:
    """Return what a run does, as it is told of."""
    if isinstance(run.request, CompressionRequested) and run.request.canary:
        return RunKind.CANARY
    if run.kind is RunKind.COMPRESSION and not run.holds_up:
        return RunKind.MEASUREMENT
    return RunKind.RECALIBRATION if is_one(run) else run.kind


def wanted(catalogue: Catalogue, wish: Recalibration) -> CompressionRequested | str:
    """Return the run that makes the variants again, or why there is none to be had."""
    champion = catalogue.champion(wish.model)
    release = catalogue.aliases.get((wish.model, CHAMPION))
    if champion is None or release is None:
        return f"nothing of model {wish.model} is served"
    trained = champion.trained
    pipeline, newest = trained.pipeline, catalogue.newest_dataset(trained.pipeline)
    learned_by = catalogue.spec_of(pipeline, trained.dataset_id)
    if newest is None or learned_by is None or pipeline not in catalogue.pipelines:
        return f"pipeline {pipeline} has no dataset any more that its variants could be made with"
    told = f"version {champion.ordinal} of model {wish.model}"
    if newest.frozen.dataset_id == trained.dataset_id:
        return f"{told} learned from dataset {trained.dataset_id}, and there is no newer one to make its variants with"
    spec = catalogue.specs[pipeline, newest.frozen.spec_digest]
    if not specs.same_rows(learned_by, spec):
        return f"{told} has other features than dataset {newest.frozen.dataset_id}, the newest"
    if not specs.same_split(learned_by, spec):
        return f"{told} learned from rows that dataset {newest.frozen.dataset_id}, the newest, keeps apart for its test"
    own = own_name(pipeline, newest.frozen.incarnation)
    in_force = catalogue.pipelines[pipeline].spec
    spec = in_force if specs.same_rows(in_force, spec) else spec
    asked = catalogue.runs.get(trained.run_id)
    if asked is not None and not specs.same_question(asked.request.spec, spec):
        return f"{told} answers another question than pipeline {pipeline} asks by now"
    parsed = specs.parse(spec)
    if parsed.train.privacy is not None or parsed.compress.gates.membership_auc is not None:
        return f"{told} keeps to itself which rows it learned from: newer ones would be used beside what was reckoned"
    run_id = _PREFIX + specs.recalibration_digest(own, trained.version_id, newest.frozen.dataset_id, spec)
    known = catalogue.runs.get(run_id)
    is_served = release.released.graph.digest in {each.graph.digest for each in champion.variants}
    # After a rollback they are not: the run is asked for again, and whoever gets it finds its result.
    if known is not None and (known.state is RunState.RUNNING or (known.state is RunState.SUCCEEDED and is_served)):
        return f"run {run_id} made the variants of {told} with dataset {newest.frozen.dataset_id}, or is about to"
    if catalogue.is_busy(pipeline):
        return f"pipeline {pipeline} has a version under way: ask again when that is released or refused"
    dataset = DatasetReference(newest.frozen.dataset_id, newest.frozen.manifest)
    version = VersionReference(trained.version_id, trained.graph, dataset, trained.weights)
    return CompressionRequested(run_id, pipeline, version, None, spec)
