"""What DP-SGD costs on two small tables: accuracy and an attack beside those of a network that promises nothing.

All have the same rows, transforms and splits, those that `headrace init` drafts, and one network. What promises nothing
is trained to its early stop. Each epsilon is a run of its own, with noise that no other has.

python -m benchmarks.privacy [--salts N] [--epsilons E ...]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from headrace_compressor.core.membership import attack_auc
from headrace_data.chunks import Chunks
from headrace_data.dataset import DatasetReader
from headrace_learning.evaluation import Answerer
from headrace_learning.training.randomness import make_deterministic

from benchmarks import figures
from benchmarks.advice.comparison import Bench, spent_s

TABLES = ("digits", "breast_cancer")
NETWORK = {"kind": "mlp", "hidden": [64]}
OPEN: Mapping[str, Any] = {
    "network": NETWORK,
    "optimizer": {"kind": "adamw", "learningRate": 0.005},
    "epochs": 100,
    "batchSize": 64,
    "earlyStop": {"patience": 15},
}
"""How a network learns that promises nothing."""
PRIVATE: Mapping[str, Any] = {
    "network": NETWORK,
    "optimizer": {"kind": "adam", "learningRate": 0.01},
    "epochs": 40,
    "batchSize": 128,
}
"""How one learns with privacy: larger batches, in which noise is less."""
DELTA = 1e-4


def measure(name: str, salts: int, epsilons: Sequence[float]) -> dict[str, list[dict[str, float]]]:
    """Return what was found, by epsilon, for each way of dividing a table's rows."""
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="headrace-privacy-") as folder:
        for salt in range(salts):
            bench = Bench(name, salt, Path(folder))
            for epsilon in (None, *epsilons):
                spent = {"epsilon": epsilon, "delta": DELTA, "clip": 1.0, "fits": "exact"}
                train = OPEN if epsilon is None else {**PRIVATE, "privacy": spent}
                plan, trained, checkpoints = bench.run(f"run-{epsilon}", train)
                reader = DatasetReader(bench.dataset, bench.store)
                attack = attack_auc(Answerer(trained.graph), Chunks(reader, "train"), Chunks(reader, "test"))
                told = {
                    "accuracy": 100 * trained.metrics["accuracy"],
                    "attack": attack,
                    "cpu_s": spent_s(plan, trained, checkpoints),
                    "rows": float(plan.dataset.splits["train"].rows),
                    "noise": (trained.fitted.outcome.privacy or {}).get("noise_multiplier", 0.0),
                }
                found.setdefault("none" if epsilon is None else f"{epsilon:g}", []).append(told)
    return found


def table(found: Mapping[str, Mapping[str, list[dict[str, float]]]]) -> str:
    """Return a Markdown table of what was found."""
    rows = []
    for name, by_epsilon in found.items():
        for epsilon, several in by_epsilon.items():
            accuracies = [each["accuracy"] for each in several]
            spread = stdev(accuracies) if len(accuracies) > 1 else 0.0
            rows.append(
                [
                    name,
                    f"{mean(each['rows'] for each in several):,.0f}",
                    epsilon,
                    f"{mean(each['noise'] for each in several):.2f}" if epsilon != "none" else "",
                    f"{mean(accuracies):.1f} ± {spread:.1f}",
                    f"{mean(each['attack'] for each in several):.3f}",
                    f"{mean(each['cpu_s'] for each in several):.1f} s",
                ]
            )
    head = ["table", "training rows", "epsilon", "noise", "accuracy, %", "attack AUC", "CPU"]
    return figures.table(head, rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.privacy", description="What privacy costs.")
    parser.add_argument("--salts", type=int, default=3, help="ways in which rows are divided (default 3)")
    parser.add_argument("--epsilons", type=float, nargs="*", default=[8.0, 3.0, 1.0], help="default 8 3 1")
    arguments = parser.parse_args()
    make_deterministic()
    print(table({name: measure(name, arguments.salts, arguments.epsilons) for name in TABLES}))


main()
