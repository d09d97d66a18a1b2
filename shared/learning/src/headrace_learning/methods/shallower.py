"""A student that is its teacher's own encoder with fewer layers, and is told what these answer as well.

Sun, Cheng, Gan and Liu, "Patient Knowledge Distillation for BERT Model Compression" (EMNLP 2019), section 3.2: beside
what is answered a student learns what the teacher's layers make of a row, each vector with a length of 1. Which of them
a layer learns from is spread evenly, as in Jiao et al., "TinyBERT" (2020), section 3.1, and as there the last one is
among them. A row's vector is what the head would be given of that layer: its first place, or the mean over its tokens.
The student begins with these layers' weights and the teacher's head; what words stand for stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import torch
from headrace_data.spec import Train
from torch import nn
from torch.nn import functional

from headrace_learning.errors import NotLearnable
from headrace_learning.families.family import Fitted, Sources
from headrace_learning.families.network import learn
from headrace_learning.families.text_network import TextNetwork, pieces
from headrace_learning.methods.lessons import Lesson
from headrace_learning.methods.teaching import Distillation, Student
from headrace_learning.training.objectives import Objective
from headrace_learning.training.randomness import seed_weights
from headrace_learning.training.rows import Rows

_MOST_BYTES: Final = 2**29
"""What the teacher's layers may take, of all rows."""


@dataclass(frozen=True)
class Patient:
    """A student's loss with that of its layers; outputs are [rows, numbers + layers * width], targets alike."""

    answers: Distillation
    numbers: int
    """That answer a row."""
    layers: int
    share: float
    """What the loss of the layers counts beside that of the answers."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of some rows, a scalar."""
        own, hidden = outputs[:, : self.numbers], outputs[:, self.numbers :]
        if self.answers.answers(targets) is None:
            return self.answers.loss(own, targets)
        wide = hidden.shape[1]
        one, other = (
            functional.normalize(each.reshape(len(each), self.layers, -1), dim=2)
            for each in (hidden, targets[:, -wide:])
        )
        apart = (one - other).square().sum(dim=2).mean()
        return self.answers.loss(own, targets[:, :-wide]) + self.share * apart

    def weight(self, targets: torch.Tensor) -> float:
        """Return how much some rows count in a mean loss of more rows."""
        return self.answers.weight(targets)

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return what the label's task measures."""
        return self.answers.measure(outputs[:, : self.numbers], targets)

    def told(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return what the label's task tells."""
        return self.answers.told(means)


class _Watched(nn.Module):
    """An encoder that answers what its layers make of rows too: [batch, numbers + layers * width]."""

    def __init__(self, network: TextNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        parts = (inputs,) if torch.is_grad_enabled() else pieces(inputs)
        return torch.cat([self._seen(part) for part in parts])

    def _seen(self, inputs: torch.Tensor) -> torch.Tensor:
        layers = self.network.pooled_layers(inputs)
        return torch.cat([self.network.head(layers[:, -1]), layers.flatten(1)], dim=1)


def shallower_student(
    lesson: Lesson, wanted: int, share: float, train: Train, objective: Distillation, answers: torch.Tensor
) -> Student:
    """Return a student of some of the version's layers, whose loss has a share. Raise `NotLearnable` where it has none.

    `wanted` is how many layers it has: fewer than the version.
    """
    kind = lesson.training.pipeline.train.network.kind
    if kind != "encoder":
        raise NotLearnable(f"a version that is an encoder is expected, got kind {kind}")
    teacher: Any = lesson.version()
    count = len(teacher.encoder.encoder.layer)
    if wanted >= count:
        raise NotLearnable(f"fewer layers than the version's {count} are expected, got {wanted}")
    width = teacher.head.in_features
    if (taken := 4 * len(lesson.rows) * wanted * width) > _MOST_BYTES:
        raise NotLearnable(f"rows whose layers take at most {_MOST_BYTES:,} bytes are expected, got {taken:,}")
    places = [(place + 1) * count // wanted - 1 for place in range(wanted)]
    hidden = _layers(teacher.eval(), places, lesson.rows.inputs)
    begun = deepcopy(teacher)
    begun.encoder.encoder.layer = nn.ModuleList([begun.encoder.encoder.layer[place] for place in places])
    begun.encoder.config.num_hidden_layers = wanted

    def learned(rows: Rows, loss: Objective) -> Fitted:
        seed_weights(train.seed)
        student = deepcopy(begun).requires_grad_(True)
        student.encoder.embeddings.requires_grad_(False)
        watched = _Watched(student)
        fitted = learn(watched, Sources(rows, lesson.validation), loss, lesson.run(train, "distilled"))
        return Fitted(student.requires_grad_(True).eval(), fitted.outcome, fitted.parameters)

    patient = Patient(objective, lesson.outputs, wanted, share)
    return Student(patient, torch.cat([answers, hidden], dim=1), learned)


@torch.no_grad()
def _layers(teacher: TextNetwork, places: list[int], inputs: torch.Tensor) -> torch.Tensor:
    """Return what some layers make of rows, [rows, layers * width]."""
    return torch.cat([teacher.pooled_layers(part)[:, places].flatten(1) for part in pieces(inputs)])
