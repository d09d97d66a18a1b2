"""What tests of imports share: a run of one, over rows with something to learn in them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from headrace_data.spec import Train
from headrace_data.transforms import FittedTransform
from headrace_learning.errors import NotLearnable
from headrace_learning.export import Exported, export_graph
from headrace_learning.families import FAMILIES
from headrace_learning.families.family import Fitted, Run, Sources
from headrace_learning.features import Feature
from headrace_learning.served import ServedClassifier, ServedModel, ServedRegressor
from headrace_learning.training.checkpoint import Checkpoint, from_bytes, to_bytes
from headrace_learning.training.objectives import Classification, Regression
from headrace_learning.training.rows import Rows

MEAN, DEVIATION = 4200.0, 800.0


@dataclass
class Notebook:
    """Keeps a checkpoint each time that it is asked, as bytes, and holds one file."""

    data: bytes = b""
    midway: bool = False
    kept: list[tuple[bytes, bytes]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def newest(self, _subject: str) -> Checkpoint | None:
        return from_bytes(*self.kept[-1]) if self.kept else None

    def due(self, *, midway: bool) -> bool:
        return self.midway or not midway

    def save(self, checkpoint: Checkpoint) -> None:
        self.kept.append(to_bytes(checkpoint))

    def progress(self, _step: int, _steps: int, metrics: Any, _eta_s: float) -> None:
        self.losses.append(metrics["validation_loss"])

    def read(self, digest: str, size_bytes: int) -> bytes:
        if (digest, size_bytes) != (digest_of(self.data), len(self.data)):
            raise NotLearnable("another file")
        return self.data


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def rows_of(shape: Sequence[int], outputs: int, count: int, seed: int) -> Rows:
    inputs = torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed))
    score = inputs.flatten(1)[:, 0] + 0.5 * inputs.flatten(1)[:, -1]
    if outputs == 1:
        return Rows(inputs, score)
    return Rows(inputs, torch.clamp((score + outputs / 2).long(), 0, outputs - 1))


def fitted(
    data: bytes,
    format: str,  # noqa: A002 - as the spec calls it
    shape: Sequence[int],
    values: Sequence[Any] = (),
    notebook: Notebook | None = None,
    epochs: int = 3,
    **section: Any,
) -> Fitted:
    """Import a file for values of a label, or for a number."""
    notebook = notebook or Notebook()
    notebook.data = data
    kept = {"kind": "imported", "format": format, "digest": digest_of(data), "size_bytes": len(data)}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in section.items()}
    train = Train.model_validate({"network": {**kept, **given}, "epochs": epochs, "batch_size": 16, "seed": 5})
    outputs = len(values) or 1
    sources = Sources(rows_of(shape, outputs, 120, 1), rows_of(shape, outputs, 40, 2))
    objective = Classification() if values else Regression(DEVIATION, MEAN)
    run = Run(train, tuple(shape), outputs, "what on what", notebook, notebook, notebook, tuple(values))
    return FAMILIES["imported"].fit(train.network, sources, objective, run)


def model_of(network: torch.nn.Module, shape: Sequence[int], classes: Sequence[Any] = ()) -> ServedModel:
    """Serve a network behind one feature that is taken as it comes."""
    plain = FittedTransform("x", "none", np.zeros(shape), np.ones(shape))
    features = [Feature(plain, "float32", tuple(shape))]
    if classes:
        return ServedClassifier(features, shape, network)
    return ServedRegressor(features, shape, network, MEAN, DEVIATION)


def exported(network: torch.nn.Module, shape: Sequence[int], classes: Sequence[Any] = ()) -> Exported:
    """Write a network as a graph, which is compared with it to 1e-5 on rows of all sizes."""
    random = np.random.default_rng(7)
    rows = random.normal(size=(50, *shape)) * random.choice([0.0, 1.0, 1e3], (50, *(1 for _ in shape)))
    return export_graph(model_of(network, shape, classes), classes, {"x": rows.astype(np.float32)})
