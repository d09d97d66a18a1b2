"""One training run: a dataset and a spec in; weights, a graph and its test metrics out."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from headrace_data.canonical import sha256_digest
from headrace_data.chunks import Chunks
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest
from headrace_data.spec import Pipeline, Train
from headrace_data.tasks import TASKS, Always, Classes, Labels, Slices, Task
from headrace_data.tasks.deciding import decision_weights
from headrace_engines.beside import Graph
from headrace_learning.building import features_of
from headrace_learning.evaluation import Labelled, evaluate_batches
from headrace_learning.export import Exported
from headrace_learning.families import FAMILIES
from headrace_learning.families.family import Family, Fitted, Run, Sources
from headrace_learning.graphs import Array, Columns
from headrace_learning.heads import HEADS
from headrace_learning.heads.head import Learned
from headrace_learning.served import Served, ServedRegressor
from headrace_learning.training.oversampling import oversampled
from headrace_learning.training.ports import Artifacts, Checkpoints, NoArtifacts, Progress
from headrace_learning.training.rows import Rows
from headrace_learning.training.transfer import Origin
from torch import nn

from headrace_trainer.core.comparison import compared
from headrace_trainer.core.memory import Memory, require_room
from headrace_trainer.core.origin import Beginning, require_there
from headrace_trainer.core.precision import require_float32
from headrace_trainer.core.privacy import with_share_of_privacy
from headrace_trainer.core.reading import cut_shares
from headrace_trainer.core.splits import Splits
from headrace_trainer.core.summary import Summary
from headrace_trainer.core.threshold import choose
from headrace_trainer.core.tuning import Fit, Search, Tuned
from headrace_trainer.errors import NotMeasurable, WrongDataset
from headrace_trainer.ports import Trials

_SHOWN = 12
"""Classes that an error names."""
_COMPARED_ROWS = 1024
"""Test rows, at most, on which the exported graph is compared with PyTorch."""


@dataclass(frozen=True)
class Plan:
    """What a run does."""

    run_id: str
    pipeline: Pipeline
    dataset: Manifest
    beginning: Beginning | None = None
    """The version that it begins from; None for the seed."""

    def __post_init__(self) -> None:
        require_there(self.pipeline, self.beginning)
        if self.dataset.schema_digest != self.pipeline.schema_digest:
            raise WrongDataset(
                f"dataset {self.dataset.dataset_id}: expected the schema of pipeline {self.pipeline.name!r}, "
                f"{self.pipeline.schema_digest}, got {self.dataset.schema_digest}"
            )
        if self.task.counts_labels and not self.dataset.classes:
            raise WrongDataset(
                f"dataset {self.dataset.dataset_id}: expected classes of label {self.dataset.label.name!r}, got none: "
                "it was frozen for another task and has more values than can be told apart; freeze another"
            )

        if self.pipeline.positive is not None and self.pipeline.positive not in self.dataset.classes:
            known = ", ".join(map(str, self.dataset.classes[:_SHOWN]))
            raise WrongDataset(
                f"dataset {self.dataset.dataset_id}: expected {self.pipeline.positive!r}, which train.positive looks "
                f"for, among the values of label {self.dataset.label.name!r}, got {known}"
            )

        if self.pipeline.train.threshold is not None and len(self.dataset.classes) != 2:
            raise WrongDataset(
                f"dataset {self.dataset.dataset_id}: expected two values of label {self.dataset.label.name!r}, as "
                f"train.threshold is for such, got {len(self.dataset.classes)}"
            )

    @property
    def task(self) -> Task:
        """What is to be answered."""
        return TASKS[self.pipeline.task]

    @property
    def classes(self) -> tuple[int, ...] | tuple[str, ...]:
        """The label's values in the order of the network's outputs; none where numbers are answered."""
        return self.dataset.classes if self.task.counts_labels else ()

    @property
    def places(self) -> Classes:
        """What the places of an answer stand for: the classes, or what else the task answers several of."""
        label = self.dataset.label
        return self.task.places(self.pipeline.train, label.place_names if label.shape else self.dataset.classes)

    @property
    def steps(self) -> Classes:
        """Names of the label's places where numbers are answered for each of several; else none."""
        return self.dataset.label.place_names if self.task.answers_numbers else ()

    @property
    def subject(self) -> str:
        """What is trained on what: runs with the same subject give the same version. A digest."""
        begun = f"|{self.beginning.weights_digest}" if self.beginning else ""
        return sha256_digest(f"{self.dataset.dataset_id}|{self.pipeline.digest}{begun}".encode())

    def origin(self, learned: Learned) -> Origin | None:
        """Return what the network takes of another version. Raises WrongOrigin."""
        if self.beginning is None:
            return None
        return self.beginning.origin(self.dataset, classes=not self.task.answers_numbers, rescaled=learned.rescaled)


@dataclass(frozen=True)
class Trained:
    """What a run gives."""

    weights: bytes
    """Safetensors: the transforms' and the network's, by name."""
    graph: Graph
    """What is served: ONNX, the transforms inside; a large one is a file in the folder of `Memory`, with its weights
    beside it. Of a model of language GGUF, the tokenizer inside."""
    metrics: Mapping[str, float]
    """The graph's on the test split: accuracy, log_loss, calibration_error and accuracy/<class>, or rmse, mae, r2; the
    baseline's; those of slices; and missing/<feature>, 1, of each feature that no row of the training split has."""
    fitted: Fitted
    """What the family learned."""
    export_difference: float
    """Largest difference of an answer between the graph and the family."""
    threshold: float | None = None
    """The probability above which the class that is looked for is the answer; None where the likelier one is."""
    tuned: Tuned | None = None
    """The search that found its settings; None where there was none."""
    beside: Mapping[str, float] = field(default_factory=dict)
    """What others score on the same rows: trees_<measure>, where it was asked for; and cut/<feature>, the share of its
    texts that have more tokens than are read. No part of the version."""


def run(
    plan: Plan,
    reader: DatasetReader,
    checkpoints: Checkpoints,
    progress: Progress,
    memory: Memory | None = None,
    artifacts: Artifacts | None = None,
    packages: Sequence[str] = (),
    trials: Trials | None = None,
) -> Trained:
    """Train, export and measure, in as much memory as there is.

    `artifacts` are files that the spec names, `packages` those that it may name a function of, `trials` is where those
    of a search are recorded. Raises TrainingError, or NotLearnable of headrace_learning, when another attempt would
    fail as well.
    """
    train = plan.pipeline.train
    prepared, fit = _begun(plan, reader, memory, artifacts, packages)
    tuned = None
    if train.tune and trials:
        tuned = Search(train, plan.subject, fit, checkpoints, trials, progress).run()
    fitted = tuned.fitted if tuned else fit(train, plan.subject, checkpoints, progress)

    told = Run(train, prepared.shape, prepared.outputs, plan.subject, checkpoints, progress, classes=plan.classes)
    model, test = prepared.serve(fitted.network), Chunks(reader, "test")
    exported, threshold = _exported(plan, prepared, model, test, Chunks(reader, "validation"))
    baseline = prepared.labels.baseline()
    return Trained(
        weights=fitted.weights(model),
        graph=exported.data,
        metrics=_measured(plan, exported.data, test, baseline) | prepared.summary.missing,
        fitted=fitted,
        export_difference=exported.difference,
        threshold=threshold,
        tuned=tuned,
        beside=compared(plan.pipeline, prepared.rows, prepared.learned.objective, told, prepared.serve, test)
        | cut_shares(model.features, test),
    )


def follow(
    plan: Plan,
    reader: DatasetReader,
    checkpoints: Checkpoints,
    progress: Progress,
    memory: Memory | None = None,
    artifacts: Artifacts | None = None,
    packages: Sequence[str] = (),
) -> None:
    """Train beside the process of the group that leads, which runs `run`: nothing is exported or measured here."""
    _, fit = _begun(plan, reader, memory, artifacts, packages)
    fit(plan.pipeline.train, plan.subject, checkpoints, progress)


def _begun(
    plan: Plan, reader: DatasetReader, memory: Memory | None, artifacts: Artifacts | None, packages: Sequence[str]
) -> tuple["_Prepared", Fit]:
    """Return the rows as a family takes them, and what trains by a section."""
    artifacts, network = artifacts or NoArtifacts(), plan.pipeline.train.network
    family = FAMILIES[network.kind].allowing(packages).opened(network, artifacts)
    family = family.acquainted(network, plan.pipeline.train.seed, lambda: Chunks(reader, "train"))
    prepared = _prepared(plan, reader, memory or Memory(), family)
    return prepared, partial(_fit, plan, prepared, artifacts)


@dataclass(frozen=True)
class _Prepared:
    """What is trained on, whatever the settings are by which."""

    family: Family
    splits: Splits
    summary: Summary
    labels: Labels
    rows: Sources
    learned: Learned
    shape: tuple[int, ...]
    outputs: int
    serve: Callable[[nn.Module], Any]
    """Around a network: the `Served` that is exported."""
    memory: Memory


def _prepared(plan: Plan, reader: DatasetReader, memory: Memory, family: Family) -> _Prepared:
    """Return the rows as a family takes them. Raises DoesNotFit where the spec's own settings cannot."""
    train = plan.pipeline.train
    features = family.features(features_of(plan.pipeline, plan.dataset.transforms))
    shape, outputs = family.input_shape(features), (len(plan.places) or 1) * (len(plan.steps) or 1)
    splits = Splits(reader, shape, memory)
    if train.tune is None:
        require_room(family, train, shape, outputs, splits.rows, splits.held_bytes, memory.total_bytes)

    labels = plan.task.labels(train, plan.dataset.label.place_names)
    summary = splits.summary(labels, whole=plan.task.answers_numbers)
    learned = HEADS[plan.pipeline.task](plan.pipeline, plan.places, labels)
    serve = partial(learned.serve, features, shape)
    bare, label = serve(nn.Identity()), plan.dataset.label.name
    training = partial(_prepare, bare.prepare_training, learned, label)
    rows = Sources(
        splits.source("train", training), splits.source("validation", partial(_prepare, bare.prepare, learned, label))
    )
    return _Prepared(family, splits, summary, labels, rows, learned, shape, outputs, serve, memory)


def _fit(
    plan: Plan,
    prepared: _Prepared,
    artifacts: Artifacts,
    train: Train,
    subject: str,
    checkpoints: Checkpoints,
    progress: Progress,
) -> Fitted:
    """Train by a section. Raises DoesNotFit, or LearningError of headrace_learning."""
    splits, shape, outputs = prepared.splits, prepared.shape, prepared.outputs
    train = with_share_of_privacy(train, plan.pipeline.train, splits.rows[0])
    require_room(prepared.family, train, shape, outputs, splits.rows, splits.held_bytes, prepared.memory.total_bytes)
    origin = plan.origin(prepared.learned)
    told = Run(train, shape, outputs, subject, checkpoints, progress, artifacts, plan.classes, origin)
    training = oversampled(prepared.rows.train, train, prepared.learned.counts)
    rows = replace(prepared.rows, train=training)
    return prepared.family.fit(train.network, rows, prepared.learned.objective, told)


def _exported(
    plan: Plan, prepared: _Prepared, model: Served, test: Labelled, validation: Labelled
) -> tuple[Exported, float | None]:
    """Return what is served of the model, compared with it on rows of the test split, and the threshold in it."""
    features, truth = next(iter(test))
    compared = {name: column[:_COMPARED_ROWS] for name, column in features.items()}
    export = partial(prepared.learned.export, model, plan.places, compared, truth[:_COMPARED_ROWS])
    if isinstance(model, ServedRegressor) and model.answer_type == torch.float32:
        require_float32(plan.dataset.label, _unrounded(model, test), model.deviation.numpy())
    exported = export(folder=prepared.memory.folder)
    if (wanted := plan.pipeline.train.threshold) is None:
        return exported, None
    positive = 1 if plan.pipeline.positive is None else plan.dataset.classes.index(plan.pipeline.positive)
    # What is served decides: the probabilities are the graph's, whatever family it is of.
    threshold = choose(wanted, exported.data, positive, validation)
    return export(decision_weights(threshold, positive), folder=prepared.memory.folder), threshold


def _unrounded(model: ServedRegressor, rows: Labelled) -> Iterator[tuple[Array, Array]]:
    """Yield a model's answers before they take on their type, and the truth."""
    for features, truth in rows:
        with torch.no_grad():
            answers = model.point(model.prepare(features)).numpy()
        yield answers, truth


def _measured(plan: Plan, graph: Graph, test: Labelled, baseline: Always) -> dict[str, float]:
    """Return `Trained.metrics`. The graph is measured and not the network: it is what will be served."""

    def rows() -> Iterator[tuple[Columns, Array]]:
        for features, truth in test:
            baseline.add(truth)
            yield features, truth

    sliced = [plan.pipeline.stream.field(name) for name in plan.pipeline.train.slices]
    slices = Slices.of(sliced, (features for features, _ in test))
    metrics = evaluate_batches(graph, rows(), plan.pipeline.positive, slices) | baseline.metrics()
    if not all(math.isfinite(value) for value in metrics.values()):
        raise NotMeasurable(metrics)
    return metrics


@torch.no_grad()
def _prepare(inputs: Callable[[Columns], torch.Tensor], learned: Learned, label: str, columns: Columns) -> Rows:
    """Apply the transforms, which do not change while the network learns."""
    return learned.rows(inputs(columns), learned.targets(columns[label]))
