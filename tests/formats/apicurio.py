"""A real schema registry, Apicurio, on the Java that runs Kafka. It keeps its schemas in memory."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from headrace_local.kafka import java
from headrace_local.ports import find_free

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".tools" / "apicurio"
PRODUCERS = ROOT / ".tools" / "formats" / "bin" / "python"
START_S = 180.0
PATH = "/apis/ccompat/v7"


class Apicurio:
    """One registry, at one address whenever it runs."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._port = int(find_free(1)[0])
        self.host = f"127.0.0.1:{self._port}"
        self.url = f"http://{self.host}{PATH}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        (jar,) = FOLDER.glob("*-runner.jar")
        told = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": str(self._port),
            "quarkus.http.access-log.enabled": "false",
        }
        options = [f"-D{key}={value}" for key, value in told.items()]
        command = [str(java()), "-Xmx400m", "-XX:TieredStopAtLevel=1", *options, "-jar", str(jar)]
        with (self._home / "apicurio.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None, (self._home / "apicurio.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "the registry did not start"
            time.sleep(0.2)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Have it take connections, and answer none of them."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)

    def _answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", f"{PATH}/subjects")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()
