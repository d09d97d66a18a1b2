"""What Java has read and linked of Kafka's classes, kept beside the jars: with it a broker starts in half the time.

Java calls it an AOT cache (JEP 483, 514). The wheel that brings Java has none, so a broker that starts once writes it.
It fits one build of Java and one set of jars; Java itself looks at that, and does without where it does not fit.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from headrace_runtime.settings import KafkaSettings

from headrace_local import ports
from headrace_local.errors import StartFailed
from headrace_local.kafka import EmbeddedKafka, class_cache
from headrace_local.readiness import POLL_S, kafka_answers
from headrace_local.settings import PlatformSettings

TIMEOUT_S = 120.0
"""How long the broker may take to answer, and then to write."""


def ensure_class_cache(class_path: str) -> Path:
    """Return the file for these jars; it is written when there is none. Raises StartFailed."""
    file = class_cache(class_path)
    if not file.is_file():
        with tempfile.TemporaryDirectory(prefix="classes-", dir=file.parent) as folder:
            partial = Path(folder) / file.name
            _write(Path(folder), class_path, partial)
            partial.replace(file)
    return file


def _write(home: Path, class_path: str, file: Path) -> None:
    address, controller = (f"127.0.0.1:{port}" for port in ports.find_free(2))
    settings = PlatformSettings.model_validate(
        {"home": home, "kafka_address": address, "kafka_controller_address": controller}
    )
    kafka = EmbeddedKafka(settings, class_path, records_classes=file)
    kafka.prepare()
    command = kafka.process().command
    with subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as broker:
        try:
            _wait_for_answer(broker, address)
            broker.terminate()
            broker.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise StartFailed("kafka", f"did not write its classes within {TIMEOUT_S:g} s") from error
        finally:
            broker.kill()
    if not file.is_file():
        raise StartFailed("kafka", f"ended with {broker.returncode} and did not write its classes")


def _wait_for_answer(broker: subprocess.Popen[bytes], address: str) -> None:
    settings = {"kafka_bootstrap_servers": address, "kafka_security_protocol": "PLAINTEXT"}
    missing = kafka_answers(KafkaSettings.model_validate(settings))
    deadline = time.monotonic() + TIMEOUT_S
    while broker.poll() is None and (reason := missing()):
        if time.monotonic() > deadline:
            raise StartFailed("kafka", f"was not ready to write its classes within {TIMEOUT_S:g} s: {reason}")
        time.sleep(POLL_S)
