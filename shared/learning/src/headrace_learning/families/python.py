"""A network of your own: a module of PyTorch's that a function of your package makes.

The function is called with `shape`, that of a prepared row, `outputs`, and the spec's arguments. The module takes rows
[batch, *shape] float32 and answers [batch, outputs] float32: the logits of the classes, or a number in deviations from
the label's mean. One with a method `loss(answers, targets)` is trained by that instead of the task's own; targets are
places of classes, [batch] int64, or such numbers, [batch] float32.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from headrace_data.canonical import sha256_digest
from headrace_data.spec import PythonNetwork, Train
from torch import nn

from headrace_learning.errors import NotLearnable
from headrace_learning.factories import Factory, find_factory, told_as, within
from headrace_learning.families.family import Family, Fitted, Run, Sources
from headrace_learning.families.network import flat_shape, learn, vectors_bytes
from headrace_learning.features import Feature
from headrace_learning.tracing import trace
from headrace_learning.training.objectives import Classification, Objective, Regression
from headrace_learning.training.randomness import seed_weights
from headrace_learning.training.rows import Rows, Source
from headrace_learning.writer import Writer

_APART = 8
"""Rows that are answered alone and together."""
_TRIED = 64
"""Rows that a network is tried on at most: one core does it within `within`'s time, also of a network for a GPU."""


class Own(nn.Module):
    """Somebody's module: what it raises and answers becomes an error that names its factory."""

    def __init__(self, module: Any, subject: str, shape: Sequence[int], outputs: int) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise NotLearnable(f"{subject}: expected it to return a torch.nn.Module, got {type(module).__name__}")
        self.module: nn.Module = module
        self.subject = subject
        self.shape = tuple(shape)
        self.outputs = outputs
        kinds = {str(parameter.dtype) for parameter in module.parameters()}
        if kinds - {"torch.float32"} or not self.learned:
            told = ", ".join(sorted(kinds)) or "none"
            raise NotLearnable(f"{subject}: expected parameters to learn, of torch.float32, got {told}")

    @property
    def learned(self) -> int:
        """How many numbers it learns."""
        return sum(each.numel() for each in self.module.parameters() if each.requires_grad)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Answer prepared rows. Raise `NotLearnable` for other answers than such."""
        with told_as(f"{self.subject}: expected answers to {len(inputs)} rows of shape {list(self.shape)}"):
            answers = self.module(inputs)
        given = [len(inputs), self.outputs]
        if not isinstance(answers, torch.Tensor) or list(answers.shape) != given or not answers.is_floating_point():
            what = (
                f"{list(answers.shape)} {answers.dtype}"
                if isinstance(answers, torch.Tensor)
                else type(answers).__name__
            )
            raise NotLearnable(f"{self.subject}: expected answers {given} torch.float32, got {what}")
        return answers.to(torch.float32)

    def write(self, writer: Writer, value: str) -> str:
        """Write the module as the exporter of PyTorch follows it, and return the name of the answers."""
        return trace(self.module, self.shape, self.subject).write(writer, value)


@dataclass(frozen=True)
class OwnLoss:
    """The loss that a module has itself; what else is told of it is the task's."""

    network: Own
    task: Objective

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return what the module says, a scalar. Raise `NotLearnable` for anything else."""
        subject = f"{self.network.subject}: expected its loss to be one number"
        with told_as(subject):
            own: Any = self.network.module
            value = own.loss(outputs, targets)
        if not isinstance(value, torch.Tensor) or value.dim() or not value.is_floating_point():
            raise NotLearnable(f"{subject}, a tensor without dimensions, got {value!r:.100}")
        return value

    def weight(self, targets: torch.Tensor) -> float:
        """Return the number of rows."""
        return float(len(targets))

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Return what the task measures."""
        return self.task.measure(outputs, targets)

    def told(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return what the task tells."""
        return self.task.told(means)


class Python(Family):
    """Trains what a function of one of some packages makes; of no package unless it is told so."""

    def __init__(self, packages: Sequence[str] = ()) -> None:
        self._packages = tuple(packages)

    def allowing(self, packages: Sequence[str]) -> Family:
        """Return the family with leave to import these packages."""
        return Python(packages)

    def input_shape(self, features: Sequence[Feature]) -> tuple[int, ...]:
        """Return the shape of the one feature, or that of all side by side."""
        flat, shapes = flat_shape(features), [feature.shape for feature in features]
        return shapes[0] if len(shapes) == 1 and shapes[0] and (prod(shapes[0]),) == flat else flat

    def parameters(self, section: PythonNetwork, shape: Sequence[int], outputs: int) -> int:
        """Return how many numbers the network learns. It is built to count them."""
        factory = self._factory(section)
        module = factory.make(shape, outputs, section.arguments)
        return Own(module, factory.subject, shape, outputs).learned

    def least_bytes(
        self, train: Train, shape: Sequence[int], outputs: int, rows: tuple[int, int], held_bytes: int
    ) -> int:
        """Return the memory that training takes at least: rows, weights and what moves them; layers are not known."""
        section: Any = train.network
        return held_bytes + vectors_bytes(train, self.parameters(section, shape, outputs))

    def fit(self, section: PythonNetwork, rows: Sources, objective: Objective, run: Run) -> Fitted:
        """Train from the seed's weights, or from the newest checkpoint that the same source files made."""
        factory = self._factory(section)
        sources = {factory.package: factory.source_digest()}
        run = replace(run, subject=sha256_digest(f"{run.subject}|{sources}".encode()))
        if run.checkpoints.newest(run.subject) is None:
            # What has a checkpoint was tried by the attempt that made it.
            tried = _made(factory, section, run)
            with within(f"{tried.subject}: expected one step and the graph of it"):
                _try(tried, rows.train, objective, run)
        network = _made(factory, section, run)
        fitted = learn(network, rows, _objective(network, objective), run)
        return replace(fitted, libraries=("onnxscript", *factory.distributions), sources=sources)

    def _factory(self, section: PythonNetwork) -> Factory:
        return find_factory(section.factory, self._packages)


def _made(factory: Factory, section: PythonNetwork, run: Run) -> Own:
    """Return the network with the seed's weights."""
    seed_weights(run.train.seed)
    module = factory.make(run.shape, run.outputs, section.arguments)
    return Own(module, factory.subject, run.shape, run.outputs)


def _objective(network: Own, objective: Objective) -> Objective:
    if not hasattr(network.module, "loss"):
        return objective
    if not isinstance(objective, Classification | Regression):
        raise NotLearnable(
            f"{network.subject}: expected a loss of its own with train.task classification or regression alone, whose "
            "targets are places of classes, or one number each"
        )
    if isinstance(objective, Classification) and objective.weights is not None:
        raise NotLearnable(
            f"{network.subject}: expected train.classWeights none beside a loss of its own, got balanced"
        )
    return OwnLoss(network, objective)


def _try(network: Own, source: Source, objective: Objective, run: Run) -> None:
    """Make one step and the graph of a network that is thrown away: what is wrong with it is told within seconds."""
    size = run.train.batch_size
    with closing(source.batches(size, run.train.seed, 1)) as batches:
        rows = next(batches)
    learned, last = _objective(network, objective), len(source) % size or size
    network.train()
    for count in dict.fromkeys(min(each, _TRIED) for each in (len(rows), last)):
        some = Rows(rows.inputs[:count], rows.targets[:count])
        loss = learned.loss(network(some.inputs), some.targets)
        if not torch.isfinite(loss):
            told = f"expected a finite loss before the first step, got {float(loss.detach())}"
            raise NotLearnable(f"{network.subject}: {told}")
        with told_as(f"{network.subject}: expected a loss of {len(some)} rows that follows from the weights"):
            torch.autograd.backward(loss)
    body = trace(network.module, run.shape, network.subject)
    body.require_rows_apart(rows.inputs[:_APART].numpy())


FAMILY = Python()
