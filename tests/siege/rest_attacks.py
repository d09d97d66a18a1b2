"""What hostile callers do to the REST port. Every attack is bounded in connections, bytes and time."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from attacks import CHUNK, Address, Attack, drain, push
from sound import STREAM

from benchmarks.serving.network import MODEL

PATH = f"/v2/models/{MODEL}/infer"
MEBIBYTE = 1024 * 1024


def _head(length: int, *more: str, path: str = PATH, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: siege", f"Content-Length: {length}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@contextmanager
def _connections(address: Address, count: int, opening: bytes = b"") -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        made = [stack.enter_context(socket.create_connection(address, timeout=5)) for _ in range(count)]
        for each in made:
            with suppress(OSError):
                each.sendall(opening)
        yield made


def _again(address: Address, stop: threading.Event, sent: bytes, pause_s: float = 0.01) -> None:
    """Connect, send, and leave without a look at the answer, again and again."""
    while not stop.wait(pause_s):
        with suppress(OSError), socket.create_connection(address, timeout=5) as each:
            each.sendall(sent)


def silent_callers_of_rest(address: Address, stop: threading.Event) -> None:
    """Connections that never say a word, and some that stop in the first line."""
    with _connections(address, 150), _connections(address, 150, b"POST /v2/mod"):
        stop.wait()


def slow_heads(address: Address, stop: threading.Event) -> None:
    """Heads that come byte by byte and never end."""
    with _connections(address, 100, b"GET /v2 HTTP/1.1\r\nX: ") as made:
        while not stop.wait(0.05):
            for each in made:
                push(each, b"a")


def huge_heads(address: Address, stop: threading.Event) -> None:
    """Heads of many headers, and of one that goes on and on."""
    many = _head(0, *(f"X-{number}: {'y' * 100}" for number in range(1000)))
    while not stop.wait(0.02):
        with suppress(OSError), _connections(address, 2) as (each, one):
            each.sendall(many)
            one.sendall(b"GET /v2 HTTP/1.1\r\nX: ")
            for _ in range(64):
                one.sendall(b"z" * 16_000)


def half_bodies(address: Address, stop: threading.Event) -> None:
    """Bodies that stop half way, and bodies that come a little at a time."""
    head = _head(4 * MEBIBYTE, "Inference-Header-Content-Length: 100")
    with _connections(address, 100, head + CHUNK), _connections(address, 50, head) as slow:
        while not stop.wait(0.1):
            for each in slow:
                push(each, CHUNK[:100])


def bad_json(address: Address, stop: threading.Event) -> None:
    """JSON that is deep, long, broken, or takes long to read."""
    bodies = [b"[" * 100_000, b'{"inputs":[' + b"[]," * 300_000, b"\xff" * 10_000, b'{"a":1,"a":2}', b"9" * 500_000]
    tensor = b'{"name":"pixels","datatype":"FP32","shape":[99999999999],"data":['
    bodies += [b'{"inputs":[' + tensor + b"0," * 400_000 + b"0]}]}"]
    place = 0
    while not stop.wait(0.01):
        body = bodies[place % len(bodies)]
        place += 1
        with suppress(OSError), socket.create_connection(address, timeout=5) as each:
            each.sendall(_head(len(body)) + body)
            each.settimeout(5)
            each.recv(65_536)


def calls_ahead(address: Address, stop: threading.Event) -> None:
    """Requests that are sent without a look at the answers to those before, a thousand at a time."""
    asked = _head(0, path="/v2/models/stats", method="GET") * 1000
    with ExitStack() as stack:
        made = [stack.enter_context(socket.create_connection(address, timeout=5)) for _ in range(4)]
        while not stop.wait(0.02):
            for place, each in enumerate(made):
                if not push(each, asked):
                    each.close()
                    with suppress(OSError):
                        made[place] = stack.enter_context(socket.create_connection(address, timeout=5))
                elif place % 2:
                    drain(each)


def callers_of_rest_who_leave(address: Address, stop: threading.Event) -> None:
    """Calls whose caller is gone before the answer, or in the middle of the body."""
    data = ",".join(["0"] * 64)
    body = f'{{"inputs":[{{"name":"pixels","datatype":"FP32","shape":[1,8,8],"data":[{data}]}}]}}'.encode()
    threads = [
        threading.Thread(target=_again, args=(address, stop, sent))
        for sent in (_head(len(body)) + body, _head(len(body)) + body[:50], _head(2 * MEBIBYTE) + CHUNK)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def readers_of_streams_who_leave(address: Address, stop: threading.Event) -> None:
    """Streams of a model of language whose caller goes after the first piece, and streams that nobody reads."""
    body = json.dumps(STREAM | {"max_tokens": 200}).encode()
    asked = _head(len(body), path="/v1/completions") + body
    with _connections(address, 4, asked):
        while not stop.wait(0.05):
            with suppress(OSError), socket.create_connection(address, timeout=5) as each:
                each.sendall(asked)
                each.settimeout(5)
                each.recv(1000)


def hundreds_of_callers(address: Address, stop: threading.Event) -> None:
    """Connections that come and go, more of them than are taken."""
    while not stop.is_set():
        with suppress(OSError), _connections(address, 400, _head(0, path="/v2", method="GET")):
            time.sleep(0.05)


REST_ATTACKS: tuple[Attack, ...] = (
    silent_callers_of_rest,
    slow_heads,
    huge_heads,
    half_bodies,
    bad_json,
    calls_ahead,
    callers_of_rest_who_leave,
    readers_of_streams_who_leave,
    hundreds_of_callers,
)
