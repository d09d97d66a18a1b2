"""A model in another server: what it is asked in vLLM's words, and every way in which an answer may not be whole."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import pytest
from headrace_engines import upstream_generator
from headrace_engines.errors import Busy, EngineDied, EngineError, Unanswerable
from headrace_engines.generator import Message, Piece, Sampling
from headrace_engines.upstream import Absent, Upstream
from headrace_engines.upstream_answers import UNNAMED, load_of
from headrace_engines.upstream_generator import UpstreamGenerator

METRICS: Final = b"""# HELP vllm:num_requests_running Number
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 4.0
vllm:num_requests_waiting_by_reason{engine="0",reason="x"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.5
"""
Event = dict[str, Any] | bytes


def piece(text: str = "", *tokens: int, **more: Any) -> Event:
    choice = {"index": 0, "text": text, "token_ids": list(tokens), "finish_reason": None, **more}
    return {"choices": [choice]}


WHOLE: Final = (piece("wheel", 7), piece(" turns", 8, 9), piece("", 2, finish_reason="stop", stop_reason=None))
USAGE: Final = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
DONE: Final = b"[DONE]"


class Server:
    """Says what it is told to, over real connections, with what vLLM has beside OpenAI's paths."""

    def __init__(self) -> None:
        self.events: Sequence[Event] = (*WHOLE, USAGE, DONE)
        self.status, self.said = 200, b""
        self.is_vllm = True
        self.asked: queue.SimpleQueue[tuple[dict[str, str], dict[str, Any]]] = queue.SimpleQueue()
        self.go_on = threading.Event()
        self.go_on.set()
        self.gone = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"told": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    told: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._told(200 if self.told.is_vllm and self.path == "/metrics" else 404, METRICS)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/completions":
            self.told.asked.put((dict(self.headers), body))
            self._told(self.told.status, self.told.said) if self.told.said else self._stream()
        elif not self.told.is_vllm:
            self._told(404, b'{"detail":"Not Found"}')
        elif self.path == "/tokenize":
            self._told(200, json.dumps({"tokens": tokens(body), "max_model_len": 20}).encode())
        else:
            self._told(200, json.dumps({"prompt": f"of {body['tokens']}"}).encode())

    def _told(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for event in self.told.events:
                data = event if isinstance(event, bytes) else json.dumps(event).encode()
                line = b"data: " + data + b"\n\n"
                self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                self.wfile.flush()
                if not self.told.go_on.wait(20):
                    return
        except OSError:
            self.told.gone.set()
        self.close_connection = True  # without the last chunk


def tokens(body: dict[str, Any]) -> list[int]:
    """Return 1 before the tokens of a prompt, one for each word, as a tokenizer with a first token does."""
    if "messages" in body:
        return [1, *(5 for each in body["messages"] for _ in each["content"].split())]
    words = body["prompt"].replace("<s>", " 1 ").split()
    found = [1 if word == "1" else 5 for word in words]
    return [1, *found] if body.get("add_special_tokens", True) else found


class At:
    """A place that is where it is."""

    model = "m"

    def __init__(self, server: Server, key: str = "") -> None:
        self._upstream = Upstream(server.url + "/v1", lambda: key)
        self.found = 0
        self.left = 0

    def find(self) -> Upstream:
        self.found += 1
        return self._upstream

    def leave(self) -> None:
        self.left += 1


class Told:
    """What is told of one answer."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[Piece | Exception] = queue.SimpleQueue()
        self.hear = self._items.put

    def next(self) -> Piece | Exception:
        return self._items.get(timeout=20)

    def all(self) -> list[Piece]:
        found: list[Piece] = []
        while not found or not found[-1].finish:
            item = self.next()
            if isinstance(item, Exception):
                raise item
            found.append(item)
        return found


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def make(server: Server) -> Iterator[Callable[..., UpstreamGenerator]]:
    made: list[UpstreamGenerator] = []

    def make(place: At | None = None, **more: Any) -> UpstreamGenerator:
        made.append(UpstreamGenerator(place or At(server), **more))
        return made[-1]

    yield make
    for each in made:
        each.close()


Make = Callable[..., UpstreamGenerator]


def answer(generator: UpstreamGenerator, **sampling: Any) -> list[Piece]:
    told = Told()
    generator.start("the river", Sampling(**{"max_tokens": 10, **sampling}), told.hear, told.hear)
    return told.all()


def test_an_answer_is_asked_for_in_vllms_words(server: Server, make: Make) -> None:
    generator = make(At(server, key="secret"))
    schema = '{"type": "object"}'
    sampling = Sampling(15, 0.5, 0.9, 3, 4, ("x",), schema, logprobs=False, frequency_penalty=0.1)
    told = Told()
    running = generator.start("the river turns", sampling, told.hear, told.hear)
    assert told.all() == [Piece("wheel", (7,)), Piece(" turns", (8, 9)), Piece("", (), finish="stop")]
    assert running.prompt_tokens == generator.count("the river turns") == 4
    headers, body = server.asked.get(timeout=20)
    assert headers["Authorization"] == "Bearer secret"
    assert body == {
        "model": "m",
        "prompt": [1, 5, 5, 5],
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
        "max_tokens": 15,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "seed": 4,
        "stop": ["x"],
        "frequency_penalty": 0.1,
        "presence_penalty": 0.0,
        "structured_outputs": {"json": {"type": "object"}},
    }
    # No more than the context has room for.
    answer(generator, max_tokens=1000)
    assert server.asked.get(timeout=20)[1]["max_tokens"] == 20 - 3


def test_log_probabilities_come_with_their_tokens_and_without_the_end(server: Server, make: Make) -> None:
    logprobs = {"token_logprobs": [-0.5, -0.25]}
    last = piece(".", 8, 2, logprobs=logprobs, finish_reason="stop", stop_reason=None)
    server.events = (last, USAGE, DONE)
    assert answer(make(), logprobs=True) == [Piece(".", (8,), (-0.5,), "stop")]
    # A text that was to stop it has no such token.
    server.events = (piece(".", 8, finish_reason="stop", stop_reason="x"), DONE)
    assert answer(make()) == [Piece(".", (8,), (), "stop")]


def test_a_template_that_writes_the_first_token_itself_does_not_make_two(make: Make) -> None:
    generator = make()
    assert generator.prompt([Message("user", "who turns")]) == "of [1, 5, 5]"
    assert generator.count("<s> the river") == generator.count("the river") == 3
    with pytest.raises(Unanswerable, match="fewer than 20 tokens, got 31"):
        generator.count("word " * 30)


def test_a_server_without_vllms_paths_is_asked_for_texts(server: Server, make: Make) -> None:
    server.is_vllm = False
    server.events = (piece("wheel"), piece("s turn"), piece("ing", finish_reason="length"), USAGE, DONE)
    generator = make()
    told = Told()
    running = generator.start("the river", Sampling(4), told.hear, told.hear)
    first, second, last = told.all()
    assert (first.tokens, second.tokens, last.tokens) == ((UNNAMED,), (UNNAMED,), (UNNAMED,) * 2)
    assert running.prompt_tokens == 3
    assert server.asked.get(timeout=20)[1]["prompt"] == "the river"
    for refused in (
        lambda: generator.count("a"),
        lambda: generator.prompt([Message("user", "a")]),
        lambda: generator.start("a", Sampling(4, json_schema="{}"), told.hear, told.hear),
    ):
        with pytest.raises(Unanswerable, match="expected a server with vLLM's /tokenize"):
            refused()


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (WHOLE[:2], "broke off before its end|IncompleteRead"),
        ((*WHOLE, USAGE), "broke off before its end|IncompleteRead"),
        ((*WHOLE[:2], DONE), "expected a reason why the answer ended"),
        ((*WHOLE, piece("more", 3), DONE), "before the last one"),
        ((b"{", DONE), "expected JSON"),
        ((b"[]", DONE), "expected an object"),
        ((b"[" * 100_000, DONE), "expected JSON"),
        (({"choices": [{}, {}]}, DONE), "expected one choice"),
        (({"choices": [{"text": 5}]}, DONE), "expected a choice with a text"),
        ((piece("a", -5), DONE), "expected the tokens of a piece"),
        ((piece("a", *range(11)), DONE), "expected at most 10 tokens"),
        ((piece("a", 5, finish_reason="abort"), DONE), "ends with stop or length, got 'abort'"),
        (({"choices": [], "usage": {"prompt_tokens": "3"}}, DONE), "expected a number of tokens"),
        (({"error": {"message": "out of memory", "code": 500}},), "out of memory"),
    ],
)
def test_what_is_not_whole_does_not_look_whole(
    server: Server, make: Make, events: Sequence[Event], expected: str
) -> None:
    server.events = events
    with pytest.raises(EngineDied, match=expected):
        answer(make())
    # The next one may be.
    server.events = (*WHOLE, DONE)
    assert answer(make())[-1].finish == "stop"


@pytest.mark.parametrize(
    ("status", "said", "kind", "expected"),
    [
        (
            400,
            b'{"error": {"message": "schema: unknown\\nkeyword"}}',
            Unanswerable,
            "status 400: schema: unknown keyword",
        ),
        (429, b"slow down", Busy, "slow down"),
        (503, b"{}", Busy, "status 503"),
        (500, b"\xff", EngineDied, "status 500"),
        (401, b'{"error": "Unauthorized"}', EngineDied, "Unauthorized"),
        (302, b"elsewhere", EngineDied, "status 302"),
        (404, b"no such model", EngineDied, "no such model"),
    ],
)
def test_what_a_server_refuses_is_told_in_our_words(
    server: Server, make: Make, status: int, said: bytes, kind: type[EngineError], expected: str
) -> None:
    server.status, server.said = status, said
    with pytest.raises(kind, match=expected):
        answer(make())


def test_a_model_that_a_server_has_lost_is_looked_for_once(server: Server, make: Make) -> None:
    class Lost(At):
        def find(self) -> Upstream:
            server.said = b""  # as by a load of the adapter
            return super().find()

    place = Lost(server)
    generator = make(place)
    server.status, server.said = 404, b"no such model"
    assert answer(generator)[-1].finish == "stop"


def test_an_answer_that_is_cancelled_ends_its_connection(server: Server, make: Make) -> None:
    server.go_on.clear()
    server.events = [piece("a", 5)] * 5 + [piece(" " * 1_000_000, 5)] * 4
    told = Told()
    running = make().start("the river", Sampling(10), told.hear, told.hear)
    assert told.next() == Piece("a", (5,))
    running.cancel()
    assert told.next() == Piece("", finish="cancelled")
    server.go_on.set()
    assert server.gone.wait(20)
    running.cancel()  # as often as one likes


def test_closing_ends_what_is_being_made(server: Server, make: Make) -> None:
    server.go_on.clear()
    place = At(server)
    generator, told = make(place), Told()
    generator.start("the river", Sampling(10), told.hear, told.hear)
    assert isinstance(told.next(), Piece)
    generator.close()
    assert isinstance(told.next(), EngineDied)
    assert place.left == 1
    with pytest.raises(EngineDied):
        generator.start("the river", Sampling(10), told.hear, told.hear)


def test_nobody_there_is_an_error_and_health_says_so(
    server: Server, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_generator, "LOOK_S", 0.01)
    heard: queue.SimpleQueue[bool] = queue.SimpleQueue()

    class Away(At):
        away = False

        def find(self) -> Upstream:
            if self.away:
                raise EngineDied("nobody has it")
            return super().find()

    place = Away(server)
    generator = make(place, on_health=heard.put)
    place.away = True
    assert heard.get(timeout=20) is False
    place.away = False
    assert heard.get(timeout=20) is True
    assert (generator.load().running, generator.load().waiting, generator.load().cache_used) == (5, 4, 0.5)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(EngineDied, match="refused"):
        Upstream(f"http://127.0.0.1:{port}").get("/health")
    with pytest.raises(Absent):
        Upstream(server.url).get("/health")


def test_it_needs_no_engine_of_its_own() -> None:
    loaded = "{'openvino_genai', 'tokenizers', 'onnxruntime'} & set(sys.modules)"
    program = f"import sys, headrace_engines.upstream_generator; sys.exit(bool({loaded}))"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_metrics_of_something_else_tell_nothing() -> None:
    assert load_of(b"") is None
    assert load_of(b"vllm:num_requests_running{} nan\n\xff") is None
    assert load_of(b"python_info{} 1.0\n") is None
