"""The supervisor: started here, asked over its unix socket, and cleaned up after when it was killed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from supervisor.xmlrpc import SupervisorTransport

from headrace_local.errors import StartFailed
from headrace_local.private import make_private
from headrace_local.processes import BROKER_GROUP, MARK, SERVICE_GROUP, Process

SOCKET_LIMIT = 88
"""Longest socket path used: the system's limit is about 104, and the supervisor adds its pid while it binds."""

KILL_WAIT_S = 10.0
LOG_BYTES, LOG_BACKUPS = "10MB", 2
BROKER_PRIORITY, SERVICE_PRIORITY = 10, 20
"""The supervisor stops the highest first: services before the broker that they write to."""


class Supervisor:
    """The supervisor of one state folder."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._configuration = home / "run" / "supervisor.conf"
        self._processes = home / "run" / "processes.json"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """The unix socket; in the system's temporary folder when the home's path is too long for one."""
        path = self._home / "run" / "supervisor.sock"
        if len(os.fsencode(path)) <= SOCKET_LIMIT:
            return path
        digest = hashlib.sha256(os.fsencode(self._home)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}" / f"{digest}.sock"

    def log_path(self, name: str) -> Path:
        """Return the log file of a process, or of the supervisor itself."""
        return self._home / "logs" / f"{name}.log"

    def start(self, processes: Sequence[Process], platform_id: str, *, attached: bool) -> int:
        """Start supervisor and broker processes and return the supervisor's pid; services wait for start_services."""
        for folder in (self._home / "run", self._home / "logs", self.socket.parent):
            make_private(folder)
        self.socket.unlink(missing_ok=True)
        self._declare(processes)
        environment = os.environ | {
            MARK: platform_id,
            "HEADRACE_PYTHON": sys.executable,
            "HEADRACE_EXECUTE": str(Path(__file__).with_name("execute.py")),
            "HEADRACE_SOCKET": str(self.socket),
        }
        command = [sys.executable, "-m", "headrace_local.host", str(self._configuration)]
        with self.log_path("supervisor-host").open("ab") as log:
            # The pipe's other end stays open in this process alone: its end is what tells the host that we are gone.
            self._child = subprocess.Popen(
                [*command, "--attached"] if attached else command,
                stdin=subprocess.PIPE if attached else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._home,
                env=environment,
                start_new_session=True,
            )
        return self._child.pid

    def ensure_alive(self) -> None:
        """Raise StartFailed when the supervisor that was started here has ended."""
        if self._child and self._child.poll() is not None:
            log = self.log_path("supervisor-host")
            raise StartFailed("supervisor", f"ended with {self._child.returncode}", log, tail(log))

    def states(self) -> list[dict[str, Any]] | None:
        """Return what the supervisor knows of each process; None while it does not answer."""
        try:
            with self._rpc() as rpc:
                found: list[dict[str, Any]] = rpc.getAllProcessInfo()
        except (OSError, xmlrpc.client.Error):
            return None
        return found

    def start_services(self) -> None:
        """Start every service, without waiting for any."""
        with self._rpc() as rpc:
            rpc.startProcessGroup(SERVICE_GROUP, False)

    def processes(self) -> list[Process]:
        """Return every process that the supervisor was told of; none before it was started."""
        try:
            declared = json.loads(self._processes.read_bytes())
        except FileNotFoundError:
            return []
        return [
            Process(**{**item, "command": tuple(item["command"]), "unset": tuple(item["unset"])})
            for item in declared.values()
        ]

    def add(self, process: Process) -> None:
        """Declare one more process, which is a group of its own, and start it without waiting for it."""
        self._declare([*self.processes(), process])
        with self._rpc() as rpc:
            rpc.reloadConfig()
            rpc.addProcessGroup(process.name)
            rpc.startProcess(process.name, False)

    def remove(self, name: str) -> None:
        """Stop a process that was added, wait for its end, and forget it."""
        self.stop_process(name)
        with self._rpc() as rpc:
            rpc.removeProcessGroup(name)
        self._declare([process for process in self.processes() if process.name != name])

    def start_process(self, name: str) -> None:
        """Start a process that was stopped, without waiting for it."""
        with self._rpc() as rpc:
            rpc.startProcess(self._place(name), False)

    def stop_process(self, name: str) -> None:
        """Stop a process and wait for its end; it is not started again by itself."""
        with self._rpc() as rpc, suppress(xmlrpc.client.Fault):
            # A fault says that it does not run, which is what was asked for.
            rpc.stopProcess(self._place(name))

    def _place(self, name: str) -> str:
        return next(f"{process.group}:{name}" for process in self.processes() if process.name == name)

    def _declare(self, processes: Sequence[Process]) -> None:
        self._configuration.write_text(configuration(processes))
        partial = self._processes.with_suffix(".partial")
        partial.touch(mode=0o600)
        partial.write_text(json.dumps({process.name: asdict(process) for process in processes}))
        partial.replace(self._processes)

    def stop(self, platform_id: str, timeout_s: float) -> None:
        """Stop everything that carries the platform's mark: politely through the supervisor, then by signals."""
        try:
            with self._rpc() as rpc:
                rpc.shutdown()
        except (OSError, xmlrpc.client.Error):
            # No supervisor answers: it was killed. What it left is told to stop directly.
            for process in marked(platform_id):
                _signal(process, "terminate")
        psutil.wait_procs(marked(platform_id), timeout=timeout_s)
        left = marked(platform_id)
        for process in left:
            _signal(process, "kill")
        psutil.wait_procs(left, timeout=KILL_WAIT_S)
        if self._child:
            self._child.wait()
            if self._child.stdin:
                self._child.stdin.close()
            self._child = None
        self.socket.unlink(missing_ok=True)

    @contextmanager
    def _rpc(self) -> Iterator[Any]:
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        try:
            yield xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor
        finally:
            transport.close()


def configuration(processes: Sequence[Process]) -> str:
    """Return the supervisor's configuration; paths are relative to the home, so nothing needs quoting."""
    groups: dict[str, list[str]] = {}
    for process in processes:
        groups.setdefault(process.group, []).append(process.name)
    sections: list[tuple[str, Mapping[str, object]]] = [
        ("unix_http_server", {"file": "%(ENV_HEADRACE_SOCKET)s", "chmod": "0600"}),
        ("rpcinterface:supervisor", {RPC_FACTORY: "supervisor.rpcinterface:make_main_rpcinterface"}),
        ("supervisord", {"logfile": "logs/supervisor.log", "pidfile": "run/supervisor.pid", "loglevel": "info"}),
        *((f"program:{process.name}", _program(process)) for process in processes),
        *(
            (f"group:{name}", {"programs": ",".join(members), "priority": _priority(name)})
            for name, members in groups.items()
        ),
    ]
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items()) for name, options in sections
    )


RPC_FACTORY = "supervisor.rpcinterface_factory"


def _priority(group: str) -> int:
    return BROKER_PRIORITY if group == BROKER_GROUP else SERVICE_PRIORITY


def _program(process: Process) -> dict[str, object]:
    return {
        "command": f'"%(ENV_HEADRACE_PYTHON)s" -S "%(ENV_HEADRACE_EXECUTE)s" run/processes.json {process.name}',
        "autostart": str(process.group == BROKER_GROUP).lower(),
        "autorestart": "true",
        # A process that lives shorter than this is tried again, with pauses that grow by a second, and never given up.
        "startsecs": 5,
        "startretries": 1_000_000,
        "stopwaitsecs": process.stop_wait_s,
        "stopasgroup": "true",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": f"logs/{process.name}.log",
        "stdout_logfile_maxbytes": LOG_BYTES,
        "stdout_logfile_backups": LOG_BACKUPS,
    }


def marked(platform_id: str) -> list[psutil.Process]:
    """Return every living process with the platform's mark in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == platform_id and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            # Another user's process, or one that has just ended.
            continue
    return found


def tail(path: Path, lines: int = 20) -> str:
    """Return the last lines of a log; empty when there is none."""
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _signal(process: psutil.Process, how: str) -> None:
    with suppress(psutil.NoSuchProcess):
        getattr(process, how)()
