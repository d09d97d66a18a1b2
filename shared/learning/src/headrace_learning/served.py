"""A model as it is served: raw features in, probabilities out, the fitted transforms inside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from headrace_learning.errors import NotLearnable
from headrace_learning.graphs import CLASSES, LABEL, LOGITS, PROBABILITIES

_TENSOR_TYPES = {
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "uint16": torch.uint16,
    "uint32": torch.uint32,
    "float32": torch.float32,
    "float64": torch.float64,
}
_FITS_FLOAT32 = {"int8", "int16", "uint8", "uint16", "float32"}
"""Types whose values float32 holds exactly. The others are shifted and scaled in float64 first."""


@dataclass(frozen=True)
class InputFeature:
    """One raw feature of a model: its place in the schema and its fitted transform."""

    name: str
    type: str
    """Element type as in the schema, such as float32."""
    shape: tuple[int, ...]
    """Shape of one row; empty for a single number."""
    offset: np.ndarray[Any, Any]
    """Taken from each value first. Broadcasts to `shape`."""
    scale: np.ndarray[Any, Any]
    """What the difference is divided by. Broadcasts to `shape`."""

    def __post_init__(self) -> None:
        if self.type not in _TENSOR_TYPES:
            raise NotLearnable(f"feature {self.name!r}: expected numbers to learn from, got type {self.type}")
        if self.name in {LOGITS, PROBABILITIES, LABEL, CLASSES}:
            raise NotLearnable(f"feature {self.name!r}: expected another name, this one belongs to the model's answers")

    @property
    def tensor_type(self) -> torch.dtype:
        """The type of the raw values as PyTorch calls it."""
        return _TENSOR_TYPES[self.type]

    @property
    def computing_type(self) -> torch.dtype:
        """The type in which the transform is computed: wide enough for every raw value."""
        return torch.float32 if self.type in _FITS_FLOAT32 else torch.float64


class Transform(nn.Module):
    """A fitted transform of one feature, (raw - offset) / scale: [batch, *shape] raw -> [batch, *shape] float32."""

    offset: torch.Tensor
    scale: torch.Tensor

    def __init__(self, feature: InputFeature) -> None:
        super().__init__()
        for name, values in (("offset", feature.offset), ("scale", feature.scale)):
            whole = np.broadcast_to(np.asarray(values, dtype=np.float64), feature.shape)
            self.register_buffer(name, torch.tensor(whole, dtype=feature.computing_type))

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """Transform raw values."""
        return ((raw.to(self.offset.dtype) - self.offset) / self.scale).to(torch.float32)


class ServedModel(nn.Module):
    """Fitted transforms, then one input tensor, then the network.

    `input_shape` is the shape of one row of that tensor. Several features, or one that is not of that shape, are
    flattened in row-major order and joined in the order of `features`.
    """

    def __init__(self, features: Sequence[InputFeature], input_shape: Sequence[int], network: nn.Module) -> None:
        super().__init__()
        values = sum(prod(feature.shape) for feature in features)
        if values != prod(input_shape):
            raise ValueError(f"features: expected {prod(input_shape)} values in each row, got {values}")
        self.features = tuple(features)
        self.input_shape = tuple(input_shape)
        self.transforms = nn.ModuleList(Transform(feature) for feature in features)
        self.network = network

    def prepare(self, *raw: torch.Tensor) -> torch.Tensor:
        """Turn raw features, each [batch, *shape] in the order of `features`, into [batch, *input_shape] float32."""
        flat = [
            transform(values).flatten(1) if values.dim() > 1 else transform(values).unsqueeze(1)
            for transform, values in zip(self.transforms, raw, strict=True)
        ]
        joined = torch.cat(flat, dim=1) if len(flat) > 1 else flat[0]
        return joined.reshape(-1, *self.input_shape) if len(self.input_shape) > 1 else joined

    def forward(self, *raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Answer raw features, each [batch, *shape]: logits and probabilities, both [batch, classes] float32."""
        logits = self.network(self.prepare(*raw))
        return logits, torch.softmax(logits, dim=1)

    def tensors(self, columns: Mapping[str, np.ndarray[Any, Any]]) -> list[torch.Tensor]:
        """Return the features' columns as tensors, in the order that `prepare` and `forward` take them."""
        return [
            # Writable, because PyTorch warns of memory that it may share and not write.
            torch.from_numpy(np.require(columns[feature.name], requirements=["C", "W"])).to(feature.tensor_type)
            for feature in self.features
        ]
