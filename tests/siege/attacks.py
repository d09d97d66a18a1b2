"""What hostile callers do, on sockets of their own. Every attack is bounded in connections, bytes and time."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.serving.open_loop import INFER, frame

Address = tuple[str, int]
Attack = Callable[[Address, threading.Event], None]
"""Does harm until the event is set, then lets go of everything."""

MEBIBYTE = 1024 * 1024
_DATA, _HEADERS, _RESET, _SETTINGS, _CONTINUATION = 0, 1, 3, 4, 9
_END_HEADERS = 4
_OPENING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(_SETTINGS, 0, 0)
CHUNK = bytes(16_000)
STREAM_INFER = INFER.replace("ModelInfer", "ModelStreamInfer")


def _block(path: str = INFER, **more: bytes) -> bytes:
    fields = [(b":path", path.encode()), (b":authority", b"siege"), (b"te", b"trailers")]
    fields += [(b"content-type", b"application/grpc")]
    fields += [(name.encode(), value) for name, value in more.items()]
    literals = (b"\0" + _length(name) + name + _length(value) + value for name, value in fields)
    return b"\x83\x86" + b"".join(literals)


def _length(text: bytes) -> bytes:
    """Return a length as RFC 7541, 5.1 writes it, with a prefix of seven bits."""
    left = len(text)
    if left < 127:
        return bytes((left,))
    written, left = bytearray((127,)), left - 127
    while left > 127:
        written.append(left & 127 | 128)
        left >>= 7
    written.append(left)
    return bytes(written)


@contextmanager
def _connections(address: Address, count: int, opening: bytes = _OPENING) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        made = [stack.enter_context(socket.create_connection(address, timeout=5)) for _ in range(count)]
        for each in made:
            each.sendall(opening)
        yield made


def push(connection: socket.socket, data: bytes) -> bool:
    """Send what the server takes at once; return False once it takes no more, or has closed the connection."""
    try:
        connection.setblocking(False)
        return connection.send(data) == len(data)
    except OSError:
        return False


def drain(connection: socket.socket) -> None:
    """Throw away what has come."""
    try:
        connection.setblocking(False)
        while connection.recv(65_536):
            pass
    except OSError:
        return


def silent_connections(address: Address, stop: threading.Event) -> None:
    """Connections that never say a word, and some that stop in the middle of the first one."""
    with _connections(address, 100, b""), _connections(address, 100, _OPENING[:10]):
        stop.wait()


def slow_headers(address: Address, stop: threading.Event) -> None:
    """Calls whose headers come byte by byte and never end."""
    block = frame(_HEADERS, 0, 1, _block()[:20])
    with _connections(address, 50) as made:
        place = 0
        while not stop.wait(0.05):
            for each in made:
                push(each, block[place : place + 1])
            place += 1


def unfinished_messages(address: Address, stop: threading.Event) -> None:
    """Messages of 50 MB or of just what is allowed that never end, eight on each of sixteen connections."""
    _send_slowly(address, stop, _block())


def unfinished_messages_of_streams(address: Address, stop: threading.Event) -> None:
    """The same on streams of requests, which may be silent for as long as they like."""
    _send_slowly(address, stop, _block(STREAM_INFER))


def _send_slowly(address: Address, stop: threading.Event, block: bytes) -> None:
    sizes = (50 * MEBIBYTE, 8 * MEBIBYTE - 1024)
    with _connections(address, 16) as made:
        for place, each in enumerate(made):
            for stream in range(1, 17, 2):
                head = b"\0" + struct.pack(">I", sizes[place % 2])
                push(each, frame(_HEADERS, _END_HEADERS, stream, block) + frame(_DATA, 0, stream, head))
        while not stop.wait(0.002):
            for each in made:
                drain(each)
                for stream in range(1, 17, 2):
                    push(each, frame(_DATA, 0, stream, CHUNK))


def metadata_floods(address: Address, stop: threading.Event) -> None:
    """Calls with 60 kB of metadata, of which the core takes 16, and headers that go on and on."""
    large = _block(INFER, **{f"x-{number}": bytes(7_000).replace(b"\0", b"x") for number in range(8)})
    with _connections(address, 4) as made:
        stream = 1
        while not stop.wait(0.01):
            for place, each in enumerate(made):
                drain(each)
                if place % 2:
                    push(each, frame(_HEADERS if stream == 1 else _CONTINUATION, 0, 1, _block()))
                    continue
                parts = [large[start : start + 16_000] for start in range(0, len(large), 16_000)]
                push(each, frame(_HEADERS, 0, stream, parts[0]))
                for number, part in enumerate(parts[1:], 2):
                    push(each, frame(_CONTINUATION, _END_HEADERS if number == len(parts) else 0, stream, part))
            stream += 2


def calls_taken_back(address: Address, stop: threading.Event) -> None:
    """Calls that are taken back as soon as they were made, two thousand a second."""
    block, cancel, stream = _block(), struct.pack(">I", 8), 1
    with _connections(address, 2) as made:
        while not stop.wait(0.01):
            for each in made:
                drain(each)
                for number in range(stream, stream + 20, 2):
                    push(each, frame(_HEADERS, _END_HEADERS, number, block) + frame(_RESET, 0, number, cancel))
            stream += 20


ATTACKS: tuple[Attack, ...] = (
    silent_connections,
    slow_headers,
    unfinished_messages,
    unfinished_messages_of_streams,
    metadata_floods,
    calls_taken_back,
)
