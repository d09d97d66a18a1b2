"""Following a pipeline until a goal is reached, it failed, or time is over."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from headrace.events.v1.backfill_pb2 import Backfill
from headrace.events.v1.model_pb2 import ModelReleased
from headrace.events.v1.pipeline_pb2 import PipelineSpec
from headrace.registry.v1 import registry_service_pb2 as messages

from headrace_client.errors import InputInvalid, NotFound, NotReady, PipelineFailed, TimedOut, Unreachable
from headrace_client.inference import InferenceClient
from headrace_client.registry import RegistryClient
from headrace_client.stages import Goal, Stage, Wanted, duration_text, failure, reached, stages, waiting_for

RECONNECT_S = 20.0
"""How long a registry that answered before may be away, for example while it restarts."""
RECONNECT_PAUSE_S = 0.5
SERVED_PAUSE_S = 0.1
HISTORY_S = 3.0
"""A failure that stands this long while nothing moves is what the waiting ends with."""
LONGEST_IDLE_S = 60.0
"""Rows that came after a failed freeze wait for afterIdle before the next one; no longer than this for them."""


@dataclass
class Progress:
    """The latest of what is known: the registry's state (None before the first) and the stages it means."""

    state: messages.WatchPipelineResponse | None = None
    stages: list[Stage] = field(default_factory=list)


OnProgress = Callable[[Progress], None]


def wait_for(
    registry: RegistryClient,
    pipeline: str,
    goal: Goal = Goal.RELEASED,
    *,
    timeout_s: float = 300.0,
    after: str = "",
    on_progress: OnProgress = lambda progress: None,
) -> Progress:
    """Follow a pipeline until its newest dataset under the spec in force has reached the goal.

    Returns at once when it has already. `after` names a dataset that does not count any more, by its id or the
    beginning of it. Raises PipelineFailed with the reason when a freeze or a run failed or the version was refused,
    TimedOut saying what was waited for, NotFound when there is no such pipeline or dataset, InputInvalid when several
    begin so. A failure that is there already is history when something moves within HISTORY_S, for example because
    records come in; after a failed freeze, afterIdle counts on top, because rows that came since wait so long for the
    next one. `on_progress` is called with each new state.
    """
    deadline = time.monotonic() + timeout_s
    spec = registry.pipeline(pipeline).spec
    wanted = _wanted(spec, _whole_id(registry, pipeline, after) if after else "")
    progress = Progress()
    history: str | None = None
    for state in states(registry, pipeline, deadline):
        frozen = state.dataset.frozen
        if state.HasField("dataset") and frozen.spec_digest != wanted.spec_digest:
            # Either an old dataset, or one of a spec that was applied since: only the registry knows.
            wanted = _wanted(registry.pipeline(pipeline).spec, wanted.after)
        progress.state, progress.stages = state, stages(state, goal, wanted)
        on_progress(progress)
        if reached(progress.stages):
            return progress
        reason = failure(progress.stages)
        if history is None:
            pause_s = HISTORY_S + (_idle_s(spec) if state.failure and state.HasField("filling") else 0.0)
            until = min(deadline, time.monotonic() + pause_s)
            history = reason if reason and _moves(registry, pipeline, state, until) else ""
        if reason and reason != history:
            raise PipelineFailed(reason)
    raise TimedOut(_late(pipeline, goal, timeout_s, progress, history or ""))


def _whole_id(registry: RegistryClient, pipeline: str, beginning: str) -> str:
    """Return the id of the one dataset that begins so, as tables show ids; a wrong one would leave out nothing."""
    bare = beginning.removeprefix("sha256:")
    ids = {dataset.frozen.dataset_id for dataset in registry.datasets(pipeline)}
    found = [one for one in ids if one.removeprefix("sha256:").startswith(bare)]
    if not found:
        raise NotFound(f"pipeline '{pipeline}' has no dataset '{beginning}': `headrace get` lists them", "NOT_FOUND")
    if len(found) > 1:
        raise InputInvalid(f"expected the beginning of one dataset's id, got '{beginning}', which fits {len(found)}")
    return found[0]


def _moves(registry: RegistryClient, pipeline: str, state: messages.WatchPipelineResponse, until: float) -> bool:
    """Return whether a pipeline's state changes before that moment; that a trouble is told once more is no change."""
    before = _without_troubles(state)
    return any(_without_troubles(current) != before for current in states(registry, pipeline, until))


def _without_troubles(state: messages.WatchPipelineResponse) -> messages.WatchPipelineResponse:
    bare = messages.WatchPipelineResponse()
    bare.CopyFrom(state)
    bare.ClearField("troubles")
    return bare


def _wanted(spec: PipelineSpec, after: str) -> Wanted:
    return Wanted(spec.digest, after, _freeze(spec).get("minRecords", 1))


def _idle_s(spec: PipelineSpec) -> float:
    """Return the pipeline's afterIdle in seconds, at most LONGEST_IDLE_S; 0 when it has none."""
    # Imported here: the other commands start faster without it.
    from headrace_data.spec.scalars import parse_duration

    written = _freeze(spec).get("afterIdle")
    return min(parse_duration(written), LONGEST_IDLE_S) if written else 0.0


def _freeze(spec: PipelineSpec) -> dict[str, Any]:
    """Return the pipeline's freeze policy as it is written."""
    found: dict[str, Any] = json.loads(spec.json).get("prepare", {}).get("freeze", {})
    return found


def _late(pipeline: str, goal: Goal, timeout_s: float, progress: Progress, history: str) -> str:
    awaited = waiting_for(progress.stages) if progress.stages else "the registry's first answer"
    before = f"; before that, {history}" if history else ""
    return f"pipeline '{pipeline}' was not {goal} after {duration_text(timeout_s)}: still waiting for {awaited}{before}"


def freeze(
    registry: RegistryClient,
    pipeline: str,
    *,
    timeout_s: float = 60.0,
    backfill: Backfill | None = None,
    on_request: Callable[[str], None] = lambda request_id: None,
) -> messages.Dataset:
    """Ask for a dataset now, or for one with a backfill, and return it once it is frozen.

    Raises PipelineFailed when the freeze failed and TimedOut when it did not end in time. `on_request` gets the
    request's id as soon as the registry took it.
    """
    deadline = time.monotonic() + timeout_s
    request_id = registry.freeze(pipeline, backfill)
    on_request(request_id)
    # The registry forgets an older failure when it takes the request: a failure seen from here on is this one's.
    for state in states(registry, pipeline, deadline):
        if state.dataset.frozen.request_id == request_id:
            return state.dataset
        if state.failure:
            raise PipelineFailed(state.failure if backfill else f"the freeze failed: {state.failure}")
    raise TimedOut(
        f"pipeline '{pipeline}' was asked for a dataset ({request_id}), still not frozen "
        f"after {duration_text(timeout_s)}"
    )


def wait_served(inference: InferenceClient, release: ModelReleased, *, timeout_s: float = 15.0) -> bool:
    """Return whether inference serves a release, waiting for it to be loaded. Raises Unreachable when it is not up."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if str(release.ordinal) in inference.metadata(release.model).versions:
                return True
        except (NotFound, NotReady):
            pass  # the release has not got there yet, or its graph is being loaded
        if time.monotonic() >= deadline:
            return False
        time.sleep(SERVED_PAUSE_S)


def states(registry: RegistryClient, pipeline: str, deadline: float) -> Iterator[messages.WatchPipelineResponse]:
    """Yield states until the deadline (time.monotonic); a registry that answered once may go away for a while."""
    lost: float | None = None
    answered = False
    while (left := deadline - time.monotonic()) > 0:
        try:
            for state in registry.watch(pipeline, timeout_s=left):
                answered, lost = True, None
                yield state
        except TimedOut:
            return
        except (Unreachable, NotReady):
            if not answered or (lost is not None and time.monotonic() - lost > RECONNECT_S):
                raise
        lost = lost if lost is not None else time.monotonic()
        time.sleep(min(RECONNECT_PAUSE_S, max(0.0, deadline - time.monotonic())))
