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
from headrace_learning.heads.head import Learned
from headrace_learning.heads.regression import standardised
from headrace_learning.served import Output, ServedModel, ServedRegressor
from headrace_learning.writer import SECOND_AXIS, Writer, element_type

_LEAST_GAP = 1e-3
"""What lies between two quantiles at the start, in deviations of the label: of less a softplus hardly learns."""


def start_of(labels: OrderedLabels) -> torch.Tensor:
    """Return what is added to a network's outputs, [levels] float32: `in_order` makes the split's quantiles of it."""
    values = (labels.quantiles() - labels.mean) / labels.deviation
    gaps = np.maximum(np.diff(values), _LEAST_GAP)
    # The inverse of softplus; of a wide gap it is the gap itself, whose exponential has no float64.
    return torch.from_numpy(np.concatenate([values[:1], gaps + np.log(-np.expm1(-gaps))]).astype(np.float32))


def in_order(outputs: torch.Tensor) -> torch.Tensor:
    """Return quantiles of a network's outputs, both [rows, levels]: rising in each row."""
    return torch.cumsum(torch.cat([outputs[:, :1], functional.softplus(outputs[:, 1:])], dim=1), dim=1)


@dataclass(frozen=True)
class Pinball:
    """Pinball loss over outputs [rows, levels]; targets are labels in deviations from their mean, [rows] float32."""

    levels: tuple[float, ...]
    deviation: float
    """The label's standard deviation over the training split, in its own unit."""
    start: torch.Tensor
    """What is added to outputs, [levels] float32."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean over rows and levels, in deviations of the label."""
        above = targets.unsqueeze(1) - in_order(outputs + self.start.to(outputs.device))
        levels = torch.tensor(self.levels, dtype=above.dtype, device=above.device)
        return torch.maximum(levels * above, (levels - 1) * above).mean()

    def weight(self, targets: torch.Tensor) -> float:
        """Return the number of rows."""
        return float(len(targets))

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return the loss."""
        return {PINBALL.name: float(self.loss(outputs, targets))}

    def told(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return the loss in the label's unit."""
        return {name: value * self.deviation for name, value in means.items()}


class ServedQuantiles(ServedRegressor):
    """Predicts quantiles: of the network's outputs the first is the lowest, the others lead from each to the next."""

    answers = (QUANTILES,)
    start: torch.Tensor
    median = 0
    """The place of the median among them."""

    def begins(self, start: torch.Tensor, levels: Sequence[float]) -> None:
        """Take what is added to the network's outputs, and what they are levels of, both [levels]."""
        self.register_buffer("start", start)
        self.median = middle(levels)

    def unrounded(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the quantiles before they take on their type: [batch, levels] float64."""
        return in_order(self.network(inputs) + self.start).to(torch.float64) * self.deviation + self.mean

    def point(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the medians: [batch] float64."""
        return self.unrounded(inputs)[:, self.median]

    def write(self, writer: Writer, value: str, width: int | None) -> list[Output]:
        """Write the sums, and the way back to the label's unit."""
        axis, first, last = (
            writer.constant(name, np.array([number]))
            for name, number in ((SECOND_AXIS, 1), ("first", 0), ("last", np.iinfo(np.int64).max))
        )
        value = writer.node("Add", value, writer.constant("start", self.start.numpy()))
        lowest = writer.node("Slice", value, first, axis, axis)
        gaps = writer.node("Softplus", writer.node("Slice", value, axis, last, axis))
        steps = writer.node("Concat", lowest, gaps, axis=1)
        rising = writer.node("CumSum", steps, writer.constant("axis of sums", np.int64(1)))
        return [Output(QUANTILES, self.write_unit(writer, rising), element_type(self.numpy_type), (width,))]


def learn(pipeline: Pipeline, places: Classes, labels: OrderedLabels) -> Learned:
    """Return what is learned: the scale of the training split is put back by the served model."""
    levels = tuple(float(level) for level in places)
    answer_type = getattr(torch, pipeline.prediction_type)
    start = start_of(labels)

    def serve(features: Sequence[Feature], shape: Sequence[int], network: nn.Module) -> ServedModel:
        model = ServedQuantiles(features, shape, network, labels.mean, labels.deviation, answer_type)
        model.begins(start, levels)
        return model

    return Learned(len(levels), Pinball(levels, labels.deviation, start), standardised(labels), serve)
