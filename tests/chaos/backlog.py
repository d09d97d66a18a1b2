"""How much memory ingestion and preprocessing need for a backlog that waited while they were down."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from headrace_client import RegistryClient
from headrace_local.launcher import Platform
from headrace_runtime.kafka import Admin
from headrace_runtime.record_topics import raw_topic
from headrace_runtime.settings import KafkaSettings
from memory import high_water_marks
from progress import waits
from records import PARTITIONS, SPEC

PIPELINE = "backlog"
LIMIT_BYTES = 400 * 2**20
PIXELS = 256
STUCK_S = 600.0


def spec() -> str:
    """Return a pipeline whose records are about 2 KB long."""
    wide = f"{{name: value, type: float32, shape: [{PIXELS}], role: feature, range: [0, 1]}}"
    narrow = "{name: value, type: float32, role: feature, range: [0, 1]}"
    return SPEC.replace("chaos", PIPELINE).replace(narrow, wide)


def run(platform: Platform, settings: KafkaSettings, size_bytes: int, say: Callable[[str], None]) -> list[str]:
    """Let a backlog of that size pass each service in turn; print what each needed, and return what is wrong."""
    services = ("ingestion", "preprocessing")
    with Admin(settings, "chaos") as admin:
        admin.ensure_topic(PIPELINE, PARTITIONS)
    with RegistryClient(platform.addresses["registry"]) as registry:
        registry.apply(spec())
    for status in platform.status():
        # What the schedule has added would help, and need memory that is not looked at.
        if status.name.startswith(services) and status.name not in services:
            platform.remove_instance(status.name)
    for service in services:
        platform.stop_process(service)
    script = [sys.executable, str(Path(__file__).with_name("fill.py")), platform.bootstrap_servers, PIPELINE]
    filled = subprocess.run([*script, str(size_bytes)], check=True, capture_output=True, text=True, timeout=3_600)
    records = json.loads(filled.stdout)["records"]
    wrong, told = [], []
    topics = {"ingestion": PIPELINE, "preprocessing": raw_topic(PIPELINE)}
    for service in services:
        began = time.monotonic()
        platform.start_process(service)
        while waits(settings, f"{service}.{PIPELINE}", topics[service]):
            if time.monotonic() - began > STUCK_S + size_bytes / 1e6:
                return [f"backlog: {service} was not done after {time.monotonic() - began:.0f} s"]
            time.sleep(0.5)
        mark = high_water_marks(platform)[service]
        told.append(f"{service}={mark / 2**20:.0f}MiB/{time.monotonic() - began:.0f}s")
        if mark > LIMIT_BYTES:
            wrong.append(f"backlog: {service} needed {mark / 2**20:.0f} MiB, more than {LIMIT_BYTES / 2**20:.0f}")
    say(f"backlog size={size_bytes / 1e9:.2f}GB records={records} {' '.join(told)}")
    return wrong
