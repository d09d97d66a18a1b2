from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from headrace_inference.core.releases import CachePolicy, Graph, Release
from headrace_runtime.object_store import digest_of
from onnx import TensorProto, checker, helper, numpy_helper

MakeGraph = Callable[..., bytes]
MakeRelease = Callable[..., Release]


@pytest.fixture(scope="session")
def make_graph() -> MakeGraph:
    """Makes ONNX graphs: pixels [batch, 8, 8] in; probabilities [batch, 10] and label [batch] out."""
    return digits_graph


@pytest.fixture(scope="session")
def graph() -> bytes:
    return digits_graph()


@pytest.fixture(scope="session")
def make_release(graph: bytes) -> MakeRelease:
    """Makes releases of the graph `graph`; every field can be given."""
    release = Release(
        model="digits",
        alias="champion",
        epoch=1,
        version_id="sha256:" + "ab" * 32,
        ordinal=1,
        variant="fp32",
        graph=Graph("memory://graph", digest_of(graph), len(graph)),
        dataset_id="sha256:" + "da" * 32,
        run_id="run-1",
        cache=CachePolicy.OFF,
    )

    def make(**fields: Any) -> Release:
        return replace(release, **fields)

    return make


@pytest.fixture
def counting_loop() -> Any:
    """A node that counts to `times`, from `start`, and calls the result `counted`."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["goes_on"], ["again"]), helper.make_node("Add", ["sum", "one"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("n", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
        [helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])],
    )
    return helper.make_node("Loop", ["times", "", "start"], ["counted"], body=body)


def digits_graph(seed: int = 0, *, classes: list[str] | None = None, work: int = 0) -> bytes:
    """Return a linear model of random weights; `work` more layers of 2048 make it slow."""
    rng = np.random.default_rng(seed)
    label = TensorProto.STRING if classes else TensorProto.INT64
    names = (
        helper.make_tensor("classes", label, [10], [name.encode() for name in classes])  # type: ignore[misc]
        if classes
        else numpy_helper.from_array(np.arange(10), "classes")
    )
    initializers = [names, numpy_helper.from_array(np.array([-1, 64]), "flat")]
    nodes = [helper.make_node("Reshape", ["pixels", "flat"], ["x"])]
    last = "x"
    sizes = [64, *([2048] * work), 10]
    for place, (size_in, size_out) in enumerate(pairwise(sizes)):
        weights = rng.normal(0, 0.05, (size_in, size_out)).astype(np.float32)
        initializers.append(numpy_helper.from_array(weights, f"weights{place}"))
        nodes.append(helper.make_node("MatMul", [last, f"weights{place}"], [f"x{place}"]))
        last = f"x{place}"
    nodes += [
        helper.make_node("Softmax", [last], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["place"], axis=1, keepdims=0),
        helper.make_node("Gather", ["classes", "place"], ["label"], axis=0),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "digits",
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 8, 8])],
            [
                helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10]),
                helper.make_tensor_value_info("label", label, ["batch"]),
            ],
            initializers,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    checker.check_model(model)
    return bytes(model.SerializeToString())
