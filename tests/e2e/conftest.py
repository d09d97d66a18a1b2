"""The story's actors: a platform with all six services, a plain producer, and clients that know its addresses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from headrace_client import InferenceClient, RegistryClient
from headrace_runtime.kafka import LogReader
from headrace_runtime.records import Record
from headrace_runtime.settings import KafkaSettings

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits" / "pipeline.yaml"

Headrace = Callable[..., "subprocess.CompletedProcess[str]"]
PAUSE_S = 0.05


@pytest.fixture(scope="session")
def produce() -> Callable[..., None]:
    """Send the digits by the example's producer, which knows nothing of Headrace."""

    def run(to: Platform, topic: str = "digits") -> None:
        script = ROOT / "examples" / "digits" / "produce.py"
        command = [sys.executable, str(script), "--bootstrap-servers", to.bootstrap_servers, "--topic", topic]
        subprocess.run(command, capture_output=True, check=True, timeout=60)

    return run


@pytest.fixture(scope="session")
def headrace(platform: Platform) -> Headrace:
    """Run the `headrace` command against the platform, as a user would."""

    def run(*arguments: str, stdin: str = "", timeout_s: float = 200) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "headrace"), *arguments]
        environment = os.environ | platform.environment | {"COLUMNS": "100"}
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, timeout=timeout_s, env=environment
        )

    return run


@pytest.fixture(scope="session")
def registry(platform: Platform) -> Iterator[RegistryClient]:
    with RegistryClient(platform.addresses["registry"]) as client:
        yield client


@pytest.fixture(scope="session")
def inference(platform: Platform) -> Iterator[InferenceClient]:
    with InferenceClient(platform.addresses["inference"]) as client:
        yield client


@pytest.fixture(scope="session")
def released(platform: Platform, headrace: Headrace, produce: Callable[..., None]) -> dict[str, Any]:
    """The digits' whole way, once for the session: what `headrace wait --json` said at the end."""
    applied = headrace("apply", str(DIGITS), "--create-topic")
    assert applied.returncode == 0, applied.stderr
    produce(platform)
    waited = headrace("wait", "digits", "--timeout", "150s", "--json")
    assert waited.returncode == 0, waited.stdout + waited.stderr
    result: dict[str, Any] = json.loads(waited.stdout)
    return result


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """Wait until a condition gives something true, and return that."""

    def wait(what: str, condition: Callable[[], Any], timeout_s: float = 120) -> Any:
        deadline = time.monotonic() + timeout_s
        while True:
            began = time.monotonic()
            if found := condition():
                return found
            assert time.monotonic() < deadline, f"still waiting after {timeout_s:.0f} s: {what}"
            # Looking takes processor time from those that are waited for: a quarter of it at most.
            time.sleep(max(PAUSE_S, 3 * (time.monotonic() - began)))

    return wait


@pytest.fixture(scope="session")
def committed() -> Callable[[Platform, str], Sequence[Record]]:
    """Read every committed message of a topic."""

    def read(of: Platform, topic: str) -> list[Record]:
        settings = KafkaSettings.model_validate({"kafka_bootstrap_servers": of.bootstrap_servers})
        with LogReader(settings, "tests") as reader:
            places = reader.partitions(topic)
            reader.start_at(dict.fromkeys(places))
            return [record for records in reader.read_to(reader.ends(places)) for record in records]

    return read
