"""Segments that are held: which there are, which may be decided on, and what is wrong with a pipeline that has some."""

from collections.abc import Iterator

from headrace_runtime.errors import FailedPrecondition, InvalidInput, NotFound

from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts.hold import HeldSegment, Hold, HoldState, HoldVerdict
from headrace_model_registry.core.fate import RecordPlace
from headrace_model_registry.core.progress import PipelineTroubled
from headrace_model_registry.core.records import Held

PART = "segment"
"""The part of a pipeline that has a trouble where a segment is held."""
_LISTED = 10


def listed(catalogue: Catalogue, pipeline: str = "") -> list[Held]:
    """Return the segments of a pipeline, or of all, that are held or were dropped, in the order of their cuts."""
    return [held for (name, _), held in catalogue.held.items() if pipeline in ("", name)]


def require_held(catalogue: Catalogue, pipeline: str, wanted: Hold) -> None:
    """Demand that a segment waits for a decision, and that there is one.

    Raises InvalidInput without a decision, NotFound for a segment that nobody suspects, and FailedPrecondition for one
    that was dropped.
    """
    if wanted.verdict is HoldVerdict.UNSPECIFIED:
        raise InvalidInput("hold.verdict: expected HOLD_VERDICT_ACCEPT or HOLD_VERDICT_DROP, got neither")
    found = catalogue.held.get((pipeline, wanted.segment_id))
    if found is None:
        waiting = [held.segment.segment_id for held in listed(catalogue, pipeline) if _waits(held)]
        told = ", ".join(waiting[:_LISTED]) or "none"
        raise NotFound(f"pipeline {pipeline!r} holds no segment {wanted.segment_id!r}; held are: {told}")
    if not _waits(found):
        raise FailedPrecondition(f"segment {wanted.segment_id} of pipeline {pipeline!r} was dropped: it never counts")


def covering(catalogue: Catalogue, pipeline: str, place: RecordPlace) -> list[HeldSegment]:
    """Return a pipeline's suspected segments that were cut from ranges with this record in them, the newest first."""
    return [
        held.segment
        for held in reversed(listed(catalogue, pipeline))
        if any(
            each.partition == place.partition and each.start <= place.offset < each.end for each in held.segment.sources
        )
    ]


def troubles(catalogue: Catalogue) -> Iterator[PipelineTroubled]:
    """Yield what is suspected of each segment that waits for a decision."""
    for held in catalogue.held.values():
        if _waits(held):
            subject = f"segment {held.segment.segment_id}"
            yield PipelineTroubled(held.pipeline, PART, "model-registry", subject, held.reason, held.hold_time)


def _waits(held: Held) -> bool:
    return held.segment.state is HoldState.HELD
