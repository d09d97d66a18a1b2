"""Training on rows that are held in memory beside training on the same rows streamed from their parts; in turns.

Each training is a process of its own, so that the most memory it ever held is its own: `python -m
benchmarks.training.streamed FILE`, where the file is the JSON of a `Job`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from headrace_data.batches import arrow_schema
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest, Provenance
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Compute, Pipeline, load_pipeline
from headrace_data.windows import only_dataset
from headrace_learning.training.checkpoint import Checkpoint
from headrace_learning.training.randomness import make_deterministic
from headrace_local.launcher import Platform
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.core.memory import Memory
from headrace_trainer.core.run import Plan, run

from benchmarks import figures

HELD = "in memory"
STREAMED = "streamed"
ROWS = 700_000
NUMBERS = 32
EPOCHS = 3
NETWORKS = ((64, 32, 256), (256, 128, 64))
"""Two hidden layers and the rows of a batch: one that learns faster than most, and that of the digits."""
_PIECE = 50_000


@dataclass(frozen=True, slots=True)
class Job:
    """One training."""

    store: str
    manifest: str
    spec: str
    held: bool


@dataclass(frozen=True, slots=True)
class Round:
    """What one training took."""

    rows_per_s: float
    """Rows that it learned from by the second, from the first epoch's end to the last one's."""
    rows_per_learning_s: float
    """The same by the second of processor time of the thread that learns: what is reached where a core is free."""
    rows_per_cpu_s: float
    """The same by the second of processor time of both threads."""
    run_s: float
    """From the dataset to the measured graph."""
    cpu_s: float
    peak_mb: float
    """The most memory that it ever held, the libraries included."""
    libraries_mb: float
    """What it held before it read anything."""


def run_rounds(_platform: Platform, folder: Path, rounds: int) -> figures.Measured:
    """Return the tables, one for each network."""
    store = ObjectStore(str(folder / "streamed"))
    manifest = frozen(store, ROWS)
    place = folder / "manifest.json"
    place.write_bytes(manifest.to_json())
    tables, raw = [], {}
    for network in NETWORKS:
        spec = pipeline(network).canonical_json().decode()
        jobs = {name: Job(store.url, str(place), spec, held=name == HELD) for name in (HELD, STREAMED)}
        found: dict[str, list[Round]] = {name: [] for name in jobs}
        for number in range(rounds):
            # Who comes first changes from round to round.
            for name in sorted(jobs, reverse=bool(number % 2)):
                found[name].append(_trained(jobs[name], folder))
        task = f"{network[0]}-{network[1]} on {manifest.splits['train'].rows:,} rows, batch {network[2]}"
        tables.append(_table(task, found))
        raw[task] = {name: [figures.values(one) for one in done] for name, done in found.items()}
    return figures.Measured("\n\n".join(tables), raw)


def _trained(job: Job, folder: Path) -> Round:
    file = folder / "job.json"
    file.write_text(json.dumps(asdict(job)))
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.training.streamed", str(file)], check=True, capture_output=True, text=True
    )
    return Round(**json.loads(told.stdout))


def pipeline(network: tuple[int, int, int], compute: Compute | None = None) -> Pipeline:
    """Return a pipeline with two hidden layers and the rows of a batch."""
    numbers = [{"name": f"x{number}", "type": "float32", "role": "feature"} for number in range(NUMBERS)]
    places = [{"name": f"place{number}", "type": "string", "role": "feature"} for number in range(2)]
    ends = [{"name": "id", "type": "string", "role": "id"}, {"name": "label", "type": "int64", "role": "label"}]
    document = {
        "apiVersion": "headrace/v1",
        "kind": "Pipeline",
        "metadata": {"name": "streamed"},
        "stream": {"topic": "streamed", "schema": [*ends, *numbers, *places]},
        "prepare": {
            "transform": {
                **{each["name"]: {"scale": "standard"} for each in numbers},
                **{each["name"]: {"encode": "onehot"} for each in places},
            }
        },
        "train": {
            "network": {"kind": "mlp", "hidden": network[:2]},
            "batchSize": network[2],
            "epochs": EPOCHS,
            **({} if compute is None else {"compute": compute.plain()}),
        },
    }
    return load_pipeline(json.dumps(document))


def frozen(store: ObjectStore, rows: int) -> Manifest:
    """Return a dataset of so many rows of numbers and texts, in the store."""
    declared = pipeline(NETWORKS[0])
    random = np.random.default_rng(7)
    writer = SegmentWriter(declared, store)
    names = np.array([f"place number {number}" for number in range(12)])
    for start in range(0, rows, _PIECE):
        count = min(_PIECE, rows - start)
        values = random.normal(size=(count, NUMBERS)).astype(np.float32)
        found = {f"x{number}": pa.array(values[:, number]) for number in range(NUMBERS)}
        found |= {f"place{number}": pa.array(random.choice(names, count)) for number in range(2)}
        found["label"] = pa.array((values[:, :4].sum(axis=1) > 0).astype(np.int64) + (values[:, 5] > 1))
        found["id"] = pa.array([f"r{number}" for number in range(start, start + count)])
        found["_offset"] = pa.array(np.arange(start, start + count))
        found |= {name: pa.array(np.zeros(count, dtype=np.int32)) for name in ("_partition", "_index")}
        schema = arrow_schema(declared.stream.fields)
        columns = [found.get(each.name, pa.nulls(count, each.type)).cast(each.type) for each in schema]
        writer.add(pa.RecordBatch.from_arrays(columns, schema=schema))
    origin = Provenance(cluster_id="c", topic="t", topic_id="", sources=(), clean_ranges=(), rejected={})
    return only_dataset(writer.finish(origin), declared, store)


def _table(task: str, found: Mapping[str, list[Round]]) -> str:
    held = [one.rows_per_s for one in found[HELD]]
    lines = [
        [
            name,
            figures.spread([one.rows_per_s for one in done]),
            figures.share([one.rows_per_s for one in done], held),
            figures.share([one.rows_per_learning_s for one in done], [one.rows_per_learning_s for one in found[HELD]]),
            figures.share([one.rows_per_cpu_s for one in done], [one.rows_per_cpu_s for one in found[HELD]]),
            figures.spread([one.run_s for one in done]),
            figures.spread([one.peak_mb for one in done]),
            figures.spread([one.peak_mb - one.libraries_mb for one in done]),
        ]
        for name, done in found.items()
    ]
    heads = [
        task,
        "rows/s",
        "of in memory",
        "by time of learning",
        "by CPU",
        "run, s",
        "peak, MB",
        "without libraries, MB",
    ]
    return figures.table(heads, lines)


class Clock:
    """Keeps no checkpoints, and when each epoch ended."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float, float]] = []

    def newest(self, subject: str) -> Checkpoint | None:
        """Return none."""
        return None

    def due(self, *, midway: bool) -> bool:
        """Return that it never is."""
        return False

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep nothing."""

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        """Note the time."""
        self.ends.append((time.perf_counter(), time.thread_time(), time.process_time()))


def _memory_mb(kind: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith(kind))


def main() -> None:
    """Do the job in the file that is named, and print a `Round` as JSON."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    make_deterministic()
    libraries_mb, clock = _memory_mb("VmRSS"), Clock()
    manifest = Manifest.from_json(Path(job.manifest).read_bytes())
    plan = Plan("run", load_pipeline(job.spec), manifest)
    memory = replace(Memory(), rows_bytes=sys.maxsize if job.held else 0)
    began, cpu_s = time.perf_counter(), time.process_time()
    run(plan, DatasetReader(manifest, ObjectStore(job.store)), clock, clock, memory)
    learned = manifest.splits["train"].rows * (len(clock.ends) - 1)
    wall_s, learning_s, both_s = (last - first for first, last in zip(clock.ends[0], clock.ends[-1], strict=True))
    done = Round(
        rows_per_s=learned / wall_s,
        rows_per_learning_s=learned / learning_s,
        rows_per_cpu_s=learned / both_s,
        run_s=time.perf_counter() - began,
        cpu_s=time.process_time() - cpu_s,
        peak_mb=_memory_mb("VmHWM"),
        libraries_mb=libraries_mb,
    )
    print(json.dumps(asdict(done)))


if __name__ == "__main__":
    main()
