"""Released graphs that hang, crash or take all memory: they do so in a process of their own, and nothing else stops."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headrace_engines.run_limit import RunLimit
from headrace_inference.adapters import metrics
from headrace_inference.adapters.engine_model import EngineModel
from headrace_inference.adapters.graph_cache import GraphCache
from headrace_inference.adapters.release_loader import LoadLimits, ReleaseLoader
from headrace_inference.core.releases import Graph, Release
from headrace_inference.core.shelf import Shelf
from headrace_inference.transport.introspection import to_index
from headrace_runtime.errors import DeadlineExceeded, InvalidInput, Unavailable
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.poison import trials
from onnx import TensorProto, helper
from opentelemetry.context import Context

MakeRelease = Callable[..., Release]

OWN = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
FREE_BYTES = 250_000_000


def model(nodes: list[Any], constants: list[Any], functions: list[Any] | None = None, kind: int | None = None) -> bytes:
    """Return a graph from x to y, both [batch, 4]."""
    element = TensorProto.FLOAT if kind is None else kind
    x, y = (helper.make_tensor_value_info(name, element, ["batch", 4]) for name in "xy")
    graph = helper.make_graph(nodes, "unfit", [x], [y], constants)
    made = helper.make_model(graph, functions=functions, opset_imports=OWN, ir_version=8)
    return bytes(made.SerializeToString())


def loop_while(condition: str) -> bytes:
    """Return a graph that adds 1 to x while a condition, given as an operator on the sum and 0, holds."""
    row = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Add", ["before", "one"], ["after"]),
            helper.make_node("ReduceMax", ["after"], ["most"], keepdims=0),
            helper.make_node(condition, ["most", "zero"], ["goes_on"]),
        ],
        "body",
        [row("n", TensorProto.INT64, []), row("_", TensorProto.BOOL, []), row("before", TensorProto.FLOAT, [None, 4])],
        [row("goes_on", TensorProto.BOOL, []), row("after", TensorProto.FLOAT, [None, 4])],
        [
            helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0]),
        ],
    )
    loop = helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)
    return model([loop], [helper.make_tensor("true", TensorProto.BOOL, [], [True])])


def hangs_when_run() -> bytes:
    return loop_while("Greater")


def hangs_when_loaded() -> bytes:
    """Return a graph whose functions, each of which calls another one twice, are 2^40 nodes when written out."""
    functions = [helper.make_function("own", "F0", ["a"], ["c"], [helper.make_node("Neg", ["a"], ["c"])], OWN)]
    for level in range(1, 41):
        calls = [helper.make_node(f"F{level - 1}", [a], [b], domain="own") for a, b in ("ab", "bc")]
        functions.append(helper.make_function("own", f"F{level}", ["a"], ["c"], calls, OWN))
    return model([helper.make_node("F40", ["x"], ["y"], domain="own")], [], functions)


def crashes() -> bytes:
    """Return a graph that divides the least of all whole numbers by -1, on which a processor gives up (SIGFPE)."""
    whole = TensorProto.INT64
    constants = [helper.make_tensor("one", whole, [], [1]), helper.make_tensor("least", whole, [], [-(2**63)])]
    nodes = [helper.make_node("Sub", ["x", "one"], ["m"]), helper.make_node("Div", ["least", "m"], ["y"])]
    return model(nodes, constants, kind=whole)


def takes_all_memory() -> bytes:
    """Return a graph that makes 4 GB of zeros."""
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return model(nodes, [helper.make_tensor("size", TensorProto.INT64, [1], [1_000_000_000])])


UNFIT = {
    hangs_when_run: "the process did not end within 6 s",
    hangs_when_loaded: "the process (did not end within 6 s|took more than .* MB of memory)",
    crashes: "process died: SIGFPE",
    takes_all_memory: "the process (did not end within 6 s|took more than .* MB of memory)",
}


class Server:
    """A loader and its shelf; waits until something is served."""

    def __init__(self, folder: Path, make_release: MakeRelease) -> None:
        self.shelf, self._store, self._make_release = Shelf(), ObjectStore(str(folder / "store")), make_release
        self._told = threading.Condition()
        self._serving: set[str] = set()
        limits = LoadLimits(max_rows=8, load_s=6.0)
        graphs = GraphCache(self._store, folder / "graphs")
        self.loader = ReleaseLoader(self.shelf, graphs, limits, lambda release: b"", self._health)
        self.loader.start()

    def _health(self, serving: bool | None, name: str) -> None:
        with self._told:
            (self._serving.add if serving else self._serving.discard)(name)
            self._told.notify_all()

    def release(self, graph: bytes, **fields: Any) -> None:
        artifact = self._store.put(graph)
        kept = Graph(artifact.uri, artifact.digest, artifact.size_bytes)
        self.loader.announce(self._make_release(graph=kept, **fields), Context())

    def wait(self, name: str) -> None:
        with self._told:
            # On a busy machine a good graph may need a second attempt, 60 s after one that took too long.
            assert self._told.wait_for(lambda: name in self._serving, timeout=200)


@pytest.fixture
def server(tmp_path: Path, make_release: MakeRelease, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(trials, "free_bytes", lambda: FREE_BYTES)
    server = Server(tmp_path, make_release)
    yield server
    server.loader.stop()


def pending(name: str) -> float:
    return float(metrics.PENDING.labels(name, "champion")._value.get())


@pytest.mark.slow
def test_unfit_graphs_leave_the_old_version_serving_and_later_releases_load(
    server: Server, graph: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    server.release(graph)
    server.wait("model/digits")
    for ordinal, (make, reason) in enumerate(UNFIT.items(), start=2):
        server.release(make(), epoch=ordinal, ordinal=ordinal, version_id=f"sha256:{ordinal}")
        server.release(graph, model=f"later-{ordinal}")
        server.wait(f"model/later-{ordinal}")
        assert server.shelf.resolve("digits", "").release.ordinal == 1
        with pytest.raises(Unavailable, match=f"version '{ordinal}' is released but does not load: .*{reason}"):
            server.shelf.resolve("digits", str(ordinal))
        assert (pending("digits"), pending(f"later-{ordinal}")) == (1.0, 0.0)
        index = to_index(server.shelf, only_ready=False).models
        assert {each.version: each.state for each in index if each.name == "digits"} == {
            "1": "READY",
            str(ordinal): "UNAVAILABLE",
        }
        assert f"epoch {ordinal}: version {ordinal} fp32 did not load, version 1 goes on serving" in caplog.text


def test_a_server_with_an_unfit_release_becomes_ready(server: Server, graph: bytes) -> None:
    server.release(crashes(), model="unfit")
    server.release(graph)
    server.loader.all_announced()
    server.wait("")
    with pytest.raises(Unavailable, match=r"model 'unfit' is released but does not load: graph sha256:.*SIGFPE"):
        server.shelf.resolve("unfit", "")


def test_a_stop_gives_a_hanging_trial_up(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.release(hangs_when_run())
    pause = threading.Event()
    while server.loader._trial._trial._process is None:
        pause.wait(0.01)
    server.loader.stop()
    assert not server.loader._thread.is_alive()
    assert server.loader._trial._trial._process is None
    assert "did not load" not in caplog.text


def test_a_run_that_hangs_on_its_values_ends_and_the_next_one_is_answered() -> None:
    model = EngineModel(loop_while("Less"), 8, RunLimit(0.5))
    model.try_out()
    # The sum grows until float32 has no next whole number: it stays below zero for ever.
    with pytest.raises(DeadlineExceeded, match=r"computed for more than 0\.5 s and was ended"):
        model.run({"x": np.full((1, 4), -1e9, np.float32)}, ["y"])
    assert model.run({"x": np.full((1, 4), -2.0, np.float32)}, ["y"])[0].tolist() == [[0.0] * 4]


def test_values_that_a_graph_cannot_compute_with_are_the_callers_fault() -> None:
    whole = TensorProto.INT64
    divides = model(
        [helper.make_node("Add", ["x", "one"], ["m"]), helper.make_node("Div", ["one", "m"], ["y"])],
        [helper.make_tensor("one", whole, [], [1])],
        kind=whole,
    )
    with pytest.raises(InvalidInput, match=r"cannot compute with these values: .*division by zero"):
        EngineModel(divides, 8).run({"x": np.full((1, 4), -1, np.int64)}, ["y"])


def test_many_threads_run_within_one_limit() -> None:
    model, zeros = EngineModel(loop_while("Less"), 8, limit := RunLimit(60.0)), np.zeros((1, 4), np.float32)
    threads = [threading.Thread(target=lambda: [model.run({"x": zeros}, ["y"]) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not limit._running
    assert 1 <= len(limit._spare) <= 4
