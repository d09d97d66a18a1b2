"""OpenAI's paths: whole answers, events, embeddings, errors in their shape."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from headrace import open_inference as oip
from headrace_engines.errors import EngineDied, Unanswerable
from headrace_engines.generator import EngineLoad, Message, Piece, Sampling
from headrace_inference.adapters.language import Language
from headrace_inference.core import generation
from headrace_inference.core.generation import Bounds
from headrace_inference.core.shelf import LoadedVersion, Speed
from headrace_inference.core.signature import Signature, TensorSpec
from headrace_inference.core.tensors import BYTES, DATATYPES
from headrace_inference.transport.converters import answer_prefix
from headrace_runtime.rpc.admission import Capacity

MAX_TOKENS = 50


class Answer:
    def __init__(self, written: Written, prompt: str, sampling: Sampling, tell: Callable[[Any], None]) -> None:
        self.prompt_tokens = len(prompt.split())
        self._written, self._prompt, self._sampling, self._tell = written, prompt, sampling, tell
        self._ended = threading.Event()
        threading.Thread(target=self._write, daemon=True).start()

    def cancel(self) -> None:
        self._ended.set()
        self._written.go_on.release(100)
        self._written.cancelled.set()

    def _write(self) -> None:
        most = self._sampling.max_tokens
        for number in range(most):
            self._written.go_on.acquire(timeout=20)
            if self._ended.is_set():
                return self._tell(Piece("", finish="cancelled"))
            if "die" in self._prompt and number == 2:
                return self._tell(EngineDied("the engine ended"))
            logprobs = (-0.5,) if self._sampling.logprobs else ()
            self._tell(Piece(f"w{number} ", (number,), logprobs, "length" if number == most - 1 else ""))
        return None


class Written:
    """A generator that writes w0 w1 w2, each when it may."""

    context = 1000

    def __init__(self) -> None:
        self.go_on = threading.Semaphore(0)
        self.cancelled = threading.Event()
        self.asked: list[tuple[str, Sampling]] = []

    def prompt(self, messages: Sequence[Message]) -> str:
        if messages[-1].role != "user":
            raise Unanswerable("the last message has to be the user's")
        return "".join(f"<{each.role}>{each.content} " for each in messages)

    def start(self, prompt: str, sampling: Sampling, on_piece: Any, on_error: Any) -> Answer:
        self.asked.append((prompt, sampling))

        def tell(each: Any) -> None:
            (on_error if isinstance(each, Exception) else on_piece)(each)

        return Answer(self, prompt, sampling, tell)

    def count(self, text: str) -> int:
        return len(text.split())

    def score(self, prompt: str, answer: str) -> Sequence[float]:
        raise AssertionError((prompt, answer))

    def load(self) -> EngineLoad:
        return EngineLoad(0, 0, 0.0)

    def close(self) -> None:
        pass


class NoArrays:
    signature = generation.signature()

    def run(self, arrays: Any, outputs: Any) -> Any:
        raise AssertionError((arrays, outputs))

    def sample(self) -> Mapping[str, Any]:
        return {}

    def tokens(self, arrays: Any) -> int:
        return 0


class Lengths:
    """Embeds a text by its length, for want of anything better."""

    signature = Signature(
        [TensorSpec("review", BYTES, ("batch",))],
        [
            TensorSpec("label", DATATYPES["INT64"], ("batch",)),
            TensorSpec("embedding", DATATYPES["FP32"], ("batch", 2)),
        ],
        max_rows=3,
    )

    def run(self, arrays: Mapping[str, Any], outputs: Sequence[str]) -> Any:
        assert list(outputs) == ["embedding"]
        return [np.array([[len(text), 0.1] for text in arrays["review"]], np.float32)]

    def sample(self) -> Mapping[str, Any]:
        return {"review": np.array([""], object)}

    def tokens(self, arrays: Mapping[str, Any]) -> int:
        return sum(len(text.split()) + 2 for text in arrays["review"])


class Server:
    def __init__(self, rest: Any) -> None:
        self.rest, self.written = rest, Written()
        for name, model, language in (
            ("words", NoArrays(), Language(self.written, Bounds(20, MAX_TOKENS), Capacity(4, 60.0), 4)),
            ("docs", Lengths(), None),
        ):
            release = rest._make_release(model=name, ordinal=3)
            speed = Speed(0.0, 0.0)
            rest.shelf.put(LoadedVersion(release, model, speed, answer_prefix(release), language=language))

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        status, _, told = self.rest.ask("POST", path, body if isinstance(body, bytes) else json.dumps(body))
        return status, told

    def chat(self, text: str = "hello there", **more: Any) -> tuple[int, Any]:
        body = {"model": "words", "messages": [{"role": "user", "content": text}], "max_tokens": 3}
        return self.post("/v1/chat/completions", body | more)


@pytest.fixture(scope="module")
def running(rest_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    rest = rest_server(tmp_path_factory.mktemp("rest"))
    yield Server(rest)
    rest.host.stop()


@pytest.fixture
def server(running: Server) -> Server:
    """The server, with words that come at once."""
    running.written.go_on, running.written.cancelled = threading.Semaphore(10_000), threading.Event()
    running.written.asked.clear()
    return running


def events(told: bytes) -> list[Any]:
    lines = told.decode().split("\n\n")
    assert lines.pop() == ""
    assert all(line.startswith("data: ") for line in lines)
    texts = [line.removeprefix("data: ") for line in lines]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def test_a_whole_answer_to_a_conversation(server: Server) -> None:
    status, told = server.chat(
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "hello "}, {"type": "text", "text": "there"}]},
        ]
    )
    assert status == 200
    assert told["object"] == "chat.completion"
    assert told["id"].startswith("chatcmpl-")
    (choice,) = told["choices"]
    assert choice["message"] == {"role": "assistant", "content": "w0 w1 w2 ", "refusal": None}
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    assert told["usage"] == {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}
    assert (told["model"], told["system_fingerprint"]) == ("words", "3-fp32")
    ((prompt, _),) = server.written.asked
    assert prompt == "<system>be brief <user>hello there "
    served = server.rest.log.seen[-1]
    assert served.prediction_id == told["prediction_id"]
    assert told["id"].encode() in served.request, "lineage finds the answer by its id"


@pytest.mark.parametrize("tells", [True, False])
def test_events_are_the_answer_in_pieces(server: Server, tells: bool) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if tells else {}
    status, told = server.chat(stream=True, **options)
    assert status == 200
    *chunks, done = events(told)
    assert done == "[DONE]"
    assert {each["object"] for each in chunks} == {"chat.completion.chunk"}
    assert len({(each["id"], each["created"], each["model"]) for each in chunks}) == 1
    if tells:
        last = chunks.pop()
        assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 3)
        assert all(each["usage"] is None for each in chunks)
    else:
        assert not any("usage" in each for each in chunks)
    deltas = [each["choices"][0]["delta"] for each in chunks]
    assert deltas == [{"role": "assistant", "content": ""}, *({"content": f"w{number} "} for number in range(3))]
    assert [each["choices"][0]["finish_reason"] for each in chunks] == [None, None, None, "length"]


def test_what_follows_a_text_whole_and_in_pieces(server: Server) -> None:
    asked = {"model": "words@3", "prompt": ["one two"], "max_tokens": 2, "logprobs": 0}
    status, told = server.post("/v1/completions", asked)
    assert (status, told["object"], told["model"]) == (200, "text_completion", "words@3")
    assert told["choices"] == [
        {
            "index": 0,
            "text": "w0 w1 ",
            "finish_reason": "length",
            "logprobs": {
                "tokens": ["w0 ", "w1 "],
                "token_logprobs": [-0.5, -0.5],
                "top_logprobs": None,
                "text_offset": [0, 3],
            },
        }
    ]
    _, told = server.post("/v1/completions", asked | {"stream": True})
    *chunks, _ = events(told)
    assert [each["choices"][0]["text"] for each in chunks] == ["w0 ", "w1 "]
    assert [each["choices"][0]["logprobs"]["text_offset"] for each in chunks] == [[0], [3]]


def test_a_conversation_may_come_by_the_protocol(server: Server) -> None:
    def infer(model: str, name: str, text: str, chat: Any) -> str:
        tensor = {"name": name, "datatype": "BYTES", "shape": [1], "data": [text]}
        return str(server.post(f"/v2/models/{model}/infer", {"inputs": [tensor], "parameters": {"chat": chat}})[1])

    turns = json.dumps([{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}])
    assert "w0 w1 w2 " in infer("words", "text_input", turns, True)
    infer("words", "text_input", "as it is", False)
    assert [prompt for prompt, _ in server.written.asked] == ["<system>be brief <user>hello ", "as it is"]
    assert "expected a JSON array of messages" in infer("words", "text_input", "hello", True)
    assert "parameter 'chat': expected bool_param" in infer("words", "text_input", turns, "yes")
    assert "expected a model of language for a conversation" in infer("docs", "review", "hello", True)


def test_tokens_of_a_conversation_have_their_probabilities(server: Server) -> None:
    _, told = server.chat(logprobs=True, top_logprobs=0)
    assert told["choices"][0]["logprobs"]["content"][1] == {
        "token": "w1 ",
        "logprob": -0.5,
        "bytes": [119, 49, 32],
        "top_logprobs": [],
    }


def test_everything_that_is_said_of_tokens_reaches_the_engine(server: Server) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    status, _ = server.chat(
        max_completion_tokens=2,
        temperature=0.5,
        top_p=0.9,
        seed=7,
        stop=["x", "y"],
        presence_penalty=0.25,
        frequency_penalty=-0.25,
        response_format={"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": schema}},
        user="somebody",
        n=1,
        priority=1,
    )
    assert status == 200
    ((_, sampling),) = server.written.asked
    assert oip.ModelInferRequest.FromString(server.rest.log.seen[-1].request).parameters["priority"].uint64_param == 1
    assert sampling == Sampling(2, 0.5, 0.9, 0, 7, ("x", "y"), json.dumps(schema), False, -0.25, 0.25)


CHAT = {"model": "words", "messages": [{"role": "user", "content": "a"}]}


@pytest.mark.parametrize(
    ("more", "param", "told"),
    [
        ({"n": 2}, "n", "expected 1, got 2"),
        ({"n": True}, "n", "expected 1, got true"),
        ({"messages": []}, "messages", "a list of 1 to"),
        ({"messages": None}, "messages", "got nothing"),
        ({"messages": ["a"]}, "messages", "expected an object"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages", r"messages\[0\]\.role: expected one of"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages", "a text or a list of parts"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "text": ""}]}]}, "messages", "image_url"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, None, "Unicode"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, None, "the last message has to be the user's"),
        ({"max_tokens": MAX_TOKENS + 1}, "max_tokens", f"at most {MAX_TOKENS}"),
        ({"max_tokens": 0}, "max_tokens", "expected 1 to"),
        ({"max_tokens": "3"}, "max_tokens", "a whole number"),
        ({"temperature": 3}, "temperature", "expected 0"),
        ({"priority": 6}, "priority", "expected 1 .first. to 5 .last., or 0, got 6"),
        ({"stop": [1]}, "stop", "a text or a list of texts"),
        ({"stream": False, "stream_options": {}}, "stream_options", "none beside stream"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options", "no such field"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"tools": [{"type": "function"}]}, "tools", "got a list"),
        ({"logprobs": True, "top_logprobs": 3}, "top_logprobs", "expected 0, got 3"),
        ({"response_format": {"type": "xml"}}, "response_format", "text, json_object or json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "response_format",
            "a JSON schema",
        ),
        ({"logit_bias": {"5": 1}}, "logit_bias", "got an object"),
        ({"fast": True}, "fast", "no such field"),
    ],
)
def test_what_cannot_be_done_is_said_in_openais_shape(server: Server, more: Any, param: str | None, told: str) -> None:
    for stream in {False, more.get("stream", True)}:
        status, answer = server.post("/v1/chat/completions", CHAT | {"stream": stream} | more)
        assert status == 400, answer
        error = answer["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", param), error
        assert re.search(told, error["message"]), error
    assert not server.written.asked or told.startswith("expected 1 to")


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "told"),
    [
        ("/v1/chat/completions", CHAT | {"model": "nobody"}, 404, "invalid_request_error", "'nobody' is not released"),
        ("/v1/chat/completions", CHAT | {"model": "docs"}, 400, "invalid_request_error", "a model of language"),
        ("/v1/completions", {"model": "docs", "prompt": "a"}, 400, "invalid_request_error", "one that writes texts"),
        ("/v1/completions", {"model": "words", "prompt": [1]}, 400, "invalid_request_error", "prompt: expected a text"),
        ("/v1/completions", {"model": "words", "prompt": "a", "logprobs": 5}, 400, "invalid_request_error", "logprobs"),
        ("/v1/embeddings", {"model": "words", "input": "a"}, 400, "invalid_request_error", "the embedding of a text"),
        ("/v1/embeddings", {"model": "docs", "input": [[1, 2]]}, 400, "invalid_request_error", "input: expected"),
        ("/v1/embeddings", {"model": "docs", "input": []}, 400, "invalid_request_error", "input: expected"),
        ("/v1/embeddings", {"model": "docs", "input": list("abcd")}, 400, "invalid_request_error", "1 to 3 rows"),
        ("/v1/embeddings", {"model": "docs", "input": "a", "dimensions": 3}, 400, "invalid_request_error", "2, which"),
        (
            "/v1/embeddings",
            {"model": "docs", "input": "a", "encoding_format": "hex"},
            400,
            "invalid_request_error",
            "hex",
        ),
        ("/v1/embeddings", {"model": "docs", "input": "\ud800"}, 400, "invalid_request_error", "Unicode"),
        ("/v1/embeddings", b"{", 400, "invalid_request_error", "expected JSON"),
        ("/v1/embeddings", b"[]", 400, "invalid_request_error", "body: expected an object"),
        ("/v1/embeddings", b" " * 200_000, 413, "invalid_request_error", "at most"),
        ("/v1/nothing", {}, 404, "invalid_request_error", "Not Found"),
    ],
)
def test_errors_have_their_status(server: Server, path: str, body: Any, status: int, kind: str, told: str) -> None:
    got, answer = server.post(path, body)
    assert got == status, answer
    assert answer["error"]["type"] == kind
    assert told in answer["error"]["message"], answer


def test_an_answer_that_breaks_off_does_not_look_whole(server: Server) -> None:
    status, told = server.chat("die", stream=True)
    assert status == 200
    *_, last = events(told)
    assert last["error"]["type"] == "server_error"
    assert "the engine ended" in last["error"]["message"]
    assert server.chat("die")[0] == 503


def test_a_caller_who_leaves_gives_the_place_up(server: Server) -> None:
    server.written.go_on = threading.Semaphore(2)
    body = json.dumps(CHAT | {"stream": True, "max_tokens": 40}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", server.rest.port), timeout=20) as caller:
        caller.sendall(head + body)
        seen = b""
        while b"w1" not in seen:
            seen += caller.recv(4096)
        assert not server.written.cancelled.is_set()
    assert server.written.cancelled.wait(20)


def test_embeddings_as_numbers_and_as_bytes(server: Server) -> None:
    status, told = server.post("/v1/embeddings", {"model": "docs", "input": ["ab", "a b c"], "dimensions": 2})
    assert status == 200
    assert [each["index"] for each in told["data"]] == [0, 1]
    assert np.array([each["embedding"] for each in told["data"]]) == pytest.approx(np.array([[2, 0.1], [5, 0.1]]))
    assert told["usage"] == {"prompt_tokens": 8, "total_tokens": 8}
    _, told = server.post("/v1/embeddings", {"model": "docs", "input": "ab", "encoding_format": "base64"})
    raw = base64.b64decode(told["data"][0]["embedding"])
    assert np.frombuffer(raw, "<f4").tolist() == [2.0, np.float32(0.1)]


def test_models_that_write_or_embed_are_listed(server: Server) -> None:
    _, _, told = server.rest.ask("GET", "/v1/models")
    assert [each["id"] for each in told["data"]] == ["docs", "words"]
    _, _, told = server.rest.ask("GET", "/v1/models/words@3")
    assert (told["id"], told["object"]) == ("words@3", "model")
    status, _, told = server.rest.ask("GET", "/v1/models/digits")
    assert (status, told["error"]["code"]) == (404, "model_not_found")
