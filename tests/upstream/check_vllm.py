"""A real vLLM behind a replica: streams, cancels, adapters loaded while it answers, servers that come and go."""

from __future__ import annotations

import json
import queue
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from headrace.events.v1.model_pb2 import Upstream as Told
from headrace_engines.errors import EngineDied, Unanswerable
from headrace_engines.generator import Message, Piece, Room, Sampling
from headrace_engines.openvino_generator import OpenVinoGenerator
from headrace_engines.upstream import Upstream
from headrace_engines.upstream_generator import UpstreamGenerator
from headrace_local.ports import find_free

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "lm"))
from replica import Releases, Replica, Streamed, callers, stream
from replica import until as until_within
from vllm_server import KEY, Vllm, adapter, write_model

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.timeout(1800)
PROMPT = "the river turns the wheel and"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    """A server with the weights of seed 0, which is called `base`."""
    folder = tmp_path_factory.mktemp("base")
    (port,) = find_free(1)
    server = Vllm(write_model(folder / "model", 0), "base", port, folder / "log")
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.kill()


def until(condition: Callable[[], bool], within_s: float = 300.0) -> None:
    until_within(condition, within_s)


class At:
    model = "base"

    def __init__(self, server: Vllm) -> None:
        self._server = server

    def find(self) -> Upstream:
        return self._server.upstream

    def leave(self) -> None:
        """Nothing was made."""


@pytest.fixture(scope="module")
def generator(base: Vllm) -> Iterator[UpstreamGenerator]:
    generator = UpstreamGenerator(At(base))
    yield generator
    generator.close()


@pytest.fixture(scope="module")
def local(tiny_gguf: Callable[..., bytes]) -> Iterator[OpenVinoGenerator]:
    """The engine of replicas with the same weights."""
    room = Room(cache_bytes=64 * 2**20, threads=1, keeps_prefixes=False)
    engine = OpenVinoGenerator(tiny_gguf(**{"llama.context_length": 2048}), room)
    yield engine
    engine.close()


def answer(generator: Any, prompt: str = PROMPT, **sampling: Any) -> list[Piece]:
    told: queue.SimpleQueue[Piece | Exception] = queue.SimpleQueue()
    generator.start(prompt, Sampling(**{"max_tokens": 24, **sampling}), told.put, told.put)
    found: list[Piece] = []
    while not found or not found[-1].finish:
        item = told.get(timeout=120)
        if isinstance(item, Exception):
            raise item
        found.append(item)
    return found


def text_of(pieces: list[Piece]) -> str:
    return "".join(each.text for each in pieces)


def test_it_answers_as_the_engine_of_replicas_does(generator: UpstreamGenerator, local: OpenVinoGenerator) -> None:
    assert generator.context == local.context == 2048
    messages = [Message("user", "who turns the mill?")]
    prompt = local.prompt(messages)
    assert generator.prompt(messages) == prompt
    for each in (PROMPT, prompt, "ünï 本 12"):
        assert generator.count(each) == local.count(each)
    assert list(generator.score(prompt, " the river does")) == pytest.approx(
        list(local.score(prompt, " the river does")), abs=2e-3
    )
    theirs, ours = answer(generator, prompt, logprobs=True), answer(local, prompt, logprobs=True)
    assert text_of(theirs) == text_of(ours)
    assert [token for each in theirs for token in each.tokens] == [token for each in ours for token in each.tokens]
    logprobs = [value for each in theirs for value in each.logprobs]
    assert logprobs == pytest.approx([value for each in ours for value in each.logprobs], abs=2e-3)
    assert len(theirs) > 5
    assert theirs[-1].finish == ours[-1].finish


def test_what_was_asked_for_is_what_is_done(generator: UpstreamGenerator) -> None:
    greedy = text_of(answer(generator))
    assert text_of(answer(generator, temperature=1.0, seed=7)) == text_of(answer(generator, temperature=1.0, seed=7))
    assert text_of(answer(generator, temperature=1.5, seed=7)) != greedy
    stop = greedy[8:11]
    stopped = answer(generator, stop=(stop,))
    assert text_of(stopped) == greedy[: greedy.index(stop)]
    assert stopped[-1].finish == "stop"
    # Between the parts of an object a random model writes spaces without end.
    told = text_of(answer(generator, json_schema='{"enum": ["mill", "wheel"]}'))
    assert json.loads(told) in ("mill", "wheel")
    with pytest.raises(Unanswerable, match="nonsense"):
        answer(generator, json_schema='{"type": "nonsense"}')
    with pytest.raises(Unanswerable, match="fewer than 2048 tokens"):
        answer(generator, "the river " * 2000)


def test_a_cancel_frees_its_place(generator: UpstreamGenerator) -> None:
    told: queue.SimpleQueue[Piece | Exception] = queue.SimpleQueue()
    # Nothing that ends by itself: a schema of a long text.
    running = generator.start(PROMPT, Sampling(2000, temperature=1.0), told.put, told.put)
    until(lambda: generator.load().running == 1)
    assert generator.load().cache_used > 0
    running.cancel()
    until(lambda: generator.load().running == 0, within_s=10)
    last = None
    while not told.empty():
        last = told.get()
    assert isinstance(last, Piece)
    assert last.finish == "cancelled"


@pytest.fixture(scope="module")
def released(broker: Platform, tmp_path_factory: pytest.TempPathFactory, base: Vllm) -> Iterator[_Released]:
    released = _Released(broker, tmp_path_factory.mktemp("released"), base)
    yield released
    released.close()


class _Released:
    """A replica whose model is elsewhere: versions 1 and 2 are adapters, 3 is a model on a second server."""

    def __init__(self, broker: Platform, folder: Path, base: Vllm) -> None:
        (port,) = find_free(1)
        store = folder / "store"
        self.releases = Releases(broker, str(store), [adapter(1), adapter(2), b"GGUF of another server"])
        self.releases.upstream = Told(
            urls=[base.url, f"http://127.0.0.1:{port}"], model="{model}-v{version}", key="vllm"
        )
        self.second = Vllm(write_model(folder / "model", 3), self.name(3), port, folder / "log")
        (folder / "keys").mkdir()
        (folder / "keys" / "vllm").write_text(KEY)
        hosts = ",".join(each.removeprefix("http://") for each in self.releases.upstream.urls)
        self.replica = Replica(
            broker,
            folder,
            resident_versions=1,
            upstream_hosts=hosts,
            upstream_keys_dir=folder / "keys",
            upstream_adapters_dir=folder / "adapters",
        )
        self.releases.release(1)
        self.replica.start()
        self.replica.wait_serving(self.releases.model)
        options = [("grpc.enable_retries", 0), ("grpc.max_reconnect_backoff_ms", 200)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.replica.port}", options)

    def name(self, ordinal: int) -> str:
        return f"{self.releases.model}-v{ordinal}"

    def stream(self, tokens: int = 16, **more: Any) -> Streamed:
        return stream(self.channel, self.releases.model, PROMPT, max_tokens=tokens, **more)

    def served(self) -> int:
        return max(self.stream(2).ordinals, default=0)

    def close(self) -> None:
        self.channel.close()
        self.replica.kill()
        self.second.kill()
        self.releases.close()


def told_of(answers: list[Streamed], swap_s: float) -> str:
    return f"{len(answers)} answers, {sum(bool(each.error) for each in answers)} failed, moved after {swap_s:.1f} s"


def check_whole(answers: list[Streamed], *ordinals: int) -> None:
    """Check that every answer was whole, of one version, and that both were seen."""
    assert [each.error for each in answers if each.error] == []
    assert all(each.is_whole and len(each.ordinals) == 1 for each in answers)
    assert {each for answer in answers for each in answer.ordinals} == set(ordinals)


def test_a_release_loads_an_adapter_while_calls_are_answered(released: _Released, base: Vllm) -> None:
    assert released.name(1) in base.models
    first = released.stream()
    with callers(2, released.stream) as answers:
        until(lambda: len(answers) >= 4)
        began_s = time.monotonic()
        released.releases.release(2)
        until(lambda: any(2 in each.ordinals for each in answers))
        swap_s = time.monotonic() - began_s
        count = len(answers)
        until(lambda: len(answers) >= count + 4)
    print(f"\nadapter: {told_of(answers, swap_s)}")
    check_whole(answers, 1, 2)
    assert released.stream().text != first.text
    until(lambda: released.name(1) not in base.models)
    assert released.name(2) in base.models


def test_a_release_moves_to_a_second_server_when_it_is_ready(released: _Released, base: Vllm) -> None:
    if released.served() != 2:
        released.releases.release(2)
        until(lambda: released.served() == 2)
    released.releases.release(3)
    with callers(2, released.stream) as answers:
        released.second.start()
        released.second.wait()
        began_s = time.monotonic()
        until(lambda: any(3 in each.ordinals for each in answers))
        swap_s = time.monotonic() - began_s
        count = len(answers)
        until(lambda: len(answers) >= count + 4)
    print(f"\nsecond server: {told_of(answers, swap_s)}")
    check_whole(answers, 2, 3)
    until(lambda: released.name(2) not in base.models)

    # Killed in the middle of an answer: that is an error, and no answer.
    def kill_soon(seen: Streamed) -> None:
        if len(seen.texts) == 3:
            released.second.kill()

    broken = released.stream(1000, temperature=1.0, take=kill_soon)
    assert len(broken.texts) >= 3, broken.error
    assert broken.error
    assert not broken.is_whole
    until(lambda: "UNAVAILABLE" in released.stream().error or "refused" in released.stream().error)
    # Going back finds the first server, and loads the adapter again.
    released.releases.release(2)
    until(lambda: released.served() == 2)
    assert released.name(2) in base.models


def test_a_server_that_is_killed_breaks_answers_off(base: Vllm) -> None:
    """The last one: the server is gone afterwards."""
    generator = UpstreamGenerator(At(base))
    told: queue.SimpleQueue[Piece | Exception] = queue.SimpleQueue()
    generator.start(PROMPT, Sampling(2000, temperature=1.0), told.put, told.put)
    assert isinstance(told.get(timeout=60), Piece)
    base.kill()
    item: Piece | Exception = Piece("")
    while isinstance(item, Piece):
        assert not item.finish
        item = told.get(timeout=60)
    assert isinstance(item, EngineDied)
    generator.close()
