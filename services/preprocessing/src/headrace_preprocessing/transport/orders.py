"""What a request may order beside a dataset of what waits: one kind each, in one literal table.

An order is carried out by the instance that freezes, in its turn among the requests. It changes the history or leaves
it as it is, and ends in one fact: the dataset of the window over what there is then, a fact of its own, or why there is
none. Who carries it out is told in takers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from google.protobuf.message import Message
from headrace.events.v1 import dataset_pb2
from headrace_data.history import Entry, History
from headrace_data.manifest import Manifest
from headrace_data.windows import NO_REMARKS, Remarks
from headrace_runtime.records import Outgoing
from headrace_runtime.telemetry import names

Order = Literal["backfill", "forget", "hold"]
"""Names of fields of DatasetRequested."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a kind of order, whoever carries it out."""

    span: str
    """Name of the span that it is carried out in."""
    noun: str
    """What it is called when it comes to nothing."""


ORDERS: Final[Mapping[Order, Kind]] = {
    "backfill": Kind(names.SPAN_BACKFILL, "backfill"),
    "hold": Kind(names.SPAN_HOLD, "decision"),
    "forget": Kind(names.SPAN_FORGET, "forgetting of a key"),
}


def _nothing() -> None:
    """Do nothing."""


NOTHING_AFTERWARDS: Final[Callable[[], None]] = _nothing


class TakenIn(NamedTuple):
    """What an order comes to, or a cut."""

    history: History
    """The history as it is then."""
    manifest: Manifest | None
    """The dataset of the pipeline's window over it; None when there is none."""
    reason: str = ""
    """Why there is none; empty otherwise."""
    rows: int = 0
    """Rows that it is about, for its span."""
    told: Mapping[str, Message] = {}
    """What the fact tells beside what all do: fields of DatasetFrozen, or of DatasetFailed where there is none."""
    letters: Sequence[Outgoing] = ()
    """Messages to send with the answer."""
    remarks: Remarks = NO_REMARKS
    """What there is to say of the dataset."""
    entry: Entry | None = None
    """The segment that the dataset is the first with; None where there is none such."""
    ended: Message | None = None
    """The fact that ends the order where that is no dataset's."""
    done: Callable[[], None] = NOTHING_AFTERWARDS
    """Called once the answer is there."""


Taker = Callable[[dataset_pb2.DatasetRequested, float, History, Callable[[], None]], TakenIn]
"""Carries out a request of a time (seconds since 1970) over a history; all of it or nothing.

The last argument is called in between. Raises Unavailable when the store or the broker is away.
"""


def nothing_of(order: Order, history: History, reason: str) -> TakenIn:
    """Return that an order comes to nothing, and why."""
    return TakenIn(history, None, f"the {ORDERS[order].noun} changed nothing: {reason}")
