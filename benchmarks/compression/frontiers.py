"""The frontier of the examples: every variant that a pipeline can ask for, measured and judged as the platform does.

python -m benchmarks.compression.frontiers [--only NAME ...] [--results FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pydantic
import yaml
from headrace_compressor.transport import assignments
from headrace_data.dataset import DatasetReader
from headrace_data.frontier import frontier
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import VARIANT_NAMES, AnyVariant, Pipeline, load_pipeline
from headrace_data.tasks import BATCH_LATENCY, LATENCY, MEMORY, P99, SIZE
from headrace_data.tasks.classification import AGREEMENT
from headrace_data.windows import only_dataset
from headrace_engines import beside
from headrace_engines.processors import own_class
from headrace_learning.training.randomness import make_deterministic
from headrace_model_registry.core import choice, specs
from headrace_model_registry.core.facts import PipelineSpec, Variant
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.adapters.artifacts import StoredArtifacts
from headrace_trainer.adapters.checkpoints import StoredCheckpoints
from headrace_trainer.core.run import Plan, run
from sklearn.datasets import load_digits

from benchmarks.compression import language

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
_NOWHERE: Final = Provenance(cluster_id="c", topic="t", topic_id="", sources=(), clean_ranges=(), rejected={})
_HEADS: Final = ("variant", "size", "memory", "1 row", "p99", "32 rows", "quality", "agreement", "gates", "frontier")
Records = Iterable[dict[str, Any]]


def _digits() -> Records:
    scans = load_digits()
    pairs = zip(scans.images, scans.target, strict=True)
    named = ((f"digit-{number:04d}", *pair) for number, pair in enumerate(pairs))
    return [
        {"id": name, "image": name, "pixels": pixels.tolist(), "digit": int(digit)} for name, pixels, digit in named
    ]


def _penguins() -> Records:
    return [json.loads(line) for line in (EXAMPLES / "penguins" / "rows.jsonl").read_text().splitlines()]


def _drawn() -> Records:
    """Rows that mostly lie in 64 of 768 directions, as embeddings do, and classes that follow from these."""
    random = np.random.default_rng(0)
    place, directions = random.normal(size=(4_000, 64)), random.normal(size=(64, 768)) / 8
    rows = (place @ directions + 0.1 * random.normal(size=(4_000, 768))).round(4)
    classes = np.argmax(place @ random.normal(size=(64, 10)), axis=1)
    return (
        {"id": str(at), "x": row.tolist(), "y": int(label)}
        for at, (row, label) in enumerate(zip(rows, classes, strict=True))
    )


_DIGITS = yaml.safe_load((EXAMPLES / "digits" / "pipeline.yaml").read_text())
_MASS = yaml.safe_load((EXAMPLES / "penguins-mass" / "pipeline.yaml").read_text())
_DRAWN: Final[dict[str, Any]] = {
    "apiVersion": "headrace/v1",
    "kind": "Pipeline",
    "metadata": {"name": "drawn"},
    "stream": {
        "topic": "drawn",
        "schema": [
            {"name": "id", "type": "string", "role": "id"},
            {"name": "x", "type": "float32", "shape": [768], "role": "feature"},
            {"name": "y", "type": "int64", "role": "label"},
        ],
    },
    "prepare": {"split": {"train": 0.6, "validation": 0.2, "test": 0.2}},
    "train": {
        "network": {"kind": "mlp", "hidden": [3072, 768], "dropout": 0.3},
        "optimizer": {"kind": "adam", "learningRate": 0.0003, "schedule": {"kind": "cosine"}},
        "batchSize": 64,
        "epochs": 10,
    },
    "compress": {"gates": {"agreement": 0.85, "klDivergence": 0.5}},
}


@dataclass(frozen=True)
class Subject:
    """A model that is trained and compressed."""

    document: Mapping[str, Any]
    rows: Callable[[], Records]
    train: Mapping[str, Any] = field(default_factory=dict)
    """What is other of the document's section train."""
    beside: tuple[Mapping[str, Any], ...] = ()
    """Variants that are made beside all that need no settings."""
    kinds: tuple[str, ...] | None = None
    """These alone of those that need none; None for all."""
    puts: Callable[[ObjectStore], Mapping[str, Any]] = lambda _: {}
    """Puts what the network begins with into the store, and returns what the spec says of it."""


_STUDENT: Final = {"kind": "distilled", "network": {"kind": "mlp", "hidden": [32]}}
_PRUNED: Final = {"kind": "pruned", "ratio": 0.5, "epochs": 4}
_THIN: Final = {"kind": "distilled", "network": {"kind": "mlp", "hidden": [512], "dropout": 0.3}, "epochs": 15}
SUBJECTS: Final[Mapping[str, Subject]] = {
    "digits, mlp 256-128": Subject(_DIGITS, _digits, beside=(_STUDENT,)),
    "digits, mlp 1024-1024": Subject(
        _DIGITS, _digits, {"network": {"kind": "mlp", "hidden": [1024, 1024]}, "epochs": 15}, (_STUDENT,)
    ),
    "digits, cnn": Subject(_DIGITS, _digits, {"network": {"kind": "cnn"}, "epochs": 15}, (_STUDENT,)),
    "penguins' mass, mlp 64-32": Subject(_MASS, _penguins, beside=(_STUDENT,)),
    "drawn rows, mlp 3072-768": Subject(
        _DRAWN,
        _drawn,
        beside=(
            _PRUNED,
            _THIN,
            {"kind": "chain", "name": "pruned-distilled", "steps": [_PRUNED, _THIN]},
            {"kind": "chain", "name": "pruned-distilled-int8", "steps": [_PRUNED, _THIN, {"kind": "int8-static"}]},
        ),
        kinds=("int8-static", "low-rank", "qat"),
    ),
    "sentences, MiniLM": Subject(
        language.DOCUMENT,
        language.records,
        beside=(
            {"kind": "int8-static", "rows": 128},
            {"kind": "int8-static", "name": "int8-full", "bits": 8, "rows": 128},
            {"kind": "distilled", "network": {"kind": "encoder", "layers": 3}, "epochs": 2, "rate": 0.1},
        ),
        kinds=("int8-dynamic",),
        puts=language.put,
    ),
}
"""By name."""


class _Silent:
    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        pass


def _is_plain(kind: str) -> bool:
    """Tell whether a kind of variant needs no settings."""
    try:
        pydantic.TypeAdapter(AnyVariant).validate_python({"kind": kind})
    except pydantic.ValidationError:
        return False
    return True


def measured(name: str, folder: Path) -> tuple[Pipeline, dict[str, Any]]:
    """Train a model of the examples, and compress it as the compressor does."""
    subject, store = SUBJECTS[name], ObjectStore(str(folder))
    document = subject.document
    plain = [kind for kind in VARIANT_NAMES if _is_plain(kind)] if subject.kinds is None else subject.kinds
    variants = [*({"kind": kind} for kind in plain), *subject.beside]
    compress = {"variants": variants, "gates": document["compress"]["gates"]}
    train = {**document["train"], **subject.train}
    train["network"] = {**train["network"], **subject.puts(store)}
    pipeline = load_pipeline(json.dumps({**document, "train": train, "compress": compress}))
    records = [json.dumps(record).encode() for record in subject.rows()]
    checked = RecordChecker(pipeline.stream).check(records, [0] * len(records), range(len(records)))
    writer = SegmentWriter(pipeline, store)
    writer.add(checked.batch)
    dataset = only_dataset(writer.finish(_NOWHERE), pipeline, store)
    checkpoints = StoredCheckpoints(store, "run", "runs/run/attempt-1/", 3600.0)
    trained = run(
        Plan("run", pipeline, dataset),
        DatasetReader(dataset, store),
        checkpoints,
        _Silent(),
        None,
        StoredArtifacts(store),
    )
    reference = {
        "version_id": "sha256:version",
        "graph": asdict(beside.put(trained.graph, store)),
        "weights": asdict(store.put(trained.weights)),
        "dataset": {"dataset_id": dataset.dataset_id, "manifest": asdict(store.put(dataset.to_json()))},
    }
    told: dict[str, Any] = {
        "store_url": str(folder),
        "cpu_class": own_class(),
        "spec": pipeline.canonical_json().decode(),
        "candidate": reference,
    }
    silent: Any = _Silent()
    return pipeline, assignments.measure({**told, "champion": None, "cpu_class": own_class()}, silent)


def table(pipeline: Pipeline, result: Mapping[str, Any]) -> list[str]:
    """Return the variants as rows of a table in Markdown, times in ms."""
    spec = PipelineSpec(pipeline.canonical_json(), pipeline.digest)
    variants = [Variant(each["name"], Artifact(**each["graph"]), each["metrics"]) for each in result["variants"]]
    results, quality = specs.judged(variants, spec), specs.quality(spec)
    passed = choice.passing(variants, results)
    best = frontier({each.name: each.metrics for each in passed}, quality)
    failed = {each.name: [r.gate for r in results if r.variant == each.name and not r.passed] for each in variants}
    rows = [
        (
            each.name,
            f"{each.metrics[SIZE] / 1e3:.0f} kB",
            f"{each.metrics.get(MEMORY, 0.0) / 1e6:.1f} MB",
            *(f"{each.metrics[name]:.3f}" for name in (LATENCY, P99, BATCH_LATENCY)),
            f"{quality.name} {quality.text(each.metrics[quality.name])}",
            f"{each.metrics[AGREEMENT]:.1%}" if AGREEMENT in each.metrics else "",
            ", ".join(failed[each.name]) or "passed",
            "yes" if each.name in best else "",
        )
        for each in variants
    ]
    rows += [(each["variant"], *[""] * 7, "does not apply", "") for each in result["not_applicable"]]
    reasons = [f"- `{each['variant']}`: {each['reason']}" for each in result["not_applicable"]]
    return [*(f"| {' | '.join(row)} |" for row in (_HEADS, ["---"] * len(_HEADS), *rows)), "", *reasons]


def main() -> None:
    """Measure what is asked for, and print a table of each."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compression.frontiers", description="The frontier of variants."
    )
    parser.add_argument("--only", nargs="*", default=list(SUBJECTS), choices=SUBJECTS, help="names; all when left out")
    parser.add_argument("--results", type=Path, help="file of what is measured, as JSON")
    arguments = parser.parse_args()
    make_deterministic()
    found = {}
    for name in arguments.only:
        with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
            pipeline, result = measured(name, Path(folder))
        found[name] = result
        print(f"\n**{name}**, on {result['cpu_class']}\n", *table(pipeline, result), sep="\n", flush=True)
    if arguments.results:
        arguments.results.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
