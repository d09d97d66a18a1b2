"""Multi-label classification: a logit for each place of the label, learned by binary cross-entropy."""

from collections.abc import Mapping

import numpy as np
import onnx
import torch
from headrace_data.spec import Pipeline
from headrace_data.tasks import Classes
from headrace_data.tasks.multilabel import LABELS, PLACE_PROBABILITIES, PlaceCounts
from onnx import TensorProto
from torch.nn import functional

from headrace_learning.graphs import LOGITS, Array, Columns
from headrace_learning.heads.classification import logits
from headrace_learning.heads.head import Learned, Teaching
from headrace_learning.served import Output, ServedModel
from headrace_learning.training.objectives import Multilabel, balanced_weights
from headrace_learning.writer import Writer

_MIDDLE = 0.5
"""The probability above which a label is answered."""


class ServedLabels(ServedModel):
    """Says of each place of the label whether it is there: the network's outputs are their logits."""

    answers = (PLACE_PROBABILITIES, LABELS)

    @property
    def named_answers(self) -> tuple[str, ...]:
        """Both: each has a place for each label."""
        return self.answers

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Answer prepared rows, [batch, *input_shape]: logits and probabilities, both [batch, places] float32."""
        logits = self.network(inputs)
        return logits, torch.sigmoid(logits)

    def write(self, writer: Writer, value: str, width: int | None) -> list[Output]:
        """Write a sigmoid for each logit, and which probabilities are above a half."""
        probabilities = writer.node("Sigmoid", value)
        above = writer.node("Greater", probabilities, writer.constant("middle", np.float32(_MIDDLE)))
        return [
            Output(LOGITS, value, TensorProto.FLOAT, (None,)),
            Output(PLACE_PROBABILITIES, probabilities, TensorProto.FLOAT, (width,)),
            Output(LABELS, writer.node("Cast", above, to=TensorProto.UINT8), TensorProto.UINT8, (width,)),
        ]

    def complete(self, model: onnx.ModelProto, classes: Classes, decision: Array | None) -> None:
        """Hide the logits."""
        kept = [each for each in model.graph.output if each.name != LOGITS]
        del model.graph.output[:]
        model.graph.output.extend(kept)

    @torch.no_grad()
    def difference(
        self, given: Mapping[str, Array], rows: Columns, classes: Classes, decision: Array | None
    ) -> tuple[float, int]:
        """Return the largest difference of a probability, and how many labels are not what the probabilities say."""
        probabilities = given[PLACE_PROBABILITIES]
        expected = self(self.prepare(rows))[1].numpy()
        wrong = int(np.sum(given[LABELS] != (probabilities > _MIDDLE)))
        return float(np.abs(probabilities - expected).max()), wrong


def learn(pipeline: Pipeline, places: Classes, labels: PlaceCounts) -> Learned:
    """Return what is learned: rows with and without a label count alike where the spec wants them balanced."""
    weights = None
    if pipeline.train.class_weights == "balanced":
        counts = torch.from_numpy(np.stack([labels.rows - labels.counts, labels.counts], axis=1))
        weights = torch.stack([balanced_weights(pair) for pair in counts], dim=1)
    return Learned(
        len(places),
        Multilabel(weights),
        lambda values: torch.from_numpy(values.astype(np.float32)),
        ServedLabels,
        teaching=Teaching(LOGITS, logits, divergence),
    )


def divergence(outputs: torch.Tensor, taught: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return T^2 times the mean divergence of each label's probability from the teacher's, both at temperature T.

    As of classes, each label being two. Both are [rows, places] logits.
    """
    teacher, student = taught / temperature, outputs / temperature
    there = torch.sigmoid(teacher)
    own = there * functional.logsigmoid(teacher) + (1 - there) * functional.logsigmoid(-teacher)
    given = there * functional.logsigmoid(student) + (1 - there) * functional.logsigmoid(-student)
    return temperature**2 * (own - given).mean()
