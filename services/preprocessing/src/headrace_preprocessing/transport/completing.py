"""What a cut comes to: a segment in the history, held or counting, and the dataset of the window with it."""

from __future__ import annotations

from headrace_data.errors import DataError
from headrace_data.history import History, keep, prepared_under
from headrace_data.retention import retained
from headrace_data.segments import Segment
from headrace_data.windows import Windows

from headrace_preprocessing.transport.holds import Holds
from headrace_preprocessing.transport.orders import TakenIn


def completed(segment: Segment, history: History, windows: Windows, holds: Holds) -> TakenIn:
    """Keep a segment, and return the dataset of the window that it completes; none where the segment is held.

    Where a dataset has its rows alone, they wait for more until there can be one; elsewhere they are part of the
    history whatever is wrong with the window. Raises DatasetUnusable in the first case.
    """
    pipeline = holds.pipeline
    held = holds.suspected(segment, history)
    entry = keep(segment, pipeline, holds.store).model_copy(update={"held": held})
    if held is not None:
        return holds.hold(entry, segment.manifest, history)
    history = history.and_cut(entry)
    try:
        manifest, history = windows.dataset(history)
    except DataError as error:
        if pipeline.prepare.window == "new":
            raise
        history = windows.known(history).model_copy(update={"prepared": prepared_under(pipeline)})
        return TakenIn(history, None, f"the rows are in the history, and no dataset came of the window: {error}")
    return TakenIn(retained(history, pipeline), manifest, remarks=windows.remarks, entry=entry)
