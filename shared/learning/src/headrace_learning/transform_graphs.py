"""Fitted transforms as the operators of an ONNX graph: for each kind what `apply` of headrace_data computes.

A function of `GRAPHS` writes one feature's: from its raw values, [batch, *shape], to its inputs of the network,
[batch, width] float32. A text comes to it as its code, which `write_codes` makes of it in front of the graph.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import onnx
from headrace_data.transforms import (
    LARGEST,
    UNSEEN,
    FittedCategory,
    FittedKnown,
    FittedSingle,
    FittedText,
    FittedTransform,
)
from headrace_data.transforms.buckets import FittedBuckets
from headrace_data.transforms.cyclic import FARTHEST, FittedCyclic
from headrace_data.transforms.hashing import FittedHash
from headrace_data.transforms.quantile import FittedQuantile
from headrace_data.transforms.target import FittedTarget
from headrace_data.transforms.winsorize import FittedWinsorized
from onnx import helper, numpy_helper

from headrace_learning.features import Feature
from headrace_learning.graphs import Array
from headrace_learning.writer import SECOND_AXIS, Writer

ML_DOMAIN: Final = "ai.onnx.ml"
ML_OPSET: Final = 3
RUNTIME_DOMAIN: Final = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""
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


def _filled(feature: Feature, fill: Array | None, dtype: Any, writer: Writer, prefix: str, raw: str) -> str:
    values = writer.cast(raw, feature.graph_type, dtype)
    if fill is None:
        return values
    named = writer.constant(f"{prefix}.fill", fill.astype(dtype))
    return writer.node("Where", writer.node("IsNaN", values), named, values)


def _scaled(fitted: FittedTransform, feature: Feature, writer: Writer, prefix: str, raw: str) -> str:
    dtype = fitted.computing_type(feature.graph_type)
    values = _filled(feature, fitted.fill, dtype, writer, prefix, raw)
    return _shifted(fitted, feature, writer, prefix, values)


def _log(fitted: FittedTransform, feature: Feature, writer: Writer, prefix: str, raw: str) -> str:
    values = _filled(feature, fitted.fill, np.float64, writer, prefix, raw)
    size, one = writer.node("Abs", values), writer.constant("1 float64", np.float64(1))
    logarithm = writer.node("Log", writer.node("Add", size, one))
    # ONNX has no log1p. What the sum rounds off a small number is added to it: the logarithm has slope 1 there.
    small = writer.node("Min", size, one)
    held = writer.node("Sub", writer.node("Add", small, one), one)
    logarithm = writer.node("Add", logarithm, writer.node("Sub", small, held))
    logarithm = writer.node("Mul", writer.node("Sign", values), logarithm)
    return _shifted(fitted, feature, writer, prefix, logarithm)


def _winsorize(fitted: FittedWinsorized, feature: Feature, writer: Writer, prefix: str, raw: str) -> str:
    dtype = fitted.computing_type(feature.graph_type)
    values = _filled(feature, fitted.fill, dtype, writer, prefix, raw)
    values = writer.node("Max", values, writer.constant(f"{prefix}.low", fitted.low.astype(dtype)))
    values = writer.node("Min", values, writer.constant(f"{prefix}.high", fitted.high.astype(dtype)))
    return _shifted(fitted, feature, writer, prefix, values)


def _shifted(fitted: FittedTransform, feature: Feature, writer: Writer, prefix: str, values: str) -> str:
    dtype = fitted.computing_type(feature.graph_type)
    values = writer.node("Sub", values, writer.constant(f"{prefix}.offset", fitted.offset.astype(dtype)))
    values = writer.node("Div", values, writer.constant(f"{prefix}.scale", fitted.scale.astype(dtype)))
    limits = [writer.constant(f"{name} {dtype.name}", dtype.type(sign * LARGEST)) for name, sign in _LIMITS]
    values = writer.cast(writer.node("Clip", values, *limits), dtype, np.float32)
    if not feature.shape:
        return writer.as_column(values)
    return writer.node("Flatten", values, axis=1) if len(feature.shape) > 1 else values


def _onehot(fitted: FittedCategory, _feature: Feature, writer: Writer, prefix: str, raw: str) -> str:
    codes = writer.as_column(raw)
    # What is not told apart has the code -1: no column, or one more.
    known = [*range(len(fitted.categories)), *([UNSEEN] if fitted.rare else [])]
    places = writer.constant(f"{prefix}.places", np.array(known))
    return writer.cast(writer.node("Equal", codes, places), np.bool_, np.float32)


def _ordinal(fitted: FittedCategory, _feature: Feature, writer: Writer, prefix: str, raw: str) -> str:
    unseen = writer.node("Equal", raw, writer.constant("unseen", np.int64(UNSEEN)))
    count = writer.constant(f"{prefix}.count", np.int64(len(fitted.categories)))
    codes = writer.node("Where", unseen, count, raw)
    return writer.as_column(writer.cast(codes, np.int64, np.float32))


def _hash(fitted: FittedHash, _feature: Feature, writer: Writer, prefix: str, raw: str) -> str:
    codes = raw
    if fitted.fill is not None:
        missing = writer.node("Equal", raw, writer.constant("0 int64", np.int64(0)))
        codes = writer.node("Where", missing, writer.constant(f"{prefix}.fill", np.int64(fitted.fill_hash)), raw)
    codes = writer.as_column(writer.node("Mod", codes, writer.constant(f"{prefix}.inputs", np.int64(fitted.inputs))))
    places = writer.constant(f"{prefix}.places", np.arange(fitted.inputs))
    return writer.cast(writer.node("Equal", codes, places), np.bool_, np.float32)


def _target(fitted: FittedTarget, _feature: Feature, writer: Writer, prefix: str, raw: str) -> str:
    # The code of what is not told apart is -1: the last row.
    return writer.node("Gather", writer.constant(f"{prefix}.table", fitted.table), raw, axis=0)


def _text(_fitted: FittedText, _feature: Feature, writer: Writer, _prefix: str, raw: str) -> str:
    """Write the tokens of a text as they are, [batch, tokens]."""
    return writer.cast(raw, np.int64, np.float32)


def _single(fitted: FittedSingle, feature: Feature, writer: Writer, prefix: str, raw: str) -> str:
    fill = None if fitted.fill is None else np.array(fitted.fill)
    return writer.as_column(_filled(feature, fill, np.float64, writer, prefix, raw))


def _quantile(fitted: FittedQuantile, feature: Feature, writer: Writer, prefix: str, raw: str) -> str:
    """Write the first level and, for each line between two values, its part that lies below the number."""
    values = _single(fitted, feature, writer, prefix, raw)
    above = writer.node("Sub", values, writer.constant(f"{prefix}.values", fitted.values[:-1]))
    part = writer.node("Div", above, writer.constant(f"{prefix}.widths", np.diff(fitted.values)))
    limits = [writer.constant(f"{limit} float64", np.float64(limit)) for limit in (0, 1)]
    part = writer.cast(writer.node("Clip", part, *limits), np.float64, np.float32)
    rises = writer.constant(f"{prefix}.rises", np.diff(fitted.levels).astype(np.float32))
    axis = writer.constant(SECOND_AXIS, np.array([1]))
    risen = writer.node("ReduceSum", writer.node("Mul", part, rises), axis, keepdims=1)
    return writer.node("Add", risen, writer.constant(f"{prefix}.level", fitted.levels[:1].astype(np.float32)))


def _buckets(fitted: FittedBuckets, feature: Feature, writer: Writer, prefix: str, raw: str) -> str:
    values = _single(fitted, feature, writer, prefix, raw)
    edges = writer.constant(f"{prefix}.edges", fitted.edges)
    passed = writer.cast(writer.node("GreaterOrEqual", values, edges), np.bool_, np.int64)
    axis = writer.constant(SECOND_AXIS, np.array([1]))
    places = writer.constant(f"{prefix}.places", np.arange(fitted.width))
    same = writer.node("Equal", writer.node("ReduceSum", passed, axis, keepdims=1), places)
    return writer.cast(same, np.bool_, np.float32)


def _cyclic(fitted: FittedCyclic, feature: Feature, writer: Writer, prefix: str, raw: str) -> str:
    values = _single(fitted, feature, writer, prefix, raw)
    limits = [writer.constant(f"{name} in a cycle", np.float64(sign * FARTHEST)) for name, sign in _LIMITS]
    periods = writer.constant(f"{prefix}.periods", fitted.periods)
    turned = writer.node("Div", writer.node("Mod", writer.node("Clip", values, *limits), periods, fmod=1), periods)
    turned = writer.node("Mul", turned, writer.constant("turn", np.float64(2 * np.pi)))
    angles = writer.cast(turned, np.float64, np.float32)
    return writer.node("Concat", writer.node("Sin", angles), writer.node("Cos", angles), axis=1)


GRAPHS: Final[Mapping[str, Callable[[Any, Feature, Writer, str, str], str]]] = MappingProxyType(
    {
        "none": _scaled,
        "standard": _scaled,
        "minmax": _scaled,
        "robust": _scaled,
        "log": _log,
        "winsorize": _winsorize,
        "quantile": _quantile,
        "buckets": _buckets,
        "cyclic": _cyclic,
        "onehot": _onehot,
        "ordinal": _ordinal,
        "hash": _hash,
        "target": _target,
        "text": _text,
    }
)
"""What writes each kind of transform, by its name in a pipeline's spec."""


def write_codes(text: FittedText, codes: str) -> list[onnx.NodeProto]:
    """Return the operators from a text, the graph's input of its feature's name, to its code, [batch] int64."""
    if isinstance(text, FittedKnown):
        return [
            helper.make_node(
                "LabelEncoder",
                [text.name],
                [codes],
                f"LabelEncoder/{text.name}",
                domain=ML_DOMAIN,
                keys_strings=list(text.code_of),
                values_int64s=list(text.code_of.values()),
                default_int64=UNSEEN,
            )
        ]
    hashes = f"hashes/{text.name}"
    return [
        helper.make_node(
            "MurmurHash3", [text.name], [hashes], f"MurmurHash3/{text.name}", domain=RUNTIME_DOMAIN, positive=1, seed=0
        ),
        helper.make_node("Cast", [hashes], [codes], f"Cast/{text.name}", to=onnx.TensorProto.INT64),
    ]
