"""One training run: a dataset and a spec in; weights, a graph and its test metrics out."""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from headrace_data.batches import elements
from headrace_data.canonical import sha256_digest
from headrace_data.dataset import DatasetReader, class_indexes
from headrace_data.manifest import Manifest
from headrace_data.spec import Field, Pipeline
from headrace_learning.building import LabelScale, build_model, input_shape
from headrace_learning.checkpoint import tensors_to_bytes
from headrace_learning.evaluation import evaluate
from headrace_learning.export import export_graph
from headrace_learning.graphs import Array, Columns
from headrace_learning.networks import count_parameters, weights_of
from headrace_learning.served import ServedModel, ServedRegressor

from headrace_trainer.core.baseline import baseline
from headrace_trainer.core.memory import require_room
from headrace_trainer.core.objectives import Classification, Objective, Regression, balanced_weights
from headrace_trainer.core.precision import EXACT, require_float32, require_whole_numbers
from headrace_trainer.core.randomness import seed_weights
from headrace_trainer.core.training import Outcome, Rows, Training
from headrace_trainer.errors import NotMeasurable, WrongDataset
from headrace_trainer.ports import Checkpoints, Progress

_COMPARED_ROWS = 1024
"""Test rows, at most, on which the exported graph is compared with PyTorch."""


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
        if self.pipeline.task == "classification" and not self.dataset.classes:
            raise WrongDataset(
                f"dataset {self.dataset.dataset_id}: expected classes of label {self.dataset.label.name!r}, got none: "
                "it was frozen for a regression and has more values than can be told apart; freeze another"
            )

    @property
    def classes(self) -> tuple[int, ...] | tuple[str, ...]:
        """The label's values in the order of the network's outputs; none for a regression."""
        return self.dataset.classes if self.pipeline.task == "classification" else ()

    @property
    def subject(self) -> str:
        """What is trained on what: runs with the same subject give the same version. A digest."""
        return sha256_digest(f"{self.dataset.dataset_id}|{self.pipeline.digest}".encode())


@dataclass(frozen=True)
class Trained:
    """What a run gives."""

    weights: bytes
    """Safetensors: the transforms' and the network's, by name."""
    graph: bytes
    """ONNX, the transforms inside."""
    metrics: Mapping[str, float]
    """The graph's on the test split: accuracy, log_loss, calibration_error and accuracy/<class>, or rmse, mae, r2; the
    baseline's; and missing/<feature>, 1, of each feature that no row of the training split has."""
    outcome: Outcome
    parameters: int
    """Numbers that were learnt."""
    export_difference: float
    """Largest difference of an answer between the graph and PyTorch."""


def run(
    plan: Plan, reader: DatasetReader, checkpoints: Checkpoints, progress: Progress, total_bytes: int = sys.maxsize
) -> Trained:
    """Train, export and measure, in as much memory as is free.

    Raises TrainingError, or NotLearnable of headrace_learning, when another attempt would fail as well.
    """
    pipeline = plan.pipeline
    _require_room(plan, total_bytes)
    columns = reader.columns("train")
    labels = columns[plan.dataset.label.name]
    for field in (*plan.dataset.features, *([plan.dataset.label] if pipeline.task == "regression" else [])):
        require_whole_numbers(field, _whole_numbers(reader, field, columns[field.name]))
    empty = {f"missing/{field.name}": 1.0 for field in plan.dataset.features if not _any(columns[field.name])}
    learned = _learned(plan, labels)
    seed_weights(pipeline.train.seed)
    model = build_model(pipeline, plan.dataset.transforms, learned.answers)
    train = _prepare(model, columns, learned, plan.dataset)
    del columns  # raw rows take as much memory as prepared ones

    validation = _prepare(model, reader.columns("validation"), learned, plan.dataset)

    training = Training(
        model.network, pipeline.train, learned.objective, train, validation, plan.subject, checkpoints, progress
    )
    outcome = training.run()

    test = reader.columns("test")
    compared = {name: column[:_COMPARED_ROWS] for name, column in test.items()}
    if isinstance(model, ServedRegressor) and model.answer_type == torch.float32:
        _require_float32(plan.dataset, model, test)
    exported = export_graph(model, plan.classes, compared)
    return Trained(
        weights=tensors_to_bytes(weights_of(model)),
        graph=exported.data,
        metrics=_measured(plan, exported.data, test, labels) | empty,
        outcome=outcome,
        parameters=count_parameters(model.network),
        export_difference=exported.difference,
    )


def _whole_numbers(reader: DatasetReader, field: Field, values: Array) -> Array:
    """Return a field's values as they were sent: whole numbers that may be missing are float64 in `values`."""
    if field.type != "int64" or values.dtype == np.int64 or not (np.abs(values) > EXACT).any():
        return values
    batches = (batch.filter(batch.column(field.name).is_valid()) for batch in reader.batches("train"))
    return np.concatenate([elements(batch, field) for batch in batches])


def _require_room(plan: Plan, total_bytes: int) -> None:
    shape = input_shape(plan.pipeline, plan.dataset.transforms)
    rows = plan.dataset.splits["train"].rows, plan.dataset.splits["validation"].rows
    require_room(plan.pipeline.train, shape, len(plan.classes) or 1, rows, total_bytes)


@torch.no_grad()
def _require_float32(dataset: Manifest, model: ServedRegressor, test: Columns) -> None:
    predictions = model.unrounded(*model.tensors(test)).numpy()
    require_float32(dataset.label, predictions, test[dataset.label.name], float(model.deviation))


def _any(values: Array) -> bool:
    """Return whether any row has a value of a feature."""
    return bool((values != "").any() if values.dtype == object else (values == values).any())


def _measured(plan: Plan, graph: bytes, test: Columns, labels: Array) -> dict[str, float]:
    """Return `Trained.metrics`; `labels` are those of the training split, of which the baseline is made.

    The graph is measured and not the network: it is what will be served.
    """
    truth = test[plan.dataset.label.name]
    regression = plan.pipeline.task == "regression"
    metrics = evaluate(graph, test, truth) | baseline(labels, truth, regression=regression)
    if not all(math.isfinite(value) for value in metrics.values()):
        raise NotMeasurable(metrics)
    return metrics


@dataclass(frozen=True)
class _Learned:
    """What a network learns of the label."""

    answers: int | LabelScale
    """The number of classes, or the scale of a number."""
    objective: Objective
    targets: Callable[[Array], torch.Tensor]
    """Labels as the objective takes them."""


def _learned(plan: Plan, labels: Array) -> _Learned:
    """Return what the labels of the training split ask for."""
    if plan.pipeline.task == "regression":
        scale = _label_scale(labels)

        def standardised(values: Array) -> torch.Tensor:
            return torch.from_numpy(((values.astype(np.float64) - scale.mean) / scale.deviation).astype(np.float32))

        return _Learned(scale, Regression(scale.deviation), standardised)

    def places(values: Array) -> torch.Tensor:
        return torch.from_numpy(class_indexes(values, plan.classes))

    count, balanced = len(plan.classes), plan.pipeline.train.class_weights == "balanced"
    weights = balanced_weights(places(labels), count) if balanced else None
    return _Learned(count, Classification(weights), places)


def _label_scale(labels: Array) -> LabelScale:
    values = labels.astype(np.float64)
    # Where all labels are equal, the mean says it all.
    return LabelScale(float(values.mean()), float(values.std()) or 1.0)


@torch.no_grad()
def _prepare(model: ServedModel, columns: Columns, learned: _Learned, dataset: Manifest) -> Rows:
    """Apply the transforms once: they do not change while the network learns."""
    return Rows(inputs=model.prepare(*model.tensors(columns)), targets=learned.targets(columns[dataset.label.name]))
