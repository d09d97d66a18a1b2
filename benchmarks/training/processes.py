"""Training in several processes beside one, and what each process holds where the weights are spread; in turns.

Each run is the trainer's own child with an assignment. Rows by the second are counted from the end of the first epoch
to that of the last, so that imports and reading are no part of them; memory is the largest resident set of a process
until the last epoch but one is told, above that of one that has only imported the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from headrace_data.spec import Compute, Pipeline
from headrace_local.launcher import Platform
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.folder import output_prefix

from benchmarks import figures
from benchmarks.training import streamed

ONE = "one process, one thread"
COMPUTE: Mapping[str, Compute | None] = {
    ONE: None,
    "one process, two threads": Compute(device="cpu", threads=2),
    "two processes, ddp": Compute(device="cpu", processes=2),
    "two processes, fsdp": Compute(device="cpu", processes=2, strategy="fsdp"),
    "two processes, tensor": Compute(device="cpu", processes=2, strategy="tensor"),
}
QUICK = tuple(COMPUTE)[:3]
SPREAD = (ONE, *tuple(COMPUTE)[3:])


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained, on how much."""

    hidden: tuple[int, ...]
    batch_size: int
    rows: int
    epochs: int


FAST = (Task((64, 32), 256, 100_000, 4), Task((1024, 512), 1024, 40_000, 3))
"""A network that learns faster than most, and one whose layers take most of the time."""
LARGE = Task((4096, 4096, 4096, 4096), 128, 900, 2)
"""More than fifty million parameters, on few rows: what it holds is asked, not how fast it is."""
_IMPORTS = "import torch, torch._dynamo, headrace_trainer.transport.assignments, headrace_trainer.adapters.checkpoints"
_SPREADING = "import torch.distributed.fsdp, torch.distributed.tensor.parallel"
_SAMPLED_S = 0.02


@dataclass(frozen=True, slots=True)
class Round:
    """What one run took."""

    rows_per_s: float
    rows_per_cpu_s: float
    """By the second of processor time of the busiest process: what is reached where each has a core to itself."""
    peak_mb: float
    """The largest resident set of any process that learns, until the last epoch but one is told.

    Behind the last one follows what is done at the end of a run, sooner than a line is read.
    """
    whole_mb: float
    """The same until its end, with the export on the process that leads."""


def run(_platform: Platform, folder: Path, rounds: int) -> figures.Measured:
    """Return the tables: how fast, one for each task, and what is held."""
    tables: list[str] = []
    raw: dict[str, Any] = {}
    for task in FAST:
        found = _measured(task, QUICK, folder, rounds)
        tables.append(_speeds(_title(task), found))
        raw[_title(task)] = {name: [figures.values(one) for one in done] for name, done in found.items()}
    baseline_mb = _baseline_mb()
    found = _measured(LARGE, SPREAD, folder, min(rounds, 2))
    tables.append(_memory(_title(LARGE), found, baseline_mb))
    raw[_title(LARGE)] = {name: [figures.values(one) for one in done] for name, done in found.items()}
    raw["imports, MB"] = baseline_mb
    return figures.Measured("\n\n".join(tables), raw)


def _title(task: Task) -> str:
    widths = "-".join(map(str, task.hidden))
    return f"{widths} on {task.rows:,} rows, batch {task.batch_size}"


def _measured(task: Task, names: Sequence[str], folder: Path, rounds: int) -> dict[str, list[Round]]:
    store = ObjectStore(str(folder / f"processes-{task.rows}"))
    manifest = streamed.frozen(store, task.rows)
    kept = store.put(manifest.to_json())
    rows = manifest.splits["train"].rows
    found: dict[str, list[Round]] = {name: [] for name in names}
    for number in range(rounds):
        # Who comes first changes from round to round.
        for name in sorted(names, reverse=bool(number % 2)):
            run_id = f"run-{number}-{names.index(name)}"
            assignment = {
                "run_id": run_id,
                "attempt": 1,
                "store_url": store.url,
                "output": output_prefix(run_id, 1),
                "spec": _pipeline(task, COMPUTE[name]).canonical_json().decode(),
                "dataset": {"dataset_id": manifest.dataset_id, "manifest": asdict(kept)},
                "checkpoint_s": 3600.0,
                "packages": [],
            }
            found[name].append(_run(assignment, folder / "assignment.json", rows))
    return found


def _pipeline(task: Task, compute: Compute | None) -> Pipeline:
    pipeline = streamed.pipeline((64, 32, task.batch_size), compute)
    network = pipeline.train.network.model_copy(update={"hidden": task.hidden})
    return pipeline.model_copy(
        update={"train": pipeline.train.model_copy(update={"network": network, "epochs": task.epochs})}
    )


def _run(assignment: Mapping[str, object], file: Path, rows: int) -> Round:
    file.write_text(json.dumps(assignment))
    with subprocess.Popen(
        [sys.executable, "-m", "headrace_trainer.child", str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        watch = _Watch(child.pid)
        ends, used, peaks_mb = [], [], []
        for _ in child.stdout:
            ends.append(time.perf_counter())
            used.append(watch.cpu_s())
            peaks_mb.append(watch.peak_mb())
        child.wait()
        watch.stop()
    if child.returncode:
        raise RuntimeError(f"{assignment['run_id']}: expected a run that ends well, got code {child.returncode}")
    learned = rows * (len(ends) - 1)
    busiest_s = max(used[-1][pid] - used[0][pid] for pid in used[-1])
    return Round(learned / (ends[-1] - ends[0]), learned / busiest_s, peaks_mb[-2], watch.peak_mb())


class _Watch:
    """The largest resident set of each process that learns: of a group's, or of a child that learns itself."""

    def __init__(self, child: int) -> None:
        self._child = psutil.Process(child)
        self._peaks: dict[int, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def peak_mb(self) -> float:
        """Return the largest of them so far."""
        peaks = dict(self._peaks)
        return max([peak for pid, peak in peaks.items() if pid != self._child.pid] or peaks.values())

    def cpu_s(self) -> dict[int, float]:
        """Return the processor time that each process has used, by its id."""
        learners = [pid for pid in self._peaks if pid != self._child.pid] or [self._child.pid]
        found = {}
        for pid in learners:
            with suppress(psutil.NoSuchProcess):  # one that does not lead ends a moment earlier
                found[pid] = figures.cpu_s(pid)
        return found

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(_SAMPLED_S):
            try:
                ranks = [each for each in self._child.children() if "headrace_trainer.rank" in each.cmdline()]
            except psutil.Error:
                continue
            for each in (self._child, *ranks):
                self._peaks[each.pid] = max(self._peaks.get(each.pid, 0.0), _most_mb(each.pid))


def _most_mb(pid: int) -> float:
    """Return the most that a process has held; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM")), 0.0)


def _baseline_mb() -> dict[str, float]:
    """Return what a process holds that has imported what each kind of run does."""
    told = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmRSS')))"
    found = {}
    for name, imports in {ONE: _IMPORTS.replace(" torch._dynamo,", ""), "spread": f"{_IMPORTS}; {_SPREADING}"}.items():
        done = subprocess.run([sys.executable, "-c", f"{imports}; {told}"], check=True, capture_output=True, text=True)
        found[name] = int(done.stdout) / 1e3
    return found


def _speeds(task: str, found: Mapping[str, list[Round]]) -> str:
    lines = []
    for name, done in found.items():
        cells = [name]
        for kind in ("rows_per_s", "rows_per_cpu_s"):
            speeds, one = ([getattr(each, kind) for each in rounds] for rounds in (done, found[ONE]))
            cells += [figures.spread(speeds), figures.share(speeds, one)]
        lines.append(cells)
    by_cpu = "rows per CPU second of the busiest process"
    return figures.table([task, "rows/s", "of one process of one thread", by_cpu, "of one"], lines)


def _memory(task: str, found: Mapping[str, list[Round]], baseline_mb: Mapping[str, float]) -> str:
    def above(name: str, *, whole: bool) -> list[float]:
        base = baseline_mb[ONE if name == ONE else "spread"]
        return [(each.whole_mb if whole else each.peak_mb) - base for each in found[name]]

    lines = [
        [
            name,
            figures.spread(above(name, whole=False)),
            figures.share(above(name, whole=False), above(ONE, whole=False)),
            figures.spread(above(name, whole=True)),
            figures.spread([each.rows_per_s for each in done]),
        ]
        for name, done in found.items()
    ]
    heads = [task, "largest process above imports, MB, learning", "of one process", "to the end of the run", "rows/s"]
    return figures.table(heads, lines)
