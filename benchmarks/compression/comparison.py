"""Variants by every method that needs no training, beside fp32: of two networks for digits, a table and a wide network.

Versions are trained for a moment on real rows, and on drawn ones for the wide network. Variants are calibrated on
training rows and measured by the compressor's own functions on rows that none of them has seen, one thread, in turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pydantic
import torch
from headrace_compressor.core.compression import make_variants
from headrace_compressor.core.measurement import Rows, measure
from headrace_data.spec import AnyVariant, ResidualNetwork
from headrace_data.transforms import FittedTransform
from headrace_engines.beside import Graph
from headrace_learning.costs import latencies_ms
from headrace_learning.export import export_graph
from headrace_learning.families import FAMILIES
from headrace_learning.families.cnn import cnn
from headrace_learning.families.mlp import mlp
from headrace_learning.families.network import NetworkFamily
from headrace_learning.features import Feature
from headrace_learning.methods.calibration import of_columns
from headrace_learning.methods.method import Source
from headrace_learning.served import ServedClassifier
from headrace_learning.training.randomness import make_deterministic
from headrace_local.launcher import Platform
from sklearn import datasets
from torch import nn

from benchmarks import figures

Array = npt.NDArray[Any]
ASKED: Final = (
    {"kind": "float16-weights"},
    {"kind": "int8-per-channel"},
    {"kind": "int8-dynamic"},
    {"kind": "int8-static"},
    {"kind": "weight-only-int8"},
    {"kind": "weight-only-int4"},
    {"kind": "low-rank"},
    {"kind": "chain", "name": "low-rank-int8", "steps": ({"kind": "low-rank"}, {"kind": "int8-static"})},
)
BATCHES: Final = (1, 32)
_TESTED: Final = 1 / 3
_BATCH: Final = 64


@dataclass(frozen=True, slots=True)
class Case:
    """A version that is trained, and of what."""

    rows: Callable[[], tuple[Array, Array]]
    """Features [rows, *shape] float32, and the places of their classes."""
    network: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    epochs: int


def _digits() -> tuple[Array, Array]:
    scans = datasets.load_digits()
    return scans.images.astype(np.float32), scans.target.astype(np.int64)


def _table() -> tuple[Array, Array]:
    table = datasets.load_breast_cancer()
    return table.data.astype(np.float32), table.target.astype(np.int64)


def _drawn() -> tuple[Array, Array]:
    """Return rows that mostly lie in 64 of 768 directions, as embeddings do, and classes that follow from these."""
    random = np.random.default_rng(0)
    place, directions = random.normal(size=(4_000, 64)), random.normal(size=(64, 768)) / 8
    rows = place @ directions + 0.1 * random.normal(size=(4_000, 768))
    return rows.astype(np.float32), np.argmax(place @ random.normal(size=(64, 10)), axis=1)


def _residual() -> nn.Module:
    family = FAMILIES["residual"]
    assert isinstance(family, NetworkFamily)
    return family.build(ResidualNetwork(kind="residual", channels=(16, 32)), (1, 8, 8), 10)


CASES: Final = {
    "digits, 64-128-64-10": Case(_digits, lambda: mlp(64, [128, 64], 10), (64,), 25),
    "digits, two convolutions of 32 and 64": Case(_digits, lambda: cnn((1, 8, 8), [32, 64], [64], 10), (1, 8, 8), 15),
    "digits, residual of 16 and 32": Case(_digits, _residual, (1, 8, 8), 15),
    "breast_cancer, 30-128-64-2": Case(_table, lambda: mlp(30, [128, 64], 2), (30,), 40),
    "drawn rows, 768-3072-768-10": Case(_drawn, lambda: mlp(768, [3072, 768], 10), (768,), 6),
}


def run(_platform: Platform, _folder: Path, rounds: int) -> figures.Measured:
    """Return a table for each version."""
    make_deterministic()
    torch.set_num_threads(1)
    raw: dict[str, Any] = {}
    tables = []
    for name, case in CASES.items():
        measured, others = _measured(case, rounds)
        raw[name] = {"variants": measured, "not_applicable": others}
        told = "".join(f"\n\n{variant}: {reason}" for variant, reason in others.items())
        tables.append(f"{name}:\n\n{_table_of(measured)}{told}")
    return figures.Measured("\n\n".join(tables), raw)


def _measured(case: Case, rounds: int) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    graph, training, rows = _version(case)
    sections = pydantic.TypeAdapter[Any](tuple[AnyVariant, ...]).validate_python(ASKED)
    made, others = make_variants(Source(graph, of_columns(training)), sections)
    graphs = {name: each.graph for name, each in made.items()}
    found: dict[str, dict[str, Any]] = {name: dict(metrics) for name, metrics in measure(graphs, rows)}
    for batch in BATCHES:
        turns = [latencies_ms(list(graphs.values()), rows.first, batch) for _ in range(rounds)]
        for place, name in enumerate(graphs):
            found[name][f"ms_{batch}"] = [round(turn[place].median, 5) for turn in turns]
    for name, each in made.items():
        found[name]["told"] = dict(each.told)
    return found, {name: each.reason for name, each in others.items()}


def _version(case: Case) -> tuple[Graph, dict[str, Array], Rows]:
    """Return a trained version's graph, its training rows, and rows that it has not seen."""
    values, classes = case.rows()
    order = np.random.default_rng(7).permutation(len(values))
    values, classes = values[order], classes[order]
    kept = round(len(values) * (1 - _TESTED))
    mean, spread = values[:kept].mean(axis=0, dtype=np.float64), values[:kept].std(axis=0, dtype=np.float64)
    fitted = FittedTransform("x", "standard", mean, np.where(spread > 0, spread, 1.0))
    torch.manual_seed(7)
    model = ServedClassifier([Feature(fitted, "float32", values.shape[1:])], case.input_shape, case.network())
    inputs, targets = model.prepare({"x": values[:kept]}), torch.from_numpy(classes[:kept])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    for epoch in range(case.epochs):
        for places in torch.split(torch.randperm(kept, generator=torch.Generator().manual_seed(epoch)), _BATCH):
            optimizer.zero_grad()
            logits, _ = model(inputs[places])
            torch.autograd.backward(nn.functional.cross_entropy(logits, targets[places]))
            optimizer.step()
    training = {"x": values[:kept]}
    graph = export_graph(model, list(range(int(classes.max()) + 1)), {"x": values[:8]}).data
    tested = [({"x": values[kept:]}, classes[kept:])]
    return graph, training, Rows("sha256:benchmark", tested, len(values) - kept)


def _table_of(found: dict[str, dict[str, Any]]) -> str:
    reference = found["fp32"]
    rows = []
    for name, each in found.items():
        faster = [figures.share(reference[f"ms_{batch}"], each[f"ms_{batch}"]) for batch in BATCHES]
        rows.append(
            [
                f"`{name}`",
                f"{each['size_bytes'] / reference['size_bytes']:.2f}",
                f"{statistics.median(each['ms_1']) * 1e3:.0f} µs",
                *faster,
                f"{each['accuracy']:.1%}",
                f"{each['agreement']:.1%}",
                f"{each['relative_logit_error']:.2%}",
                f"{each['kl_divergence']:.1e}",
            ]
        )
    head = ["variant", "size", "1 row", "faster, 1 row", "faster, 32 rows", "accuracy", "agreement", "logits off", "KL"]
    return figures.table(head, rows)
