"""What a method needs that learns: the rows of a version's dataset, as they were learned from, and its task."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from headrace_data.chunks import Chunks
from headrace_data.spec import Budget, EarlyStop, Train
from headrace_data.tasks import TASKS, Classes, Task
from headrace_engines.beside import Graph
from torch import nn

from headrace_learning.building import features_of
from headrace_learning.errors import NotLearnable
from headrace_learning.evaluation import evaluate_batches
from headrace_learning.export import export_graph
from headrace_learning.families import FAMILIES
from headrace_learning.families.encoder import Encoder
from headrace_learning.families.family import Family, Run
from headrace_learning.families.network import NetworkFamily
from headrace_learning.features import Feature
from headrace_learning.graphs import Columns, classes_of_graph, task_of_graph
from headrace_learning.heads import HEADS
from headrace_learning.heads.head import Learned
from headrace_learning.methods.method import Training
from headrace_learning.served import ServedModel
from headrace_learning.training.checkpoint import Checkpoint
from headrace_learning.training.randomness import make_deterministic
from headrace_learning.training.rows import Rows

_MOST_BYTES: Final = 2**30
"""What prepared rows, and answers to them, may take."""
_COMPARED_ROWS: Final = 1024
_NUMBER_BYTES: Final = 4
_PREFIX: Final = "network."
"""Before what a family has learned, among the weights of a version."""


@dataclass(frozen=True)
class Score:
    """What a graph scores on the validation split."""

    task: Task
    quality: float
    """By the measure that the task is known by."""
    loss: float

    def better_than(self, other: Score) -> bool:
        """Whether it answers better: by the task's measure, or as well and with less loss."""
        sign = 1.0 if self.task.headline.better == "more" else -1.0
        return (sign * self.quality, -self.loss) > (sign * other.quality, -other.loss)

    def __str__(self) -> str:
        told = {self.task.headline: self.quality, self.task.loss: self.loss}
        return " and ".join(f"{measure.name} {measure.text(value)}" for measure, value in told.items())


@dataclass(frozen=True)
class Lesson:
    """The training and the validation split of a version's dataset, prepared as a kind of network takes them."""

    training: Training
    family: Family
    features: Sequence[Feature]
    shape: tuple[int, ...]
    """Of a prepared row."""
    places: Classes
    """What the places of an answer stand for; none where it is one number."""
    outputs: int
    learned: Learned
    serve: Callable[[nn.Module], ServedModel]
    columns: Columns
    """Raw features and label of the training split, by name."""
    rows: Rows
    """The training split."""
    validation: Rows
    folder: Path | None = None
    """Where weights of a large graph lie, beside those of the version's."""

    def settings(
        self, network: Any, epochs: int, budget_s: float, patience: int | None = None, rate: float = 1.0
    ) -> Train:
        """Return the train section of another network: the pipeline's, but for what such a one does not heed.

        It learns at a share of the pipeline's rate.
        """
        optimizer = self.training.pipeline.train.optimizer
        changes: dict[str, Any] = {
            "optimizer": optimizer.model_copy(update={"learning_rate": rate * optimizer.learning_rate}),
            "network": network,
            "epochs": epochs,
            "early_stop": None if patience is None else EarlyStop(patience=patience),
            "budget": Budget.model_construct(cpu=budget_s, memory=None),
            **dict.fromkeys(("augment", "compute", "tune", "origin", "privacy", "compare_with")),
            "freeze": (),
            "rates": {},
            "slices": (),
        }
        return self.training.pipeline.train.model_copy(update=changes)

    def run(self, train: Train, subject: str) -> Run:
        """Return what a family is told: nothing is kept of it, and nobody hears of it."""
        nowhere = Nowhere()
        classes = self.training.reader.manifest.classes if self.learned.counts else ()
        return Run(train, self.shape, self.outputs, subject, nowhere, nowhere, classes=classes)

    def exported(self, network: nn.Module) -> Graph:
        """Return the graph of a network, with the version's transforms."""
        compared = {each.fitted.name: self.columns[each.fitted.name][:_COMPARED_ROWS] for each in self.features}
        return export_graph(self.serve(network), self.places, compared, folder=self.folder).data

    def score(self, graph: Graph) -> Score:
        """Return what a graph scores on the validation split."""
        pipeline, task = self.training.pipeline, TASKS[self.training.pipeline.task]
        metrics = evaluate_batches(graph, Chunks(self.training.reader, "validation"), pipeline.positive)
        return Score(task, *(metrics.get(measure.name, math.nan) for measure in (task.headline, task.loss)))

    def version(self) -> nn.Module:
        """Return the version's own network. Raise `NotLearnable` where its weights are not known, or of another one."""
        family: Family = self.family
        section: Any = self.training.pipeline.train.network
        if self.training.weights is None or not isinstance(family, NetworkFamily | Encoder):
            raise NotLearnable(f"a network of PyTorch's is expected, and its weights, got kind {section.kind}")
        network = family.build(section, self.shape, self.outputs)
        try:
            tensors = safetensors.torch.load(self.training.weights())
            own = {name.removeprefix(_PREFIX): each for name, each in tensors.items() if name.startswith(_PREFIX)}
            network.load_state_dict(own, assign=True)
        except (RuntimeError, safetensors.SafetensorError) as error:
            reason = str(error).partition("\n")[0]
            raise NotLearnable(f"weights of the spec's network are expected, got others: {reason}") from error
        return network


class Nowhere:
    """Keeps no checkpoints and tells nobody."""

    def newest(self, _subject: str) -> Checkpoint | None:
        """Return none."""
        return None

    def due(self, *, midway: bool) -> bool:
        """Return that it never is."""
        del midway
        return False

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep nothing."""

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        """Tell nobody."""


def unfit(graph: Graph, training: Training) -> str:
    """Return what is expected of a version where nothing can be learned of it, and what came; empty where it can."""
    pipeline, manifest = training.pipeline, training.reader.manifest
    task = task_of_graph(graph)
    if task.kind != pipeline.task or task.grouped:
        return f"a version of the spec's task whose rows are learned one by one, got a {task.kind}"
    if task.counts_labels and list(classes_of_graph(graph)) != list(manifest.classes):
        return "a version of the classes of its dataset, got one of others"
    if pipeline.train.threshold is not None:
        return "no train.threshold, which is chosen for the version alone, got one"
    return ""


def lesson_of(training: Training, kind: str) -> Lesson:
    """Return what a kind of network can learn. Raise `NotLearnable`, or what reading the dataset does."""
    pipeline, manifest = training.pipeline, training.reader.manifest
    task, label = TASKS[pipeline.task], manifest.label
    family = FAMILIES[kind]
    if pipeline.train.network.kind == "encoder" != kind:
        raise NotLearnable(f"a network that reads texts is expected, as an encoder does, got kind {kind}")
    if kind == pipeline.train.network.kind:
        family = family.opened(pipeline.train.network, training.artifacts)
    features = family.features(features_of(pipeline, manifest.transforms))
    shape = family.input_shape(features)
    places = task.places(pipeline.train, label.place_names if label.shape else manifest.classes)
    steps = label.place_names if task.answers_numbers else ()
    outputs = (len(places) or 1) * (len(steps) or 1)
    rows = sum(manifest.splits[split].rows for split in ("train", "validation"))
    if (taken := rows * _NUMBER_BYTES * (sum(each.fitted.width for each in features) + outputs)) > _MOST_BYTES:
        raise NotLearnable(f"expected rows of at most {_MOST_BYTES:,} bytes, got {taken:,}")
    learning, validating = training.reader.columns("train"), training.reader.columns("validation")
    labels = task.labels(pipeline.train, label.place_names)
    labels.add(learning[label.name])
    learned = HEADS[pipeline.task](pipeline, places, labels)
    serve = partial(learned.serve, features, shape)
    bare = serve(nn.Identity())
    with torch.no_grad():
        prepared = (bare.prepare_training(learning), bare.prepare(validating))
    taught, validation = (
        learned.rows(inputs, learned.targets(columns[label.name]))
        for inputs, columns in zip(prepared, (learning, validating), strict=True)
    )
    return Lesson(training, family, features, shape, places, outputs, learned, serve, learning, taught, validation)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, and the same each time, within."""
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    make_deterministic()
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        torch.set_num_threads(threads)
