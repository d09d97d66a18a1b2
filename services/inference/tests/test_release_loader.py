from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from headrace.events.v1.artifact_pb2 import Artifact
from headrace.events.v1.model_pb2 import CACHE_POLICY_AUTO, ModelReleased, ServedVariant
from headrace_engines import beside
from headrace_inference.adapters import metrics
from headrace_inference.adapters.graph_cache import GraphCache
from headrace_inference.adapters.release_loader import LoadLimits, ReleaseLoader
from headrace_inference.core import releases
from headrace_inference.core.releases import CheaperVariant, Graph, Release
from headrace_inference.core.shelf import Shelf
from headrace_inference.transport.consumer import on_released
from headrace_inference.transport.converters import to_release
from headrace_runtime.errors import Unavailable, Unprocessable
from headrace_runtime.object_store import ObjectStore, digest_of
from headrace_runtime.records import Record
from opentelemetry.context import Context

MakeGraph = Callable[..., bytes]
MakeRelease = Callable[..., Release]


class Health:
    """Remembers what was told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bool | None]] = []
        self._changed = threading.Condition()

    def __call__(self, serving: bool | None, name: str) -> None:
        with self._changed:
            self.told.append((name, serving))
            self._changed.notify_all()

    def wait(self, name: str, serving: bool | None, times: int = 1) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.told.count((name, serving)) >= times, timeout=30)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path / "store"))


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def loader(
    shelf: Shelf, store: ObjectStore, tmp_path: Path, health: Health, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ReleaseLoader]:
    monkeypatch.setattr(releases, "FIRST_RETRY_S", 0.01)
    loader = ReleaseLoader(
        shelf, GraphCache(store, tmp_path / "graphs"), LoadLimits(64), lambda release: b"prefix", health
    )
    loader.start()
    yield loader
    loader.stop()


def stored(store: ObjectStore, data: bytes) -> Graph:
    artifact = store.put(data)
    return Graph(artifact.uri, artifact.digest, artifact.size_bytes)


def failures() -> float:
    return float(metrics.LOAD_FAILURES.labels("digits", "champion")._value.get())


def label_of(shelf: Shelf, model: str = "digits") -> int:
    ramp = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    (label,) = shelf.resolve(model, "").model.run({"pixels": ramp}, ["label"])
    return int(label[0])


def test_a_release_is_loaded_warmed_and_served(
    loader: ReleaseLoader, shelf: Shelf, store: ObjectStore, health: Health, graph: bytes, make_release: MakeRelease
) -> None:
    loader.announce(make_release(graph=stored(store, graph)), Context())
    health.wait("model/digits", True)
    loaded = shelf.resolve("digits", "1")
    assert loaded.speed.first_row_s > 0
    assert loaded.prefix == b"prefix"
    assert 0 <= label_of(shelf) < 10
    assert health.told == [("model/digits", False), ("model/digits", True)]


def test_ready_means_everything_known_at_the_start_is_loaded(
    loader: ReleaseLoader,
    shelf: Shelf,
    store: ObjectStore,
    tmp_path: Path,
    health: Health,
    graph: bytes,
    make_release: MakeRelease,
) -> None:
    missing = Graph("", digest_of(b"later"), 5)
    loader.announce(make_release(graph=stored(store, graph)), Context())
    # A file where the store has a folder: what the file system fails with is not a missing graph.
    (tmp_path / "store" / "sha256" / missing.digest.removeprefix("sha256:")[:2]).write_bytes(b"")
    loader.announce(make_release(model="other", graph=missing), Context())
    health.wait("model/digits", True)
    loader.all_announced()
    assert not shelf.ready
    loader.announce(make_release(model="other", epoch=2, graph=stored(store, graph)), Context())
    health.wait("", True)
    assert shelf.ready
    loader.announce(make_release(model="third", graph=missing), Context())
    assert shelf.ready
    assert health.told.count(("", True)) == 1
    assert ("", False) not in health.told


def test_a_release_without_a_graph_does_not_keep_the_others_from_being_served(
    loader: ReleaseLoader, shelf: Shelf, store: ObjectStore, health: Health, graph: bytes, make_release: MakeRelease
) -> None:
    loader.announce(make_release(model="lost", graph=Graph("", digest_of(b"lost"), 4)), Context())
    loader.announce(make_release(graph=stored(store, graph)), Context())
    loader.all_announced()
    health.wait("", True)
    assert label_of(shelf) >= 0
    with pytest.raises(Unavailable, match=r"model 'lost' is released but does not load: artifact sha256:.* is not in"):
        shelf.resolve("lost", "")


def test_nothing_released_is_ready_too(loader: ReleaseLoader, shelf: Shelf, health: Health) -> None:
    loader.all_announced()
    health.wait("", True)
    assert shelf.ready


def test_a_swap_keeps_the_old_version_for_who_holds_it(
    loader: ReleaseLoader,
    shelf: Shelf,
    store: ObjectStore,
    health: Health,
    make_graph: MakeGraph,
    make_release: MakeRelease,
) -> None:
    loader.announce(make_release(graph=stored(store, make_graph(seed=1))), Context())
    health.wait("model/digits", True)
    held = shelf.resolve("digits", "")
    loader.announce(make_release(epoch=2, ordinal=2, graph=stored(store, make_graph(seed=2))), Context())
    health.wait("model/digits", True, times=2)
    assert (held.release.ordinal, shelf.resolve("digits", "").release.ordinal) == (1, 2)
    zeros = {"pixels": np.zeros((1, 8, 8), np.float32)}
    assert held.model.run(zeros, ["probabilities"])[0].shape == (1, 10)


def test_going_back_to_a_version_in_memory_takes_no_load(
    loader: ReleaseLoader,
    shelf: Shelf,
    store: ObjectStore,
    tmp_path: Path,
    health: Health,
    make_graph: MakeGraph,
    make_release: MakeRelease,
) -> None:
    first = make_release(graph=stored(store, make_graph(seed=1)))
    loader.announce(first, Context())
    health.wait("model/digits", True)
    second = replace(first, epoch=2, ordinal=2, version_id="sha256:2", graph=stored(store, make_graph(seed=2)))
    loader.announce(second, Context())
    health.wait("model/digits", True, times=2)
    shutil.rmtree(tmp_path / "store")
    shutil.rmtree(tmp_path / "graphs")
    loader.announce(replace(first, epoch=3), Context())
    assert (shelf.resolve("digits", "").release.epoch, shelf.resolve("digits", "").release.ordinal) == (3, 1)
    assert shelf.resolve("digits", "2").release.epoch == 2
    loader.announce(second, Context())
    assert shelf.resolve("digits", "").release.epoch == 3


def test_an_older_release_never_comes_back(
    loader: ReleaseLoader, shelf: Shelf, store: ObjectStore, health: Health, graph: bytes, make_release: MakeRelease
) -> None:
    kept = stored(store, graph)
    loader.announce(make_release(epoch=5, ordinal=5, graph=kept), Context())
    loader.announce(make_release(epoch=4, ordinal=4, graph=kept), Context())
    loader.announce(make_release(model="last", graph=kept), Context())
    health.wait("model/last", True)
    assert shelf.resolve("digits", "").release.ordinal == 5


@pytest.mark.parametrize("broken", [b"no graph", None])
def test_a_release_that_does_not_load_leaves_the_old_one_serving(
    loader: ReleaseLoader,
    shelf: Shelf,
    store: ObjectStore,
    health: Health,
    graph: bytes,
    make_release: MakeRelease,
    broken: bytes | None,
) -> None:
    before = failures()
    loader.announce(make_release(graph=stored(store, graph)), Context())
    health.wait("model/digits", True)
    bad = Graph("", digest_of(b"gone"), 4) if broken is None else stored(store, broken)
    loader.announce(make_release(epoch=2, ordinal=2, graph=bad), Context())
    loader.announce(make_release(model="next", graph=stored(store, graph)), Context())
    health.wait("model/next", True)
    assert shelf.resolve("digits", "").release.ordinal == 1
    assert failures() > before
    assert ("model/digits", None) not in health.told


def test_a_release_is_tried_again_until_its_graph_is_there(
    loader: ReleaseLoader, store: ObjectStore, health: Health, graph: bytes, make_release: MakeRelease
) -> None:
    before = failures()
    loader.announce(make_release(graph=Graph("", digest_of(graph), len(graph))), Context())
    pause = threading.Event()
    while failures() < before + 2:
        pause.wait(0.005)
    stored(store, graph)
    health.wait("model/digits", True)


def test_cheaper_variants_are_loaded_beside_the_one_that_is_served(
    loader: ReleaseLoader,
    shelf: Shelf,
    store: ObjectStore,
    health: Health,
    graph: bytes,
    make_graph: MakeGraph,
    make_release: MakeRelease,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    int8, broken = (CheaperVariant(name, stored(store, data)) for name, data in (("int8", make_graph(3)), ("x", b"x")))
    unread = CheaperVariant("y", stored(store, make_graph(4)))
    fetch = loader._graphs.get

    def get(wanted: Graph, used: Callable[[], Collection[str]]) -> beside.Graph:
        assert wanted.digest in used()
        if wanted == unread.graph:
            raise OSError("no space left on device")
        return fetch(wanted, used)

    monkeypatch.setattr(loader._graphs, "get", get)
    release = make_release(graph=stored(store, graph), variant="fp32", cheaper=(broken, unread, int8))
    loader.announce(release, Context())
    health.wait("model/digits", True)
    best = shelf.resolve("digits", "")
    assert [each.release.variant for each in best.cheaper] == ["int8"], "one that does not load is done without"
    assert (best.degraded, best.cheaper[0].degraded, best.cheaper[0].release.cheaper) == (False, True, ())
    assert best.cheaper[0].model is not best.model

    loader.announce(replace(release, epoch=2, dataset_id="other"), Context())
    again = shelf.resolve("digits", "")
    assert again.release.epoch == again.cheaper[0].release.epoch == 2
    assert again.cheaper[0].model is best.cheaper[0].model


def test_a_restart_needs_no_store(
    store: ObjectStore, tmp_path: Path, health: Health, graph: bytes, make_release: MakeRelease
) -> None:
    release = make_release(graph=stored(store, graph))
    for folder in ("store", "nowhere"):
        graphs = GraphCache(ObjectStore(str(tmp_path / folder)), tmp_path / "graphs")
        loader = ReleaseLoader(Shelf(), graphs, LoadLimits(64), lambda release: b"", health)
        loader.start()
        loader.announce(release, Context())
        health.wait("model/digits", True, times=1 if folder == "store" else 2)
        loader.stop()


def released(graph: Graph, **fields: object) -> ModelReleased:
    message = ModelReleased(
        model="digits",
        alias="champion",
        epoch=1,
        version_id="sha256:" + "ab" * 32,
        ordinal=1,
        variant="fp32",
        cache=CACHE_POLICY_AUTO,
    )
    message.graph.uri, message.graph.digest, message.graph.size_bytes = graph.uri, graph.digest, graph.size_bytes
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def test_events_are_followed_to_their_end(
    loader: ReleaseLoader, shelf: Shelf, store: ObjectStore, health: Health, graph: bytes
) -> None:
    record = Record("headrace.model.released.v1", 0, 7, b"digits@champion", b"")
    on_released(loader, "avx2", "digits@champion", released(stored(store, graph)), record)
    health.wait("model/digits", True)
    on_released(loader, "avx2", "digits@champion", None, record)
    health.wait("model/digits", None)
    assert shelf.models == {}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"version_id": "", "variant": ""}, "expected version_id, variant, got nothing"),
        ({"cache": 0}, "expected a cache policy, got 0"),
        ({"epoch": 0}, "expected epoch, got nothing"),
    ],
)
def test_an_event_that_lacks_something_is_unprocessable(fields: dict[str, object], message: str) -> None:
    with pytest.raises(Unprocessable, match=message):
        to_release(released(Graph("", digest_of(b""), 0), **fields), "avx2")


def test_a_replica_serves_what_was_measured_on_its_class_of_processors() -> None:
    message = released(Graph("", digest_of(b"int8"), 4), variant="int8")
    assert to_release(message, "avx2").variant == "int8"  # of before there were classes
    for cpu_class, names in (("avx512-vnni", ["full", "int8"]), ("avx2", ["int8", "fp32"])):
        on = message.classes.add(cpu_class=cpu_class)
        for name in names:
            graph = Artifact(uri=name, digest=digest_of(name.encode()), size_bytes=len(name))
            on.variants.append(ServedVariant(variant=name, graph=graph))
    message.unmeasured.CopyFrom(message.classes[1].variants[1])

    found = {name: to_release(message, name) for name in ("avx512-vnni", "avx2", "amx-int8", "arm64")}

    assert {name: each.variant for name, each in found.items()} == {
        "avx512-vnni": "full",
        "avx2": "int8",
        "amx-int8": "fp32",
        "arm64": "fp32",
    }
    # What only one class may compute reaches no other.
    others = [each.graph.digest for name, each in found.items() if name != "avx512-vnni"]
    assert digest_of(b"full") not in others
    assert all(each.cheaper == () for each in found.values())
    message.degrade = True
    assert [each.variant for each in to_release(message, "avx512-vnni").cheaper] == ["int8"]
    assert to_release(message, "arm64").cheaper == ()
    message.ClearField("unmeasured")
    assert to_release(message, "avx2").variant == "int8"
    with pytest.raises(Unprocessable, match="nothing to be served on arm64: fp32 failed its gates"):
        to_release(message, "arm64")


def test_an_event_needs_a_digest() -> None:
    with pytest.raises(Unprocessable, match="expected a SHA-256, got 'sha256:graph'"):
        to_release(released(Graph("", "sha256:graph", 0)), "avx2")


def test_an_event_that_cannot_be_served_is_passed_over(
    loader: ReleaseLoader, store: ObjectStore, health: Health, graph: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    record = Record("headrace.model.released.v1", 0, 7, b"digits@champion", b"")
    on_released(loader, "avx2", "digits@champion", released(stored(store, graph), version_id="", variant=""), record)
    on_released(loader, "avx2", "other@champion", released(stored(store, graph), model="other"), record)
    health.wait("model/other", True)
    assert "headrace.model.released.v1:0:7" in caplog.text
    assert "expected version_id, variant, got nothing" in caplog.text
    assert not [name for name, _ in health.told if name == "model/digits"]
