"""Segments that are held: suspected when they are cut, and accepted or dropped as a request orders."""

from __future__ import annotations

import logging
from collections.abc import Callable

from headrace.events.v1 import artifact_pb2, dataset_pb2, hold_pb2, record_pb2
from headrace_data.errors import DataError
from headrace_data.held import Held
from headrace_data.history import Entry, History, prepared_under
from headrace_data.holding import suspicions
from headrace_data.manifest import SegmentManifest
from headrace_data.parts import BlobStore
from headrace_data.segments import Segment
from headrace_data.spec import Pipeline
from headrace_data.windows import Windows
from prometheus_client import Gauge

from headrace_preprocessing.transport.orders import TakenIn, nothing_of

logger = logging.getLogger(__name__)

HELD = Gauge("headrace_freeze_held_segments", "Segments that wait until somebody accepts or drops them.", ["pipeline"])


def show_held(pipeline: str, history: History | None) -> None:
    """Show how many segments wait; none where another instance freezes."""
    HELD.labels(pipeline).set(len(history.held) if history is not None else 0)


class Holds:
    """The held segments of one pipeline."""

    def __init__(self, pipeline: Pipeline, store: BlobStore) -> None:
        self.pipeline = pipeline
        self.store = store

    def suspected(self, segment: Segment, history: History) -> Held | None:
        """Return what is suspected of a segment that goes on from a history; None when it counts."""
        try:
            found = suspicions(segment, history, self.pipeline, self.store)
        except DataError as error:
            # What there is to compare with is gone: whatever depends on it will say so.
            logger.warning("segment %s is compared with nothing: %s", segment.manifest.segment_id, error)
            return None
        return Held(suspicions=found) if found else None

    def hold(self, entry: Entry, manifest: SegmentManifest, history: History) -> TakenIn:
        """Return what a cut comes to that is held."""
        reason = (
            f"segment {entry.segment_id} is held, and its {entry.rows} rows are part of no dataset: {entry.held}. "
            f"`headrace hold accept {self.pipeline.name}` has them learned all the same, and `headrace hold drop "
            f"{self.pipeline.name}` leaves them out for good"
        )
        told = {"held": _message(entry, manifest, hold_pb2.HOLD_STATE_HELD)}
        return TakenIn(history.and_cut(entry), None, reason, entry.rows, told)

    def settle(
        self, request: dataset_pb2.DatasetRequested, _asked_s: float, history: History, beat: Callable[[], None]
    ) -> TakenIn:
        """Accept or drop a held segment, as a request says."""
        wanted = request.hold.segment_id
        entry = next((each for each in history.entries if each.segment_id == wanted), None)
        if entry is None or entry.held is None or entry.held.dropped:
            return nothing_of("hold", history, f"segment {wanted} {_state(entry)}")
        try:
            manifest = SegmentManifest.from_json(self.store.get(entry.manifest))
        except DataError as error:
            return nothing_of("hold", history, f"segment {wanted}: {error}")
        if request.hold.verdict != hold_pb2.HOLD_VERDICT_ACCEPT:
            reason = f"segment {wanted} was dropped: its {entry.rows} rows are part of no dataset"
            left = history.with_held(wanted, entry.held.model_copy(update={"dropped": True}))
            told = {"held": _message(entry, manifest, hold_pb2.HOLD_STATE_DROPPED)}
            return TakenIn(left, None, reason, entry.rows, told)
        return self._accept(entry, manifest, history.with_held(wanted, None), beat)

    def _accept(self, entry: Entry, manifest: SegmentManifest, history: History, beat: Callable[[], None]) -> TakenIn:
        told = {"held": _message(entry, manifest, hold_pb2.HOLD_STATE_ACCEPTED)}
        windows = Windows(self.pipeline, self.store, beat)
        # What is new then is this segment, also where newer ones were cut meanwhile.
        accepted = next(each for each in history.entries if each.segment_id == entry.segment_id)
        is_new = self.pipeline.prepare.window == "new"
        looked_at = history.model_copy(update={"entries": (accepted,)}) if is_new else history
        try:
            dataset, _ = windows.dataset(looked_at)
        except DataError as error:
            reason = f"segment {entry.segment_id} was accepted, and no dataset came of the window: {error}"
            return TakenIn(self._known(windows, history), None, reason, entry.rows, told)
        history = self._known(windows, history)
        return TakenIn(history, dataset, "", entry.rows, told, remarks=windows.remarks, entry=accepted)

    def _known(self, windows: Windows, history: History) -> History:
        return windows.known(history).model_copy(update={"prepared": prepared_under(self.pipeline)})


def _state(entry: Entry | None) -> str:
    if entry is None:
        return "is not part of the pipeline's history"
    return "is not held" if entry.held is None else "was dropped before"


def _message(entry: Entry, manifest: SegmentManifest, state: hold_pb2.HoldState.ValueType) -> hold_pb2.HeldSegment:
    held, stored = entry.held, entry.manifest
    return hold_pb2.HeldSegment(
        segment_id=entry.segment_id,
        manifest=artifact_pb2.Artifact(uri=stored.uri, digest=stored.digest, size_bytes=stored.size_bytes),
        rows=entry.rows,
        sources=[
            record_pb2.SourceRange(partition=each.partition, start=each.start, end=each.end)
            for each in manifest.provenance.sources
        ],
        suspicions=[hold_pb2.Suspicion(**each.model_dump()) for each in (held.suspicions if held else ())],
        state=state,
    )
