"""Training as in production, with checkpoints by time and a report after each epoch, beside a plain loop; in turns."""

from __future__ import annotations

import io
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from headrace_data.spec import Optimizer, Train
from headrace_learning.families.mlp import mlp
from headrace_learning.training.loop import Training
from headrace_learning.training.objectives import Classification
from headrace_learning.training.randomness import make_deterministic
from headrace_learning.training.rows import Rows
from headrace_local.launcher import Platform
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.child import Reporter
from headrace_runtime.runs.folder import output_prefix
from headrace_trainer.adapters.checkpoints import StoredCheckpoints
from torch import nn

from benchmarks import figures
from benchmarks.training import plain

PLAIN = "plain PyTorch loop"
OURS = "Headrace, checkpoints by time, report each epoch"
CHECKPOINT_S = 60.0
CLASSES = 10


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained, on how much."""

    name: str
    features: int
    hidden: tuple[int, ...]
    dropout: float
    rows: int
    batch_size: int
    epochs: int


TASKS = (
    Task("64-256-128-10 on 1,258 rows, batch 64, 10 epochs", 64, (256, 128), 0.3, 1_258, 64, 10),
    Task("1000-128-64-10 on 8,000 rows, batch 32, 4 epochs", 1000, (128, 64), 0.0, 8_000, 32, 4),
    Task("1000-128-64-10 on 16,384 rows, batch 256, 6 epochs", 1000, (128, 64), 0.0, 16_384, 256, 6),
    Task("1000-128-64-10 on 16,384 rows, batch 2048, 6 epochs", 1000, (128, 64), 0.0, 16_384, 2048, 6),
)
"""The examples digits and seed-mlp, on random rows; the latter with larger batches as well."""


@dataclass(frozen=True, slots=True)
class Round:
    """One training."""

    rows_per_s: float
    rows_per_cpu_s: float


def run(_platform: Platform, folder: Path, rounds: int) -> figures.Measured:
    """Return the tables, one for each task."""
    make_deterministic()
    found = {task.name: _measure(task, folder, rounds) for task in TASKS}
    raw = {
        task: {name: [figures.values(one) for one in done] for name, done in loops.items()}
        for task, loops in found.items()
    }
    return figures.Measured("\n\n".join(_table(task, loops) for task, loops in found.items()), raw)


def _measure(task: Task, folder: Path, rounds: int) -> dict[str, list[Round]]:
    train, validation = _rows(task, task.rows), _rows(task, task.rows // 5)
    settings = Train.model_validate(
        {
            "network": {"kind": "mlp", "hidden": task.hidden, "dropout": task.dropout},
            "optimizer": Optimizer(kind="adam", learning_rate=0.001),
            "epochs": task.epochs,
            "batchSize": task.batch_size,
        }
    )
    store = ObjectStore(str(folder / "training"))

    def ours(network: nn.Module) -> None:
        run_id = uuid.uuid4().hex
        checkpoints = StoredCheckpoints(store, run_id, output_prefix(run_id, 1), CHECKPOINT_S)
        Training(
            network, settings, Classification(), train, validation, "sha256:", checkpoints, Reporter(io.StringIO())
        ).run()

    loops: dict[str, Callable[[nn.Module], None]] = {
        PLAIN: lambda network: plain.train(network, settings, train, validation),
        OURS: ours,
    }
    for loop in loops.values():
        loop(_network(task))  # what is imported and compiled at first use
    found: dict[str, list[Round]] = {name: [] for name in loops}
    for number in range(rounds):
        # Who comes first changes from round to round.
        for name in sorted(loops, reverse=bool(number % 2)):
            found[name].append(_timed(task, lambda name=name: loops[name](_network(task))))  # type: ignore[misc]
    return {name: found[name] for name in loops}


def _timed(task: Task, loop: Callable[[], None]) -> Round:
    cpu_s, began = time.process_time(), time.perf_counter()
    loop()
    rows = task.rows * task.epochs
    return Round(rows / (time.perf_counter() - began), rows / (time.process_time() - cpu_s))


def _network(task: Task) -> nn.Module:
    torch.manual_seed(7)
    return mlp(task.features, task.hidden, CLASSES, dropout=task.dropout)


def _rows(task: Task, count: int) -> Rows:
    random = torch.Generator().manual_seed(count)
    return Rows(
        torch.randn(count, task.features, generator=random), torch.randint(0, CLASSES, (count,), generator=random)
    )


def _table(task: str, found: dict[str, list[Round]]) -> str:
    lines = []
    for name, done in found.items():
        lines.append(
            [
                name,
                figures.spread([one.rows_per_s for one in done]),
                figures.share([one.rows_per_s for one in done], [one.rows_per_s for one in found[PLAIN]]),
                figures.spread([one.rows_per_cpu_s for one in done]),
                figures.share([one.rows_per_cpu_s for one in done], [one.rows_per_cpu_s for one in found[PLAIN]]),
            ]
        )
    return figures.table([task, "rows/s", "of plain", "rows per CPU second", "of plain"], lines)
