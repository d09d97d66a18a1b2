"""Distillation: a smaller network that learns what a version answers to its training rows, beside the rows' labels.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015), section 2: the loss is alpha times the
cross-entropy with the label, and 1 - alpha times T^2 times the Kullback-Leibler divergence of the student's
probabilities at temperature T from the teacher's. The student has the version's transforms in its graph, and learns by
the pipeline's optimiser, batches and seed.

It has to earn its teacher: the same student, from the same weights and in the same order of rows, is trained by the
labels alone. Where that one answers the validation split as well, there is no variant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from headrace_data.errors import DataError
from headrace_data.spec import DistilledVariant
from torch import nn
from torch.nn import functional

from headrace_learning.errors import LearningError
from headrace_learning.evaluation import logits_of
from headrace_learning.families.family import Fitted, Sources
from headrace_learning.methods.lessons import Lesson, lesson_of, one_thread, unfit
from headrace_learning.methods.method import Made, Method, NotApplicable, Source
from headrace_learning.training.objectives import Objective
from headrace_learning.training.rows import MEASURED_AT_ONCE, Rows

_TASK: Final = "classification"


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


def _make(source: Source, section: DistilledVariant) -> Made | NotApplicable:
    training = source.training
    if training is None:
        return NotApplicable("distilled: expected a version whose training rows can be read, got its graph alone")
    if reason := unfit(source.graph, training):
        return NotApplicable(f"distilled: expected {reason}")
    if training.pipeline.task != _TASK:
        return NotApplicable(f"distilled: expected a {_TASK}, got a {training.pipeline.task}")
    try:
        with one_thread():
            return _distil(source.graph, lesson_of(training, section.network.kind), section)
    except (LearningError, DataError) as error:
        return NotApplicable(f"distilled: expected a student that can be trained, got: {error}")


def _distil(graph: bytes, lesson: Lesson, section: DistilledVariant) -> Made | NotApplicable:
    """Train the student with the teacher and without it, and return the former where it is better."""
    rows, validation = lesson.rows, lesson.validation
    logits = torch.from_numpy(logits_of(graph, lesson.columns)).to(torch.float32)
    taught = Rows(rows.inputs, torch.cat([rows.targets[:, None].to(torch.float32), logits], dim=1))
    objective = Distillation(lesson.learned.objective, section.temperature, section.alpha)
    train = lesson.settings(section.network, section.epochs, section.budget / 2, section.patience)

    def fitted(learning: Rows) -> tuple[Fitted, _Score]:
        sources, run = Sources(learning, validation), lesson.run(train, "distilled")
        result = lesson.family.fit(section.network, sources, objective, run)
        return result, _score(result.network, validation)

    (student, with_teacher), (_, alone) = fitted(taught), fitted(rows)
    if not with_teacher.better_than(alone):
        return NotApplicable(
            f"distilled: expected a student that is better than the same one without a teacher, which has {alone}, on "
            f"{len(validation):,} rows of the validation split; got {with_teacher}"
        )
    told = {
        "temperature": f"{section.temperature:g}",
        "alpha": f"{section.alpha:g}",
        "seed": str(train.seed),
        "epochs": str(student.outcome.epochs),
        "student": f"{with_teacher} on the validation split",
        "student_without_teacher": str(alone),
        "torch": torch.__version__,
    }
    return Made(lesson.exported(student.network), told)


def _score(network: nn.Module, rows: Rows) -> _Score:
    with torch.no_grad():
        outputs = torch.cat([network(part) for part in torch.split(rows.inputs, MEASURED_AT_ONCE)])
    loss = float(functional.cross_entropy(outputs, rows.targets))
    return _Score(float((outputs.argmax(dim=1) == rows.targets).float().mean()), loss)


METHOD = Method(_make)
