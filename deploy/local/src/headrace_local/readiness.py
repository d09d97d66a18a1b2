"""When a process is ready: what is asked of each, and how the asking gives up."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from headrace_runtime.kafka import Admin
from headrace_runtime.settings import KafkaSettings
from kafka.errors import KafkaConfigurationError, KafkaError

from headrace_local.errors import StartFailed
from headrace_local.settings import split_address
from headrace_local.supervision import Supervisor, tail

POLL_S = 0.1
CALL_TIMEOUT_S = 1.0
MOST_WAITS = 5
"""A start that makes progress is waited for this many times as long as one that makes none."""
STARTS_ALLOWED = 3
"""A process that was started this often and is not ready keeps dying."""

Check = Callable[[], str | None]
"""Returns what is still missing, or None when the process is ready."""


def supervisor_answers(supervisor: Supervisor) -> Check:
    """Return a check that the supervisor answers on its socket."""
    return lambda: f"nobody answers at {supervisor.socket}" if supervisor.states() is None else None


def kafka_answers(settings: KafkaSettings) -> Check:
    """Return a check that the cluster of the settings answers a metadata request."""
    servers = [split_address(server) for server in settings.kafka_bootstrap_servers.split(",")]

    def check() -> str | None:
        # The client logs each refused connection, so it is not made before somebody listens.
        if all(refuses(*server) for server in servers):
            return f"nobody listens at {settings.kafka_bootstrap_servers}"
        try:
            with Admin(settings, "platform") as admin:
                admin.cluster_id()
        except KafkaConfigurationError:
            raise
        except (KafkaError, OSError) as error:
            return f"{settings.kafka_bootstrap_servers} answers {error!r}"
        return None

    return check


def valkey_answers(address: str) -> Check:
    """Return a check that a server at host:port answers PING."""

    def check() -> str | None:
        try:
            with socket.create_connection(split_address(address), timeout=CALL_TIMEOUT_S) as connection:
                connection.sendall(b"PING\r\n")
                answer = connection.recv(16)
        except OSError as error:
            return f"{address} does not answer: {error}"
        return None if answer.startswith(b"+PONG") else f"{address} answers {answer!r} to PING"

    return check


def health_serves(address: str) -> Check:
    """Return a check that gRPC health at host:port says SERVING."""

    def check() -> str | None:
        if refused := refuses(*split_address(address)):
            return refused
        with grpc.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_TIMEOUT_S)
            except grpc.RpcError as error:
                return f"health at {address} answers {error}"
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            return None
        return f"health at {address} says {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}"

    return check


def listens(address: str) -> Check:
    """Return a check that somebody accepts connections at host:port."""
    return lambda: refuses(*split_address(address))


def refuses(host: str, port: int) -> str | None:
    """Return why a connection to host:port is not accepted; None when it is."""
    try:
        socket.create_connection((host, port), timeout=CALL_TIMEOUT_S).close()
    except OSError as error:
        return f"{host}:{port} does not answer: {error}"
    return None


class ReadinessWait:
    """Waits for processes, and gives up on one that keeps dying, or when nothing gets on for `timeout_s`.

    A process that becomes ready, or writes to its log, gets on; a slow machine needs time, and shows it so. Logs alone
    hold the end off until MOST_WAITS times as long have passed: one that tries in vain writes too.
    """

    def __init__(self, supervisor: Supervisor, timeout_s: float) -> None:
        self._supervisor = supervisor
        self._timeout_s = timeout_s
        self._last = time.monotonic() + MOST_WAITS * timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._logged: dict[str, int] = {}
        self._pids: dict[str, set[int]] = {}

    def wait(self, checks: Iterable[tuple[str, Check]], ready: Callable[[str], None]) -> None:
        """Wait until each named check holds, and call ready(name) as it does. Raises StartFailed."""
        waiting = dict(checks)
        while waiting:
            missing = {name: check() for name, check in waiting.items()}
            for name in [name for name, reason in missing.items() if reason is None]:
                del waiting[name]
                self._got_on()
                ready(name)
            if waiting:
                self._give_up_on_the_dying(waiting)
                if self._logs_grow(waiting):
                    self._got_on()
                if time.monotonic() > min(self._deadline, self._last):
                    name = next(iter(waiting))
                    self._fail(name, f"was not ready in time ({self._limit()}): {missing[name]}")
                time.sleep(POLL_S)

    def _got_on(self) -> None:
        self._deadline = time.monotonic() + self._timeout_s

    def _logs_grow(self, waiting: Iterable[str]) -> bool:
        """Return whether a process has written to its log since the last look."""
        sizes = {name: _size(self._supervisor.log_path(name)) for name in waiting}
        grew = any(size > self._logged.get(name, size) for name, size in sizes.items())
        self._logged |= sizes
        return grew

    def _limit(self) -> str:
        return (
            f"nothing got on for {self._timeout_s:g} s, or it took {MOST_WAITS} times as long; on a slow machine raise "
            "HEADRACE_START_TIMEOUT_S"
        )

    def _give_up_on_the_dying(self, waiting: Iterable[str]) -> None:
        self._supervisor.ensure_alive()
        for state in self._supervisor.states() or ():
            name = state["name"]
            if name not in waiting:
                continue
            pids = self._pids.setdefault(name, set())
            if state["pid"]:
                pids.add(state["pid"])
            dead_again = len(pids) == STARTS_ALLOWED and not state["pid"]
            if state["statename"] == "FATAL" or len(pids) > STARTS_ALLOWED or dead_again:
                self._fail(name, f"keeps dying (exit code {state['exitstatus']})")

    def _fail(self, name: str, reason: str) -> None:
        log = self._supervisor.log_path(name)
        raise StartFailed(name, reason, log, tail(log))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
