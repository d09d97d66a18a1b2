"""A differential test: a server that has seen many calls answers each like one that has seen none, whatever comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from headrace import open_inference as oip
from headrace_inference.adapters.engine_model import EngineModel
from headrace_inference.adapters.hot_predictions import HotPredictions
from headrace_inference.core.releases import Release
from headrace_inference.core.served import Served
from headrace_inference.core.shelf import LoadedVersion, Shelf, Speed
from headrace_inference.transport import wire
from headrace_inference.transport.compute import Compute
from headrace_inference.transport.converters import answer_prefix
from headrace_inference.transport.known_calls import KnownCalls
from headrace_inference.transport.predictor import Predictor
from headrace_runtime.errors import HeadraceError
from headrace_runtime.rpc.admission import Capacity
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

MakeRelease = Callable[..., Release]

MODELS: dict[str, tuple[int, str, list[int | str]]] = {
    "floats": (TensorProto.FLOAT, "FP32", ["batch", 4]),
    "doubles": (TensorProto.DOUBLE, "FP64", ["batch"]),
    "halves": (TensorProto.FLOAT16, "FP16", ["batch", 2]),
    "fixed": (TensorProto.FLOAT, "FP32", [3]),
    "free": (TensorProto.INT64, "INT64", ["batch", "width"]),
    "bytes": (TensorProto.UINT8, "UINT8", ["batch", "width"]),
    "flags": (TensorProto.BOOL, "BOOL", ["batch", 2]),
    "texts": (TensorProto.STRING, "BYTES", ["batch"]),
}
"""Element type, data type and shape of the input `x` and the output `y`, which is the same tensor."""
UNKNOWN_FIELD = 15
RAW = 7

Part = tuple[int, bytes]
"""A field of a request: its number and its bytes, all of them length-delimited."""


def identity(element: int, shape: Sequence[int | str]) -> bytes:
    x, y = (helper.make_tensor_value_info(name, element, list(shape)) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [x], [y])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


class Ways:
    """One shelf, and two predictors over it: one that learns calls, and one that forgets them each time."""

    def __init__(self, make_release: MakeRelease) -> None:
        self.shelf = Shelf()
        for name, (element, _, shape) in MODELS.items():
            for ordinal in (1, 2):
                release = make_release(model=name, ordinal=ordinal, version_id=f"sha256:{ordinal:064d}", epoch=ordinal)
                model = EngineModel(identity(element, shape), max_rows=8)
                self.shelf.put(LoadedVersion(release, model, Speed(0.0, 0.0), answer_prefix(release)))
        self.shelf.announce(MODELS, complete=True)
        self.compute = Compute(1, Capacity(calls=2, wait_s=60.0))
        self._quick, self._long = (Predictor(self.shelf, HotPredictions(None), self.compute, self) for _ in range(2))

    async def record(self, served: Served) -> None:
        self.add(served)

    def add(self, served: Served) -> None:
        """Nobody asks for what was served."""

    def time_remaining(self) -> None:
        """No call has a deadline."""

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        """Nobody asks for it."""

    def forget(self) -> None:
        self._quick._known = KnownCalls()

    def check(self, request: bytes) -> None:
        self._long._known = KnownCalls()
        assert self._answer(self._quick, request) == self._answer(self._long, request)

    def _answer(self, predictor: Predictor, request: bytes) -> Any:
        """Return the answer without what differs from call to call, or the error. Other errors are defects."""
        try:
            answer = predictor.infer_now(request, self)
        except HeadraceError as error:
            return type(error), str(error)
        if answer is None:
            return None
        read = oip.ModelInferResponse.FromString(answer)
        del read.parameters["prediction_id"]
        return read.SerializeToString(deterministic=True)


@pytest.fixture
def ways(make_release: MakeRelease) -> Iterator[Ways]:
    made = Ways(make_release)
    with closing(made.compute):
        yield made


def parts_of(
    model: str, version: str, rows: int, width: int, name: str, raw_bytes: int, value: int, output: str
) -> list[Part]:
    """Return the fields of a request, most of them fitting; `raw_bytes` are more or less than the shape needs."""
    _, datatype, shape = MODELS[model]
    sizes = [each if isinstance(each, int) else rows if place == 0 else width for place, each in enumerate(shape)]
    tensor = oip.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=sizes)
    itemsize = {"FP32": 4, "FP64": 8, "FP16": 2, "INT64": 8, "BYTES": 5}.get(datatype, 1)
    length = max(0, int(np.prod(sizes)) * itemsize + raw_bytes)
    element = b"\1\0\0\0" + bytes([value]) if datatype == "BYTES" else bytes([value])
    raw = (element * length)[:length]
    parts = [(1, model.encode()), (2, version.encode()), (5, bytes(tensor.SerializeToString())), (RAW, raw)]
    if output:
        parts.insert(3, (6, bytes(oip.ModelInferRequest.InferRequestedOutputTensor(name=output).SerializeToString())))
    return [part for part in parts if part[1]]


def serialised(parts: Sequence[Part]) -> bytes:
    return b"".join(wire.head(number, len(data)) + data for number, data in parts)


def requests(model: str) -> st.SearchStrategy[list[Part]]:
    """Return requests of one model, most of them fitting: calls of one model are those that resemble each other."""
    return st.builds(
        parts_of,
        st.just(model),
        st.sampled_from(["", "", "", "", "1", "9"]),
        st.integers(1, 9),
        st.integers(0, 3),
        st.sampled_from(["x"] * 15 + ["y"]),
        st.sampled_from([0] * 13 + [-1, 4, -16]),
        st.sampled_from([0, 1, 65, 127, 255]),
        st.sampled_from([""] * 6 + ["y", "z"]),
    )


def swapped(parts: list[Part], first: int, second: int) -> list[Part]:
    places = (first % len(parts), second % len(parts))
    moved = list(parts)
    moved[places[0]], moved[places[1]] = parts[places[1]], parts[places[0]]
    return moved


def with_stranger(parts: list[Part], place: int, size: int) -> list[Part]:
    """Add a field that nobody knows: it holds what looks like raw contents, or bytes of some size."""
    tail = wire.head(RAW, size) + bytes(size)
    stranger = (UNKNOWN_FIELD, tail if place % 2 else bytes(size))
    at = place % (len(parts) + 1)
    return [*parts[:at], stranger, *parts[at:]]


REFORMS: tuple[Callable[[list[Part], int, int], list[Part]], ...] = (
    swapped,
    with_stranger,
    lambda parts, place, _: [*parts, parts[place % len(parts)]],
    lambda parts, place, _: [part for at, part in enumerate(parts) if at != place % len(parts)] or parts,
    lambda parts, _, size: [*parts, (RAW, bytes(size))],
    lambda parts, _, size: [*parts, (3, b"i" * size)],
)
"""Other orders, fields that are repeated, missing or unknown, and fields behind the contents."""


def cut(request: bytes, _: Sequence[bytes], number: int) -> bytes:
    """Cut a request off at some byte."""
    return request[: number % (len(request) + 1)]


def as_long(one: bytes, other: bytes, field: int) -> bytes:
    """Return a request made as long as another one: cut off, or with one more field behind it."""
    more = len(other) - len(one)
    return one[: len(other)] if not 2 <= more <= 0x7F else one + wire.head(field, more - 2) + b"i" * (more - 2)


def changed(request: bytes, _: Sequence[bytes], number: int) -> bytes:
    """Change one byte."""
    place = number % max(1, len(request))
    return request[:place] + bytes([number % 256]) + request[place + 1 :]


def mixed(request: bytes, earlier: Sequence[bytes], number: int) -> bytes:
    """Begin like an earlier request and go on like this one."""
    before = earlier[number % len(earlier)] if earlier else b""
    return before[: number % 97] + request[number % 97 :]


DAMAGES = (cut, changed, mixed)


def stories(model: str) -> st.SearchStrategy[list[Any]]:
    """Return calls that follow one another: fields of a request, how they are rearranged, how the bytes are damaged."""
    reform = st.tuples(st.sampled_from(REFORMS), st.integers(0, 7), st.integers(0, 40))
    reforms: st.SearchStrategy[list[Any]] = st.one_of(st.just([]), st.just([]), st.lists(reform, max_size=2))
    damage = st.one_of(st.none(), st.none(), st.tuples(st.sampled_from(DAMAGES), st.integers(0, 2000)))
    return st.lists(st.tuples(requests(model), reforms, damage), min_size=1, max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.sampled_from(list(MODELS)).flatmap(stories))
def test_a_server_that_knows_calls_answers_like_one_that_knows_none(ways: Ways, story: list[Any]) -> None:
    ways.forget()
    earlier: list[bytes] = []
    for parts, reforms, damage in story:
        for reform, place, size in reforms:
            parts = reform(parts, place, size)
        request = serialised(parts)
        if damage is not None:
            request = damage[0](request, earlier, damage[1])
        ways.check(request)
        for other in earlier:
            for field in (3, RAW, UNKNOWN_FIELD):
                ways.check(as_long(request, other, field))
                ways.check(as_long(other, request, field))
        earlier.append(request)


def test_contents_that_are_cut_off_are_told_so_whatever_was_called_before(ways: Ways) -> None:
    large, small = (serialised(parts_of("floats", "", rows, 0, "x", 0, 1, "")) for rows in (5, 1))
    for request in (large, small, large[: len(small)]):
        ways.check(request)


def test_a_field_behind_the_contents_counts_whatever_was_called_before(ways: Ways) -> None:
    """The last request begins like the first and is as long as the second."""
    small, large = (serialised(parts_of("floats", "", rows, 0, "x", 0, 1, "")) for rows in (1, 2))
    for request in (small, large, as_long(small, large, 3)):
        ways.check(request)
