"""A model written down as an ONNX graph, module by module.

The modules are few and known, so each is written as the operators that it stands for. PyTorch's own exporter traces
any model instead; for that it imports a compiler, which takes seconds of every run and 200 MB.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from headrace_learning.errors import NotLearnable
from headrace_learning.layers import Residual, SpatialMean
from headrace_learning.served import BATCH, Output, ServedModel
from headrace_learning.transform_graphs import write_transform
from headrace_learning.writer import OPSET, Writer, element_type

IR_VERSION = 10


@runtime_checkable
class WritesItself(Protocol):
    """A module that is none of the known layers, and knows its form in ONNX."""

    outputs: int
    """Numbers that answer a row."""

    def write(self, writer: Writer, value: str) -> str:
        """Write itself behind `value`, prepared rows, and return the name of the answers, [batch, outputs]."""


def write_model(model: ServedModel, folder: Path | None = None) -> tuple[onnx.ModelProto, list[str]]:
    """Write a model in evaluation mode; return it and what its outputs are to be called.

    Inputs are the features in their order, categories as codes; outputs are what `ServedModel.write` makes of those of
    the network. With a folder its large constants are written there. Raise `NotLearnable` for a module that has no form
    in ONNX here.
    """
    writer = Writer(folder)
    names = [f"feature/{place}" for place in range(len(model.features))]
    answer = _write_network(model.network, writer, "network", _write_prepare(model, writer, names))
    outputs = model.write(writer, answer, _width(model.network))
    outputs += [Output(name, value, TensorProto.FLOAT, (width,)) for name, (value, width) in writer.beside.items()]
    graph = helper.make_graph(
        writer.nodes,
        "served",
        [
            helper.make_tensor_value_info(name, element_type(feature.graph_type), [BATCH, *feature.graph_shape])
            for name, feature in zip(names, model.features, strict=True)
        ],
        [helper.make_tensor_value_info(each.value, each.type, [BATCH, *each.shape]) for each in outputs],
        list(writer.constants.values()),
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return made, [each.name for each in outputs]


def _write_prepare(model: ServedModel, writer: Writer, names: Sequence[str]) -> str:
    """Write `ServedModel.prepare`: raw features to [batch, *input_shape]."""
    flat = [
        write_transform(feature, writer, place, name)
        for place, (name, feature) in enumerate(zip(names, model.features, strict=True))
    ]
    joined = writer.node("Concat", *flat, axis=1) if len(flat) > 1 else flat[0]
    if len(model.input_shape) == 1:
        return joined
    # A size of 0 stands for that of the input: the batch.
    return writer.node("Reshape", joined, writer.constant("input shape", np.array([0, *model.input_shape])))


def _write_network(module: nn.Module, writer: Writer, prefix: str, value: str) -> str:
    if isinstance(module, nn.Sequential):
        for name, child in module.named_children():
            value = _write_network(child, writer, f"{prefix}.{name}", value)
        return value
    if isinstance(module, WritesItself):
        return module.write(writer, value)
    for kind, write in _LAYERS.items():
        if isinstance(module, kind):
            return write(module, writer, prefix, value)
    raise _unknown(module)


def _linear(layer: Any, writer: Writer, prefix: str, value: str) -> str:
    bias = [] if layer.bias is None else [_weight(writer, f"{prefix}.bias", layer.bias)]
    return writer.node("Gemm", value, _weight(writer, f"{prefix}.weight", layer.weight), *bias, transB=1)


def _convolution(layer: Any, writer: Writer, prefix: str, value: str) -> str:
    bias = [] if layer.bias is None else [_weight(writer, f"{prefix}.bias", layer.bias)]
    return writer.node(
        "Conv",
        value,
        _weight(writer, f"{prefix}.weight", layer.weight),
        *bias,
        kernel_shape=layer.kernel_size,
        strides=layer.stride,
        pads=[*layer.padding, *layer.padding],
        dilations=layer.dilation,
        group=layer.groups,
    )


def write_gelu(writer: Writer, value: str) -> str:
    """Write x / 2 * (1 + erf(x / sqrt 2)): this operator set has no operator for it."""
    root, one, half = (
        writer.constant(name, np.float32(number)) for name, number in (("root of 2", 2**0.5), ("1", 1), ("0.5", 0.5))
    )
    error = writer.node("Erf", writer.node("Div", value, root))
    return writer.node("Mul", value, writer.node("Mul", half, writer.node("Add", error, one)))


def _pooling(layer: Any, writer: Writer, _prefix: str, value: str) -> str:
    sides = [layer.kernel_size] * 2
    return writer.node("MaxPool", value, kernel_shape=sides, strides=sides)


def _normalisation(layer: Any, writer: Writer, prefix: str, value: str) -> str:
    held = {
        name: _weight(writer, f"{prefix}.{name}", getattr(layer, name))
        for name in ("weight", "bias", "running_mean", "running_var")
    }
    return writer.node("BatchNormalization", value, *held.values(), epsilon=layer.eps)


def _residual(layer: Any, writer: Writer, prefix: str, value: str) -> str:
    inner = _write_network(layer.inner, writer, f"{prefix}.inner", value)
    shortcut = _write_network(layer.shortcut, writer, f"{prefix}.shortcut", value)
    return writer.node("Relu", writer.node("Add", inner, shortcut))


def _spatial_mean(_layer: nn.Module, writer: Writer, _prefix: str, value: str) -> str:
    return writer.node("Flatten", writer.node("GlobalAveragePool", value), axis=1)


_LAYERS: Mapping[type[nn.Module], Callable[[nn.Module, Writer, str, str], str]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.BatchNorm2d: _normalisation,
    Residual: _residual,
    SpatialMean: _spatial_mean,
    nn.GELU: lambda _layer, writer, _prefix, value: write_gelu(writer, value),
    nn.MaxPool2d: _pooling,
    nn.ReLU: lambda _layer, writer, _prefix, value: writer.node("Relu", value),
    nn.Tanh: lambda _layer, writer, _prefix, value: writer.node("Tanh", value),
    nn.Flatten: lambda _layer, writer, _prefix, value: writer.node("Flatten", value, axis=1),
    nn.Dropout: lambda _layer, _writer, _prefix, value: value,
    nn.Identity: lambda _layer, _writer, _prefix, value: value,
}
"""How each layer is written: those of the families, and the one that does nothing."""


def _weight(writer: Writer, name: str, values: torch.Tensor) -> str:
    return writer.constant(name, values.detach().cpu().contiguous().numpy())


def _width(network: nn.Module) -> int | None:
    """Return the number of the network's outputs, None where it does not say."""
    if isinstance(network, WritesItself):
        return network.outputs
    widths = [module.out_features for module in network.modules() if isinstance(module, nn.Linear)]
    return widths[-1] if widths else None


def _unknown(module: nn.Module) -> NotLearnable:
    return NotLearnable(f"network: expected layers that can be written as ONNX, got {type(module).__name__}")
