"""A model as it is served: raw features in, answers out, the fitted transforms inside."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from headrace_learning.features import Feature


class ServedModel(nn.Module):
    """Fitted transforms, then one input tensor, then the network: the base of both kinds of models.

    `input_shape` is the shape of one row of that tensor. Several features, or one that is not of that shape, are
    flattened in row-major order and joined in the order of `features`.
    """

    def __init__(self, features: Sequence[Feature], input_shape: Sequence[int], network: nn.Module) -> None:
        super().__init__()
        values = sum(feature.width for feature in features)
        if values != prod(input_shape):
            raise ValueError(f"features: expected {prod(input_shape)} values in each row, got {values}")
        self.features = tuple(features)
        self.input_shape = tuple(input_shape)
        self.transforms = nn.ModuleList(feature.transform() for feature in features)
        self.network = network

    def prepare(self, *raw: torch.Tensor) -> torch.Tensor:
        """Turn raw features, each [batch, *shape] in the order of `features`, into [batch, *input_shape] float32."""
        transformed = [transform(values) for transform, values in zip(self.transforms, raw, strict=True)]
        flat = [values.flatten(1) if values.dim() > 1 else values.unsqueeze(1) for values in transformed]
        joined = torch.cat(flat, dim=1) if len(flat) > 1 else flat[0]
        return joined.reshape(-1, *self.input_shape) if len(self.input_shape) > 1 else joined

    def tensors(self, columns: Mapping[str, np.ndarray[Any, Any]]) -> list[torch.Tensor]:
        """Return the features' columns as tensors, in the order that `prepare` and `forward` take them."""
        return [feature.tensor(columns[feature.name]) for feature in self.features]


class ServedClassifier(ServedModel):
    """Classifies: the network's outputs are the logits of the classes."""

    def forward(self, *raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Answer raw features, each [batch, *shape]: logits and probabilities, both [batch, classes] float32."""
        logits = self.network(self.prepare(*raw))
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

    def forward(self, *raw: torch.Tensor) -> torch.Tensor:
        """Answer raw features, each [batch, *shape]: the prediction, [batch] of `answer_type`, in the label's unit."""
        return self.unrounded(*raw).to(self.answer_type)

    def unrounded(self, *raw: torch.Tensor) -> torch.Tensor:
        """Return the predictions before they take on their type: [batch] float64."""
        standardised: torch.Tensor = self.network(self.prepare(*raw)).squeeze(1)
        return standardised.to(torch.float64) * self.deviation + self.mean
