"""Distillation: a smaller network that learns what a version answers to its training rows, beside the rows' labels.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015), section 2: the loss is alpha times the
cross-entropy with the label, and 1 - alpha times T^2 times the Kullback-Leibler divergence of the student's
probabilities at temperature T from the teacher's. The student has the version's transforms in its graph, and learns by
the pipeline's optimiser, batches and seed.

It has to earn its teacher: the same student, from the same weights and in the same order of rows, is trained by the
labels alone. Where that one answers the validation split as well, there is no variant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from headrace_data.errors import DataError
from headrace_data.spec import Budget, DistilledVariant, EarlyStop
from headrace_data.tasks import TASKS
from torch import nn
from torch.nn import functional

from headrace_learning.building import features_of
from headrace_learning.errors import LearningError
from headrace_learning.evaluation import logits_of
from headrace_learning.export import export_graph
from headrace_learning.families import FAMILIES
from headrace_learning.families.family import Fitted, Run, Sources
from headrace_learning.graphs import classes_of_graph, task_of_graph
from headrace_learning.heads import HEADS
from headrace_learning.methods.method import Made, Method, NotApplicable, Source, Training
from headrace_learning.training.checkpoint import Checkpoint
from headrace_learning.training.objectives import Objective
from headrace_learning.training.randomness import make_deterministic
from headrace_learning.training.rows import Rows

_TASK: Final = "classification"
_MOST_BYTES: Final = 2**30
"""What prepared rows and the teacher's answers may take."""
_COMPARED_ROWS: Final = 1024
_NUMBER_BYTES: Final = 4


@dataclass(frozen=True)
class Distillation:
    """The loss of a student; targets are [rows, 1 + classes]: the place of the class, and the teacher's logits.

    Rows whose targets are places alone, [rows] int64, are learned by the label.
    """

    labels: Objective
    """The loss by the label."""
    temperature: float
    alpha: float
    """Share of the label's loss."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of some rows, a scalar."""
        if targets.dim() == 1:
            return self.labels.loss(outputs, targets)
        hard = self.labels.loss(outputs, targets[:, 0].long())
        teacher = functional.log_softmax(targets[:, 1:] / self.temperature, dim=1)
        student = functional.log_softmax(outputs / self.temperature, dim=1)
        soft = functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return self.alpha * hard + (1.0 - self.alpha) * self.temperature**2 * soft

    def weight(self, targets: torch.Tensor) -> float:
        """Return how much some rows count in a mean loss of more rows."""
        return self.labels.weight(_places(targets))

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return what the label's task measures."""
        return self.labels.measure(outputs, _places(targets))

    def told(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return what the label's task tells."""
        return self.labels.told(means)


def _places(targets: torch.Tensor) -> torch.Tensor:
    return targets if targets.dim() == 1 else targets[:, 0].long()


@dataclass(frozen=True)
class _Score:
    """What a student scores on the validation split."""

    accuracy: float
    loss: float
    """In nats."""

    def better_than(self, other: _Score) -> bool:
        """Whether it answers better: more rows rightly, or as many with more certainty."""
        return (self.accuracy, -self.loss) > (other.accuracy, -other.loss)

    def __str__(self) -> str:
        return f"accuracy {self.accuracy:.4f} and log loss {self.loss:.4f}"


class _Nowhere:
    """Keeps no checkpoints and tells nobody."""

    def newest(self, _subject: str) -> Checkpoint | None:
        return None

    def due(self, *, midway: bool) -> bool:
        del midway
        return False

    def save(self, checkpoint: Checkpoint) -> None:
        pass

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        pass


def _make(source: Source, section: DistilledVariant) -> Made | NotApplicable:
    training = source.training
    if training is None:
        return NotApplicable("distilled: expected a version whose training rows can be read, got its graph alone")
    if reason := _unfit(source.graph, training):
        return NotApplicable(f"distilled: expected {reason}")
    try:
        with _one_thread():
            return _distil(source.graph, training, section)
    except (LearningError, DataError) as error:
        return NotApplicable(f"distilled: expected a student that can be trained, got: {error}")


def _unfit(graph: bytes, training: Training) -> str:
    """Return what is expected of a version where nothing can be learned of it, and what came; empty where it can."""
    pipeline, manifest = training.pipeline, training.reader.manifest
    task = task_of_graph(graph).kind
    if task != _TASK or pipeline.task != _TASK:
        return f"a {_TASK}, got a {task}"
    if list(classes_of_graph(graph)) != list(manifest.classes):
        return "a version of the classes of its dataset, got one of others"
    if pipeline.train.threshold is not None:
        return "no train.threshold, which is chosen for the version alone, got one"
    return ""


def _distil(graph: bytes, training: Training, section: DistilledVariant) -> Made | NotApplicable:
    """Train the student with the teacher and without it, and return the former where it is better."""
    pipeline, reader = training.pipeline, training.reader
    manifest, label = reader.manifest, reader.manifest.label
    family = FAMILIES[section.network.kind]
    features = family.features(features_of(pipeline, manifest.transforms))
    shape, classes = family.input_shape(features), manifest.classes
    rows = sum(manifest.splits[split].rows for split in ("train", "validation"))
    if (taken := rows * _NUMBER_BYTES * (sum(map(int, shape)) + len(classes))) > _MOST_BYTES:
        return NotApplicable(f"distilled: expected rows of at most {_MOST_BYTES:,} bytes, got {taken:,}")

    learning, validating = reader.columns("train"), reader.columns("validation")
    counts = TASKS[_TASK].labels(pipeline.train, label.place_names)
    counts.add(learning[label.name])
    learned = HEADS[_TASK](pipeline, classes, counts)
    serve = partial(learned.serve, features, shape)
    bare = serve(nn.Identity())
    with torch.no_grad():
        inputs, validation = bare.prepare_training(learning), bare.prepare(validating)
    places, tests = learned.targets(learning[label.name]), learned.targets(validating[label.name])
    logits = torch.from_numpy(logits_of(graph, learning)).to(torch.float32)
    taught = Rows(inputs, torch.cat([places[:, None].to(torch.float32), logits], dim=1))
    objective = Distillation(learned.objective, section.temperature, section.alpha)

    def fitted(training_rows: Rows) -> tuple[Fitted, _Score]:
        train = _settings(training, section)
        told = Run(train, shape, len(classes), "distilled", _Nowhere(), _Nowhere(), classes=classes)
        result = family.fit(train.network, Sources(training_rows, Rows(validation, tests)), objective, told)
        return result, _score(result.network, validation, tests)

    (student, with_teacher), (_, alone) = fitted(taught), fitted(Rows(inputs, places))
    if not with_teacher.better_than(alone):
        return NotApplicable(
            f"distilled: expected a student that is better than the same one without a teacher, which has {alone}, on "
            f"{len(tests):,} rows of the validation split; got {with_teacher}"
        )
    model = serve(student.network)
    compared = {feature.fitted.name: learning[feature.fitted.name][:_COMPARED_ROWS] for feature in features}
    return Made(export_graph(model, classes, compared).data, _told(section, training, with_teacher, alone, student))


def _settings(training: Training, section: DistilledVariant) -> Any:
    """Return the train section of the student: the pipeline's, but for what a student does not heed."""
    changes: dict[str, Any] = {
        "network": section.network,
        "epochs": section.epochs,
        "early_stop": EarlyStop(patience=section.patience),
        "budget": Budget.model_construct(cpu=section.budget / 2, memory=None),
        **dict.fromkeys(("augment", "compute", "tune", "origin", "privacy", "compare_with")),
        "freeze": (),
        "rates": {},
        "slices": (),
    }
    return training.pipeline.train.model_copy(update=changes)


def _score(network: nn.Module, inputs: torch.Tensor, places: torch.Tensor) -> _Score:
    with torch.no_grad():
        outputs = torch.cat([network(part) for part in torch.split(inputs, 4096)])
    loss = float(functional.cross_entropy(outputs, places))
    return _Score(float((outputs.argmax(dim=1) == places).float().mean()), loss)


def _told(
    section: DistilledVariant, training: Training, student: _Score, alone: _Score, fitted: Fitted
) -> dict[str, str]:
    return {
        "temperature": f"{section.temperature:g}",
        "alpha": f"{section.alpha:g}",
        "seed": str(training.pipeline.train.seed),
        "epochs": str(fitted.outcome.epochs),
        "student": f"{student} on the validation split",
        "student_without_teacher": str(alone),
        "torch": torch.__version__,
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread, and the same each time, within."""
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    make_deterministic()
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        torch.set_num_threads(threads)


METHOD = Method(_make)
