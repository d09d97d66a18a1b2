"""What Java does at each start of Kafka, done once: a broker starts with a third less work.

Java 25 writes the classes that a program has loaded and linked into one file as that ends, and later runs map the file
(JEP 483 and 514, <https://openjdk.org/jeps/514>). Java itself passes over a file of another build, of other jars or of
other flags, so that a file that does not fit costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from headrace_runtime.kafka import Admin
from headrace_runtime.settings import KafkaSettings

from headrace_local import ports, readiness
from headrace_local.errors import StartFailed
from headrace_local.kafka import JVM_FLAGS, EmbeddedKafka, java
from headrace_local.settings import PlatformSettings

TIMEOUT_S = 180.0
"""Most seconds of each step: until the broker answers, and until it has ended and written its file."""
PAUSE_S = 0.1
SIZE_MB = 66
ONLY_CLASSES = (
    "-XX:+IgnoreUnrecognizedVMOptions",
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:-AOTAdapterCaching",
    "-XX:-AOTStubCaching",
)
"""Keeps machine code out of the file: Java 25 mixes up adapters that it has kept, and warns of each."""


def file_of(class_path: str) -> Path:
    """Return where the file of these jars is kept, beside them; its name changes with Java and its flags."""
    release = (java().parent.parent / "release").read_bytes()
    digest = hashlib.sha256(release + "\n".join(JVM_FLAGS + ONLY_CLASSES).encode()).hexdigest()
    return Path(class_path.partition(":")[0]).parent / f"ahead-{digest[:16]}.aot"


def flags(class_path: str) -> tuple[str, ...]:
    """Return the flags by which Java uses the file, none where it was never made."""
    file = file_of(class_path)
    return (*ONLY_CLASSES, f"-XX:AOTCache={file}") if file.is_file() else ()


def make(class_path: str, progress: Callable[[str], None]) -> None:
    """Run a broker once and keep what Java writes as it ends; do nothing where that is kept. Raises PlatformError."""
    wanted = file_of(class_path)
    if wanted.is_file():
        return
    progress(f"running Kafka once, so that it starts faster ({SIZE_MB} MB in {wanted.parent})")
    with tempfile.TemporaryDirectory(dir=wanted.parent, prefix="ahead-") as folder:
        addresses = dict(zip(("kafka_address", "kafka_controller_address"), _addresses(), strict=True))
        settings, made = PlatformSettings.model_validate({"home": folder, **addresses}), Path(folder) / "made.aot"
        EmbeddedKafka(settings, class_path).prepare()
        kafka = EmbeddedKafka(settings, class_path, (*ONLY_CLASSES, f"-XX:AOTCacheOutput={made}"))
        _run(kafka.process().command, Path(folder), settings.kafka_address)
        if not made.is_file():
            raise StartFailed("kafka", "Java wrote no file of what it had loaded", Path(folder) / "log")
        made.replace(wanted)


def _addresses() -> list[str]:
    return [f"127.0.0.1:{port}" for port in ports.find_free(2)]


def _run(command: tuple[str, ...], home: Path, address: str) -> None:
    """Run a broker until it has made the control topics."""
    known = {"kafka_bootstrap_servers": address, "kafka_security_protocol": "PLAINTEXT"}
    settings = KafkaSettings.model_validate(known)
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=home, stdout=log, stderr=log)
    try:
        answers, deadline_s = readiness.kafka_answers(settings), time.monotonic() + TIMEOUT_S
        while reason := answers():
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise StartFailed("kafka", reason)
            time.sleep(PAUSE_S)
        with Admin(settings, "ahead") as admin:
            admin.ensure_control_topics()
        process.terminate()
        process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise StartFailed("kafka", str(error)) from error
    finally:
        process.kill()
        process.wait()
