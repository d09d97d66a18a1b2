"""What every served ONNX graph has in common: the names of its tensors, and the classes that it holds.

Inputs are the features by field name, raw, with the batch as first dimension. Outputs are `PROBABILITIES`
[batch, classes] float32 and `LABEL` [batch]. The tensor before the softmax is called `LOGITS`, so that two graphs can
be compared there; the label values are the constant `CLASSES`, in the order of the probabilities' columns.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from headrace_learning.errors import NotAServedGraph

LOGITS = "logits"
PROBABILITIES = "probabilities"
LABEL = "label"
CLASSES = "classes"

Columns = Mapping[str, np.ndarray[Any, Any]]
"""Raw features by field name, each [rows, *shape of the field]."""


def class_values(graph: bytes) -> list[int] | list[str]:
    """Return the label values that the graph answers with, in the order of the probabilities' columns."""
    for initializer in onnx.load_from_string(graph).graph.initializer:
        if initializer.name == CLASSES:
            values = numpy_helper.to_array(initializer)
            # ONNX holds strings as bytes: numpy gives them back as objects.
            return [value.decode() if isinstance(value, bytes) else value for value in values.tolist()]
    raise NotAServedGraph(f"graph: expected a constant named {CLASSES!r} with the label values, found none")


def with_logits(graph: bytes) -> bytes:
    """Return the graph with the tensor before the softmax as an extra output, to measure it."""
    model = onnx.load_from_string(graph)
    if any(output.name == LOGITS for output in model.graph.output):
        return graph
    if not any(LOGITS in node.output for node in model.graph.node):
        raise NotAServedGraph(f"graph: expected an internal tensor named {LOGITS!r}, found none")
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(LOGITS, onnx.TensorProto.FLOAT, ["batch", len(class_values(graph))])
    )
    return bytes(model.SerializeToString(deterministic=True))
