"""Counts: one number, the logarithm of what is expected over the mean of the training split, learned by Poisson's loss.

A network that answers zeros expects the mean. What is expected is above 0 whatever the row, and what features do to it
multiplies, as in a Poisson regression with a logarithmic link.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from headrace_data.spec import Pipeline
from headrace_data.tasks import Classes
from headrace_data.tasks.count import DEVIANCE, EXPECTED, Counted, require_counts
from torch import nn

from headrace_learning.features import Feature
from headrace_learning.graphs import Array, Columns
from headrace_learning.heads.head import Held, Learned, Teaching
from headrace_learning.served import Output, ServedModel, ServedRegressor
from headrace_learning.training.transfer import Scales
from headrace_learning.writer import SECOND_AXIS, Writer, element_type

_FAR = 15.0
"""How far a logarithm is from that of the mean at most, a factor of three million: an outlier may ask for any power."""


@dataclass(frozen=True)
class Poisson:
    """Poisson's loss over one output [rows, 1]; targets are counts over their mean, [rows] float32."""

    mean: float
    """The label's mean over the training split, in its own unit."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean of the negative logarithms of the counts' probabilities, over the label's mean.

        What does not depend on the outputs is left out.
        """
        logs = outputs.squeeze(1).clamp(-_FAR, _FAR)
        return (logs.exp() - targets * logs).mean()

    def weight(self, targets: torch.Tensor) -> float:
        """Return the number of rows."""
        return float(len(targets))

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return the deviance, over the label's mean."""
        least = (torch.xlogy(targets, targets) - targets).to(torch.float64).mean()
        return {DEVIANCE.name: 2 * float(self.loss(outputs, targets) + least)}

    def told(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return the deviance."""
        return {name: value * self.mean for name, value in means.items()}


class ServedCounts(ServedRegressor):
    """Expects counts: the network's one output is the logarithm of their share of the mean."""

    answers = (EXPECTED,)

    def logs(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logarithms of what is expected over the mean, [batch] float64."""
        outputs: torch.Tensor = self.network(inputs)
        return outputs.squeeze(1).clamp(-_FAR, _FAR).to(torch.float64)

    def unrounded(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return what is expected before it takes on its type: [batch] float64."""
        return self.logs(inputs).exp() * self.mean

    def write(self, writer: Writer, value: str, width: int | None) -> list[Output]:
        """Write the way back to the label's unit."""
        logs = writer.node("Squeeze", value, writer.constant(SECOND_AXIS, np.array([1])))
        ends = [writer.constant(name, np.float32(end)) for name, end in (("lowest", -_FAR), ("highest", _FAR))]
        wide = writer.cast(writer.node("Clip", logs, *ends), np.float32, np.float64)
        counts = writer.node("Mul", writer.node("Exp", wide), writer.constant("mean", self.mean.numpy()))
        return [Output(EXPECTED, writer.cast(counts, np.float64, self.numpy_type), element_type(self.numpy_type))]

    @torch.no_grad()
    def difference(
        self, given: Mapping[str, Array], rows: Columns, classes: Classes, decision: Array | None
    ) -> tuple[float, int]:
        """Return the largest difference of a logarithm, as a share of 1, its size and the logarithms' deviation.

        No label is answered. A logarithm near zero may be a sum of large parts.
        """
        expected = self.logs(self.prepare(rows)).numpy()
        logs = np.log(given[EXPECTED].astype(np.float64) / float(self.mean))
        return float((np.abs(logs - expected) / (1 + np.abs(expected) + expected.std())).max()), 0


def learn(pipeline: Pipeline, _places: Classes, labels: Counted) -> Learned:
    """Return what is learned: the mean of the training split is put back by the served model."""
    mean = labels.mean or 1.0  # where nothing was counted at all

    def targets(values: Array) -> torch.Tensor:
        require_counts(values)  # the training split's were looked at, those of validation were not
        return torch.from_numpy((values.astype(np.float64) / mean).astype(np.float32))

    def serve(features: Sequence[Feature], shape: Sequence[int], network: nn.Module) -> ServedModel:
        answer_type = getattr(torch, pipeline.prediction_type)
        return ServedCounts(features, shape, network, mean, labels.deviation, answer_type)

    def rescaled(held: Held) -> Scales | None:
        """Return what puts logarithms beside another mean beside this one."""
        before = held.get("mean")
        if before is None or before.ndim or before <= 0:
            return None  # of another task: no counts have such a mean
        return 1.0, math.log(float(before) / mean)

    poisson = Poisson(mean)

    def taught(expected: Array) -> torch.Tensor:
        return torch.from_numpy((expected.astype(np.float64) / mean).astype(np.float32)).unsqueeze(1)

    def divergence(outputs: torch.Tensor, taught: torch.Tensor, _temperature: float) -> torch.Tensor:
        """Return Poisson's loss of what a teacher expects: the divergence of both, but for what no output changes."""
        return poisson.loss(outputs, taught.squeeze(1))

    return Learned(1, poisson, targets, serve, rescaled=rescaled, teaching=Teaching(EXPECTED, taught, divergence))
