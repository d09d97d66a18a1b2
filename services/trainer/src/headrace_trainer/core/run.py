"""One training run: a dataset and a spec in; weights, a graph and its test metrics out."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from headrace_data.dataset import DatasetReader, class_indexes
from headrace_data.manifest import Manifest
from headrace_data.spec import Pipeline
from headrace_learning.building import build_model
from headrace_learning.checkpoint import tensors_to_bytes
from headrace_learning.evaluation import evaluate
from headrace_learning.export import export_graph
from headrace_learning.networks import count_parameters, weights_of
from headrace_learning.served import ServedModel

from headrace_trainer.core.randomness import seed_weights
from headrace_trainer.core.training import Outcome, Rows, Training
from headrace_trainer.errors import WrongDataset
from headrace_trainer.ports import Checkpoints, Progress

_COMPARED_ROWS = 1024
"""Test rows, at most, on which the exported graph is compared with PyTorch."""

Columns = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Plan:
    """What a run does."""

    run_id: str
    pipeline: Pipeline
    dataset: Manifest

    def __post_init__(self) -> None:
        if self.dataset.schema_digest != self.pipeline.schema_digest:
            raise WrongDataset(
                f"dataset {self.dataset.dataset_id}: expected the schema of pipeline {self.pipeline.name!r}, "
                f"{self.pipeline.schema_digest}, got {self.dataset.schema_digest}"
            )

    @property
    def subject(self) -> str:
        """What is trained on what: runs with the same subject give the same version. A digest."""
        parts = f"{self.dataset.dataset_id}|{self.pipeline.digest}"
        return f"sha256:{hashlib.sha256(parts.encode()).hexdigest()}"


@dataclass(frozen=True)
class Trained:
    """What a run gives."""

    weights: bytes
    """Safetensors: the transforms' and the network's, by name."""
    graph: bytes
    """ONNX, the transforms inside."""
    metrics: Mapping[str, float]
    """The graph's on the test split: accuracy, log_loss, calibration_error and accuracy/<class>."""
    outcome: Outcome
    parameters: int
    """Numbers that were learnt."""
    export_difference: float
    """Largest difference of a probability between the graph and PyTorch."""


def run(plan: Plan, reader: DatasetReader, checkpoints: Checkpoints, progress: Progress) -> Trained:
    """Train, export and measure.

    Raises TrainingError, or NotLearnable of headrace_learning, when another attempt would fail as well.
    """
    pipeline, classes = plan.pipeline, plan.dataset.classes
    seed_weights(pipeline.train.seed)
    model = build_model(pipeline, plan.dataset.transforms, len(classes))

    training = Training(
        model.network,
        pipeline.train,
        _prepare(model, reader.columns("train"), plan.dataset),
        _prepare(model, reader.columns("validation"), plan.dataset),
        plan.subject,
        checkpoints,
        progress,
    )
    outcome = training.run()

    test = reader.columns("test")
    exported = export_graph(model, classes, {name: column[:_COMPARED_ROWS] for name, column in test.items()})
    return Trained(
        weights=tensors_to_bytes(weights_of(model)),
        graph=exported.data,
        # The graph is measured and not the network: it is what will be served.
        metrics=evaluate(exported.data, test, test[plan.dataset.label.name]),
        outcome=outcome,
        parameters=count_parameters(model.network),
        export_difference=exported.difference,
    )


@torch.no_grad()
def _prepare(model: ServedModel, columns: Columns, dataset: Manifest) -> Rows:
    """Apply the transforms once: they do not change while the network learns."""
    return Rows(
        inputs=model.prepare(*model.tensors(columns)),
        targets=torch.from_numpy(class_indexes(columns[dataset.label.name], dataset.classes)),
    )
