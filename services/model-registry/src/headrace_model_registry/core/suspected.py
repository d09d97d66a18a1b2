"""Where suspected segments stand."""

from dataclasses import replace
from datetime import datetime

from headrace_model_registry.core.facts.hold import HeldSegment, HoldState
from headrace_model_registry.core.records import Held


def suspected(
    held: dict[tuple[str, str], Held], pipeline: str, segment: HeldSegment | None, time: datetime, reason: str = ""
) -> None:
    """Remember in `held`, by pipeline and segment id, where a segment stands; one that counts is like any other."""
    if segment is None:
        return
    key = (pipeline, segment.segment_id)
    known = held.get(key)
    if segment.state is HoldState.ACCEPTED:
        held.pop(key, None)
    elif known is None:
        held[key] = Held(pipeline, segment, time, reason)
    else:
        held[key] = replace(known, segment=segment)
