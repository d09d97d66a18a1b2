"""Models in ONNX Runtime, on the CPU."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import onnxruntime as ort
from headrace_runtime.errors import DeadlineExceeded, InvalidInput, TooLarge, Unprocessable
from pydantic import TypeAdapter, ValidationError

from headrace_inference.adapters.run_limit import RunLimit
from headrace_inference.adapters.subgraphs import has_control_flow
from headrace_inference.core.shelf import Speed
from headrace_inference.core.signature import Signature, TensorSpec
from headrace_inference.core.tensors import BYTES, DATATYPES, Array, Datatype

LONGEST_RUN_S = 60.0
"""How long a run may take unless a limit is given."""
WARM_ROWS = 32
_WARM_RUNS = 20
_WARM_LIMIT_S = 1.0
_FATAL_ONLY = 4
"""Least level that ONNX Runtime logs. Its errors are raised too, and a caller could fill the log with them."""
_NO_MEMORY = ("bad allocation", "std::bad_alloc", "Failed to allocate memory")

_ELEMENTS = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}
"""The protocol's data types by ONNX Runtime's element types."""
_OPTIONAL = "headrace.optional"
"""Property of a graph: the inputs that may be missing."""
_LABELS = "headrace.labels"
"""Property of a graph: what the places of an output's last dimension stand for, by output."""
_EXPECTED = {_OPTIONAL: "a JSON list of names", _LABELS: "a JSON object of lists of texts"}
_NAMES = TypeAdapter(frozenset[str])
_TEXTS = TypeAdapter(dict[str, tuple[str, ...]])

ToldT = TypeVar("ToldT")


class OnnxModel:
    """A graph in one ONNX Runtime session: one thread, which is the caller's, and none that spins.

    On this kind of model one thread beats two, and a pool that spins takes the cores from whoever shares them. Safe for
    use by many threads. Raises Unprocessable when the bytes are no graph that can be served.
    """

    def __init__(self, graph: bytes, max_rows: int, limit: RunLimit | None = None) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = _FATAL_ONLY
        try:
            self._session = ort.InferenceSession(graph, sess_options=options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise Unprocessable(f"graph: ONNX Runtime cannot load it: {error}") from error
        self._is_steady = not has_control_flow(graph)
        # The method around it looks at the inputs' names once more, in every call; the signature has checked them.
        self._run = self._session._sess.run  # noqa: SLF001
        self._limit = limit or RunLimit(LONGEST_RUN_S)
        optional = _told(self._session, _OPTIONAL, _NAMES, frozenset())
        labels = _told(self._session, _LABELS, _TEXTS, {})
        self.signature = Signature(
            [_spec(node, optional=optional) for node in self._session.get_inputs()],
            [_spec(node, labels=labels) for node in self._session.get_outputs()],
            max_rows,
        )

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Compute the outputs named, in that order.

        Raises DeadlineExceeded when that took longer than a run may, TooLarge when there was no memory for it, and
        InvalidInput for values that the graph cannot compute with.
        """
        options = self._limit.begin()
        try:
            results: list[Array] = self._run(outputs, arrays, options)
        except Exception as error:
            raise _translated(error, self._limit.limit_s if options.terminate else None) from error
        finally:
            self._limit.end(options)
        return results

    def try_out(self) -> None:
        """Run a single row and a batch, all zeros, once each."""
        for rows in {1, min(WARM_ROWS, self.signature.max_rows)}:
            self.run(_zeros(self.signature.inputs, rows), self.signature.output_names)

    def warm(self) -> Speed:
        """Run a single row and a batch, all zeros, several times; return how long they took."""
        rows = min(WARM_ROWS, self.signature.max_rows)
        first_s = self._quickest_s(_zeros(self.signature.inputs, 1))
        if rows == 1:
            return Speed(first_s, 0.0, self._is_steady)
        batch_s = self._quickest_s(_zeros(self.signature.inputs, rows))
        return Speed(first_s, max(0.0, batch_s - first_s) / (rows - 1), self._is_steady)

    def _quickest_s(self, arrays: Mapping[str, Array]) -> float:
        """Return the least time of a run: what a busy machine adds says nothing about the model."""
        times: list[float] = []
        self.run(arrays, self.signature.output_names)
        while len(times) < _WARM_RUNS and sum(times) < _WARM_LIMIT_S:
            started = time.perf_counter()
            self.run(arrays, self.signature.output_names)
            times.append(time.perf_counter() - started)
        return min(times)


def _translated(error: Exception, limit_s: float | None) -> Exception:
    """Return an error of a run as one of Headrace's; `limit_s` is given when the run was told to end."""
    if limit_s is not None:
        return DeadlineExceeded(f"the model computed for more than {limit_s:g} s and was ended")
    message = str(error)
    if any(words in message for words in _NO_MEMORY):
        return TooLarge(f"the model has no memory to compute this: {message}")
    return InvalidInput(f"the model cannot compute with these values: {message}")


def _told(session: ort.InferenceSession, name: str, kind: TypeAdapter[ToldT], otherwise: ToldT) -> ToldT:
    """Return a property of the graph."""
    told = session.get_modelmeta().custom_metadata_map.get(name)
    try:
        return otherwise if told is None else kind.validate_json(told)
    except ValidationError as error:
        raise Unprocessable(f"graph: expected {_EXPECTED[name]} as {name}, got {told[:40]!r}") from error


def _spec(
    node: Any, optional: frozenset[str] = frozenset(), labels: Mapping[str, tuple[str, ...]] = MappingProxyType({})
) -> TensorSpec:
    shape = tuple(_size(node, place) for place in range(len(node.shape)))
    return TensorSpec(node.name, _datatype(node), shape, node.name in optional, labels.get(node.name, ()))


def _datatype(node: Any) -> Datatype:
    element = str(node.type).removeprefix("tensor(").removesuffix(")")
    if element not in _ELEMENTS:
        raise Unprocessable(f"graph: tensor {node.name!r} has type {node.type}, expected one of {sorted(_ELEMENTS)}")
    return DATATYPES[_ELEMENTS[element]]


def _size(node: Any, place: int) -> int | str:
    """Return a dimension; one without a name is the batch when it comes first, and otherwise one of its own."""
    size = node.shape[place]
    if isinstance(size, int) and size >= 0:
        return size
    return str(size or ("batch" if place == 0 else f"{node.name}/{place}"))


def _zeros(specs: Sequence[TensorSpec], rows: int) -> dict[str, Array]:
    return {spec.name: _zero(spec, rows) for spec in specs}


def _zero(spec: TensorSpec, rows: int) -> Array:
    shape = [size if isinstance(size, int) else rows if place == 0 else 1 for place, size in enumerate(spec.shape)]
    return np.full(shape, "", object) if spec.datatype is BYTES else np.zeros(shape, spec.datatype.dtype)
