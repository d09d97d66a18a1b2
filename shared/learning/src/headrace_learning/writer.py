"""Nodes and constants of an ONNX graph that is being written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from headrace_learning import large

OPSET = 18
"""The operator set of ONNX that is written."""
SECOND_AXIS = "second axis"
"""Name of the constant that operators over columns share."""


class Writer:
    """Nodes and constants of a graph that is being written."""

    def __init__(self, folder: Path | None = None) -> None:
        """With a folder large constants are written there, beside the graph."""
        self._folder = folder
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.beside: dict[str, tuple[str, int]] = {}
        """What a network answers beside its task, by name: the value, [batch, width] float32, and its width."""

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output and return the output's name."""
        output = f"{operator}/{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, name: str, values: Any) -> str:
        """Add a constant, unless there is one of this name, and return the name."""
        if name not in self.constants:
            self.constants[name] = large.constant(name, np.asarray(values), self._folder)
        return name

    def take_node(self, node: onnx.NodeProto, names: Mapping[str, str]) -> None:
        """Add what a node of another graph computes, under other names of its inputs and outputs."""
        taken = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
        taken.input.extend(names[name] for name in node.input)
        taken.output.extend(names[name] for name in node.output)
        taken.attribute.extend(node.attribute)
        for attribute in taken.attribute:
            attribute.doc_string = ""
        self.nodes.append(taken)

    def take_constant(self, tensor: onnx.TensorProto, name: str) -> None:
        """Add a constant of another graph under another name."""
        self.constants[name] = large.constant(name, numpy_helper.to_array(tensor), self._folder)

    def cast(self, value: str, of: Any, to: Any) -> str:
        """Return the value, of one numpy type, in another."""
        return value if np.dtype(of) == np.dtype(to) else self.node("Cast", value, to=element_type(np.dtype(to)))

    def as_column(self, value: str) -> str:
        """Return a value of shape [batch] as [batch, 1]."""
        return self.node("Unsqueeze", value, self.constant(SECOND_AXIS, np.array([1])))


def element_type(dtype: np.dtype[Any]) -> int:
    """Return what ONNX calls a type of numpy's."""
    return int(helper.np_dtype_to_tensor_dtype(dtype))
