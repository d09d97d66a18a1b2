"""A model as it is served: raw features in, answers out, the fitted transforms inside."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from math import prod
from typing import ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import onnx
import torch
from headrace_data.tasks import Classes
from headrace_data.tasks.classification import LABEL, PROBABILITIES
from headrace_data.tasks.regression import PREDICTION
from headrace_data.transforms import FittedTransforms
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from headrace_learning.errors import NotLearnable
from headrace_learning.features import Feature
from headrace_learning.graphs import CLASSES, LOGITS, Array, Columns
from headrace_learning.networks import weights_of
from headrace_learning.transform_graphs import constants_of
from headrace_learning.writer import SECOND_AXIS, Writer, element_type

BATCH = "batch"
"""Name of the first dimension of inputs and answers."""


@runtime_checkable
class AnswersBeside(Protocol):
    """A network that may answer something beside its task, and then writes it into `Writer.beside` too."""

    def beside(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what it answers to prepared rows, [batch, *input_shape], by name: each [batch, width]."""


class Output(NamedTuple):
    """One output of a graph that is being written."""

    name: str
    """What callers read it by."""
    value: str
    """What the writer calls it."""
    type: int
    """ONNX's element type."""
    shape: tuple[int | None, ...] = ()
    """Shape of one row."""


class Served(nn.Module):
    """What a network becomes that answers raw features: the base of models that are arrays, and of those that write."""

    features: tuple[Feature, ...]
    network: nn.Module

    @abstractmethod
    def prepare(self, columns: Columns) -> torch.Tensor:
        """Turn raw features, each [rows, *shape], into what the network takes, [rows, ...]."""

    @abstractmethod
    def prepare_training(self, columns: Columns) -> torch.Tensor:
        """Return what `prepare` does of rows that are learned from; the label is among their columns."""

    @abstractmethod
    def weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of what the model has learnt or been given, by name."""


class ServedModel(Served):
    """Fitted transforms, then one input tensor, then the network, then the task: the base of a model of each task.

    The transforms are no part of the module: they do not change while it learns, and rows are prepared once.

    `input_shape` is the shape of one row of that tensor. Several features, or one that is not of that shape, are
    flattened in row-major order and joined in the order of `features`.
    """

    answers: ClassVar[tuple[str, ...]]
    """Outputs of the served graph: those of the task."""
    steps: tuple[str, ...] = ()
    """Names of the label's places where numbers are answered for each of several: the dimension behind the batch."""
    precision = torch.float32
    """What the network computes in: float64 in a copy alone that tells how far rounding goes."""

    def __init__(self, features: Sequence[Feature], input_shape: Sequence[int], network: nn.Module) -> None:
        super().__init__()
        self.features = tuple(features)
        self.transforms = FittedTransforms(tuple(feature.fitted for feature in features))
        if self.transforms.width != prod(input_shape):
            wanted = f"expected {prod(input_shape)} values in each row"
            raise ValueError(f"features: {wanted}, got {self.transforms.width}")
        self.input_shape = tuple(input_shape)
        self.network = network

    @property
    def named_answers(self) -> tuple[str, ...]:
        """The outputs whose last dimension has a place for each class, or whatever else several are of."""
        return self.answers[:1]

    def prepare(self, columns: Columns) -> torch.Tensor:
        """Turn raw features, each [rows, *shape], texts as such or as codes, into [rows, *input_shape] float32."""
        return torch.from_numpy(self.transforms.apply(columns)).reshape(-1, *self.input_shape).to(self.precision)

    def prepare_training(self, columns: Columns) -> torch.Tensor:
        """Return what `prepare` does of rows that are learned from: `FittedTransforms.apply_training`."""
        return torch.from_numpy(self.transforms.apply_training(columns)).reshape(-1, *self.input_shape)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of what the model has learnt or been given, its transforms' numbers too, by name."""
        held = {name: torch.from_numpy(values.copy()) for name, values in constants_of(self.features).items()}
        return held | weights_of(self)

    @torch.no_grad()
    def beside(self, rows: Columns) -> dict[str, Array]:
        """Return what the network answers to some rows beside the task, by name, each [rows, width]."""
        if not isinstance(self.network, AnswersBeside):
            return {}
        return {name: values.numpy() for name, values in self.network.beside(self.prepare(rows)).items()}

    def in_float64(self) -> Self:
        """Return a copy that computes in float64."""
        wide = deepcopy(self).double()
        wide.precision = torch.float64
        return wide

    @torch.no_grad()
    def answered(self, rows: Columns) -> Array:
        """Return the first of the `answers` to some rows, as PyTorch computes it."""
        given = self(self.prepare(rows))
        values: Array = (given[-1] if isinstance(given, tuple) else given).numpy()
        return values

    @abstractmethod
    def write(self, writer: Writer, value: str, width: int | None) -> list[Output]:
        """Write what `forward` does with the network's outputs, [batch, width] float32, and return the answers."""

    def complete(self, model: onnx.ModelProto, classes: Classes, decision: Array | None) -> None:
        """Add to a written graph, whose tensors have their names, what of its answers PyTorch does not compute."""

    @abstractmethod
    def difference(
        self, given: Mapping[str, Array], rows: Columns, classes: Classes, decision: Array | None
    ) -> tuple[float, int]:
        """Return how far a graph's answers to some rows are from the model's at most, and how many labels are wrong."""


class ServedClassifier(ServedModel):
    """Classifies: the network's outputs are the logits of the classes."""

    answers = (PROBABILITIES, LABEL)

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Answer prepared rows, [batch, *input_shape]: logits and probabilities, both [batch, classes] float32."""
        logits = self.network(inputs)
        return logits, torch.softmax(logits, dim=1)

    def write(self, writer: Writer, value: str, width: int | None) -> list[Output]:
        """Write the softmax."""
        probabilities = writer.node("Softmax", value, axis=1)
        return [
            Output(LOGITS, value, TensorProto.FLOAT, (None,)),
            Output(PROBABILITIES, probabilities, TensorProto.FLOAT, (width,)),
        ]

    def complete(self, model: onnx.ModelProto, classes: Classes, decision: Array | None) -> None:
        """Add the class of the highest probability, or of the weightiest, as an output, and hide the logits."""
        graph = model.graph
        values = _class_constant(classes)
        probabilities, *beside = [each for each in graph.output if each.name != LOGITS]
        decided = PROBABILITIES
        if decision is not None:
            decided = "label/weighed"
            graph.initializer.append(numpy_helper.from_array(decision, "label/weights"))
            graph.node.append(helper.make_node("Mul", [PROBABILITIES, "label/weights"], [decided], "Mul/label"))
        graph.node.append(helper.make_node("ArgMax", [decided], ["label/place"], "ArgMax/label", axis=1, keepdims=0))
        graph.node.append(helper.make_node("Gather", [CLASSES, "label/place"], [LABEL], "Gather/label", axis=0))
        graph.initializer.append(values)
        del graph.output[:]
        label = helper.make_tensor_value_info(LABEL, values.data_type, [BATCH])
        graph.output.extend([probabilities, label, *beside])

    @torch.no_grad()
    def difference(
        self, given: Mapping[str, Array], rows: Columns, classes: Classes, decision: Array | None
    ) -> tuple[float, int]:
        """Return the largest difference of a probability, and how many labels are not what the probabilities say."""
        probabilities, labels = given[PROBABILITIES], given[LABEL]
        expected = self(self.prepare(rows))[1].numpy()
        decided = (probabilities if decision is None else probabilities * decision).argmax(axis=1)
        wrong = int(np.sum(labels != np.asarray(classes, dtype=labels.dtype)[decided]))
        return float(np.abs(probabilities - expected).max()), wrong


class ServedRegressor(ServedModel):
    """Predicts a number: the network's one output is the label in deviations from its mean.

    Of a label with places there is an output for each of these, with its own mean and deviation. They are put back in
    float64: around a large mean float32 has steps wider than a small deviation.
    """

    answers = (PREDICTION,)
    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(
        self,
        features: Sequence[Feature],
        input_shape: Sequence[int],
        network: nn.Module,
        mean: float | Array,
        deviation: float | Array,
        answer_type: torch.dtype = torch.float32,
        steps: Sequence[str] = (),
    ) -> None:
        """Predict in the label's unit: `mean` and `deviation` are those of the training split.

        `answer_type` is that of the predictions: float32 or float64. `steps` are the names of the label's places, of
        each of which there is a mean and a deviation then, [places].
        """
        super().__init__(features, input_shape, network)
        self.answer_type = answer_type
        self.steps = tuple(steps)
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float64))
        self.register_buffer("deviation", torch.as_tensor(deviation, dtype=torch.float64))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Answer prepared rows, [batch, *input_shape]: predictions of `answer_type`, in the label's unit.

        They are [batch], or [batch, places] of a label that has these.
        """
        return self.unrounded(inputs).to(self.answer_type)

    def point(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the numbers that stand for each row's answer, before they take on their type: as `unrounded`."""
        return self.unrounded(inputs)

    def unrounded(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the predictions before they take on their type: as `forward`, float64."""
        outputs: torch.Tensor = self.network(inputs)
        standardised = outputs if self.steps else outputs.squeeze(1)
        return standardised.to(torch.float64) * self.deviation + self.mean

    def write(self, writer: Writer, value: str, width: int | None) -> list[Output]:
        """Write the way back to the label's unit."""
        if self.steps:
            answer = self.write_unit(writer, value)
            return [Output(PREDICTION, answer, element_type(self.numpy_type), (len(self.steps),))]
        number = writer.node("Squeeze", value, writer.constant(SECOND_AXIS, np.array([1])))
        return [Output(PREDICTION, self.write_unit(writer, number), element_type(self.numpy_type))]

    def write_unit(self, writer: Writer, value: str) -> str:
        """Write how deviations from the mean, float32, become numbers of the answers' type in the label's unit."""
        wide = writer.cast(value, np.float32, np.float64)
        for operator, held in (("Mul", "deviation"), ("Add", "mean")):
            wide = writer.node(operator, wide, writer.constant(held, self.unit_of(getattr(self, held))))
        return writer.cast(wide, np.float64, self.numpy_type)

    def unit_of(self, held: torch.Tensor) -> Array:
        """Return a mean or deviation as it is multiplied with, or added to, what is answered."""
        values: Array = held.numpy()
        return values

    @property
    def numpy_type(self) -> np.dtype[np.generic]:
        """The type of the answers as numpy has it."""
        return np.dtype(torch.empty(0, dtype=self.answer_type).numpy().dtype)

    @torch.no_grad()
    def difference(
        self, given: Mapping[str, Array], rows: Columns, classes: Classes, decision: Array | None
    ) -> tuple[float, int]:
        """Return the largest difference of a prediction, as `Exported.difference`; no label is answered.

        As a share of their own size two predictions around a large mean would agree whatever they say. What the type of
        the answers rounds off is no difference: a hair may decide to which side.
        """
        answered = given[self.answers[0]]
        expected = self.unrounded(self.prepare(rows)).numpy()
        with np.errstate(over="ignore"):
            rounding = np.spacing(np.abs(expected).astype(answered.dtype)).astype(np.float64)
        beyond = np.maximum(np.abs(answered.astype(np.float64) - expected) - rounding, 0.0)
        beyond, expected = (each.reshape(len(each), len(self.steps) or 1, -1) for each in (beyond, expected))
        mean, deviation = (each.numpy().reshape(-1, 1) for each in (self.mean, self.deviation))
        return float((beyond / (deviation + np.abs(expected - mean))).max()), 0


def _class_constant(classes: Classes) -> onnx.TensorProto:
    if all(isinstance(value, int) for value in classes):
        return numpy_helper.from_array(np.array(classes, dtype=np.int64), CLASSES)
    if all(isinstance(value, str) for value in classes):
        return numpy_helper.from_array(np.array(classes, dtype=object), CLASSES)
    raise NotLearnable(f"classes: expected whole numbers or strings, got {list(classes)!r}")
