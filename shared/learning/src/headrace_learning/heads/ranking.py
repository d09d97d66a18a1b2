"""Ranking: one score for each row, learned list by list, a list being the rows of one group.

The loss is that of ListNet's first place (Cao, Qin, Liu, Tsai and Li, "Learning to Rank: From Pairwise Approach to
Listwise Approach", ICML 2007): the cross-entropy of the softmax of a list's scores. What it is held against are the
shares that rows have of their list's relevance. Bruch, Wang, Bendersky and Najork, "An Analysis of the Softmax Cost
Function for Learning to Rank" (ICTIR 2019), show that this bounds NDCG and the reciprocal rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from headrace_data.spec import Pipeline
from headrace_data.tasks import Classes
from headrace_data.tasks.ranking import SCORE, Relevances, measures_of
from onnx import TensorProto

from headrace_learning.errors import NotLearnable
from headrace_learning.graphs import Array, Columns
from headrace_learning.heads.head import Learned
from headrace_learning.served import Output, ServedModel
from headrace_learning.training.rows import Lists
from headrace_learning.writer import SECOND_AXIS, Writer


@dataclass(frozen=True)
class ListSoftmax:
    """Cross-entropy in nats over one output [rows, 1]; targets are relevances and groups, [rows, 2] float64."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean over the lists whose rows differ in relevance; 0 where there is none."""
        scores, relevance = outputs.squeeze(1), targets[:, 0].to(outputs.dtype)
        numbers, place = torch.unique(targets[:, 1], return_inverse=True)
        lists = len(numbers)
        shifted = scores - _highest(scores.detach(), place, lists)[place]
        logs = shifted - _sums(shifted.exp(), place, lists).log()[place]
        told = _highest(relevance, place, lists) > -_highest(-relevance, place, lists)
        totals = torch.where(told, _sums(relevance, place, lists), 1.0)
        shares = torch.where(told[place], relevance / totals[place], 0.0)
        return -(shares * logs).sum() / max(int(told.sum()), 1)

    def weight(self, targets: torch.Tensor) -> float:
        """Return the number of rows."""
        return float(len(targets))

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return the task's measures."""
        return measures_of(outputs.squeeze(1).to(torch.float32).cpu().numpy(), targets.cpu().numpy())

    def told(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return the same."""
        return dict(means)


def _sums(values: torch.Tensor, place: torch.Tensor, lists: int) -> torch.Tensor:
    return torch.zeros(lists, dtype=values.dtype, device=values.device).index_add(0, place, values)


def _highest(values: torch.Tensor, place: torch.Tensor, lists: int) -> torch.Tensor:
    """Return the highest value of each list. By sorting, which gives the same on every device."""
    order = values.argsort()
    order = order[place[order].argsort(stable=True)]
    ends = torch.searchsorted(place[order], torch.arange(lists, device=place.device), right=True) - 1
    return values[order[ends]]


class ServedRanker(ServedModel):
    """Scores rows: the network's one output is the score."""

    answers = (SCORE,)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Answer prepared rows, [batch, *input_shape]: scores, [batch] float32."""
        scores: torch.Tensor = self.network(inputs).squeeze(1)
        return scores

    def write(self, writer: Writer, value: str, width: int | None) -> list[Output]:
        """Write the scores."""
        return [
            Output(SCORE, writer.node("Squeeze", value, writer.constant(SECOND_AXIS, np.array([1]))), TensorProto.FLOAT)
        ]

    @torch.no_grad()
    def difference(
        self, given: Mapping[str, Array], rows: Columns, classes: Classes, decision: Array | None
    ) -> tuple[float, int]:
        """Return the largest difference of a score, as a share of 1, its size and the scores' deviation together.

        No label is answered. A score means something beside others only, and one near zero may be a sum of large parts.
        """
        expected = self(self.prepare(rows)).numpy().astype(np.float64)
        apart = np.abs(given[SCORE].astype(np.float64) - expected)
        return float((apart / (1 + np.abs(expected) + expected.std())).max()), 0


def learn(pipeline: Pipeline, _places: Classes, labels: Relevances) -> Learned:
    """Return what is learned. Raises NotLearnable where no group of the training split has an order."""
    if not labels.has_order:
        group = pipeline.stream.group
        raise NotLearnable(
            f"train.task ranking: expected groups (field {group.name if group else ''!r}) with rows of different "
            f"{pipeline.stream.label.name!r} in the training split, got none"
        )
    return Learned(1, ListSoftmax(), torch.from_numpy, ServedRanker, Lists)
