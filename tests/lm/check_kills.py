"""Every process of a platform is killed while a model of language answers: whole answers, or a clear end."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from headrace.events.v1.model_pb2 import CACHE_POLICY_REDIS
from headrace_local.ports import find_free

from tests.contract.foreign.conftest import FOREIGN, foreign_python, sync_foreign

sys.path.insert(0, str(Path(__file__).parent))
from replica import PROMPT, Releases, Streamed, callers, stream, until

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

__all__ = ["foreign_python", "sync_foreign"]

pytestmark = pytest.mark.timeout(900)

OTHERS = ("model-registry", "preprocessing", "trainer", "compressor", "ingestion", "valkey", "kafka")
TOKENS, ENDLESS = 200, 50_000
"""Tokens of an answer, and of one that is being made for as long as a test needs it."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    from headrace_local.launcher import Platform

    rest = f"127.0.0.1:{find_free(1)[0]}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADRACE_MAX_ANSWER_TOKENS", str(ENDLESS))
        with Platform.on_free_ports(tmp_path_factory.mktemp("killed"), rest_address=rest) as platform:
            yield platform


@pytest.fixture(scope="module")
def model(platform: Platform, tiny_gguf: Callable[..., bytes]) -> Iterator[str]:
    graph = tiny_gguf(seed=77, **{"llama.context_length": 2 * ENDLESS})
    releases = Releases(platform, platform.connections.store_url, [graph], CACHE_POLICY_REDIS)
    releases.release(1)
    yield releases.model
    releases.close()


@pytest.fixture
def channel(platform: Platform) -> Iterator[grpc.Channel]:
    options = [("grpc.enable_retries", 0), ("grpc.max_reconnect_backoff_ms", 200)]
    with grpc.insecure_channel(platform.addresses["inference"], options) as channel:
        yield channel


def killed(platform: Platform, name: str) -> Callable[[], bool]:
    """Kill a process; return what tells whether it is back."""
    pid = platform.signal(name, signal.SIGKILL)
    assert pid
    return lambda: platform.pid(name) not in (0, pid)


def whole(channel: grpc.Channel, model: str, prompt: str = PROMPT) -> str:
    """Return an answer once there is one."""
    found: list[Streamed] = []

    def is_there() -> bool:
        found.append(stream(channel, model, prompt, max_tokens=TOKENS))
        return found[-1].is_whole

    until(is_there)
    return found[-1].text


def are_more_than(answers: list[Streamed], number: int) -> bool:
    return len(answers) > number


def test_answers_go_on_whatever_else_is_killed(platform: Platform, model: str, channel: grpc.Channel) -> None:
    whole(channel, model)
    numbers = itertools.count()

    def call() -> Streamed:
        # Each is another one, which Valkey does not have yet.
        return stream(channel, model, f"{PROMPT} {next(numbers)}", max_tokens=TOKENS)

    with callers(2, call) as answers:
        for name in OTHERS:
            is_back = killed(platform, name)
            until(partial(are_more_than, answers, len(answers) + 3))
            until(is_back)
    assert [each.error for each in answers if not each.is_whole] == []
    print(f"\n{len(answers)} streams while {', '.join(OTHERS)} were killed: 0 failed")


def test_openais_client_is_told_of_no_end_that_was_none(
    platform: Platform, model: str, channel: grpc.Channel, foreign_python: str
) -> None:
    expected = whole(channel, model, "the river turns")
    program = str(FOREIGN / "openai_stream.py")
    command = [foreign_python, program, platform.settings.rest_address, model, str(ENDLESS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        told: list[Any] = [json.loads(client.stdout.readline())]
        is_back = killed(platform, "inference")
        *pieces, end = [*told, *map(json.loads, client.stdout)]
    assert pieces
    assert "".join(text for text, _ in pieces).startswith(expected[:3])
    assert [finish for _, finish in pieces if finish] == []
    assert end != "whole"
    until(is_back)
    assert whole(channel, model, "the river turns") == expected
    print(f"\nkilled after {len(pieces)} pieces, OpenAI's client raised {end}")
