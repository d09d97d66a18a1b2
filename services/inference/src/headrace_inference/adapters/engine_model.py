"""Graphs in an engine, as inference asks them: their signature in the protocol's words, and their speed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from headrace_engines import ENGINES, ONNX
from headrace_engines.beside import Graph
from headrace_engines.errors import NoMemory, NotAModel, RanTooLong, Unanswerable
from headrace_engines.model import Tensor
from headrace_engines.run_limit import RunLimit
from headrace_runtime.errors import DeadlineExceeded, InvalidInput, TooLarge, Unprocessable

from headrace_inference.core.shelf import Speed
from headrace_inference.core.signature import Signature, TensorSpec
from headrace_inference.core.tensors import DATATYPES, Array

LONGEST_RUN_S = 60.0
"""How long a run may take unless a limit is given."""
WARM_ROWS = 32
_WARM_RUNS = 20
_WARM_LIMIT_S = 1.0
_DATATYPES = {datatype.dtype: datatype for datatype in DATATYPES.values()}
_ERRORS = {RanTooLong: DeadlineExceeded, NoMemory: TooLarge, Unanswerable: InvalidInput}


class EngineModel:
    """A graph that an engine has loaded. Safe for use by many threads.

    Raises Unprocessable for what is no graph that can be served.
    """

    language = None
    """It is none."""

    def __init__(self, graph: Graph, max_rows: int, limit: RunLimit | None = None) -> None:
        try:
            self._model = ENGINES[ONNX](graph, limit or RunLimit(LONGEST_RUN_S))
        except NotAModel as error:
            raise Unprocessable(f"graph: {error}") from error
        self.signature = Signature(_specs(self._model.inputs), _specs(self._model.outputs), max_rows)
        self._compute = self._model.run

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Compute the outputs named, in that order.

        Raises DeadlineExceeded when that took longer than a run may, TooLarge when there was no memory for it, and
        InvalidInput for values that the graph cannot compute with.
        """
        try:
            return self._compute(arrays, outputs)
        except (RanTooLong, NoMemory, Unanswerable) as error:
            raise _ERRORS[type(error)](str(error)) from error

    def sample(self) -> Mapping[str, Array]:
        """Return the engine's sample of one row."""
        return self._model.sample(1)

    def tokens(self, arrays: Mapping[str, Array]) -> int:
        """Return how many tokens the graph reads of texts, those around them with them; 0 where it reads none."""
        return self._model.tokens(arrays)

    def try_out(self) -> None:
        """Run a single row and a batch of the engine's sample, once each."""
        for rows in {1, min(WARM_ROWS, self.signature.max_rows)}:
            self.run(self._model.sample(rows), self.signature.output_names)

    def warm(self) -> Speed:
        """Run a single row and a batch of the engine's sample several times; return how long they took."""
        rows = min(WARM_ROWS, self.signature.max_rows)
        first_s = self._quickest_s(self._model.sample(1))
        if rows == 1:
            return Speed(first_s, 0.0, self._model.is_steady)
        batch_s = self._quickest_s(self._model.sample(rows))
        return Speed(first_s, max(0.0, batch_s - first_s) / (rows - 1), self._model.is_steady)

    def _quickest_s(self, arrays: Mapping[str, Array]) -> float:
        """Return the least time of a run: what a busy machine adds says nothing about the model."""
        times: list[float] = []
        self.run(arrays, self.signature.output_names)
        while len(times) < _WARM_RUNS and sum(times) < _WARM_LIMIT_S:
            started = time.perf_counter()
            self.run(arrays, self.signature.output_names)
            times.append(time.perf_counter() - started)
        return min(times)


def _specs(tensors: Sequence[Tensor]) -> list[TensorSpec]:
    return [
        TensorSpec(each.name, _DATATYPES[each.dtype], each.shape, each.optional, each.labels, each.steps, each.depends)
        for each in tensors
    ]
