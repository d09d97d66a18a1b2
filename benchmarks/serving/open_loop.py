"""An open-loop client: calls leave when they are due, whether or not earlier ones were answered.

It speaks HTTP/2 itself. The headers of a call are the same bytes each time, an answer is known by its DATA frame, and
so a call costs the client about 20 us: a client of gRPC in Python would take the core that the server is measured on.

Started as `python -m benchmarks.serving.open_loop HOST:PORT REQUEST_FILE`, it reads plans from standard input, one a
line, and prints what became of each: see `Plan` and `Outcome`.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path

from headrace import open_inference as oip

INFER = f"/{oip.SERVICE}/ModelInfer"
CONNECTIONS = 4
TICK_S = 0.001
"""Calls that are due within this time leave together."""

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_CANCEL = struct.pack(">I", 8)
_WIDE = 2**30
"""Window, in bytes, for what the server sends."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is offered: so many calls a second for so many seconds, each with the same deadline in milliseconds."""

    calls_per_s: float
    seconds: float
    deadline_ms: int


@dataclass(slots=True)
class Outcome:
    """What became of the calls of a plan: each is in one of the counts. Times are milliseconds."""

    offered: int = 0
    good: int = 0
    """Answered before the deadline, counted from the time at which the call was due."""
    late: int = 0
    """Unanswered at the deadline; the client then cancels, as clients of gRPC do."""
    refused: int = 0
    """Ended by the server with a status."""
    cancelled: int = 0
    """Ended by gRPC's core with a reset."""
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    seconds: float = 0.0
    """The time in which the calls left."""
    recovered_ms: float = 0.0
    """From the last call of the plan to the first good answer to a call that left afterwards."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame of HTTP/2 (RFC 9113)."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """Return a header that the server adds to its table (RFC 7541, 6.2.1)."""
    return b"\x40" + bytes((len(name),)) + name + bytes((len(value),)) + value


class Connection:
    """One connection, and the calls on it that nobody answered yet."""

    def __init__(self, host: str, port: int, request: bytes, deadline_ms: int) -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.waiting: dict[int, float] = {}
        """When each call was due, by its stream."""
        self.held: deque[float] = deque()
        """When calls were due for which the server's window has no room yet."""
        fields = [(b":path", INFER.encode()), (b":authority", f"{host}:{port}".encode()), (b"te", b"trailers")]
        fields += [(b"content-type", b"application/grpc"), (b"grpc-timeout", b"%dm" % deadline_ms)]
        self._first = b"\x83\x86" + b"".join(_literal(name, value) for name, value in fields)
        self._again = b"\x83\x86" + bytes(0x80 | (61 + len(fields) - place) for place in range(len(fields)))
        self._message = b"\0" + struct.pack(">I", len(request)) + request
        self._stream = 1
        self._window = 65_535
        self._received = b""
        settings = struct.pack(">HI", 4, _WIDE)
        opening = _PREFACE + frame(_SETTINGS, 0, 0, settings) + frame(_WINDOW, 0, 0, struct.pack(">I", _WIDE))
        self._unsent = bytearray(opening)

    def call(self, due_s: float) -> int:
        """Make a call; return its stream, 0 when the server's window has no room for it."""
        if self._window < len(self._message):
            return 0
        self._window -= len(self._message)
        stream, self._stream = self._stream, self._stream + 2
        block = self._first if stream == 1 else self._again
        self._unsent += frame(_HEADERS, _END_HEADERS, stream, block)
        self._unsent += frame(_DATA, _END_STREAM, stream, self._message)
        self.waiting[stream] = due_s
        return stream

    def cancel(self, stream: int) -> None:
        """Take a call back."""
        del self.waiting[stream]
        self._unsent += frame(_RESET, 0, stream, _CANCEL)

    def flush(self) -> None:
        """Send as much as the socket takes."""
        while self._unsent:
            try:
                del self._unsent[: self.socket.send(self._unsent)]
            except BlockingIOError:
                return

    def read(self) -> list[tuple[int, int, int]]:
        """Return the kind, the flags and the stream of what came, and answer what is not about calls."""
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionError("the server closed a connection")
        data, place, found = self._received + data, 0, []
        while len(data) - place >= 9:
            size = int.from_bytes(data[place : place + 3], "big")
            end = place + 9 + size
            if len(data) < end:
                break
            kind, flags = data[place + 3], data[place + 4]
            stream = int.from_bytes(data[place + 5 : place + 9], "big")
            if stream == 0:
                self._told(kind, flags, data[place + 9 : end])
            elif kind in {_HEADERS, _RESET} or (kind == _DATA and size):
                found.append((kind, flags, stream))
            place = end
        self._received = data[place:]
        return found

    def _told(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == _WINDOW:
            self._window += int.from_bytes(payload, "big")
        elif kind in {_SETTINGS, _PING} and not flags & _ACK:
            self._unsent += frame(kind, _ACK, 0, payload if kind == _PING else b"")
        elif kind == _GOAWAY:
            raise ConnectionError(f"the server ends a connection: {payload[8:].decode(errors='replace')}")


class Load:
    """Carries out one plan."""

    def __init__(self, host: str, port: int, request: bytes, plan: Plan) -> None:
        self._plan = plan
        self._connections = [Connection(host, port, request, plan.deadline_ms) for _ in range(CONNECTIONS)]
        self._probe = Connection(host, port, request, plan.deadline_ms)
        """Asks when the load has ended."""
        self._deadlines: deque[tuple[float, Connection, int]] = deque()
        self._durations: list[float] = []
        self._ended_s = 0.0
        """When the last call of the plan left; what is called then is to see when the server answers again."""
        self._recovered_s = 0.0
        self._outcome = Outcome()

    def run(self) -> Outcome:
        """Offer the calls, then ask every ten milliseconds until one is answered, and count."""
        began_s = time.perf_counter()
        while (now_s := time.perf_counter()) - began_s < self._plan.seconds:
            due = int((now_s - began_s) * self._plan.calls_per_s)
            while self._outcome.offered < due:
                self._call(began_s + self._outcome.offered / self._plan.calls_per_s)
            self._turn(TICK_S)
        self._ended_s = time.perf_counter()
        self._outcome.seconds = self._ended_s - began_s
        while (not self._recovered_s and time.perf_counter() - self._ended_s < 10) or self._pending:
            if not self._recovered_s:
                self._probe.call(time.perf_counter())
            self._turn(0.01)
        for connection in self._all:
            connection.socket.close()
        durations = sorted(self._durations) or [0.0]
        self._outcome.p50_ms, self._outcome.p99_ms = (
            1e3 * durations[int(part * len(durations))] for part in (0.5, 0.99)
        )
        self._outcome.recovered_ms = 1e3 * (self._recovered_s - self._ended_s)
        return self._outcome

    @property
    def _all(self) -> list[Connection]:
        return [*self._connections, self._probe]

    @property
    def _pending(self) -> bool:
        return bool(self._deadlines) or any(connection.held for connection in self._connections)

    def _call(self, due_s: float) -> None:
        connection = self._connections[self._outcome.offered % CONNECTIONS]
        self._outcome.offered += 1
        connection.held.append(due_s)

    def _send(self, connection: Connection) -> None:
        deadline_s, now_s = self._plan.deadline_ms / 1e3, time.perf_counter()
        while connection.held:
            due_s = connection.held[0]
            if due_s + deadline_s <= now_s:
                self._outcome.late += 1
            elif stream := connection.call(due_s):
                self._deadlines.append((due_s + deadline_s, connection, stream))
            else:
                break
            connection.held.popleft()
        connection.flush()

    def _turn(self, wait_s: float) -> None:
        for connection in self._all:
            self._send(connection)
        ready, _, _ = select.select([each.socket for each in self._all], [], [], wait_s)
        for connection in self._all:
            if connection.socket in ready:
                self._count(connection)
        now_s = time.perf_counter()
        while self._deadlines and self._deadlines[0][0] <= now_s:
            _, connection, stream = self._deadlines.popleft()
            if stream in connection.waiting:
                connection.cancel(stream)
                self._outcome.late += 1

    def _count(self, connection: Connection) -> None:
        found, now_s = connection.read(), time.perf_counter()
        for kind, flags, stream in found:
            ends = kind in {_DATA, _RESET} or flags & _END_STREAM
            if not ends or (due_s := connection.waiting.pop(stream, None)) is None:
                continue
            if self._ended_s and due_s >= self._ended_s:
                if kind == _DATA and not self._recovered_s:
                    self._recovered_s = now_s
            elif kind == _DATA:
                self._outcome.good += 1
                self._durations.append(now_s - due_s)
            elif kind == _RESET:
                self._outcome.cancelled += 1
            else:
                self._outcome.refused += 1


if __name__ == "__main__":
    host, _, port = sys.argv[1].rpartition(":")
    request = Path(sys.argv[2]).read_bytes()
    for line in sys.stdin:
        print(json.dumps(asdict(Load(host, int(port), request, Plan(**json.loads(line))).run())), flush=True)
