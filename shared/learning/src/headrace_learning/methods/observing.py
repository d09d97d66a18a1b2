"""What the numbers inside of a graph are like, on rows that it is run with: in little memory, however many rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from headrace_engines.beside import Graph
from headrace_engines.model import run_in_batches
from onnx import TensorProto, helper

from headrace_learning.evaluation import open_graph
from headrace_learning.graphs import LOGITS, Columns, with_logits
from headrace_learning.large import as_graph, folder_of, structure_of
from headrace_learning.methods.calibration import batches

_MOST_BYTES: Final = 64 * 2**20
"""What the tensors of one run may take that are looked at."""
_MOST_ROWS: Final = 32
_BINS: Final = 2048
_LEAST: Final = float(np.finfo(np.float32).tiny) * _BINS
"""Below it float32 cannot tell one bin from the next."""
Numbers = npt.NDArray[np.float32]


class Observed:
    """A graph whose tensors are looked at, float32 all of them."""

    def __init__(self, graph: Graph, names: Sequence[str]) -> None:
        model = structure_of(graph)
        self._names = list(dict.fromkeys(names))
        # A tensor behind another operator can be an output wherever it comes from, an input of the graph too.
        self._outputs = [f"observed/{name}" for name in self._names]
        for name, output in zip(self._names, self._outputs, strict=True):
            model.graph.node.append(helper.make_node("Identity", [name], [output], output))
            model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
        self._model = open_graph(as_graph(model, folder_of(graph)))

    def runs(self, rows: Columns) -> Iterator[Mapping[str, Numbers]]:
        """Yield the tensors by name, of some rows after the other."""
        # Rows of texts have as many tokens as the longest beside them: one at a time none is filled up.
        texts = any(each.dtype == object for each in self._model.inputs)
        first = self._run({name: each[:1] for name, each in rows.items()})
        row_bytes = sum(each.nbytes for each in first.values())
        for some in batches(rows, 1 if texts else min(max(_MOST_BYTES // max(row_bytes, 1), 1), _MOST_ROWS)):
            yield self._run(some)

    def _run(self, rows: Columns) -> dict[str, Numbers]:
        given = {each.name: rows[each.name] for each in self._model.inputs}
        return dict(zip(self._names, self._model.run(given, self._outputs), strict=True))


class Histogram:
    """How large the numbers of one tensor are: a histogram of their sizes, without signs."""

    def __init__(self) -> None:
        self.least = self.most = 0.0
        self.counts = np.zeros(_BINS, np.int64)

    def span(self, values: Numbers) -> None:
        """Widen the range. Numbers that are none are passed over."""
        finite = values[np.isfinite(values)]
        if finite.size:
            self.least, self.most = min(self.least, float(finite.min())), max(self.most, float(finite.max()))

    @property
    def largest(self) -> float:
        """The largest size that was seen."""
        return max(-self.least, self.most)

    def count(self, values: Numbers) -> None:
        """Count numbers, of which all were shown to `span` before."""
        finite = np.abs(values[np.isfinite(values)])
        if self.largest > _LEAST:
            self.counts += np.histogram(finite, _BINS, (0.0, self.largest))[0]

    def cut(self, size: float) -> tuple[float, float]:
        """Return the range that was seen, numbers beyond a size cut off."""
        return max(self.least, -size), min(self.most, size)


def histograms(graph: Graph, names: Sequence[str], rows: Columns) -> dict[str, Histogram]:
    """Return the histograms of tensors. Rows are run twice: for the range, and for what lies where in it."""
    observed = Observed(graph, names)
    found = {name: Histogram() for name in names}
    for see in (Histogram.span, Histogram.count):
        for tensors in observed.runs(rows):
            for name, values in tensors.items():
                see(found[name], values)
    return found


class Fidelity:
    """How far other graphs' answers are from those of one, on the same rows."""

    def __init__(self, graph: Graph, rows: Columns) -> None:
        model = structure_of(graph)
        self._rows = rows
        self._has_logits = any(LOGITS in node.output for node in model.graph.node)
        self._name = LOGITS if self._has_logits else model.graph.output[0].name
        self._expected = self._answers(graph)
        self._norm = float(np.linalg.norm(self._expected - self._expected.mean(axis=0)))

    def error(self, graph: Graph) -> float:
        """Return the norm of the difference over that of the answers' differences from their mean.

        Answers are logits, or what a graph without them answers first.
        """
        difference = float(np.linalg.norm(self._answers(graph) - self._expected))
        if difference == 0:
            return 0.0
        return difference / self._norm if np.isfinite(difference) and self._norm > 0 else float("inf")

    def _answers(self, graph: Graph) -> npt.NDArray[np.float64]:
        model = open_graph(with_logits(graph) if self._has_logits else graph)
        (found,) = run_in_batches(model, self._rows, [self._name], _MOST_ROWS)
        return found.astype(np.float64)
