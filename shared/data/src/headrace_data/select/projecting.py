"""Records through a SELECT: rows by the names that it gives, and what became of those that it cannot read."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from headrace_data.errors import SelectTooSlow
from headrace_data.select.checking import Compiled, Computed, Schema, compiled
from headrace_data.select.engine import ROWS, ComputingFailed, Engine, OutOfTime, quoted, shortened
from headrace_data.select.tree import Leaf
from headrace_data.select.values import Found, Message

RULE: Final = "select"
"""Rule: the SELECT can be computed of a record."""
MOST_ROWS: Final = 4096
"""Records that are computed at a time: making a query ready takes about as long as computing a thousand."""
MOST_BYTES: Final = 2**20
"""About how many bytes of records are computed at a time, one record at least."""
LIMIT_S: Final = 5.0
"""How long computing some rows may take, in seconds."""
MOST_STOPPED: Final = 8
"""How often computing may be stopped for one batch, before the SELECT as a whole is too slow."""
MOST_S: Final = MOST_STOPPED * LIMIT_S
"""How long computing one batch may take in all, in seconds: who reads it is taken for hanging after a few minutes."""

_SHOWN: Final = 40


@dataclass
class Patience:
    """What computing one batch has taken, however many pieces it is computed in."""

    stopped: int = 0
    """How often it was stopped."""
    taken_s: float = 0.0
    limit_s: float = LIMIT_S
    """How long computing some rows may take."""
    most_s: float = MOST_S
    """How long all of it may take."""

    def require(self) -> None:
        """Raise SelectTooSlow when that was too much."""
        if self.stopped >= MOST_STOPPED:
            raise SelectTooSlow(f"stream.select: stopped {self.stopped} times after {self.limit_s:g} s of computing")
        if self.taken_s >= self.most_s:
            raise SelectTooSlow(f"stream.select: expected records of one batch within {self.most_s:g} s of computing")


@dataclass(frozen=True)
class Fault:
    """Why a record's values cannot be computed."""

    position: int
    """The record's own, as it was given."""
    name: str
    """The value that cannot be."""
    reason: str


@dataclass(frozen=True)
class Projected:
    """What a SELECT made of some records."""

    columns: dict[str, list[Any]]
    """By name, a value for each record without a fault, in order."""
    positions: Sequence[int]
    """Of these records."""
    faults: Sequence[Fault] = ()
    unread: Counter[str] = field(default_factory=Counter)
    """By name: how many values are missing because TRY_CAST, or the like, could not read what is there."""


class Projection:
    """A stream's SELECT, ready for records."""

    def __init__(self, stream: Schema) -> None:
        """Take what the SELECT names. Raises SelectInvalid with every problem."""
        self._engine = Engine()
        self._made = compiled(stream, self._engine)
        self._leaves = list(dict.fromkeys(leaf for each in self._made.computed for leaf in each.leaves))
        self._query = _query(self._made.computed)

    def gather(self, patience: Patience | None = None) -> Gathered:
        """Return what takes records, some at a time, and computes all of them at once.

        `patience` is that of the batch which they are some records of.
        """
        return Gathered(self._made, self._leaves, self._engine, self._query, patience or Patience())


class Gathered:
    """The values of some records that a SELECT reads; the records themselves are not held."""

    def __init__(self, made: Compiled, leaves: Sequence[Leaf], engine: Engine, query: str, patience: Patience) -> None:
        self._made, self._leaves, self._engine, self._query = made, leaves, engine, query
        self._taken: dict[str, list[Any]] = {name: [] for name in made.taken}
        self._texts: list[list[pa.Array]] = [[] for _ in leaves]
        self._positions: list[int] = []
        self._patience = patience

    def add(
        self, records: Sequence[dict[str, Any]], positions: Sequence[int], messages: Sequence[Message] | None = None
    ) -> None:
        """Take in records, decoded from JSON; `messages` are by position, None where there are none."""
        found = Found(records, None if messages is None else [messages[at] for at in positions])
        for name, leaf in self._made.taken.items():
            self._taken[name] += found.values(leaf)
        for texts, leaf in zip(self._texts, self._leaves, strict=True):
            texts.append(found.texts(leaf))
        self._positions += positions

    def computed(self) -> Projected:
        """Return what the SELECT makes of all. Raises SelectTooSlow when it had to be stopped again and again."""
        columns, positions = self._taken, self._positions
        if not positions:
            return Projected({name: [] for name in self._made.names}, positions)
        if not self._made.computed:
            return Projected(columns, positions)
        names = [leaf.column for leaf in self._leaves]
        texts = pa.table([pa.concat_arrays(each) for each in self._texts], names)
        if not names:
            texts = pa.table({"nothing": pa.nulls(len(positions), pa.string())})
        faults: list[Fault] = []
        pieces = list(self._pieces(texts, positions, faults))
        if faults:
            bad = {fault.position for fault in faults}
            kept = [at for at, position in enumerate(positions) if position not in bad]
            positions = [positions[at] for at in kept]
            columns = {name: [values[at] for at in kept] for name, values in columns.items()}
        unread: Counter[str] = Counter()
        for at, each in enumerate(self._made.computed):
            columns[each.name] = [value for piece in pieces for value in piece.column(f"v{at}").to_pylist()]
            if each.unread:
                unread[each.name] = sum(pc.sum(piece.column(f"u{at}")).as_py() or 0 for piece in pieces)
        return Projected(columns, positions, faults, +unread)

    def _pieces(self, texts: pa.Table, positions: Sequence[int], faults: list[Fault]) -> Iterator[pa.Table]:
        """Yield what is computed of the rows that can be, in order; add why others cannot to `faults`."""
        self._patience.require()
        try:
            yield self._compute(self._query, texts, self._patience.limit_s)
        except ComputingFailed as error:
            self._patience.stopped += isinstance(error, OutOfTime)
            if len(positions) == 1:
                faults.append(self._fault(texts, positions[0], error))
                return
            half = len(positions) // 2
            yield from self._pieces(texts.slice(0, half), positions[:half], faults)
            yield from self._pieces(texts.slice(half), positions[half:], faults)

    def _compute(self, query: str, texts: pa.Table, limit_s: float) -> pa.Table:
        begun = time.monotonic()
        try:
            return self._engine.compute(query, texts, limit_s)
        finally:
            self._patience.taken_s += time.monotonic() - begun

    def _fault(self, texts: pa.Table, position: int, error: ComputingFailed) -> Fault:
        """Return which value of a record cannot be computed, and of what."""
        until = time.monotonic() + self._patience.limit_s
        for each in self._made.computed:
            try:
                self._compute(_query([each]), texts, max(0.1, until - time.monotonic()))
            except ComputingFailed as own:
                return Fault(position, each.name, f"{each.name}: {_told(each, texts, own)}")
        return Fault(position, "", f"expected values that can be computed, got {error}")


def rows_at_once(values: Sequence[bytes | None]) -> int:
    """Return how many of some values of messages are computed at a time."""
    size = sum(len(value) for value in values if value) // max(1, len(values))
    return max(1, min(MOST_ROWS, MOST_BYTES // max(1, size)))


def _query(computed: Sequence[Computed]) -> str:
    values = [f"{each.text} AS v{at}" for at, each in enumerate(computed)]
    unread = [f"{each.unread} AS u{at}" for at, each in enumerate(computed) if each.unread]
    return f"SELECT {', '.join([*values, *unread])} FROM {quoted(ROWS)}"


def _told(each: Computed, texts: pa.Table, error: ComputingFailed) -> str:
    shown = [f"{leaf} = {_short(texts.column(leaf.column)[0].as_py())}" for leaf in each.leaves[:3]]
    reason = str(error)
    for leaf in each.leaves:
        reason = reason.replace(leaf.column, str(leaf))
    return f"expected a value of {shortened(each.shown)}, got {', '.join(shown) or 'none'}: {reason}"


def _short(text: str | None) -> str:
    shown = json.dumps(text, ensure_ascii=False)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
