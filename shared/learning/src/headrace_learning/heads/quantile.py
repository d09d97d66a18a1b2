"""Quantiles: several numbers in order, learned by the pinball loss in deviations of the label from its mean.

A network gives the lowest quantile and what lies between each two: a softplus makes that positive, and the sum of the
numbers before cannot fall. So quantiles never cross, whatever the row, in training as in the graph. A network that
answers zeros answers the quantiles of the training split: with many levels it would begin far too wide otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from headrace_data.spec import Pipeline
from headrace_data.tasks import Classes
from headrace_data.tasks.quantile import PINBALL, QUANTILES, OrderedLabels, middle
from torch import nn
from torch.nn import functional

from headrace_learning.features import Feature
from headrace_learning.graphs import Array
from headrace_learning.heads.head import Held, Learned, Teaching
from headrace_learning.heads.regression import standardised
from headrace_learning.served import Output, ServedModel, ServedRegressor
from headrace_learning.training.transfer import Scales
from headrace_learning.writer import SECOND_AXIS, Writer, element_type

_LEAST_GAP = 1e-3
"""What lies between two quantiles at the start, in deviations of the label: of less a softplus hardly learns."""


def start_of(labels: OrderedLabels) -> torch.Tensor:
    """Return what is added to a network's outputs, [outputs] float32: `in_order` makes the split's quantiles of it."""
    mean, deviation = (np.asarray(each)[..., np.newaxis] for each in (labels.mean, labels.deviation))
    values = (labels.quantiles() - mean) / deviation
    gaps = np.maximum(np.diff(values), _LEAST_GAP)
    # The inverse of softplus; of a wide gap it is the gap itself, whose exponential has no float64.
    begun = np.concatenate([values[..., :1], gaps + np.log(-np.expm1(-gaps))], axis=-1)
    return torch.from_numpy(begun.reshape(-1).astype(np.float32))


def in_order(outputs: torch.Tensor) -> torch.Tensor:
    """Return quantiles of a network's outputs, both [rows, ..., levels]: rising in each row."""
    return torch.cumsum(torch.cat([outputs[..., :1], functional.softplus(outputs[..., 1:])], dim=-1), dim=-1)


@dataclass(frozen=True)
class Pinball:
    """Pinball loss over outputs [rows, levels]; targets are labels in deviations from their mean, [rows] float32.

    Of a label with places outputs are [rows, places * levels], and targets [rows, places].
    """

    levels: tuple[float, ...]
    deviation: float | Array
    """The label's standard deviation over the training split, in its own unit; [places] of a label with places."""
    start: torch.Tensor
    """What is added to outputs, [outputs] float32."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean over rows and levels, in deviations of the label."""
        return self._losses(outputs, targets).mean()

    def _losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each number that is answered, [*shape of the targets, levels]."""
        begun = outputs + self.start.to(outputs.device)
        above = targets.unsqueeze(-1) - in_order(begun.reshape(*targets.shape, len(self.levels)))
        levels = torch.tensor(self.levels, dtype=above.dtype, device=above.device)
        return torch.maximum(levels * above, (levels - 1) * above)

    def weight(self, targets: torch.Tensor) -> float:
        """Return the number of rows."""
        return float(len(targets))

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return the loss, of a label with places in its own unit."""
        losses = self._losses(outputs, targets)
        if isinstance(self.deviation, np.ndarray):
            losses = losses.to(torch.float64) * torch.from_numpy(self.deviation).to(outputs.device).unsqueeze(1)
        return {PINBALL.name: float(losses.mean())}

    def told(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return the loss in the label's unit."""
        if isinstance(self.deviation, np.ndarray):
            return dict(means)
        return {name: value * self.deviation for name, value in means.items()}


class ServedQuantiles(ServedRegressor):
    """Predicts quantiles: of the network's outputs the first is the lowest, the others lead from each to the next.

    Of a label with places there are as many for each of these, one place behind the other.
    """

    answers = (QUANTILES,)
    start: torch.Tensor
    levels: tuple[float, ...]

    def begins(self, start: torch.Tensor, levels: Sequence[float]) -> None:
        """Take what is added to the network's outputs, [outputs], and the levels, [levels]."""
        self.register_buffer("start", start)
        self.levels = tuple(levels)

    def unrounded(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the quantiles before they take on their type: [batch, levels] or [batch, places, levels] float64."""
        outputs = self.network(inputs) + self.start
        if self.steps:
            outputs = outputs.reshape(len(outputs), len(self.steps), -1)
        mean, deviation = (each.unsqueeze(-1) for each in (self.mean, self.deviation))
        return in_order(outputs).to(torch.float64) * deviation + mean

    def point(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the medians: [batch] or [batch, places] float64."""
        return self.unrounded(inputs)[..., middle(self.levels)]

    def write(self, writer: Writer, value: str, width: int | None) -> list[Output]:
        """Write the sums, and the way back to the label's unit."""
        one, first, last = (
            writer.constant(name, np.array([number]))
            for name, number in ((SECOND_AXIS, 1), ("first", 0), ("last", np.iinfo(np.int64).max))
        )
        value = writer.node("Add", value, writer.constant("start", self.start.numpy()))
        shape: tuple[int | None, ...] = (width,)
        axis, place = one, 1
        if self.steps:
            places, levels = len(self.steps), len(self.levels)
            value = writer.node("Reshape", value, writer.constant("places", np.array([0, places, levels])))
            axis, place, shape = writer.constant("axis of levels", np.array([2])), 2, (places, levels)
        lowest = writer.node("Slice", value, first, one, axis)
        gaps = writer.node("Softplus", writer.node("Slice", value, one, last, axis))
        steps = writer.node("Concat", lowest, gaps, axis=place)
        rising = writer.node("CumSum", steps, writer.constant("axis of sums", np.int64(place)))
        return [Output(QUANTILES, self.write_unit(writer, rising), element_type(self.numpy_type), shape)]

    def unit_of(self, held: torch.Tensor) -> Array:
        """Return a mean or deviation as it is multiplied with, or added to, quantiles."""
        return held.unsqueeze(-1).numpy() if self.steps else held.numpy()


def learn(pipeline: Pipeline, places: Classes, labels: OrderedLabels) -> Learned:
    """Return what is learned: the scale of the training split is put back by the served model."""
    levels = tuple(float(level) for level in places)
    answer_type = getattr(torch, pipeline.prediction_type)
    start = start_of(labels)

    def serve(features: Sequence[Feature], shape: Sequence[int], network: nn.Module) -> ServedModel:
        steps = tuple(map(str, labels.steps))
        model = ServedQuantiles(features, shape, network, labels.mean, labels.deviation, answer_type, steps)
        model.begins(start, levels)
        return model

    def rescaled(held: Held) -> Scales | None:
        """Take the start away from what versions answered that had none; those that had one learned beside theirs."""
        if "start" in held or "mean" not in held or held["mean"].shape != np.shape(labels.mean):
            return None
        return np.ones(len(start), np.float32), -start.numpy()

    objective = Pinball(levels, labels.deviation, start)
    outputs = len(levels) * (len(labels.steps) or 1)

    def taught(quantiles: Array) -> torch.Tensor:
        mean, deviation = (np.asarray(each)[..., np.newaxis] for each in (labels.mean, labels.deviation))
        made = ((quantiles.astype(np.float64) - mean) / deviation).astype(np.float32)
        return torch.from_numpy(made).reshape(len(made), -1)

    def distance(answers: torch.Tensor, taught: torch.Tensor, _temperature: float) -> torch.Tensor:
        """Return the mean distance of each quantile from the teacher's, in deviations of the label, as pinball is."""
        begun = (answers + start.to(answers.device)).reshape(len(answers), -1, len(levels))
        return functional.l1_loss(in_order(begun).reshape(len(answers), -1), taught)

    teaching = Teaching(QUANTILES, taught, distance)
    return Learned(outputs, objective, standardised(labels), serve, rescaled=rescaled, teaching=teaching)
