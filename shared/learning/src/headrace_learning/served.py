"""A model as it is served: raw features in, answers out, the fitted transforms inside."""

from collections.abc import Sequence
from math import prod

import torch
from headrace_data.transforms import FittedTransforms
from torch import nn

from headrace_learning.features import Feature
from headrace_learning.graphs import Columns
from headrace_learning.networks import weights_of
from headrace_learning.transform_graphs import constants_of


class ServedModel(nn.Module):
    """Fitted transforms, then one input tensor, then the network: the base of both kinds of models.

    The transforms are no part of the module: they do not change while it learns, and rows are prepared once.

    `input_shape` is the shape of one row of that tensor. Several features, or one that is not of that shape, are
    flattened in row-major order and joined in the order of `features`.
    """

    def __init__(self, features: Sequence[Feature], input_shape: Sequence[int], network: nn.Module) -> None:
        super().__init__()
        self.features = tuple(features)
        self.transforms = FittedTransforms(tuple(feature.fitted for feature in features))
        if self.transforms.width != prod(input_shape):
            wanted = f"expected {prod(input_shape)} values in each row"
            raise ValueError(f"features: {wanted}, got {self.transforms.width}")
        self.input_shape = tuple(input_shape)
        self.network = network

    def prepare(self, columns: Columns) -> torch.Tensor:
        """Turn raw features, each [rows, *shape], texts as such or as codes, into [rows, *input_shape] float32."""
        return torch.from_numpy(self.transforms.apply(columns)).reshape(-1, *self.input_shape)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of what the model has learnt or been given, its transforms' numbers too, by name."""
        held = {name: torch.from_numpy(values.copy()) for name, values in constants_of(self.features).items()}
        return held | weights_of(self)


class ServedClassifier(ServedModel):
    """Classifies: the network's outputs are the logits of the classes."""

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Answer prepared rows, [batch, *input_shape]: logits and probabilities, both [batch, classes] float32."""
        logits = self.network(inputs)
        return logits, torch.softmax(logits, dim=1)


class ServedRegressor(ServedModel):
    """Predicts a number: the network's one output is the label in deviations from its mean.

    Mean and deviation are put back in float64: around a large mean float32 has steps wider than a small deviation.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(
        self,
        features: Sequence[Feature],
        input_shape: Sequence[int],
        network: nn.Module,
        mean: float,
        deviation: float,
        answer_type: torch.dtype = torch.float32,
    ) -> None:
        """Predict in the label's unit: `mean` and `deviation` are those of the training split.

        `answer_type` is that of the predictions: float32 or float64.
        """
        super().__init__(features, input_shape, network)
        self.answer_type = answer_type
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64))
        self.register_buffer("deviation", torch.tensor(deviation, dtype=torch.float64))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Answer prepared rows, [batch, *input_shape]: predictions, [batch] of `answer_type`, in the label's unit."""
        return self.unrounded(inputs).to(self.answer_type)

    def unrounded(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the predictions before they take on their type: [batch] float64."""
        standardised: torch.Tensor = self.network(inputs).squeeze(1)
        return standardised.to(torch.float64) * self.deviation + self.mean
