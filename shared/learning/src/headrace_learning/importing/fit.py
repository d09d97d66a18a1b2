"""What stands between prepared rows, a model that was made elsewhere, and the task."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np
import torch
from headrace_data.spec import ImportedModel
from torch import nn

from headrace_learning.errors import NotLearnable
from headrace_learning.importing.core import Core, found_answers, known, tried
from headrace_learning.training.objectives import Classification, Objective, Regression
from headrace_learning.writer import Writer

_SMALLEST: Final = float(np.finfo(np.float32).tiny)
"""Where the logarithm of a probability is cut off."""
_LARGEST: Final = float(np.finfo(np.float32).max)
"""Where a logit is cut off: an infinite one has no softmax."""


@dataclass(frozen=True)
class Answers:
    """How a file's answers become those that the task asks for."""

    probabilities: bool = False
    """Whether they are probabilities, of which the task wants the logarithms."""
    one_of_two: bool = False
    """Whether the one output is of the second of two classes."""
    columns: tuple[int, ...] | None = None
    """Place of each class among the outputs; None where they are in order."""
    mean: float = 0.0
    deviation: float | None = None
    """Of the label, where the answers are numbers in its unit."""


class Imported(nn.Module):
    """Prepared rows [batch, *row shape] float32 -> [batch, outputs] float32, answered by a model from a file."""

    def __init__(self, core: Core, answers: Answers, outputs: int) -> None:
        super().__init__()
        self.core = core
        self.answers = answers
        self.outputs = outputs

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Answer prepared rows."""
        held = self.answers
        given: torch.Tensor = self.core(rows.reshape(-1, *self.core.shape))
        if held.deviation is not None:
            return (given - held.mean) / held.deviation
        if held.one_of_two:
            if not held.probabilities:
                given = torch.clamp(given, max=_LARGEST)
            other = 1.0 - given if held.probabilities else torch.zeros_like(given)
            given = torch.cat([other, given], dim=1)
        if held.probabilities:
            given = torch.log(torch.clamp(given, min=_SMALLEST))
        return given if held.columns is None else given[:, list(held.columns)]

    def write(self, writer: Writer, value: str) -> str:
        """Write itself behind `value`, and return the name of the answers."""
        shape = writer.constant("network.shape", np.array([0, *self.core.shape]))
        value = self.core.body().write(writer, writer.node("Reshape", value, shape))
        held = self.answers
        if held.deviation is not None:
            value = writer.node("Sub", value, _number(writer, "network.mean", held.mean))
            return writer.node("Div", value, _number(writer, "network.deviation", held.deviation))
        if held.one_of_two:
            if held.probabilities:
                other = writer.node("Sub", _number(writer, "network.whole", 1.0), value)
            else:
                value = writer.node("Min", value, _number(writer, "network.largest", _LARGEST))
                other = writer.node("ConstantOfShape", writer.node("Shape", value))
            value = writer.node("Concat", other, value, axis=1)
        if held.probabilities:
            value = writer.node("Log", writer.node("Max", value, _number(writer, "network.smallest", _SMALLEST)))
        if held.columns is None:
            return value
        return writer.node("Gather", value, writer.constant("network.columns", np.array(held.columns)), axis=1)


Values = Sequence[int] | Sequence[str]
"""The label's values, in the order of the task's outputs; none for a regression."""


def fit(core: Core, section: ImportedModel, objective: Objective, shape: tuple[int, ...], values: Values) -> Imported:
    """Put a model between prepared rows of a shape and the task. Raise `NotLearnable` where it fits one of them not."""
    subject = core.subject
    require_rows(core.shape, shape, subject)
    given = tried(core)
    if isinstance(objective, Regression):
        if core.outputs != 1:
            raise NotLearnable(f"{subject}: expected one output, the predicted number, got {core.outputs}")
        return Imported(core, Answers(mean=objective.mean, deviation=objective.deviation), 1)
    if not isinstance(objective, Classification):
        raise NotLearnable(f"{subject}: expected a pipeline that asks for a class or a number, got another task")
    answers = section.answers or core.answers or found_answers(given, subject)
    columns = _columns(core, section.classes, values)
    return Imported(core, Answers(answers == "probabilities", core.outputs == 1, columns), len(values))


def require_rows(wanted: tuple[int, ...], given: tuple[int, ...], subject: str) -> None:
    """Demand that the pipeline's rows are what a file takes. Raise `NotLearnable`.

    Numbers side by side are taken as they come; an image must have its dimensions in the file's order.
    """
    one, other = ([size for size in shape if size > 1] for shape in (wanted, given))
    if prod(wanted) != prod(given) or (len(one) > 1 and len(other) > 1 and one != other):
        raise NotLearnable(
            f"{subject}: expected rows of shape {list(wanted)}, which it takes, got {list(given)} from the pipeline: "
            "its features as prepare.transform prepares them, joined in the order of the schema"
        )


def _columns(core: Core, held: Sequence[bool | int | str] | None, values: Values) -> tuple[int, ...] | None:
    """Return the place of each of the label's values among the outputs, None where they are in order."""
    count = 2 if core.outputs == 1 else core.outputs
    if held is None:
        if count != len(values):
            raise NotLearnable(
                f"{core.subject}: expected {len(values)} outputs, one for each value of the label ({known(values)}), "
                f"got {core.outputs}; train.network.classes says which value each output is of"
            )
        return None
    if len(held) != count or len(set(held)) != count:
        raise NotLearnable(
            f"train.network.classes: expected {count} different values, one for each output, got {len(held)}"
        )
    if strange := [value for value in values if value not in held]:
        raise NotLearnable(
            f"train.network.classes: expected every value of the label in the dataset, got none for {known(strange)}"
        )
    columns = tuple(held.index(value) for value in values)
    return None if columns == tuple(range(count)) else columns


def _number(writer: Writer, name: str, value: float) -> str:
    return writer.constant(name, np.float32(value))
