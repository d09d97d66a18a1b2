"""Held segments: which there are, and how one is accepted or dropped."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from headrace.events.v1.hold_pb2 import HOLD_STATE_DROPPED, HOLD_STATE_HELD, HOLD_VERDICT_ACCEPT, Hold
from headrace.registry.v1 import registry_service_pb2 as messages

from headrace_client.errors import InputInvalid, NotFound, PipelineFailed, TimedOut
from headrace_client.registry import RegistryClient
from headrace_client.stages import duration_text
from headrace_client.views import View, iso_time
from headrace_client.waiting import states

STATES: Final = {HOLD_STATE_HELD: "held", HOLD_STATE_DROPPED: "dropped"}


def held_view(held: messages.Held) -> View:
    """Return a suspected segment: where it stands, its rows, and what is suspected of it."""
    segment = held.segment
    return {
        "pipeline": held.pipeline,
        "segment_id": segment.segment_id,
        "state": STATES.get(segment.state, "held"),
        "rows": segment.rows,
        "suspicions": [
            {"field": each.field or None, "figure": each.figure, "before": each.before, "after": each.after}
            for each in segment.suspicions
        ],
        "sources": [{"partition": part.partition, "start": part.start, "end": part.end} for part in segment.sources],
        "hold_time": iso_time(held.hold_time),
        "reason": held.reason,
    }


def suspicion_text(view: View) -> str:
    """Return which figure of which field was what, and is what."""
    of = f"{view['field']} " if view["field"] else ""
    share = view["figure"] in ("rejected", "missing")
    before, after = (f"{value:.1%}" if share else f"{value:.4g}" for value in (view["before"], view["after"]))
    return f"{of}{view['figure']} {before} → {after}"


def held_id(registry: RegistryClient, pipeline: str, beginning: str) -> str:
    """Return the id of the one segment that is held and begins so; of the only one where nothing is said.

    Raises NotFound when none is held, and InputInvalid when several are meant.
    """
    bare = beginning.removeprefix("sha256:")
    waiting = [each.segment.segment_id for each in registry.held(pipeline) if each.segment.state == HOLD_STATE_HELD]
    found = [one for one in waiting if one.removeprefix("sha256:").startswith(bare)]
    if len(found) == 1:
        return found[0]
    if not found:
        such = f" whose id begins with '{beginning}'" if beginning else ""
        raise NotFound(f"pipeline '{pipeline}' holds no segment{such}: `headrace hold list` lists them")
    raise InputInvalid(f"expected the beginning of one segment's id, got '{beginning}', which fits {len(found)}")


def settle(
    registry: RegistryClient,
    pipeline: str,
    hold: Hold,
    *,
    timeout_s: float = 300.0,
    on_request: Callable[[str], None] = lambda request_id: None,
) -> messages.WatchPipelineResponse:
    """Have a held segment accepted or dropped, and return the pipeline's state, with the dataset of an accepted one.

    Raises PipelineFailed when nothing came of it, and TimedOut when it did not end in time. `on_request` gets the
    request's id as soon as the registry took it.
    """
    deadline = time.monotonic() + timeout_s
    request_id = registry.settle(pipeline, hold)
    on_request(request_id)
    accepts = hold.verdict == HOLD_VERDICT_ACCEPT
    for state in states(registry, pipeline, deadline):
        stands = {each.segment.segment_id: each.segment.state for each in state.held}
        if state.dataset.frozen.request_id == request_id:
            return state
        if not accepts and stands.get(hold.segment_id) == HOLD_STATE_DROPPED:
            return state
        if state.failure:
            raise PipelineFailed(state.failure)
    raise TimedOut(
        f"pipeline '{pipeline}' was asked what becomes of segment {hold.segment_id} ({request_id}), and has not "
        f"answered after {duration_text(timeout_s)}"
    )
