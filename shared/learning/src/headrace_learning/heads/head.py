"""What a task is to learning: what stands behind a family's outputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from headrace_data.spec import Pipeline
from headrace_data.tasks import Classes
from torch import nn

from headrace_learning.export import Exported, export_graph
from headrace_learning.features import Feature
from headrace_learning.graphs import Array, Columns
from headrace_learning.training.objectives import Objective
from headrace_learning.training.rows import Rows
from headrace_learning.training.transfer import Scales

Held = Mapping[str, torch.Tensor]
"""What a version of the task has learned or been given, by name."""


def _as_graph(
    model: Any,
    places: Classes,
    rows: Columns,
    _truth: Array,
    decision: Array | None = None,
    folder: Path | None = None,
) -> Exported:
    return export_graph(model, places, rows, decision, folder)


def _means_the_same(_held: Held) -> None:
    return None


@dataclass(frozen=True)
class Teaching:
    """How a network learns what another one of the same task answers, beside the label."""

    answer: str
    """Name of the tensor of a served graph that is learned from."""
    read: Callable[[Array], torch.Tensor]
    """From what a graph answered to rows, [rows, ...], to what `loss` takes, [rows, numbers] float32."""
    loss: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
    """From outputs of the network, such answers to the same rows and a temperature, where the task has one, to the
    mean loss, a scalar."""


@dataclass(frozen=True)
class Learned:
    """What a family learns of the label, and how it is served."""

    outputs: int
    """Numbers that answer one prepared row."""
    objective: Objective
    """The loss over them."""
    targets: Callable[[Array], torch.Tensor]
    """Labels, as `Labels` of the task take them, as the objective does."""
    serve: Callable[[Sequence[Feature], Sequence[int], nn.Module], Any]
    """Around features, the shape of a prepared row and a network: the model that is exported, a `Served`."""
    rows: Callable[[torch.Tensor, torch.Tensor], Rows] = Rows
    """From inputs and targets to rows, in the order in which such are learned from."""
    rescaled: Callable[[Held], Scales | None] = _means_the_same
    """From another version of the task to what is done to its outputs, as `Origin.rescaled` says; None for nothing."""
    counts: Sequence[int] = ()
    """Rows of each class in the training split; none where there are no classes."""
    teaching: Teaching | None = None
    """How another network of the task teaches; None where none can."""
    export: Callable[..., Exported] = _as_graph
    """From such a model, what the places of its answers stand for, rows with their labels, a decision and a folder, as
    `export_graph` takes them, to what is served."""


Head = Callable[[Pipeline, Classes, Any], Learned]
"""From a pipeline, what the places of an answer stand for, and the `Labels` of its task over the training split."""
