"""Raw rows to clean ones: preprocessing's handler, message by message, beside polars with all of them in memory.

`python -m benchmarks.streaming.cleaning FOLDER SHAPE` is one pass of ours; it prints its figures as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from headrace.events.v1 import record_pb2
from headrace_data.batches import from_ipc
from headrace_ingestion.core.intake import Intake
from headrace_ingestion.settings import Settings as IngestionSettings
from headrace_ingestion.transport.consumer import handler as ingest
from headrace_local.launcher import Platform
from headrace_preprocessing.core.cleaner import Cleaner
from headrace_preprocessing.settings import Settings
from headrace_preprocessing.transport.consumer import handler
from headrace_runtime.process.service import settle
from headrace_runtime.records import Record

from benchmarks import figures, peers
from benchmarks.streaming.records import PARTITIONS, pipeline, values
from benchmarks.streaming.shapes import SHAPES, Shape

TIMEOUT_S = 120.0
TOPIC = "cleaned"
_LENGTH_BYTES = 8


def run(_platform: Platform, folder: Path, rounds: int) -> figures.Measured:
    """Return a table of the three shapes."""
    try:
        theirs = [str(peers.python("streams")), "-m", "benchmarks.streaming.bare_cleaning"]
    except peers.Unavailable as reason:
        return figures.Measured(f"Skipped: polars: {reason}", {})
    lines: list[list[str]] = []
    raw: dict[str, dict[str, list[float]]] = {}
    for name, shape in SHAPES.items():
        if shape.format != "json":
            continue
        place = folder / f"cleaning-{len(raw)}"
        _write(place, shape)
        ours, polars = [], []
        for _ in range(rounds):
            ours.append(_pass([sys.executable, "-m", "benchmarks.streaming.cleaning"], place, name))
            polars.append(_pass(theirs, place, name))
        raw[name] = {"ours": ours, "polars": polars}
        lines.append([name, figures.spread(ours), figures.spread(polars), figures.share(ours, polars)])
    head = ["raw to clean, rows per CPU second", "Headrace, its handler", "polars, in memory at once", "of polars"]
    return figures.Measured(figures.table(head, lines), raw)


def _write(folder: Path, shape: Shape) -> None:
    """Write raw messages, as ingestion makes them, each behind its length; and their rows as one table."""
    folder.mkdir()
    settings = IngestionSettings.model_validate({"kafka_bootstrap_servers": "x:9092", "metrics_address": ""})
    intake = ingest(Intake(pipeline(TOPIC, shape), settings.batch_bytes, settings.max_record_bytes))
    records = [
        Record(TOPIC, number % PARTITIONS, number // PARTITIONS, None, value, timestamp_ms=1_700_000_000_000)
        for number, value in enumerate(values(shape))
    ]
    tables = []
    with (folder / "raw.bin").open("wb") as file:
        for first in range(0, len(records), settings.poll_records):
            some = sorted(records[first : first + settings.poll_records], key=lambda record: record.partition)
            for message in intake(some):
                data = message.value or b""
                file.write((message.partition or 0).to_bytes(_LENGTH_BYTES, "big"))
                file.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
                tables.append(from_ipc(record_pb2.RecordBatch.FromString(data).arrow))
    table = pa.Table.from_batches(tables)
    with pa.ipc.new_file(str(folder / "raw.arrow"), table.schema) as writer:
        writer.write_table(table)


def _read(folder: Path) -> Iterator[Record]:
    with (folder / "raw.bin").open("rb") as file:
        offsets = [0] * PARTITIONS
        while head := file.read(_LENGTH_BYTES):
            partition = int.from_bytes(head, "big")
            value = file.read(int.from_bytes(file.read(_LENGTH_BYTES), "big"))
            yield Record(f"{TOPIC}.raw", partition, offsets[partition], None, value)
            offsets[partition] += 1


def _pass(command: list[str], folder: Path, name: str) -> float:
    """Return rows per CPU second."""
    command = [*command, str(folder), name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, cwd=peers.ROOT)
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert told["kept"] == told["rows"], told
    return float(told["rows"] / told["cpu_s"])


def main(folder: str, name: str) -> None:
    """Clean what lies in the folder, as many messages at a time as the service takes."""
    shape = SHAPES[name]
    cleaner = Cleaner(pipeline(TOPIC, shape))
    for partition in range(PARTITIONS):
        cleaner.restore(partition, [], 0)
    handle, at_once = handler(cleaner), Settings.model_fields["poll_batches"].default
    records, kept = list(_read(Path(folder))), 0
    settle()
    started = time.process_time()
    for first in range(0, len(records), at_once):
        done = handle(records[first : first + at_once])
        for partition in range(PARTITIONS):
            cleaner.commit(partition, first + at_once)
        kept += len(done)
    cpu_s = time.process_time() - started
    assert kept == len(records), "a message for each, and no dead letter"
    print(json.dumps({"rows": shape.rows, "kept": shape.rows, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main(*sys.argv[1:])
