"""Raw features on their way into a network: filled, encoded and scaled as they were fitted.

A category comes as text. PyTorch has no texts, so here it is its code: its place among the known categories. The
exported graph makes codes of texts by one operator in front; while training, `FittedCategory.codes` does.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from headrace_data.spec.feature_rules import RESERVED
from headrace_data.transforms import LARGEST, UNSEEN, FittedCategory
from torch import nn

from headrace_learning.errors import NotLearnable
from headrace_learning.graphs import Array

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
_MOST_SHIFT = 16.0
"""How many scales a float32 transform may shift: then its rounding stays below 2^-20 of a scale."""
_MOST_SIZE = 1e30
"""How large its offset and scale may be: no difference of two values leaves float32 then."""


@dataclass(frozen=True)
class NumberFeature:
    """One raw number feature of a model: its place in the schema and its fitted transform."""

    name: str
    type: str
    """Element type as in the schema, such as float32."""
    shape: tuple[int, ...]
    """Shape of one row; empty for a single number."""
    offset: Array
    """Taken from each value first. Broadcasts to `shape`."""
    scale: Array
    """What the difference is divided by. Broadcasts to `shape`."""
    fill: Array | None = None
    """What stands for NaN; None when nothing may be missing. Broadcasts to `shape`."""

    def __post_init__(self) -> None:
        if self.type not in _TENSOR_TYPES:
            raise NotLearnable(f"feature {self.name!r}: expected numbers to learn from, got type {self.type}")
        _check_name(self.name)

    @property
    def width(self) -> int:
        """Numbers that one row brings to the network."""
        return prod(self.shape)

    @property
    def optional(self) -> bool:
        """Whether callers may leave the feature out."""
        return self.fill is not None

    @property
    def served_type(self) -> str:
        """The element type in which callers send it: float64 for whole numbers that may be missing."""
        return "float64" if self.optional and not self.type.startswith("float") else self.type

    @property
    def tensor_type(self) -> torch.dtype:
        """The type of the raw values as PyTorch calls it."""
        return _TENSOR_TYPES[self.served_type]

    @property
    def computing_type(self) -> torch.dtype:
        """The type in which the transform is computed: wide enough for every raw value and for the shift."""
        if self.served_type not in _FITS_FLOAT32:
            return torch.float64
        offset, scale = np.abs(np.broadcast_arrays(self.offset, self.scale)).astype(np.float64)
        near = (offset <= _MOST_SHIFT * scale).all() and max(offset.max(), scale.max()) <= _MOST_SIZE
        return torch.float32 if near else torch.float64

    def tensor(self, column: Array) -> torch.Tensor:
        """Return a column of raw values as a tensor."""
        # Writable, because PyTorch warns of memory that it may share and not write.
        return torch.from_numpy(np.require(column, requirements=["C", "W"])).to(self.tensor_type)

    def transform(self) -> nn.Module:
        """Return the transform: raw values -> [batch, *shape] float32."""
        return Transform(self)


@dataclass(frozen=True)
class CategoryFeature:
    """One raw category of a model and how it is encoded."""

    fitted: FittedCategory

    def __post_init__(self) -> None:
        _check_name(self.name)

    @property
    def name(self) -> str:
        """Name of the feature."""
        return self.fitted.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row: a single text."""
        return ()

    @property
    def width(self) -> int:
        """Numbers that one row brings to the network."""
        return len(self.fitted.categories) if self.fitted.encode == "onehot" else 1

    @property
    def optional(self) -> bool:
        """Whether callers may leave the feature out."""
        return self.fitted.optional

    @property
    def tensor_type(self) -> torch.dtype:
        """The type of the codes."""
        return torch.int64

    def tensor(self, column: Array) -> torch.Tensor:
        """Return a column of texts, or of their codes, as a tensor of codes."""
        return torch.from_numpy(self.fitted.codes(column) if column.dtype == object else column)

    def transform(self) -> nn.Module:
        """Return the encoding: codes -> [batch, width] or, for one number, [batch] float32."""
        count = len(self.fitted.categories)
        return OneHot(count) if self.fitted.encode == "onehot" else Ordinal(count)


Feature = NumberFeature | CategoryFeature
"""One raw feature of a model."""


class Transform(nn.Module):
    """A fitted transform of one number feature: [batch, *shape] raw -> [batch, *shape] float32.

    NaN is filled where the feature may be missing; then (raw - offset) / scale, within +-LARGEST.
    """

    offset: torch.Tensor
    scale: torch.Tensor
    fill: torch.Tensor

    def __init__(self, feature: NumberFeature) -> None:
        super().__init__()
        self.optional = feature.fill is not None
        for name, values in (("offset", feature.offset), ("scale", feature.scale), ("fill", feature.fill)):
            if values is not None:
                whole = np.broadcast_to(np.asarray(values, dtype=np.float64), feature.shape)
                self.register_buffer(name, torch.tensor(whole, dtype=feature.computing_type))

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """Transform raw values."""
        values = raw.to(self.offset.dtype)
        if self.optional:
            values = torch.where(torch.isnan(values), self.fill, values)
        return ((values - self.offset) / self.scale).clamp(-LARGEST, LARGEST).to(torch.float32)


class OneHot(nn.Module):
    """One column for each of `count` categories: codes [batch] -> [batch, count] float32; all zeros for unseen ones."""

    places: torch.Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("places", torch.arange(count))

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Encode codes."""
        return (codes.unsqueeze(1) == self.places).to(torch.float32)


class Ordinal(nn.Module):
    """The code as a number: codes [batch] -> [batch] float32; `count` for unseen categories."""

    count: torch.Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.tensor(count))

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Encode codes."""
        return torch.where(codes == UNSEEN, self.count, codes).to(torch.float32)


def _check_name(name: str) -> None:
    if name in RESERVED:
        raise NotLearnable(f"feature {name!r}: expected another name, this one belongs to the model's answers")
