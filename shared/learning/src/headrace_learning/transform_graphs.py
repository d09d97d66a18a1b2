"""Fitted transforms as the operators of an ONNX graph: for each kind what `apply` of headrace_data computes.

A function of `GRAPHS` writes one feature's: from its raw values, [batch, *shape], to its inputs of the network,
[batch, width] float32. A text comes to it as its code, which `write_codes` makes of it in front of the graph.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import onnx
from headrace_data.transforms import LARGEST, UNSEEN, FittedCategory, FittedTransform
from onnx import helper, numpy_helper

from headrace_learning.features import Feature
from headrace_learning.graphs import Array
from headrace_learning.writer import Writer

ML_DOMAIN: Final = "ai.onnx.ml"
_LIMITS: Final = (("least", -1), ("largest", 1))
_PREFIX: Final = "transforms."


def write_transform(feature: Feature, writer: Writer, place: int, raw: str) -> str:
    """Write the transform of the feature at a place, and return its inputs of the network, [batch, width] float32."""
    return GRAPHS[feature.fitted.kind](feature.fitted, feature, writer, f"{_PREFIX}{place}", raw)


def constants_of(features: Sequence[Feature]) -> dict[str, Array]:
    """Return what the transforms hold in a graph, by name, such as transforms.0.offset."""
    writer = Writer()
    for place, feature in enumerate(features):
        write_transform(feature, writer, place, feature.name)
    return {name: numpy_helper.to_array(held) for name, held in writer.constants.items() if name.startswith(_PREFIX)}


def _scaled(fitted: FittedTransform, feature: Feature, writer: Writer, prefix: str, raw: str) -> str:
    dtype = fitted.computing_type(feature.graph_type)
    values = writer.cast(raw, feature.graph_type, dtype)
    if fitted.fill is not None:
        fill = writer.constant(f"{prefix}.fill", fitted.fill.astype(dtype))
        values = writer.node("Where", writer.node("IsNaN", values), fill, values)
    values = writer.node("Sub", values, writer.constant(f"{prefix}.offset", fitted.offset.astype(dtype)))
    values = writer.node("Div", values, writer.constant(f"{prefix}.scale", fitted.scale.astype(dtype)))
    limits = [writer.constant(f"{name} {dtype.name}", dtype.type(sign * LARGEST)) for name, sign in _LIMITS]
    values = writer.cast(writer.node("Clip", values, *limits), dtype, np.float32)
    if not feature.shape:
        return writer.as_column(values)
    return writer.node("Flatten", values, axis=1) if len(feature.shape) > 1 else values


def _onehot(fitted: FittedCategory, _feature: Feature, writer: Writer, prefix: str, raw: str) -> str:
    codes = writer.as_column(raw)
    places = writer.constant(f"{prefix}.places", np.arange(len(fitted.categories)))
    return writer.cast(writer.node("Equal", codes, places), np.bool_, np.float32)


def _ordinal(fitted: FittedCategory, _feature: Feature, writer: Writer, prefix: str, raw: str) -> str:
    unseen = writer.node("Equal", raw, writer.constant("unseen", np.int64(UNSEEN)))
    count = writer.constant(f"{prefix}.count", np.int64(len(fitted.categories)))
    codes = writer.node("Where", unseen, count, raw)
    return writer.as_column(writer.cast(codes, np.int64, np.float32))


GRAPHS: Final[Mapping[str, Callable[[Any, Feature, Writer, str, str], str]]] = MappingProxyType(
    {
        "none": _scaled,
        "standard": _scaled,
        "minmax": _scaled,
        "robust": _scaled,
        "onehot": _onehot,
        "ordinal": _ordinal,
    }
)
"""What writes each kind of transform, by its name in a pipeline's spec."""


def write_codes(category: FittedCategory, codes: str) -> list[onnx.NodeProto]:
    """Return the operators from a text, the graph's input of its feature's name, to its code, [batch] int64."""
    code_of = category.code_of
    return [
        helper.make_node(
            "LabelEncoder",
            [category.name],
            [codes],
            f"LabelEncoder/{category.name}",
            domain=ML_DOMAIN,
            keys_strings=list(code_of),
            values_int64s=list(code_of.values()),
            default_int64=UNSEEN,
        )
    ]
