"""Records over REST: a body of records as their producers send them, and an answer to each."""

from __future__ import annotations

from typing import Final

from headrace_runtime.errors import InvalidInput
from headrace_runtime.priorities import LAST
from starlette.requests import Request

from headrace_inference.transport.records.asked import AskedRecords, Form
from headrace_inference.transport.records.desk import RecordDesk
from headrace_inference.transport.rest.caller import Bodies, Caller, whole_number
from headrace_inference.transport.rest.told import Told

PRIORITY: Final = "headrace-priority"
"""Header: whose turn it is among calls that wait, 1 (first) to 5."""
_FORMS: Final = {
    "application/json": Form.JSON,
    "application/x-www-form-urlencoded": Form.JSON,  # which curl says of any body
    "": Form.JSON,
    "application/x-ndjson": Form.LINES,
    "application/jsonl": Form.LINES,
}
"""What bodies hold by their type; those of any other are one record, as its producer sends it."""


class Records:
    """Answers them with a desk, in its event loop."""

    def __init__(self, desk: RecordDesk, bodies: Bodies) -> None:
        self._desk = desk
        self._bodies = bodies

    async def predict(self, request: Request, caller: Caller) -> Told:
        """Answer each record of a body."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        priority = whole_number(request.headers, PRIORITY) or 0
        if priority > LAST:
            raise InvalidInput(f"header {PRIORITY}: expected 1 (first) to {LAST} (last), or 0, got {priority}")
        # No JSON is read in this process, so that it may be as large as any body.
        body = await self._bodies.read(request.receive, request.headers, is_read_here=False)
        named = request.path_params
        asked = AskedRecords(_FORMS.get(kind, Form.VALUE), body, named["model"], named.get("version", ""), priority)
        return Told(await self._desk.answer(asked, caller))
