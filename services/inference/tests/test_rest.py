"""The REST port over a real host: the same answers and the same words as gRPC, and bounds for hostile callers."""

from __future__ import annotations

import http.client
import json
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from headrace import open_inference as oip
from headrace_inference.adapters.engine_model import EngineModel
from headrace_inference.core.shelf import Speed

ROWS = np.linspace(0, 16, 128, dtype=np.float32).reshape(2, 8, 8)
INFER = "/v2/models/digits/infer"
MAX_BYTES = 100_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, rest_server: Callable[..., Any]) -> Iterator[Any]:
    server = rest_server(tmp_path_factory.mktemp("rest"), handshake_timeout_s=0.4)
    yield server
    server.host.stop()


def pixels(**fields: Any) -> dict[str, Any]:
    return {"name": "pixels", "datatype": "FP32", "shape": [2, 8, 8], "data": ROWS.tolist()} | fields


def grpc_request() -> Any:
    request = oip.ModelInferRequest(model_name="digits", id="seven")
    request.inputs.add(name="pixels", datatype="FP32", shape=[2, 8, 8])
    request.raw_input_contents.append(ROWS.tobytes())
    return request


def test_json_and_binary_are_the_bytes_of_grpc(server: Any) -> None:
    expected = server.over_grpc(grpc_request())
    server.log.seen.clear()
    body = {"id": "seven", "inputs": [pixels()]}
    status, headers, told = server.infer(body)
    assert (status, told["id"], told["model_version"]) == (200, "seven", "1")
    for output, raw, dtype in zip(told["outputs"], expected.raw_output_contents, ("<f4", "<i8"), strict=True):
        assert np.array(output["data"], dtype).tobytes() == raw
    binary_input = {key: value for key, value in pixels().items() if key != "data"}
    binary_input["parameters"] = {"binary_data_size": ROWS.nbytes}
    asked = json.dumps({"id": "seven", "inputs": [binary_input], "parameters": {"binary_data_output": True}}).encode()
    length = {"Inference-Header-Content-Length": str(len(asked))}
    status, headers, content = server.infer(asked + ROWS.tobytes(), length)
    begins = int(headers["Inference-Header-Content-Length"])
    assert (status, content[begins:]) == (200, b"".join(expected.raw_output_contents))
    assert headers["headrace-prediction-id"] == json.loads(content[:begins])["parameters"]["prediction_id"]
    by_json, by_binary = server.log.seen
    assert by_json.request == by_binary.request == grpc_request().SerializeToString()


def test_what_other_clients_leave_empty_or_repeat_is_taken(server: Any) -> None:
    body = {
        "id": None,
        "model_name": "digits",
        "parameters": None,
        "outputs": None,
        "inputs": [pixels(parameters=None)],
    }
    assert server.infer(body)[0] == 200


def test_a_call_belongs_to_its_callers_trace(server: Any) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    server.infer({"inputs": [pixels()]}, {"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    assert trace in server.log.seen[-1].traceparent


def test_an_output_is_binary_or_not_as_asked(server: Any) -> None:
    outputs = [
        {"name": "label", "parameters": {"binary_data": True}},
        {"name": "probabilities", "parameters": {"classification": 2}},
    ]
    status, headers, content = server.infer({"inputs": [pixels()], "outputs": outputs})
    begins = int(headers["Inference-Header-Content-Length"])
    label, classes = json.loads(content[:begins])["outputs"]
    assert (status, label["parameters"]["binary_data_size"], len(content) - begins) == (200, 16, 16)
    assert classes["shape"] == [2, 2]
    assert classes["data"][0].count(":") == 1


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v2/health/live", {"live": True}),
        ("GET", "/v2/health/ready", {"ready": True}),
        ("GET", "/v2/models/digits/ready", {"name": "digits", "ready": True}),
        ("GET", "/v2/models/digits/versions/1/ready", {"name": "digits", "ready": True}),
        ("POST", "/v2/repository/index", [{"name": "digits", "version": "1", "state": "READY", "reason": ""}]),
    ],
)
def test_what_is_there_is_told(server: Any, method: str, path: str, expected: Any) -> None:
    status, headers, told = server.ask(method, path)
    assert (status, headers["content-type"], told) == (200, "application/json", expected)


def test_metadata_and_statistics_have_numbers(server: Any) -> None:
    _, _, metadata = server.ask("GET", "/v2")
    assert {"binary_tensor_data", "statistics"} <= set(metadata["extensions"])
    _, _, model = server.ask("GET", "/v2/models/digits/versions/champion")
    assert model["inputs"][0] == {"name": "pixels", "datatype": "FP32", "shape": [-1, 8, 8], "parameters": {}}
    server.infer({"inputs": [pixels()]})
    _, _, statistics = server.ask("GET", "/v2/models/digits/stats")
    (told,) = statistics["model_stats"]
    assert told["inference_stats"]["success"]["count"] >= 1
    assert server.ask("GET", "/v2/models/digits/config")[2]["input"][0]["data_type"] == "TYPE_FP32"


LEFT_OUT = object()
HEAD = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
BAD: list[tuple[Any, str]] = [
    ("", "expected JSON"),
    ("[1]", "expected an object"),
    ('{"inputs": [}', "expected JSON"),
    ("[" * 100_000, "expected JSON"),
    ('{"id": ' + "9" * 5000 + "}", "expected JSON"),
    (b'{"id": "\xff"}', "expected JSON"),
    ('{"id": "a", "id": "b"}', "expected each name once"),
    ({"inputs": [pixels(data=[float("nan")] * 128)]}, "null stands for a missing number"),
    ({"inputs": [pixels(data=[None] * 128)]}, "this feature may not be missing"),
    ({"inputs": [pixels(data=["0"] * 128)]}, "expected values of FP32"),
    ({"inputs": [pixels(data=[True] * 128)]}, "expected values of FP32"),
    ({"inputs": [pixels(data=[1e300] * 128)]}, "expected values within FP32"),
    ({"inputs": [pixels(data=[10**400] * 128)]}, "expected values within FP32"),
    ({"inputs": [pixels(data=[[0.0] * 8, [0.0] * 7])]}, "lists of the same length"),
    ({"inputs": [pixels(data=[0.0])]}, "expected 128 values"),
    ({"inputs": [pixels(shape=[2**62, 2**62, 8])]}, "expected"),
    ({"inputs": [pixels(shape=[2**64, 8, 8])]}, "expected a shape"),
    ({"inputs": [pixels(shape=[-1, 8, 8])]}, "expected a shape"),
    ({"inputs": [pixels(shape="8")]}, "expected a shape"),
    ({"inputs": [pixels(datatype="FP99")]}, "expected a datatype"),
    ({"inputs": [pixels(datatype="INT64", data=[1] * 128)]}, "FP32"),
    ({"inputs": [pixels(surprise=1)]}, "surprise"),
    ({"inputs": [pixels(parameters={"binary_data_size": 4}, name="pixels")]}, "Inference-Header-Content-Length"),
    ({"inputs": [pixels(), pixels()]}, "each name once"),
    ({"inputs": [pixels()], "outputs": [{"name": "nope"}]}, "output 'nope'"),
    ({"inputs": [pixels()], "parameters": {"priority": 6}}, "priority"),
    ({"inputs": [pixels()], "parameters": {"binary_data_output": 1}}, "true or false"),
    ({"inputs": [pixels(data=json.loads("[" * 500 + "]" * 500), shape=[1, 1, 1])]}, "got a list"),
    ({"model_name": "other", "inputs": [pixels()]}, "as in the path"),
    ({"id": "\ud800", "inputs": [pixels()]}, "Unicode"),
    ({"inputs": [pixels(name="n" * 50_000)]}, "nnn"),
    ({"inputs": []}, "missing ['pixels']"),
]


@pytest.mark.parametrize(("body", "words"), BAD)
def test_a_bad_body_is_a_problem_that_names_it(server: Any, body: Any, words: str) -> None:
    status, headers, told = server.infer(body)
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert words in told["detail"]
    assert len(told["detail"]) < 5000
    assert told["error"] == told["detail"]
    assert (told["title"], told["status"]) == ("Bad Request", 400)


@pytest.mark.parametrize("length", ["x", "-1", "9" * 30, "99999", "2"])
def test_a_bad_length_of_json_is_refused(server: Any, length: str) -> None:
    status, _, _ = server.infer({"inputs": [pixels()]}, {"Inference-Header-Content-Length": length})
    assert status == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/nope/infer", 404),
        ("GET", "/v2/models/nope", 404),
        ("GET", "/v2/models/digits/versions/9/ready", 404),
        ("GET", "/v3", 404),
        ("GET", INFER, 405),
    ],
)
def test_what_is_not_there(server: Any, method: str, path: str, status: int) -> None:
    body = json.dumps({"inputs": [pixels()]}) if method == "POST" else None
    got, headers, told = server.ask(method, path, body)
    assert (got, headers["content-type"], told["status"]) == (status, "application/problem+json", status)


def test_the_words_are_those_of_grpc(server: Any) -> None:
    request = grpc_request()
    request.inputs[0].shape[:] = [2, 8, 9]
    with pytest.raises(grpc.RpcError) as caught:
        server.over_grpc(request)
    _, _, told = server.infer({"inputs": [pixels(shape=[2, 8, 9], data=[0.0] * 144)]})
    assert told["detail"] == caught.value.details()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_unread(server: Any, *, chunked: bool) -> None:
    content = b" " * (MAX_BYTES + 1)
    status, _, told = server.infer(iter([content]) if chunked else content)
    assert status == 413
    assert str(MAX_BYTES) in told["error"]


@pytest.mark.parametrize("given", ["0", "-5", "soon"])
def test_a_bad_time_limit_is_refused(server: Any, given: str) -> None:
    status, _, told = server.infer({"inputs": [pixels()]}, {"Headrace-Timeout-Ms": given})
    assert status == 400
    assert "headrace-timeout-ms" in told["detail"]


class Held:
    """A model that computes until it is let go."""

    def __init__(self, model: EngineModel) -> None:
        self.signature, self._model = model.signature, model
        self.asked, self.go = threading.Event(), threading.Event()

    def run(self, *arguments: Any) -> Any:
        self.asked.set()
        assert self.go.wait(20)
        return self._model.run(*arguments)


@pytest.fixture
def held(server: Any) -> Iterator[Held]:
    held = Held(server._model)
    server.release(held, Speed(0.01, 0.0), ordinal=2)
    yield held
    held.go.set()
    server.release()


def test_a_call_ends_when_its_time_is_over(server: Any, held: Held) -> None:
    status, _, told = server.infer({"inputs": [pixels()]}, {"Headrace-Timeout-Ms": "150"})
    assert (status, told["title"]) == (504, "Gateway Timeout")


def test_too_many_waiting_calls_are_told_when_to_come_again(tmp_path: Path, rest_server: Callable[..., Any]) -> None:
    server = rest_server(tmp_path, compute_threads=1, max_waiting=1)
    held = Held(server._model)
    server.release(held, Speed(0.01, 0.0))
    with socket.create_connection(("127.0.0.1", server.port)) as first:
        body = json.dumps({"inputs": [pixels()]}).encode()
        first.sendall(
            b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (INFER.encode(), len(body), body)
        )
        assert held.asked.wait(20)
        status, headers, _ = server.infer({"inputs": [pixels()]})
        assert (status, headers["retry-after"]) == (429, "1")
    held.go.set()
    server.host.stop()


def test_slow_senders_are_told_and_let_go(server: Any) -> None:
    for sent in (
        b"",
        b"\r\n",
        b"GET /v2 HT",
        b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{" % INFER.encode(),
    ):
        assert server.raw(sent).startswith(b"HTTP/1.1 408 "), sent


def test_heads_are_bounded(server: Any) -> None:
    for sent in (b"GET /" + b"a" * 40_000, b"GET /v2 HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n"):
        assert server.raw(sent).startswith(b"HTTP/1.1 431 "), sent[:40]
    assert server.raw(b"\x16\x03\x01 no HTTP\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_body_that_is_cut_off_leaves_nothing_behind(server: Any) -> None:
    served = len(server.log.seen)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n{" % INFER.encode())
    assert server.infer({"inputs": [pixels()]})[0] == 200
    assert len(server.log.seen) == served + 1


def test_a_stop_answers_what_is_in_flight(tmp_path: Path, rest_server: Callable[..., Any]) -> None:
    server = rest_server(tmp_path)
    held = Held(server._model)
    server.release(held, Speed(0.01, 0.0))
    answers: list[Any] = []
    caller = threading.Thread(target=lambda: answers.append(server.infer({"inputs": [pixels()]})))
    caller.start()
    assert held.asked.wait(20)
    stopping = threading.Thread(target=server.host.stop)
    stopping.start()
    assert server.host.stopping.wait(20)
    held.go.set()
    caller.join(20)
    stopping.join(20)
    ((status, _, _),) = answers
    assert status == 200
    with pytest.raises(ConnectionRefusedError):
        server.ask("GET", "/v2/health/live")


def test_versions_change_under_callers_without_a_failure(server: Any) -> None:
    statuses: list[int] = []
    done = threading.Event()

    def call() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        body = json.dumps({"inputs": [pixels()]})
        while not done.is_set():
            connection.request("POST", INFER, body)
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for each in callers:
        each.start()
    for ordinal in range(2, 40):
        before = len(statuses)
        server.release(ordinal=ordinal)
        while len(statuses) < before + 3:
            assert any(each.is_alive() for each in callers)
    done.set()
    for each in callers:
        each.join(20)
    server.release()
    assert set(statuses) == {200}


def test_callers_cannot_hold_more_than_the_limits_say(tmp_path: Path, rest_server: Callable[..., Any]) -> None:
    server = rest_server(tmp_path, max_connections=2, max_unfinished_messages=1)
    address = ("127.0.0.1", server.port)
    begun = HEAD % (INFER.encode(), 90_000) + b" " * 70_000
    with (
        socket.create_connection(address, timeout=20) as slow,
        socket.create_connection(address, timeout=20) as next_one,
    ):
        # Whichever of two is on its way for longer, or comes too soon after the other, has to give way.
        slow.sendall(begun)
        next_one.sendall(begun)
        (refused,), _, _ = select.select([slow, next_one], [], [], 15)
        assert refused.recv(65536).startswith(b"HTTP/1.1 408")
        with suppress(ConnectionError):  # the place is free when the rest is not read any more
            while True:
                refused.sendall(b" " * 65536)
        with (
            socket.create_connection(address, timeout=20) as third,
            socket.create_connection(address, timeout=20) as more,
        ):
            assert more.recv(1) == b""
            third.sendall(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n")
            assert third.recv(12) == b"HTTP/1.1 200"
    server.host.stop()
