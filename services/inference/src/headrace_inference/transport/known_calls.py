"""A cache of parsed requests: calls that differ from an earlier call only in the values of their one tensor.

Clients mostly repeat the same model, input, type and shape with other values. In a serialised request the raw contents
come last, so the bytes before them, length included, are the same in each of these calls. A request that begins with
known bytes and has the known length was parsed and checked before; only its values are new. The serialised parts of the
answer are known too, except for the outputs and the prediction's id.

The cache is an optimisation of `Predictor.infer_now`. A request that it does not know is parsed in full and gets the
same answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from headrace import open_inference as oip

from headrace_inference.core.shelf import LoadedVersion
from headrace_inference.core.signature import Call
from headrace_inference.core.tensors import Array, Shape
from headrace_inference.transport import converters, wire

MOST = 256
"""Most calls that are kept. When there are more, all are forgotten; those that still come are learnt again."""
LARGEST_HEAD_BYTES = 4096

_RAW_INPUT = 7
_RAW_OUTPUT = 6
"""Numbers of `raw_input_contents` and `raw_output_contents`, each in its message."""
_PLACEHOLDER = "00000000-0000-0000-0000-000000000000"


@dataclass(slots=True)
class KnownCall:
    """The parts that all calls with the same head share: the head is the bytes before the raw contents."""

    head_bytes: int
    request_bytes: int
    """Length of the whole request. With another one, the same head precedes contents that are cut off, or that have
    fields behind them."""
    prefix: bytes
    """The prefix of the version that the call was checked against: another version may have other inputs. The version
    itself is not kept, because it must not outlive its place on the shelf."""
    asked: tuple[str, str]
    """Model and version as callers name them."""
    name: str
    dtype: np.dtype[Any]
    shape: Shape
    rows: int
    outputs: tuple[str, ...]
    before_id: bytes
    """The serialised answer before the prediction's id, behind its outputs; `after_id` is the rest."""
    after_id: bytes
    described: _Described | None = field(default=None)

    def array(self, request: bytes) -> Array | None:
        """Return the values of a call, in its shape; None when one of them is NaN and needs the full check."""
        values = np.frombuffer(request[self.head_bytes :], self.dtype)
        # Squares never cancel: their sum is NaN exactly when a value is.
        if self.dtype.kind == "f" and (squares := float(np.vdot(values, values))) != squares:
            return None
        return values.reshape(self.shape)

    def outputs_part(self, version: LoadedVersion, results: list[Array]) -> bytes:
        """Return the serialised outputs of an answer, as `converters.outputs_part` does."""
        described = self.described
        if described is None or not described.fits(results):
            described = self.described = _Described.of(version, self.outputs, results)
        return described.part(results)


@dataclass(frozen=True, slots=True)
class _Described:
    """Names, types and shapes of outputs, serialised."""

    part_without_contents: bytes
    layouts: tuple[tuple[Shape, np.dtype[Any], bytes], ...]
    """Of each output its shape and type in numpy, and the bytes that precede its raw contents."""

    @classmethod
    def of(cls, version: LoadedVersion, names: tuple[str, ...], results: list[Array]) -> _Described:
        answer = oip.ModelInferResponse()
        layouts = []
        for name, array in zip(names, results, strict=True):
            datatype = version.model.signature.output(name).datatype
            answer.outputs.add(name=name, datatype=datatype.name, shape=array.shape)
            layouts.append((array.shape, array.dtype, wire.head(_RAW_OUTPUT, array.nbytes)))
        return cls(bytes(answer.SerializeToString()), tuple(layouts))

    def fits(self, results: list[Array]) -> bool:
        for (shape, dtype, _), array in zip(self.layouts, results, strict=True):
            if array.shape != shape or array.dtype != dtype:
                return False
        return True

    def part(self, results: list[Array]) -> bytes:
        pieces = [self.part_without_contents]
        for (_, _, head), array in zip(self.layouts, results, strict=True):
            pieces += (head, array.tobytes())
        return b"".join(pieces)


class KnownCalls:
    """Known calls by their heads. Used in one thread."""

    def __init__(self) -> None:
        self._calls: dict[bytes, KnownCall] = {}
        self._heads: dict[int, int] = {}
        """Length of the head by the length of the whole request, of the last call with that length."""

    def find(self, request: bytes) -> KnownCall | None:
        """Return the known call of a request; None for an unknown one."""
        head = self._heads.get(len(request))
        call = None if head is None else self._calls.get(request[:head])
        return call if call is not None and call.request_bytes == len(request) else None

    def learn(self, request: bytes, call: Call, version: LoadedVersion, outputs: tuple[str, ...]) -> None:
        """Keep a checked call when it has one raw tensor of numbers, no id, no classification and no timeout."""
        signature = version.model.signature
        # A caller that numbers its calls never sends the same bytes again; a time limit is looked at the long way.
        if call.id or call.classes or call.timeout_s:
            return
        if len(call.raws) != 1 or len(signature.inputs) != 1 or not call.raws[0]:
            return
        head = len(request) - len(call.raws[0])
        kept = self._calls.get(request[:head])
        if kept is not None and kept.prefix is version.prefix:
            self._heads[len(request)] = head
            return
        spec, tensor = signature.inputs[0], call.inputs[0]
        kinds = {signature.output(name).datatype.dtype.kind for name in outputs} | {spec.datatype.dtype.kind}
        if kinds & {"O", "b"} or head > LARGEST_HEAD_BYTES or not _is_last(request, head, call.raws[0]):
            return
        if len(self._calls) >= MOST:
            self._calls.clear()
            self._heads.clear()
        rows = tensor.shape[0] if spec.shape and isinstance(spec.shape[0], str) else 1
        before, after = _around_id()
        self._calls[request[:head]] = KnownCall(
            head,
            len(request),
            version.prefix,
            (call.model, call.version),
            spec.name,
            spec.datatype.dtype,
            tensor.shape,
            rows,
            outputs,
            before,
            after,
        )
        self._heads[len(request)] = head


def _is_last(request: bytes, head: int, contents: bytes) -> bool:
    """Return whether the raw contents are the last field: other bytes in their place must parse as other contents."""
    if not request.endswith(wire.head(_RAW_INPUT, len(contents)) + contents):
        return False
    others = bytes(len(contents))
    if others == contents:
        others = b"\1" * len(contents)
    read = converters.parse("ModelInfer", request[:head] + others)
    return list(read.raw_input_contents) == [others]


def _around_id() -> tuple[bytes, bytes]:
    before, _, after = converters.answer_suffix("", _PLACEHOLDER, cached=False).rpartition(_PLACEHOLDER.encode())
    return before, after
