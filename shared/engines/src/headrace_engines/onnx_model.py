"""Models in ONNX Runtime, on the CPU."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from headrace_engines.beside import Graph, is_mapped, require_beside
from headrace_engines.errors import NoMemory, NotAModel, RanTooLong, Unanswerable
from headrace_engines.model import Array, Tensor
from headrace_engines.properties import DEPENDENT, LABELS, OPTIONAL, ROWS, STEPS, TOKENS, Tokenised, told
from headrace_engines.run_limit import RunLimit
from headrace_engines.subgraphs import has_control_flow
from headrace_engines.tokens import Tokenizer, in_rows

_FATAL_ONLY: Final = 4
"""Least level that ONNX Runtime logs. Its errors are raised too, and a caller could fill the log with them."""
_NO_MEMORY: Final = ("bad allocation", "std::bad_alloc", "Failed to allocate memory")
_ELEMENTS: Final = {
    "bool": "?",
    "int8": "i1",
    "int16": "<i2",
    "int32": "<i4",
    "int64": "<i8",
    "uint8": "u1",
    "uint16": "<u2",
    "uint32": "<u4",
    "uint64": "<u8",
    "float16": "<f2",
    "float": "<f4",
    "double": "<f8",
    "string": "O",
}
"""Types of numpy by ONNX Runtime's element types."""
_MOST_TOKENS: Final = 1_024
"""Tokens that are computed at once, places behind the end of a row included: what they take grows with their number
and with the longest row's length. More of them leave the processor's caches and take more time, not less."""


class OnnxModel:
    """A graph in one ONNX Runtime session: one thread, which is the caller's, and none that spins.

    On this kind of model one thread beats two, and a pool that spins takes the cores from whoever shares them, so that
    latencies measured beside other work would mean nothing. Texts that the graph names are made tokens before it.
    """

    def __init__(self, graph: Graph, limit: RunLimit | None = None) -> None:
        """Load a graph; runs take as long as `limit` says. Raises NotAModel for what is none.

        Weights that lie beside it are mapped into memory and not read.
        """
        serialised, options = _read(graph)
        try:
            self._session = ort.InferenceSession(graph, sess_options=options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise NotAModel(f"ONNX Runtime cannot load it: {error}") from error
        # The method around it looks at the inputs' names once more, in every call; whoever calls has checked them.
        self._run = self._session._sess.run  # noqa: SLF001
        self._limit = limit
        properties: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        optional: frozenset[str] = told(properties, OPTIONAL, frozenset())
        labels: dict[str, tuple[str, ...]] = told(properties, LABELS, {})
        steps: dict[str, tuple[str, ...]] = told(properties, STEPS, {})
        depends = told(properties, ROWS, "") == DEPENDENT
        tokenised: dict[str, Tokenised] = told(properties, TOKENS, {})
        self._tokenizers = {_texts_of(name, each): Tokenizer(each) for name, each in tokenised.items()}
        self._texts = {name for names in self._tokenizers for name in names}
        if unknown := self._texts - {node.name for node in self._session.get_inputs()}:
            raise NotAModel(f"expected inputs of the graph in {TOKENS}, got {', '.join(sorted(unknown))}")
        self.inputs = tuple(
            self._sent(_tensor(node.name, node.type, node.shape, optional=node.name in optional))
            for node in self._session.get_inputs()
        )
        self.outputs = tuple(
            replace(
                _tensor(node.name, node.type, node.shape),
                labels=labels.get(node.name, ()),
                steps=steps.get(node.name, ()),
                depends=depends,
            )
            for node in self._session.get_outputs()
        )
        self.is_steady = not self._texts and not has_control_flow(serialised)

    def _sent(self, tensor: Tensor) -> Tensor:
        """Return what callers send for an input of the graph: texts for their tokens."""
        return replace(tensor, dtype=np.dtype(object), shape=tensor.shape[:1]) if tensor.name in self._texts else tensor

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Return the outputs named, in that order."""
        if self._texts:
            return self._run_texts(arrays, outputs)
        return self._run_arrays(arrays, outputs)

    def _run_arrays(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        limit = self._limit
        if limit is None:
            try:
                unlimited: list[Array] = self._run(outputs, arrays, None)
            except Exception as error:
                raise _translated(error, None) from error
            return unlimited
        options = limit.begin()
        try:
            results: list[Array] = self._run(outputs, arrays, options)
        except Exception as error:
            raise _translated(error, limit.limit_s if options.terminate else None) from error
        finally:
            limit.end(options)
        return results

    def _run_texts(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Run rows of about equal length together, no more of them than `_MOST_TOKENS` allows."""
        tokens = self._tokens(arrays)
        given = {name: array for name, array in arrays.items() if name not in tokens}
        lengths = np.array([[len(row) for row in rows] for rows in tokens.values()]).max(axis=0)
        order = np.argsort(lengths, kind="stable")
        parts = []
        for some in _pieces(lengths[order]):
            places = order[some]
            feeds = {name: array[places] for name, array in given.items()}
            feeds |= {name: in_rows([rows[place] for place in places]) for name, rows in tokens.items()}
            parts.append(self._run_arrays(feeds, outputs))
        back = np.argsort(order, kind="stable")
        return [np.concatenate(part)[back] for part in zip(*parts, strict=True)]

    def _tokens(self, arrays: Mapping[str, Array]) -> dict[str, list[list[int]]]:
        tokens: dict[str, list[list[int]]] = {}
        for names, tokenizer in self._tokenizers.items():
            tokens |= zip(names, tokenizer.rows(*(arrays[name].tolist() for name in names)), strict=True)
        return tokens

    def tokens(self, arrays: Mapping[str, Array]) -> int:
        """Return how many tokens it reads of texts."""
        return sum(len(row) for rows in self._tokens(arrays).values() for row in rows)

    def sample(self, rows: int) -> dict[str, Array]:
        """Return rows to try it with: zeros, and texts that take as long as any."""
        arrays = {each.name: _zeros(each, rows) for each in self.inputs}
        for names, tokenizer in self._tokenizers.items():
            arrays |= {name: np.full(rows, "a " * tokenizer.tokenised.length, object) for name in names}
        return arrays


def _texts_of(name: str, tokenised: Tokenised) -> tuple[str, ...]:
    """Return the names of the inputs that one tokenizer makes of the texts of a row."""
    return (name,) if tokenised.second is None else (name, tokenised.second.name)


def _read(graph: Graph) -> tuple[bytes, ort.SessionOptions]:
    """Return a graph's bytes, and the options that it is loaded by."""
    options = _options()
    if isinstance(graph, bytes):
        return graph, options
    serialised = require_beside(graph)
    if is_mapped(serialised):
        # Matrices in an order of the library's own would be copies in memory.
        options.add_session_config_entry("session.disable_prepacking", "1")
    return serialised, options


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.use_deterministic_compute = True
    options.log_severity_level = _FATAL_ONLY
    return options


def _translated(error: Exception, limit_s: float | None) -> Exception:
    """Return an error of a run as one of this package's; `limit_s` is given when the run was told to end."""
    if limit_s is not None:
        return RanTooLong(f"the model computed for more than {limit_s:g} s and was ended")
    message = str(error)
    if any(words in message for words in _NO_MEMORY):
        return NoMemory(f"the model has no memory to compute this: {message}")
    return Unanswerable(f"the model cannot compute with these values: {message}")


def _tensor(name: str, kind: str, shape: Sequence[Any], *, optional: bool = False) -> Tensor:
    element = kind.removeprefix("tensor(").removesuffix(")")
    if element not in _ELEMENTS:
        raise NotAModel(f"tensor {name!r} has type {kind}, expected one of {sorted(_ELEMENTS)}")
    sizes = tuple(_size(name, place, size) for place, size in enumerate(shape))
    return Tensor(name, np.dtype(_ELEMENTS[element]), sizes, optional)


def _size(name: str, place: int, size: Any) -> int | str:
    """Return a dimension; one without a name is the batch when it comes first, and otherwise one of its own."""
    if isinstance(size, int) and size >= 0:
        return size
    return str(size or ("batch" if place == 0 else f"{name}/{place}"))


def _zeros(tensor: Tensor, rows: int) -> Array:
    shape = [size if isinstance(size, int) else rows if place == 0 else 1 for place, size in enumerate(tensor.shape)]
    return np.full(shape, "", object) if tensor.dtype == object else np.zeros(shape, tensor.dtype)


def _pieces(lengths: Array) -> list[slice]:
    """Return runs of rows, whose lengths rise, that hold `_MOST_TOKENS` at most when filled up to the longest."""
    pieces, start = [], 0
    for place in range(1, len(lengths) + 1):
        if place == len(lengths) or (place + 1 - start) * int(lengths[place]) > _MOST_TOKENS:
            pieces.append(slice(start, place))
            start = place
    return pieces
