"""Counts how often an order is begun: one that ends its process each time is given up."""

from __future__ import annotations

from headrace_runtime.kafka import TransactionalProducer

from headrace_preprocessing.transport.lease import Lease
from headrace_preprocessing.transport.watch import Asked

BEGUN = "begun "
"""Begins the note at the offset of an order that is under way: how often it was begun."""
MOST_BEGUN = 5
"""How often an order is begun that ends the process: a file may be none that any process survives."""


def begin(asked: Asked, lease: Lease, producer: TransactionalProducer) -> int:
    """Note that an order is begun, and return how often it was before, by processes that did not end it."""
    place, offset = asked.record.place, asked.record.offset
    note = lease.consumer.notes([place])[place].removeprefix(BEGUN)
    is_of_it = lease.consumer.committed([place])[place] == offset
    before = int(note) if is_of_it and note.isdecimal() else 0
    with producer.transaction() as transaction:
        noted = {place: f"{BEGUN}{before + 1}"}
        transaction.note_offsets({place: offset}, lease.consumer.membership(), noted)
    return before
