"""Candidates beside the champion: they answer their share, and no caller is failed by them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from headrace import open_inference as oip
from headrace.events.v1 import model_pb2, rollout_pb2
from headrace_inference.adapters.engine_model import EngineModel
from headrace_inference.adapters.hot_predictions import HotPredictions
from headrace_inference.core.releases import CANDIDATE, CachePolicy, Fault, Release, ReleaseBook, Stage
from headrace_inference.core.rollout import Tally, differing, is_taken
from headrace_inference.core.served import Served
from headrace_inference.core.shelf import LoadedVersion, Shelf, Speed
from headrace_inference.transport import candidates
from headrace_inference.transport.beside import Beside
from headrace_inference.transport.compute import Compute
from headrace_inference.transport.converters import answer_prefix, to_release, to_served
from headrace_inference.transport.predictor import Predictor
from headrace_inference.transport.rollout_messages import to_observed
from headrace_runtime.errors import InvalidInput, Unavailable
from headrace_runtime.rpc.admission import Capacity

MakeRelease = Callable[..., Release]
Array = np.ndarray[Any, Any]


class Context:
    def __init__(self, left_s: float | None = None) -> None:
        self._left_s = left_s

    def time_remaining(self) -> float | None:
        return self._left_s

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        """Nobody reads it."""


class Spoilt:
    """A model whose runs go wrong in one way."""

    def __init__(self, model: EngineModel, spoil: Callable[[list[Array]], list[Array]]) -> None:
        self._model, self._spoil = model, spoil
        self.signature, self.sample, self.tokens = model.signature, model.sample, model.tokens

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        return self._spoil(self._model.run(arrays, outputs))


class World:
    """A champion, and a candidate of other weights."""

    def __init__(self, make_graph: Callable[..., bytes], make_release: MakeRelease, loop: asyncio.Runner) -> None:
        self.loop = loop
        self.log: list[Served] = []
        self.shelf, self.beside = Shelf(), Beside(1)
        self._compute = Compute(1, Capacity(calls=10, wait_s=10.0))
        self.predictor = Predictor(self.shelf, HotPredictions(None), self._compute, self, beside=self.beside)
        self.models = [EngineModel(make_graph(seed), max_rows=16) for seed in (0, 1)]
        self._make_release = make_release
        self.put(self.models[0], alias="champion", ordinal=1, version_id="sha256:" + "0" * 64)
        self.shelf.announce(["digits"], complete=True)

    async def record(self, served: Served) -> None:
        self.add(served)

    def add(self, served: Served) -> None:
        self.log.append(served)

    def put(self, model: Any, **fields: Any) -> None:
        release = self._make_release(**fields)
        self.shelf.put(LoadedVersion(release, model, Speed(1e-4, 1e-5), answer_prefix(release)))

    def candidate(self, share: int, model: Any = None, epoch: int = 1, records: bool = False) -> None:
        stage = Stage.CANARY if share else Stage.SHADOW
        fields = {"stage": stage, "share": share, "epoch": epoch, "pipeline": "digits", "records": records}
        self.put(model or self.models[1], alias=CANDIDATE, ordinal=2, version_id="sha256:" + "1" * 64, **fields)

    @property
    def counts(self) -> Any:
        return self.beside.tallies.of(self.shelf.candidates["digits"].release).counts()

    def ask(self, number: int = 0, *, left_s: float | None = None, version: str = "", **parts: Any) -> Any:
        """Answer a call as the server does: at once, or else in the event loop; return the answer."""
        request = call(number, version, **parts).SerializeToString()
        sent = self.predictor.infer_now(request, Context(left_s))
        if sent is None:
            sent = self.loop.run(self.predictor.infer(request, Context(left_s)))
        return oip.ModelInferResponse.FromString(sent)

    def expected(self, number: int, model: int) -> float:
        pixels = np.full((1, 8, 8), number, np.float32)
        return float(self.models[model].run({"pixels": pixels}, ["probabilities"])[0][0, 0])


def call(number: int = 0, version: str = "", **parts: Any) -> Any:
    request = oip.ModelInferRequest(model_name="digits", model_version=version, **parts)
    request.inputs.add(name="pixels", datatype="FP32", shape=[1, 8, 8])
    request.raw_input_contents.append(np.full((1, 8, 8), number, np.float32).tobytes())
    return request


def first(answer: Any) -> float:
    return float(np.frombuffer(answer.raw_output_contents[0], np.float32)[0])


@pytest.fixture
def world(
    make_graph: Callable[..., bytes], make_release: MakeRelease, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    monkeypatch.setattr(candidates, "LEAST_S", 20.0)  # for a machine that is busy with other things
    with asyncio.Runner() as loop:
        world = World(make_graph, make_release, loop)
        yield world
        world.beside.close()


def test_a_candidate_answers_its_share_and_whoever_asks_again_goes_the_same_way(world: World) -> None:
    world.candidate(share=25)
    ways = [[world.ask(number).model_version for number in range(100)] for _ in range(2)]
    assert ways[0] == ways[1]
    assert 10 <= ways[0].count("2") <= 40
    assert [first(world.ask(number)) for number in range(9)] == [
        pytest.approx(world.expected(number, int(ways[0][number]) - 1), abs=1e-6) for number in range(9)
    ]
    # A larger share takes in the smaller one, and another version other callers.
    world.candidate(share=50, epoch=2)
    assert all(world.ask(number).model_version == "2" for number in range(100) if ways[0][number] == "2")
    assert world.counts.candidate_calls == ways[0].count("2")


def test_counts_are_of_a_step_and_told_of_both(world: World) -> None:
    world.candidate(share=50)
    answered = [world.ask(number).model_version for number in range(40)]
    counts = world.counts
    assert (counts.candidate_calls, counts.champion_calls) == (answered.count("2"), answered.count("1"))
    assert (sum(counts.candidate_times), sum(counts.champion_times)) == (answered.count("2"), answered.count("1"))
    tally = world.beside.tallies.of(world.shelf.candidates["digits"].release)
    told = to_observed(tally, "replica-1")
    assert (told.pipeline, told.model, told.epoch, told.replica) == ("digits", "digits", 1, "replica-1")
    assert told.counts.candidate_calls == answered.count("2")
    assert [served.release.ordinal for served in world.log] == [int(version) for version in answered]
    world.candidate(share=50, epoch=2)
    assert world.counts.candidate_calls == 0


def test_a_key_decides_before_the_id_and_a_version_that_is_named_answers(world: World) -> None:
    world.candidate(share=50)
    by_id = {name: {world.ask(n, id=name).model_version for n in range(4)} for name in map(str, range(20))}
    assert all(len(versions) == 1 for versions in by_id.values())
    assert {"1", "2"} == set.union(*by_id.values())
    keyed = {
        world.ask(n, id=str(n), parameters={"rollout_key": {"string_param": "anna"}}).model_version for n in range(20)
    }
    assert len(keyed) == 1
    named = {version: world.ask(1, version=version).model_version for version in ("champion", "candidate", "1", "2")}
    assert named == {"champion": "1", "candidate": "2", "1": "1", "2": "2"}


def _throw(_results: list[Array]) -> list[Array]:
    raise RuntimeError("a kernel is missing")


SPOILT: dict[str, Callable[[list[Array]], list[Array]]] = {
    "failed": _throw,
    "not_finite": lambda results: [np.full_like(results[0], np.nan), *results[1:]],
}


@pytest.mark.parametrize("ending", SPOILT)
def test_what_a_candidate_cannot_answer_the_champion_answers_in_the_same_call(world: World, ending: str) -> None:
    world.candidate(100, Spoilt(world.models[1], SPOILT[ending]))
    answers = [world.ask(number) for number in range(5)]
    assert [answer.model_version for answer in answers] == ["1"] * 5
    assert [first(answer) for answer in answers] == [pytest.approx(world.expected(n, 0), abs=1e-6) for n in range(5)]
    assert (getattr(world.counts, ending), world.counts.candidate_calls) == (5, 0)
    assert len(world.log) == 5


def test_a_candidate_that_hangs_keeps_its_thread_and_nobody_else_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave = threading.Event()

    def hang(results: list[Array]) -> list[Array]:
        leave.wait(30)
        return results

    monkeypatch.setattr(candidates, "LEAST_S", 0.2)
    world.candidate(100, Spoilt(world.models[1], hang))
    try:
        assert [world.ask(n, left_s=5.0).model_version for n in range(3)] == ["1"] * 3
        assert (world.counts.failed, world.counts.skipped) == (1, 2)
    finally:
        leave.set()


def test_a_caller_without_time_is_answered_by_the_champion(world: World) -> None:
    world.candidate(100)
    assert world.ask(left_s=0.04).model_version == "1"
    assert (world.counts.skipped, world.counts.failed) == (1, 0)


def test_what_neither_can_answer_is_no_fault_of_the_candidate(world: World) -> None:
    world.candidate(100)
    request = call()
    request.inputs[0].shape[0] = 2
    with pytest.raises(InvalidInput, match="512 bytes of raw contents"):
        world.loop.run(world.predictor.infer(request.SerializeToString(), Context()))
    assert world.counts.failed == 0


def test_numbers_that_are_not_finite_for_the_champion_either_are_no_fault(world: World) -> None:
    spoilt = SPOILT["not_finite"]
    world.put(Spoilt(world.models[0], spoilt), alias="champion", epoch=2, version_id="sha256:" + "0" * 64)
    world.candidate(100, Spoilt(world.models[1], spoilt))
    world.ask()
    assert (world.counts.not_finite, world.counts.skipped) == (0, 1)


def shaded(world: World, calls: int) -> Any:
    """Ask until the shadow has computed so many calls; return the counts."""
    done = threading.Event()
    for number in range(calls):
        world.beside._rests_until_s = 0.0
        assert world.ask(number).model_version == "1"
        world.beside._shadow.submit(done.set)
        assert done.wait(10)
        done.clear()
    return world.counts


def test_in_the_shadow_the_champion_answers_and_answers_are_compared(world: World) -> None:
    world.candidate(0)
    counts = shaded(world, 10)
    labels = [
        [int(model.run({"pixels": np.full((1, 8, 8), n, np.float32)}, ["label"])[0][0]) for n in range(10)]
        for model in world.models
    ]
    apart = sum(one != other for one, other in zip(*labels, strict=True))
    assert (counts.candidate_calls, counts.compared, counts.differing) == (10, 10, apart)
    assert sum(counts.candidate_times) == 10


@pytest.mark.parametrize("ending", SPOILT)
def test_what_goes_wrong_in_the_shadow_is_counted_alone(world: World, ending: str) -> None:
    world.candidate(0, Spoilt(world.models[1], SPOILT[ending]))
    counts = shaded(world, 3)
    assert (getattr(counts, ending), counts.candidate_calls) == (3, 0)


def test_the_shadow_is_dropped_while_it_is_busy(world: World) -> None:
    leave, began = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        leave.wait(30)

    assert world.beside.shade(work)
    assert began.wait(10)
    assert not world.beside.shade(lambda: None)
    leave.set()


def test_a_candidate_keeps_no_replica_from_being_ready(make_release: MakeRelease) -> None:
    book = ReleaseBook()
    candidate = make_release(alias=CANDIDATE, stage=Stage.CANARY, share=10, version_id="sha256:" + "1" * 64)
    book.announce(candidate, 0.0)
    book.announce(make_release(), 1.0)
    assert book.due(2.0) == make_release(), "the champion is loaded first"
    book.loaded(make_release())
    assert book.settled()
    book.failed(candidate, 2.0, "the store is away", Fault.AROUND)
    assert (book.settled(), book.failing()[0].fault) == (True, Fault.AROUND)


def test_a_candidate_alone_is_nobody_s_champion(world: World, make_release: MakeRelease) -> None:
    world.candidate(100)
    world.shelf.remove(("digits", "champion"))
    assert not world.shelf.candidates
    with pytest.raises(Unavailable, match="not loaded yet"):
        world.ask()


def test_a_release_tells_stage_and_share(make_release: MakeRelease) -> None:
    own = make_release()
    message = model_pb2.ModelReleased(
        model="digits",
        alias=CANDIDATE,
        epoch=3,
        version_id=own.version_id,
        ordinal=2,
        variant="fp32",
        pipeline="digits-of-a-day",
        cache=model_pb2.CACHE_POLICY_OFF,
        stage=rollout_pb2.ROLLOUT_STAGE_CANARY,
        share=10,
    )
    message.graph.uri, message.graph.digest = own.graph.uri, own.graph.digest
    released = to_release(message, "avx2")
    assert (released.pipeline, released.stage, released.share) == ("digits-of-a-day", Stage.CANARY, 10)
    assert released.cache is CachePolicy.OFF
    message.stage = rollout_pb2.ROLLOUT_STAGE_UNSPECIFIED
    assert to_release(message, "avx2").stage is Stage.NONE


def test_shares_are_of_keys_and_versions_take_others(make_release: MakeRelease) -> None:
    keys = [str(number).encode() for number in range(4000)]
    releases = [make_release(version_id=f"sha256:{n:064d}", stage=Stage.CANARY, share=10) for n in (1, 2)]
    taken = [{key for key in keys if is_taken(release, key)} for release in releases]
    assert all(300 < len(each) < 500 for each in taken)
    assert len(taken[0] & taken[1]) < 80
    assert all(is_taken(replace(releases[0], share=100), key) for key in keys)
    assert not any(is_taken(replace(releases[0], stage=Stage.SHADOW), key) for key in keys)


def test_labels_decide_whether_answers_differ_and_numbers_where_there_are_none() -> None:
    numbers = np.array([[1.0], [2.0], [3.0]], np.float32)
    near, labels = numbers * np.float32(1.05), np.array([1, 2, 3])
    assert differing([numbers, labels], [numbers * 9, labels], 3) == 0
    assert differing([numbers, labels], [numbers, np.array([1, 2, 4])], 3) == 1
    assert differing([numbers], [near], 3) == 0
    assert differing([numbers], [numbers + np.array([[0.0], [1.0], [1.0]], np.float32)], 3) == 2
    assert differing([numbers], [numbers[:1]], 3) == 3


def test_a_time_is_counted_at_its_place(make_release: MakeRelease) -> None:
    tally = Tally(make_release())
    for seconds in (0.0, 1e-5, 2e-5, 1e9):
        tally.champion_took(seconds)
    times = tally.counts().champion_times
    assert (times[0], times[4], times[-1], sum(times)) == (2, 1, 1, 4)


def test_recorded_calls_of_a_canary_tell_whose_they_are_by_the_share_alone(world: World) -> None:
    """Both are recorded; what was asked by name, or answered in the other's place, is no comparison."""
    world.put(world.models[0], alias="champion", ordinal=1, version_id="sha256:" + "0" * 64, records=True)
    world.ask(0)
    world.candidate(share=0, records=True)
    world.ask(0)
    world.candidate(share=50, epoch=2, records=True)
    for number in range(20):
        world.ask(number)
    world.ask(1, version="2")
    world.ask(1, version="1")
    told = [(each.release.alias, each.tried) for each in world.log]
    assert told[:2] == [("champion", "")] * 2 == [told[-1], ("champion", "")]
    assert told[-2] == (CANDIDATE, "")
    assert {*told[2:-2]} == {("champion", "sha256:" + "1" * 64), (CANDIDATE, "sha256:" + "1" * 64)}
    (event,) = to_served(world.log[2:3]).predictions
    assert event.release.tried_version_id == world.log[2].tried
    world.candidate(share=99, model=Spoilt(world.models[1], SPOILT["failed"]), epoch=3, records=True)
    world.ask(2)
    assert (world.log[-1].release.alias, world.log[-1].tried) == ("champion", "")
