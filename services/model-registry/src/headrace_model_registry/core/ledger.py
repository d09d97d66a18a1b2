"""The ledger of privacy: what all runs on a producers' topic may have told of each of its rows.

What several runs tell of a row adds up, epsilon and delta alike, whatever was chosen by what came before (Dwork and
Roth, "The Algorithmic Foundations of Differential Privacy", 2014, theorem 3.16). Counted is what a run may spend, from
the moment that it is asked for, whatever became of it: nobody knows what an attempt that died has told. So are runs of
pipelines that were deleted. Runs without `train.privacy` promise nothing, and are not in it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from headrace_model_registry.core import specs
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import TrainingRefused, TrainingRequested
from headrace_model_registry.core.progress import PipelineTroubled
from headrace_model_registry.core.records import RunState

PART = "privacy"
"""The part of a pipeline that has a trouble when its run is refused."""
_ROUNDING = 1e-9
"""A sum this little over the total is at the total: ten times 0.1 is more than 1 in binary."""
_NOT_BEGUN = (RunState.WAITING, RunState.SUPERSEDED)


@dataclass(frozen=True, slots=True)
class Spent:
    """What runs on a topic may have told of one of its rows, all together."""

    topic: str
    runs: int
    epsilon: float
    delta: float


def spent(catalogue: Catalogue, topic: str) -> Spent:
    """Return what the runs on a topic may have told, those under way included."""
    found = list(_reserved(catalogue, topic))
    return Spent(topic, len(found), sum(epsilon for epsilon, _ in found), sum(delta for _, delta in found))


def refusal(request: TrainingRequested, catalogue: Catalogue) -> TrainingRefused | None:
    """Return why a run must not begin; None where it may, or promises nothing."""
    privacy, topic = specs.privacy(request.spec), specs.topic(request.spec)
    if privacy is None or privacy.total is None:
        return None
    before = spent(catalogue, topic)
    if before.epsilon + privacy.epsilon <= privacy.total + _ROUNDING:
        return None
    reason = (
        f"train.privacy: expected all runs on topic {topic!r} to spend an epsilon of at most {privacy.total:g} of each "
        f"row, got {privacy.epsilon:g} beside {before.epsilon:g} of {before.runs} runs before; raise "
        "train.privacy.total, which is a decision about the people in these rows, or stop training on them"
    )
    return TrainingRefused(request.run_id, request.pipeline, request.dataset, request.spec, reason)


def troubles(catalogue: Catalogue, now: datetime) -> Iterator[PipelineTroubled]:
    """Yield the refusal of each pipeline whose latest training run never began for it."""
    for name in catalogue.pipelines:
        runs = (run for run in reversed(catalogue.runs.values()) if run.request.pipeline == name)
        latest = next((run for run in runs if isinstance(run.request, TrainingRequested)), None)
        if latest is not None and latest.never_began:
            yield PipelineTroubled(name, PART, "model-registry", "", latest.reason, latest.end_time or now)


def _reserved(catalogue: Catalogue, topic: str) -> Iterator[tuple[float, float]]:
    """Yield epsilon and delta of each run on a topic that was begun."""
    for home in catalogue.homes:
        for run in home.runs.values():
            if not isinstance(run.request, TrainingRequested) or run.never_began or run.state in _NOT_BEGUN:
                continue
            privacy = specs.privacy(run.request.spec)
            if privacy is not None and specs.topic(run.request.spec) == topic:
                yield privacy.epsilon, privacy.delta
