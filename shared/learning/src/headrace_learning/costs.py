"""What a served graph takes to run: time and memory, and whether it does the same each time."""

import ctypes
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from headrace_engines.beside import Graph, mapped_bytes
from headrace_engines.model import Model

from headrace_learning.evaluation import open_graph
from headrace_learning.graphs import Array, Columns

_WARM_UP_RUNS: Final = 5
_FEWEST_RUNS: Final = 20


@dataclass(frozen=True, slots=True)
class Latency:
    """How long runs of one graph took, in milliseconds."""

    median: float
    p99: float
    """What one run in a hundred exceeds; of fewer runs the longest."""


def latencies_ms(graphs: Sequence[Graph], columns: Columns, batch: int, budget_s: float = 0.5) -> list[Latency]:
    """Return how long each graph takes for one run with `batch` rows on one thread.

    The graphs take turns, so that whatever else the machine does meanwhile burdens all of them alike. Measures for
    about `budget_s` seconds in all and at least 20 runs of each, after a few that warm up. Fewer rows than `batch` are
    repeated to fill it.
    """
    models = [open_graph(graph) for graph in graphs]
    turns = [(model, *_asked(model, columns, batch)) for model in models]
    for _ in range(_WARM_UP_RUNS):
        for model, feed, outputs in turns:
            model.run(feed, outputs)
    times: list[list[float]] = [[] for _ in turns]
    end = time.perf_counter() + budget_s
    while len(times[0]) < _FEWEST_RUNS or time.perf_counter() < end:
        for (model, feed, outputs), taken in zip(turns, times, strict=True):
            start = time.perf_counter()
            model.run(feed, outputs)
            taken.append(time.perf_counter() - start)
    return [_latency(taken) for taken in times]


def _latency(taken_s: Sequence[float]) -> Latency:
    late = math.ceil(0.99 * len(taken_s)) - 1
    return Latency(statistics.median(taken_s) * 1e3, sorted(taken_s)[late] * 1e3)


def _asked(model: Model, columns: Columns, rows: int) -> tuple[dict[str, Array], list[str]]:
    """Return so many rows as a model takes them, the first ones again where there are fewer, and all its outputs."""
    feed = {each.name: np.resize(column := columns[each.name], (rows, *column.shape[1:])) for each in model.inputs}
    return feed, [each.name for each in model.outputs]


def rows_answered_otherwise(graph: Graph, columns: Columns, rows: int) -> int:
    """Return for how many of the first rows a graph answers other bytes when the same batch is run again.

    Twice in one session, and once in another: what a session sets up may differ as well. Fewer rows than `rows` are
    repeated to fill the batch.
    """
    models = (open_graph(graph), open_graph(graph))
    feed, outputs = _asked(models[0], columns, rows)
    first, *others = ([*model.run(feed, outputs)] for model in (models[0], *models))
    differ = np.zeros(rows, bool)
    for other in others:
        for one, given in zip(first, other, strict=True):
            differ |= _differ(one, given)
    return int(differ.sum())


def _differ(one: Array, other: Array) -> Array:
    """Return which rows of two answers are not the same bytes, [rows]."""
    if one.dtype != object:
        one, other = (np.ascontiguousarray(each).reshape(len(each), -1).view(np.uint8) for each in (one, other))
    found: Array = (one != other).reshape(len(one), -1).any(axis=1)
    return found


def held_bytes(graph: Graph, columns: Columns, rows: int) -> int | None:
    """Return the memory that a graph holds once it is loaded and has answered so many rows; None where nobody tells.

    What the C library has handed out is counted, of all its arenas: the resident size would not grow where the library
    has memory left from before, and grows by pages. So this is repeatable to a few kilobytes, and needs glibc 2.33.
    Weights that are mapped are counted as a whole: each run reads them.
    """
    # What only the first session of a process takes is no matter of a graph.
    feed, outputs = _asked(open_graph(graph), columns, rows)
    found = [_growth(graph, feed, outputs) for _ in range(2)]
    # What others of this process took meanwhile makes it more, never less.
    least = min((each for each in found if each is not None), default=None)
    return None if least is None else least + mapped_bytes(graph)


def _growth(graph: Graph, feed: Columns, outputs: Sequence[str]) -> int | None:
    before = _handed_out()
    model = open_graph(graph)
    model.run(feed, outputs)
    after = _handed_out()
    return None if before is None or after is None else max(0, after - before)


class _Mallinfo(ctypes.Structure):
    """glibc's struct mallinfo2, ten numbers of size_t: see mallinfo(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks"),
            "keepcost",
        )
    )


def _handed_out() -> int | None:
    """Return the bytes that the C library has handed out to this process and not got back."""
    told = _mallinfo()
    return None if told is None else int(told.uordblks + told.hblkhd)


def _mallinfo() -> _Mallinfo | None:
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return None
    mallinfo2.restype = _Mallinfo
    told: _Mallinfo = mallinfo2()
    return told
