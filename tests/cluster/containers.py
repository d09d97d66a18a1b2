"""Pods whose containers are processes of this machine: those in which runs train. The rest of a kubelet's work is told.

A pod is known by the address 127.1.0.N: what names would say in a cluster is written into its variables.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from api import Object

COMPONENT = "training"
INDEX = "batch.kubernetes.io/job-completion-index"


class Containers:
    """The processes of pods."""

    def __init__(self, folder: Path) -> None:
        self.environment: dict[str, str] = {}
        """What each is told beside or instead of what its pod says."""
        self.started: list[Object] = []
        """Pods that were started, in order."""
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._addresses: dict[str, str] = {}

    def process(self, pod: Object) -> subprocess.Popen[bytes] | None:
        """Return the process of a pod, None before it has started."""
        return self._processes.get(pod["metadata"]["uid"])

    def start(self, pod: Object) -> None:
        """Start the first container of a pod."""
        container = pod["spec"]["containers"][0]
        told = {each["name"]: each["value"] for each in container["env"] if "value" in each}
        name, _, port = told["HEADRACE_MEETING"].rpartition(":")
        # What a field of the pod says.
        told["JOB_COMPLETION_INDEX"] = pod["metadata"]["annotations"][INDEX]
        told["HEADRACE_MEETING"] = f"{self._address(name)}:{port}"
        command = [sys.executable, *container["command"][1:]]
        log = self._folder / f"{pod['metadata']['name']}.log"
        with log.open("wb") as output:
            environment = os.environ | told | self.environment
            started = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        self._processes[pod["metadata"]["uid"]] = started
        self.started.append(pod)

    def code(self, pod: Object) -> int | None:
        """Return the exit code of a pod's container, None while it runs."""
        process = self.process(pod)
        return None if process is None else process.poll()

    def has_gone(self, pod: Object) -> bool:
        """Have a pod's container stop. Returns whether it has."""
        process = self.process(pod)
        if process is None or process.poll() is not None:
            return True
        process.send_signal(signal.SIGTERM)
        return False

    def running(self) -> list[int]:
        """Return the pids of all that run."""
        return [each.pid for each in self._processes.values() if each.poll() is None]

    def stop(self) -> None:
        """Kill all."""
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _address(self, name: str) -> str:
        return self._addresses.setdefault(name, f"127.1.0.{len(self._addresses) + 1}")
