"""What graphs take to run."""

from collections.abc import Callable

import numpy as np
import onnx
from headrace_learning.costs import held_bytes, latencies_ms, rows_answered_otherwise

LinearGraph = Callable[..., bytes]
CLASSES = np.array([3, 5, 8], dtype=np.int64)


def test_latency_is_that_of_the_batch_asked_for(linear_graph: LinearGraph) -> None:
    small = linear_graph(np.ones((3, 3)), CLASSES)
    wide = np.random.default_rng(0).normal(size=(2000, 3))
    rows = {"x": np.ones((2, 3), dtype=np.float32)}

    (one,) = latencies_ms([small], rows, batch=1, budget_s=0.05)
    assert 0 < one.median <= one.p99
    single, many = (
        latencies_ms([linear_graph(wide, CLASSES)], {"x": np.ones((2, 2000), np.float32)}, batch, 0.05)[0].median
        for batch in (1, 512)
    )
    assert many > 2 * single
    assert len(latencies_ms([small, small], rows, batch=32, budget_s=0.01)) == 2


def test_memory_grows_with_the_weights_and_is_the_same_again(linear_graph: LinearGraph) -> None:
    random = np.random.default_rng(0)
    found = []
    for width in (1_000, 101_000, 101_000):
        graph = linear_graph(random.normal(size=(width, 3)), CLASSES)
        held = held_bytes(graph, {"x": np.ones((2, width), np.float32)}, 1)
        if held is None:
            return  # no glibc that tells
        found.append(held)
    small, large, again = found
    # 100,000 more inputs of three weights, each 4 bytes.
    assert large - small > 1_200_000
    assert abs(again - large) < 65_536


def test_rows_that_are_answered_by_chance_are_counted(linear_graph: LinearGraph) -> None:
    graph = linear_graph(np.ones((3, 3)), CLASSES)
    rows = {"x": np.ones((2, 3), np.float32)}
    assert rows_answered_otherwise(graph, rows, 32) == 0
    assert rows_answered_otherwise(by_chance(graph), rows, 32) == 32


def by_chance(graph: bytes) -> bytes:
    """Return a graph that answers noise beside what it answered."""
    model = onnx.load_from_string(graph)
    (name,) = (each.name for each in model.graph.input)
    model.graph.node.append(onnx.helper.make_node("RandomNormalLike", [name], ["noise"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("noise", onnx.TensorProto.FLOAT, ["batch", 3]))
    return bytes(model.SerializeToString())
