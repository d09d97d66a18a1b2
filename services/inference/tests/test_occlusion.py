"""Explanations: what each value adds to an answer, of models whose answers one can work out by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from headrace import open_inference as oip
from headrace_inference.adapters.engine_model import EngineModel
from headrace_inference.core.occlusion import Occlusion
from headrace_inference.core.releases import CachePolicy
from headrace_inference.core.shelf import LoadedVersion, Shelf, Speed
from headrace_inference.core.signature import Signature, TensorSpec
from headrace_inference.core.tensors import BYTES, DATATYPES, Array
from headrace_inference.transport.compute import Compute
from headrace_inference.transport.converters import answer_prefix
from headrace_inference.transport.plane import Plane
from headrace_inference.transport.predictor import Predictor
from headrace_runtime.errors import InvalidInput
from headrace_runtime.rpc.admission import Capacity

FP64 = DATATYPES["FP64"]
X = TensorSpec("x", FP64, ("rows", 2))
SIGNATURE = Signature(
    [
        TensorSpec("size", FP64, ("rows",), optional=True),
        TensorSpec("kind", BYTES, ("rows",), optional=True),
        TensorSpec("pair", FP64, ("rows", 2), optional=True),
    ],
    [TensorSpec("prediction", FP64, ("rows",)), TensorSpec("label", BYTES, ("rows",))],
    max_rows=100,
)
ROW: dict[str, Array] = {
    "size": np.array([4.0]),
    "kind": np.array(["tall"], object),
    "pair": np.array([[2.0, 5.0]]),
}


def answers(arrays: dict[str, Array]) -> dict[str, Array]:
    """Compute 10 x size + 100 where the kind is tall + the product of the pair; what is missing is 1."""
    size, pair = (np.where(np.isnan(arrays[name]), 1.0, arrays[name]) for name in ("size", "pair"))
    tall = np.array([kind == "tall" for kind in arrays["kind"]])
    predicted = 10 * size + 100 * tall + pair[:, 0] * pair[:, 1]
    return {"prediction": predicted, "label": np.array(["high" if each > 100 else "low" for each in predicted], object)}


def explained(arrays: dict[str, Array], rows: int) -> dict[str, Any]:
    occlusion = Occlusion.of(SIGNATURE, arrays, rows)
    found = {}
    for tensor in occlusion.tensors(SIGNATURE, answers(occlusion.arrays)):
        if tensor.datatype == "FP64":
            found[tensor.name] = np.frombuffer(tensor.raw, np.float64).reshape(tensor.shape).tolist()
    return found | {"values": occlusion.values}


def test_each_value_is_taken_away_alone() -> None:
    found = explained(ROW, 1)
    assert found["values"] == ("size", "kind", "pair[0]", "pair[1]")
    assert found["prediction"] == [150.0]
    assert found["prediction/occlusion"] == [30.0, 100.0, 5.0, 8.0]
    assert found["prediction/reference"] == 11.0
    # Of a product of 10 that becomes 1, both factors account for 13: they take 4 of the same.
    assert found["prediction/remainder"] == -4.0


def test_a_second_row_is_the_reference() -> None:
    other = {"size": np.array([3.0]), "kind": np.array(["tall"], object), "pair": np.array([[2.0, 5.0]])}
    both = {name: np.concatenate([ROW[name], other[name]]) for name in ROW}
    found = explained(both, 2)
    assert found["prediction/occlusion"] == [10.0, 0.0, 0.0, 0.0]
    assert (found["prediction/reference"], found["prediction/remainder"]) == (140.0, 0.0)


def test_texts_of_every_row_are_counted() -> None:
    short, long = (Occlusion.of(SIGNATURE, ROW | {"kind": np.array([text], object)}, 1) for text in ("x", "x" * 1001))
    assert long.size_bytes - short.size_bytes == 6 * 1000


def test_places_of_an_answer_are_told_where_the_model_knows_them() -> None:
    outputs = [TensorSpec("probabilities", FP64, ("rows", 2), labels=("well", "fraud"))]
    signature = Signature(SIGNATURE.inputs, outputs, max_rows=100)
    occlusion = Occlusion.of(signature, ROW, 1)
    tensors = occlusion.tensors(signature, {"probabilities": np.zeros((occlusion.rows, 2))})
    assert tensors[-1].name == "probabilities/labels"
    assert tensors[-1].raw == b"\x04\0\0\0well\x05\0\0\0fraud"


def test_texts_are_answered_and_not_explained() -> None:
    occlusion = Occlusion.of(SIGNATURE, ROW, 1)
    names = [tensor.name for tensor in occlusion.tensors(SIGNATURE, answers(occlusion.arrays))]
    parts = ["prediction/occlusion", "prediction/reference", "prediction/remainder"]
    assert names == ["prediction", "label", "explained", *parts]


def test_what_cannot_be_explained_is_told() -> None:
    with pytest.raises(InvalidInput, match=r"expected a row, or a row and its reference, got 3 rows"):
        Occlusion.of(SIGNATURE, {name: np.repeat(value, 3, axis=0) for name, value in ROW.items()}, 3)
    strict = Signature([TensorSpec("size", FP64, ("rows",))], [TensorSpec("prediction", FP64, ("rows",))], 100)
    with pytest.raises(InvalidInput, match="input 'size' may not be missing: expected a second row"):
        Occlusion.of(strict, {"size": np.array([1.0])}, 1)
    fixed = Signature([TensorSpec("size", FP64, (1,))], [TensorSpec("prediction", FP64, (1,))], 100)
    with pytest.raises(InvalidInput, match="expected a model whose calls have rows"):
        Occlusion.of(fixed, {"size": np.array([1.0])}, 1)
    with pytest.raises(InvalidInput, match=r"at most 67108864 bytes in all, got 12\d{7}"):
        Occlusion.of(SIGNATURE, ROW | {"kind": np.array(["x" * 20_000_000], object)}, 1)
    small = Signature(SIGNATURE.inputs, SIGNATURE.outputs, max_rows=5)
    with pytest.raises(InvalidInput, match="at most 3 values a row, got 4"):
        Occlusion.of(small, ROW, 1)


class Unkept:
    """A cache that must not be asked."""

    async def get(self, model: str, key: bytes) -> bytes | None:
        raise AssertionError("an explanation was looked for in the cache")


class Unheard:
    """A log of predictions that keeps nothing."""

    async def record(self, served: Any) -> None:
        self.add(served)

    def add(self, served: Any) -> None:
        """Forget it."""


@pytest.fixture
def plane(graph: bytes, make_release: Callable[..., Any]) -> Iterator[Plane]:
    shelf, compute = Shelf(), Compute(1, Capacity(calls=2, wait_s=60.0))
    release = make_release()
    model = EngineModel(graph, max_rows=128)
    shelf.put(LoadedVersion(release, model, Speed(1e-5, 1e-5), answer_prefix(release)))
    shelf.announce(["digits"], complete=True)
    hot: Any = Unkept()
    yield Plane(shelf, Predictor(shelf, hot, compute, Unheard()))
    compute.close()


def ask(plane: Plane, pixels: Array, explain: str = "occlusion") -> dict[str, Array]:
    class Context:
        def time_remaining(self) -> float | None:
            return None

        def set_trailing_metadata(self, metadata: Any) -> None: ...

    request = oip.ModelInferRequest(model_name="digits")
    request.parameters["explain"].string_param = explain
    request.inputs.add(name="pixels", datatype="FP32", shape=pixels.shape)
    request.raw_input_contents.append(pixels.tobytes())
    sent, context = request.SerializeToString(), Context()
    assert plane.infer_now(sent, context) is None
    answer = oip.ModelInferResponse.FromString(asyncio.run(plane.call("ModelInfer", sent, context)))
    return {
        output.name: np.frombuffer(raw, DATATYPES[output.datatype].dtype).reshape(tuple(output.shape))
        for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
        if output.datatype != "BYTES"
    }


def test_a_served_graph_explains_its_answer(plane: Plane) -> None:
    rng = np.random.default_rng(3)
    pixels, blank = rng.random((1, 8, 8), np.float32) * 16, np.zeros((1, 8, 8), np.float32)
    found = ask(plane, np.concatenate([pixels, blank]))
    assert found["probabilities"].shape == (1, 10)
    added = found["probabilities/occlusion"]
    assert added.shape == (64, 10)
    np.testing.assert_allclose(added.sum(axis=1), 0, atol=1e-6)  # what one class gains the others lose
    total = found["probabilities"][0] - found["probabilities/reference"]
    np.testing.assert_allclose(added.sum(axis=0) + found["probabilities/remainder"], total, atol=1e-6)
    without = pixels.copy()
    without[0, 2, 5] = 0
    other = ask(plane, np.concatenate([without, blank]))["probabilities"][0]
    np.testing.assert_allclose(added[2 * 8 + 5], found["probabilities"][0] - other, atol=1e-6)


def test_rows_that_depend_on_others_are_explained_each_alone() -> None:
    class Blurred:
        """Answers each row less the mean of its call, as ranges of a call blur what is near."""

        signature = Signature([X], [replace(X, name="y", depends=True)], max_rows=8)

        def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
            return [3 * arrays["x"] - arrays["x"].mean(axis=0) for _ in outputs]

        def sample(self) -> Mapping[str, Array]:
            return {"x": np.zeros((1, 2))}

        def tokens(self, arrays: Any) -> int:
            return 0

    release: Any = SimpleNamespace(cache=CachePolicy.OFF)
    apart = LoadedVersion(release, Blurred(), Speed(1e-5, 1e-7), b"").with_rows_apart()
    occlusion = Occlusion.of(apart.model.signature, {"x": np.array([[4.0, 5.0], [0.0, 1.0]])}, 2)
    answers = dict(zip("y", apart.model.run(occlusion.arrays, ["y"]), strict=True))
    found = {each.name: each.raw for each in occlusion.tensors(apart.model.signature, answers)}

    assert np.frombuffer(found["y"]).tolist() == [8.0, 10.0]
    assert np.frombuffer(found["y/occlusion"]).reshape(2, 2).tolist() == [[8.0, 0.0], [0.0, 8.0]]
    assert apart.speed.of(4) == pytest.approx(4e-5)


def test_another_method_is_refused_and_named(plane: Plane) -> None:
    with pytest.raises(InvalidInput, match="expected the text 'occlusion', got 'shap'"):
        ask(plane, np.zeros((2, 8, 8), np.float32), explain="shap")
    with pytest.raises(InvalidInput, match="input 'pixels' may not be missing"):
        ask(plane, np.zeros((1, 8, 8), np.float32))
