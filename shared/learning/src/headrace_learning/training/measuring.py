"""A network measured on the validation split while it learns, by all processes that train it together."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from headrace_data.tasks import Mean
from torch import nn

from headrace_learning.training.compute import Machine
from headrace_learning.training.group import Group
from headrace_learning.training.objectives import Objective
from headrace_learning.training.rows import MEASURED_AT_ONCE, Rows, Source


@dataclass(frozen=True)
class Validation:
    """What a network scores on the validation split: the same in each process."""

    loss: float
    """In nats, or in variances of the label for a regression."""
    measures: Mapping[str, float]
    """What else is told of it, by name."""


class _Share:
    """A mean over rows of which this process measures some."""

    def __init__(self) -> None:
        self._mean = Mean()
        self._weight = 0.0

    def add(self, mean: float, weight: float) -> None:
        if weight > 0:
            self._mean.add(mean, weight)
            self._weight += weight

    def of(self, group: Group) -> float:
        """Return the mean over the rows of all processes."""
        if group.size == 1:
            return self._mean.value
        whole = Mean()
        for mean, weight in group.gathered([self._mean.value, self._weight]):
            if weight > 0:
                whole.add(mean, weight)
        return whole.value


@torch.no_grad()
def validate(network: nn.Module, source: Source, objective: Objective, machine: Machine, group: Group) -> Validation:
    """Measure a network as it is: each process a part of the rows."""
    network.eval()
    loss, measures = _Share(), defaultdict[str, _Share](_Share)
    for rows in source.chunks():
        outputs, mine, counts = _answered(network, rows, machine, group)
        targets = mine.to(machine.device)
        loss.add(float(objective.loss(outputs, targets)), objective.weight(mine) if counts else 0.0)
        for name, value in objective.measure(outputs, targets).items():
            measures[name].add(value, len(mine) if counts else 0)
    told = {name: mean.of(group) for name, mean in measures.items()}
    return Validation(loss.of(group), objective.told(told))


def _answered(
    network: nn.Module, rows: Rows, machine: Machine, group: Group
) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """Return the answers to this process's rows, these rows' targets, and whether they count; all compute as often."""
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    at_once = MEASURED_AT_ONCE * group.size
    for inputs, targets in zip(torch.split(rows.inputs, at_once), torch.split(rows.targets, at_once), strict=True):
        part = group.part(len(targets))
        outputs = network(inputs[part.rows].to(machine.device))
        if not part.is_empty:
            found.append((outputs, targets[part.rows]))
    counts = bool(found)
    if not counts:
        found = [(outputs, targets[part.rows])]
    return torch.cat([each for each, _ in found]), torch.cat([each for _, each in found]), counts
