"""An ONNX file of whatever tool: given one output and any number of rows, then held to what can be served."""

from collections.abc import Sequence
from typing import Final

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import TensorProto

from headrace_learning.bodies import MOST_BYTES, Body, read_body
from headrace_learning.errors import NotLearnable
from headrace_learning.importing.core import Core, known, refused, sample_rows

SUBJECT: Final = "imported ONNX file"
_PICKLE, _ZIP, _HDF5 = b"\x80", b"PK\x03\x04", b"\x89HDF"
_STARTS: Final = {
    _PICKLE: "a pickle, which is never read: it can run any program",
    _ZIP: "a zip archive, such as .keras or .pt; --format keras reads .keras, and torch.onnx.export writes ONNX",
    _HDF5: "HDF5; --format keras reads .h5",
}


class OnnxNetwork(Core):
    """A graph that answers as it came: nothing in it learns."""

    subject = SUBJECT

    def __init__(self, body: Body, answers: str | None) -> None:
        super().__init__()
        self.shape, self.outputs, self.answers = body.shape, body.outputs, answers
        self._body = body

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Answer rows [batch, *shape], by ONNX Runtime."""
        return torch.from_numpy(self._body.answer(rows.detach().numpy()))

    def body(self) -> Body:
        """Return the graph."""
        return self._body


def read_onnx(data: bytes) -> OnnxNetwork:
    """Read a file. Raise `NotLearnable` for what is no graph that can be served."""
    with refused(SUBJECT):
        model = _parsed(data)
        _keep_one_output(model)
        answers = _without_shares(model)
        _free_rows(model)
        body = read_body(model.SerializeToString(), SUBJECT)
        body.require_rows_apart(sample_rows(body.shape).numpy())
        return OnnxNetwork(body, answers)


def _parsed(data: bytes) -> onnx.ModelProto:
    if other := next((what for start, what in _STARTS.items() if data.startswith(start)), None):
        raise NotLearnable(f"{SUBJECT}: expected ONNX, got {other}")
    if len(data) > MOST_BYTES:
        raise NotLearnable(f"{SUBJECT}: expected at most {MOST_BYTES:,} bytes, got {len(data):,}")
    try:
        model: onnx.ModelProto = onnx.load_from_string(data)
    except DecodeError as error:
        raise NotLearnable(f"{SUBJECT}: expected ONNX, got bytes that are none: {error}") from error
    if not model.graph.node or not model.graph.output:
        raise NotLearnable(f"{SUBJECT}: expected a graph with operators and outputs, got none; is it ONNX?")
    return model


def _keep_one_output(model: onnx.ModelProto) -> None:
    """Keep the output of numbers where there are others, such as the label beside the probabilities."""
    graph = model.graph
    numbers = [each for each in graph.output if each.type.tensor_type.elem_type == TensorProto.FLOAT]
    if len(numbers) != 1:
        told, of = (known([each.name for each in some]) or "none" for some in (numbers, graph.output))
        raise NotLearnable(
            f"{SUBJECT}: expected one output of float32, got {told} among {of}; "
            "export the model again with that output alone (of scikit-learn with zipmap=False)"
        )
    kept = numbers[0]
    del graph.output[:]
    graph.output.append(kept)
    _drop_unused(graph)


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Drop operators that the output does not need: whatever made the other outputs."""
    needed, kept = {each.name for each in graph.output}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= {*node.input, *_taken_inside(node)}
    nodes = kept[::-1]
    del graph.node[:]
    graph.node.extend(nodes)
    used = [each for each in graph.initializer if each.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(used)


def _taken_inside(node: onnx.NodeProto) -> list[str]:
    """Return what graphs inside of a node take, of whatever is around them too."""
    inner = [each for attribute in node.attribute for each in (attribute.g, *attribute.graphs)]
    return [name for graph in inner for one in graph.node for name in (*one.input, *_taken_inside(one))]


def _without_shares(model: onnx.ModelProto) -> str | None:
    """Have a graph answer logits whose last operator makes shares of them; return what is known of its answers."""
    graph = model.graph
    (output,) = graph.output
    last = next((node for node in graph.node if output.name in node.output), None)
    if last is None or last.domain not in ("", "ai.onnx"):
        return None
    sizes = output.type.tensor_type.shape.dim
    width = sizes[-1].dim_value if len(sizes) else 0
    if not (last.op_type == "Softmax" and _axis(model, last) in (-1, 1)) and not (
        last.op_type == "Sigmoid" and width == 1
    ):
        return "logits" if last.op_type == "LogSoftmax" else None
    graph.node.remove(last)
    output.name = last.input[0]
    return "logits"


def _axis(model: onnx.ModelProto, node: onnx.NodeProto) -> int:
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    return next((each.i for each in node.attribute if each.name == "axis"), -1 if opset >= 13 else 1)


def _free_rows(model: onnx.ModelProto) -> None:
    """Let the first dimension of input and output be any number of rows: many tools write the one that they tried."""
    graph = model.graph
    # What the file says of itself is about its own tensors.
    del graph.value_info[:], model.metadata_props[:]
    held = {each.name for each in graph.initializer}
    ends: Sequence[onnx.ValueInfoProto] = [*(each for each in graph.input if each.name not in held), *graph.output]
    for end in ends:
        sizes = end.type.tensor_type.shape.dim
        if len(sizes):
            sizes[0].Clear()
            sizes[0].dim_param = "batch"
