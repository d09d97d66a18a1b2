"""The matrix products of a graph whose weights a method may write otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from headrace_learning.large import values_of

Matrix = npt.NDArray[np.float32]
_PLAIN: Final = {"alpha": 1.0, "beta": 1.0, "transA": 0}
"""Attributes of a Gemm that is a product and a sum, and nothing else."""


@dataclass(frozen=True)
class Product:
    """A `MatMul` or `Gemm` with constant, finite weights that nothing else reads."""

    node: onnx.NodeProto
    weights: Matrix
    """[outputs, inputs]."""

    @property
    def name(self) -> str:
        """Name of its weights."""
        return self.node.input[1]

    @property
    def bias(self) -> str:
        """Name of what is added, empty for nothing."""
        return "".join(self.node.input[2:3])


def products(graph: onnx.GraphProto, folder: Path | None = None) -> list[Product]:
    """Return the products of a graph in its order, those within nodes left out. Weights may lie in a folder."""
    constants = {each.name: each for each in graph.initializer if each.data_type == TensorProto.FLOAT}
    readers = Counter(reads(graph))
    found = []
    for node in graph.node:
        name = "".join(node.input[1:2])
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        transposed = attributes.pop("transB", 0)
        if (
            name in constants
            and readers[name] == 1
            and node.op_type in {"MatMul", "Gemm"}
            and attributes.items() <= _PLAIN.items()
            and len(constants[name].dims) == 2
        ):
            values = values_of(constants[name], folder)
            if np.isfinite(values).all():
                found.append(Product(node, values if transposed else values.T))
    return found


def reads(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield each name that nodes read, those within nodes too, or that is an output; as often as it is read."""
    yield from (each.name for each in graph.output)
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for each in (attribute.g, *attribute.graphs):
                yield from reads(each)


def rewritten(
    model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], without: Iterable[str], new: Iterable[onnx.TensorProto]
) -> None:
    """Give a model other nodes, and other constants in the place of those that are named."""
    gone = set(without)
    constants = [*(each for each in model.graph.initializer if each.name not in gone), *new]
    graph = onnx.GraphProto(node=nodes, initializer=constants)
    for part in ("node", "initializer"):
        model.graph.ClearField(part)
    model.graph.MergeFrom(graph)


def import_domain(model: onnx.ModelProto, domain: str) -> None:
    """Let a model use the operators of a domain."""
    if not any(each.domain == domain for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid(domain, 1))
