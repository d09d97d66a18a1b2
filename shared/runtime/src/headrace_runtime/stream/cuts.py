"""The newest cut of each pipeline, for whoever makes none."""

from __future__ import annotations

from headrace.events.v1.segment_pb2 import SegmentCut

from headrace_runtime.kafka.views import CompactedView
from headrace_runtime.records import Record
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import SEGMENT_CUT

READY_S = 30.0
"""How long the first cut that is asked for may take to be known."""


class NewestCuts(CompactedView[SegmentCut]):
    """Follows `headrace.segment.cut.v1`. Safe for use by several threads."""

    def __init__(self, settings: KafkaSettings, name: str) -> None:
        super().__init__(settings, SEGMENT_CUT, SegmentCut, self._take, name)
        self._newest: dict[tuple[str, int], SegmentCut] = {}

    def of(self, pipeline: str, incarnation: int) -> SegmentCut | None:
        """Return the newest cut of a pipeline that is known here, None when it has none.

        Raises Unavailable when the topic is not read to its end in time.
        """
        self.wait_ready(READY_S)
        return self._newest.get((pipeline, incarnation))

    def _take(self, _: str, cut: SegmentCut | None, _record: Record) -> None:
        if cut is not None:
            self._newest[cut.pipeline, cut.incarnation] = cut
