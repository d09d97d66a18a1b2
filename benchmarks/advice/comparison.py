"""Advice beside a search: what `headrace advise` says is trained once, and a search tries twenty settings.

Both have the same rows, transforms and splits, those that `headrace init` drafts. The search is ten trials of networks
and ten of trees, and takes what scores best on the validation split; both are measured on the test split.

python -m benchmarks.advice [--tables NAME ...] [--salts N] [--trials N] [--results FILE]
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from headrace_client.advising import IMBALANCED, advise, section
from headrace_client.drafting import draft_pipeline
from headrace_client.drafting.known import known_of
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.windows import only_dataset
from headrace_learning.training.randomness import make_deterministic
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.adapters.checkpoints import StoredCheckpoints
from headrace_trainer.adapters.trials import StoredTrials
from headrace_trainer.core.run import Plan, Trained, run

from benchmarks import figures
from benchmarks.advice.tables import TABLES

NETWORKS: Mapping[str, Any] = {
    "network.hidden": [[16], [32], [64], [64, 32], [128, 64], [256, 128]],
    "network.dropout": {"low": 0, "high": 0.5},
    "optimizer.learningRate": {"low": 0.0003, "high": 0.03, "log": True},
    "optimizer.weightDecay": {"low": 0.0001, "high": 0.1, "log": True},
    "batchSize": [16, 32, 64, 128, 256],
}
TREES: Mapping[str, Any] = {
    "network.leaves": {"low": 4, "high": 63, "log": True},
    "network.learningRate": {"low": 0.02, "high": 0.3, "log": True},
    "network.minRows": {"low": 3, "high": 50},
    "network.l2": {"low": 0.01, "high": 10, "log": True},
}
_BASES: Mapping[str, dict[str, Any]] = {
    "mlp": {
        "network": {"kind": "mlp"},
        "optimizer": {"kind": "adamw"},
        "epochs": 100,
        "earlyStop": {"patience": 15},
    },
    "trees": {"network": {"kind": "trees", "rounds": 600}, "earlyStop": {"patience": 30}},
}
_RARE = "pr_auc"
"""What counts where one of two classes is rare: who never answers it has a high accuracy."""
_MEASURE = {"classification": "accuracy", "regression": "r2"}
_ENOUGH = "10h"
_NOWHERE = Provenance(cluster_id="c", topic="t", topic_id="", sources=(), clean_ranges=(), rejected={})


@dataclass(frozen=True, slots=True)
class Found:
    """What one way came to on one split of a table."""

    points: float
    """Accuracy in percent, or 100 times PR-AUC of a rare class, or 100 times r2, on the test split."""
    loss: float
    """On the validation split."""
    cpu_s: float
    """Processor time of learning."""
    family: str


class _Silent:
    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        pass


class Bench:
    """One table, with its rows divided in one way."""

    def __init__(self, name: str, salt: int, folder: Path) -> None:
        records = [json.dumps(record).encode() for record in TABLES[name]()]
        draft = draft_pipeline("rows", records, "label")
        self.document = yaml.safe_load(draft.text)
        self.document["prepare"]["split"] |= {"salt": f"salt-{salt}"}
        self.known = known_of(draft.roles, len(records))
        self.store = ObjectStore(str(folder / f"{name}-{salt}".replace(" ", "-").replace(":", "")))
        pipeline = self._pipeline(_BASES["mlp"])
        checked = RecordChecker(pipeline.stream).check(records, [0] * len(records), range(len(records)))
        writer = SegmentWriter(pipeline, self.store)
        writer.add(checked.batch)
        self.dataset: Manifest = only_dataset(writer.finish(_NOWHERE), pipeline, self.store)

    def advised(self) -> Found:
        """Train as advised, once."""
        return self._trained("advised", section(advise(self.known)))

    def searched(self, trials: int) -> Found:
        """Search among networks and among trees, half of the trials each."""
        found = []
        for family, space in (("mlp", NETWORKS), ("trees", TREES)):
            tune = {"trials": trials // 2, "pruner": "none", "budget": _ENOUGH, "space": dict(space)}
            found.append(self._trained(family, {**_BASES[family], **self._weights, "tune": tune}))
        best = min(found, key=lambda one: one.loss)
        return Found(best.points, best.loss, sum(one.cpu_s for one in found), best.family)

    @property
    def _weighs(self) -> bool:
        return self.known.task == "classification" and self.known.imbalance > IMBALANCED

    @property
    def _weights(self) -> dict[str, Any]:
        """The objective is the same for both, or their losses could not be compared."""
        return {"classWeights": "balanced"} if self._weighs else {}

    def _pipeline(self, train: Mapping[str, Any]) -> Pipeline:
        kept = {name: value for name, value in self.document["train"].items() if name in ("task", "positive")}
        return load_pipeline(json.dumps(self.document | {"train": {**kept, "seed": 7, **train}}))

    def _trained(self, run_id: str, train: Mapping[str, Any]) -> Found:
        plan, trained, checkpoints = self.run(run_id, train)
        points = 100 * trained.metrics[_RARE if self._weighs else _MEASURE[plan.pipeline.task]]
        loss, family = trained.fitted.outcome.best_loss, plan.pipeline.train.network.kind
        return Found(points, loss, spent_s(plan, trained, checkpoints), family)

    def run(self, run_id: str, train: Mapping[str, Any]) -> tuple[Plan, Trained, StoredCheckpoints]:
        """Train by a section."""
        # With a limit, however high, the time is counted that learning takes.
        pipeline = self._pipeline({**train, "budget": {"cpu": _ENOUGH}})
        checkpoints = StoredCheckpoints(self.store, run_id, f"runs/{run_id}/attempt-1/", 3600.0)
        trials = StoredTrials(_Silent(), checkpoints.keep, self.store, run_id, f"runs/{run_id}/attempt-1/")
        plan, reader = Plan(run_id, pipeline, self.dataset), DatasetReader(self.dataset, self.store)
        return plan, run(plan, reader, checkpoints, _Silent(), trials=trials), checkpoints


def spent_s(plan: Plan, trained: Trained, checkpoints: StoredCheckpoints) -> float:
    """Return the processor time of learning: reading, exporting and measuring are the same for both."""
    if trained.tuned is not None:
        return sum(trial.cpu_s for trial in trained.tuned.trials)
    last = checkpoints.newest(plan.subject)
    return last.cpu_s if last else 0.0


def measure(names: list[str], salts: int, trials: int) -> dict[str, list[dict[str, Any]]]:
    """Return what was found, by table, for each way of dividing its rows."""
    make_deterministic()
    with tempfile.TemporaryDirectory(prefix="headrace-advice-") as folder:
        # What a process pays once, such as PyTorch's own setting up, would else be the first table's.
        Bench(names[0], 0, Path(folder)).advised()
    found: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        with tempfile.TemporaryDirectory(prefix="headrace-advice-") as folder:
            for salt in range(salts):
                bench = Bench(name, salt, Path(folder))
                advised, searched = bench.advised(), bench.searched(trials) if trials else None
                told = {"rows": bench.known.rows, "advised": asdict(advised)}
                found.setdefault(name, []).append(told | ({"searched": asdict(searched)} if searched else {}))
                print(name, salt, found[name][-1], flush=True)
    return found


def table(found: Mapping[str, list[dict[str, Any]]]) -> str:
    """Return a Markdown table of what was found."""
    rows = []
    near = 0
    for name, rounds in found.items():
        means = {
            way: {key: sum(one[way][key] for one in rounds) / len(rounds) for key in ("points", "cpu_s")}
            for way in ("advised", "searched")
        }
        behind = means["searched"]["points"] - means["advised"]["points"]
        share = means["advised"]["cpu_s"] / means["searched"]["cpu_s"]
        near += behind <= 1 and share <= 0.1
        families = [" or ".join(sorted({one[way]["family"] for one in rounds})) for way in ("advised", "searched")]
        rows.append(
            [
                name,
                f"{rounds[0]['rows']:,}",
                families[0],
                f"{means['advised']['points']:.1f}",
                families[1],
                f"{means['searched']['points']:.1f}",
                f"{behind:+.1f}",
                f"{means['advised']['cpu_s']:.1f} s",
                f"{share:.1%}",
            ]
        )
    head = ["table", "rows", "advised", "points", "searched", "points", "behind", "CPU", "of the search's"]
    return f"{figures.table(head, rows)}\n\nwithin a point at a tenth of the search's CPU: {near} of {len(found)}"
