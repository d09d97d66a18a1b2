"""ONNX graphs that answer prepared rows, by whoever they are written: checked, and put into a served one.

A body takes one tensor, [batch, *shape] float32, and gives one, [batch, outputs] float32. It is held to what every
replica can serve: ONNX's own operators, one file, work that is bounded by the rows, the same answer each time.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Final

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from headrace_engines.errors import EngineError
from headrace_engines.model import Model
from onnx import TensorProto, helper, inliner, version_converter

from headrace_learning.errors import NotLearnable
from headrace_learning.evaluation import open_graph
from headrace_learning.graphs import Array
from headrace_learning.transform_graphs import ML_DOMAIN, ML_OPSET
from headrace_learning.writer import OPSET, Writer

MOST_NODES = 100_000
MOST_NUMBERS = 2**26
"""Numbers that anything holds on the way of one row: 256 MiB of float32."""
MOST_BYTES = 2_000_000_000
"""Most bytes of a body: it comes as one protobuf message, which ends at 2 GiB."""
_OPSETS = {"": OPSET, ML_DOMAIN: ML_OPSET}
"""Domains of operators that may be used, and the newest set of each."""
_OLDEST_OPSET = 7
"""Before it operators broadcast by attributes, which nothing converts."""
_UNBOUNDED = ("If", "Loop", "Scan", "SequenceMap")
_RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
_LARGEST_SIZES = 1024
"""Numbers of the largest constant that may be sizes."""
_MEASURES = ("Shape", "Size")
"""What answers with sizes alone, whatever the values are."""
_SIZED_BY: Final = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "DFT": (1,),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Resize": (2, 3),
    "STFT": (1, 3),
    "Tile": (1,),
    "Upsample": (1,),
}
"""Operators whose answer may be larger than what they are given, and the places of the inputs that say how large."""
_SAME = 1e-4
"""How much an answer may differ by the rows beside it: sums are taken in another order."""


@dataclass(frozen=True)
class Body:
    """A checked graph: prepared rows [batch, *shape] float32 -> [batch, outputs] float32."""

    subject: str
    """What errors call it."""
    model: onnx.ModelProto
    shape: tuple[int, ...]
    """Shape of one row."""
    outputs: int
    """Numbers that answer a row."""

    def write(self, writer: Writer, value: str, prefix: str = "network") -> str:
        """Write its nodes behind `value`, and return the name of the answers.

        `prefix` begins the names of what it brings, so that no other part of the graph has one of them.
        """
        graph, tensors = self.model.graph, {tensor.name: tensor for tensor in self.model.graph.initializer}
        rows = next(each.name for each in graph.input if each.name not in tensors)
        names = {"": "", rows: value} | {name: f"{prefix}.{name}" for name in tensors}
        for node in graph.node:
            names |= {name: f"{prefix}/{name}" for name in node.output if name}
            for tensor in (tensors.pop(name) for name in node.input if name in tensors):
                writer.take_constant(tensor, names[tensor.name])
            writer.take_node(node, names)
        return names[graph.output[0].name]

    def answer(self, rows: Array) -> Array:
        """Return what ONNX Runtime answers to rows [rows, *shape] float32. Raise `NotLearnable` where it cannot."""
        try:
            (answers,) = self._opened.run({self._opened.inputs[0].name: rows}, [self._opened.outputs[0].name])
        except EngineError as error:
            raise NotLearnable(f"{self.subject}: expected a graph that ONNX Runtime can run, got {error}") from error
        return answers

    @cached_property
    def _opened(self) -> Model:
        return open_graph(self.model.SerializeToString())

    def require_rows_apart(self, rows: Array) -> None:
        """Demand an answer to each row that has nothing to do with those beside it. Raise `NotLearnable`.

        A replica answers the rows of several callers at once. `rows` are some that can come, [rows, *shape] float32.
        """
        together = self.answer(rows)
        if together.shape != (len(rows), self.outputs) or together.dtype != np.float32:
            raise NotLearnable(
                f"{self.subject}: expected answers [{len(rows)}, {self.outputs}] float32, got {list(together.shape)} "
                f"{together.dtype}"
            )
        alone = np.concatenate([self.answer(rows[place : place + 1]) for place in range(len(rows))])
        if not np.allclose(alone, together, rtol=_SAME, atol=_SAME, equal_nan=True):
            raise NotLearnable(
                f"{self.subject}: expected the same answer to a row whatever rows come beside it, got others: nothing "
                "may be computed over the first dimension"
            )


def read_body(data: bytes, subject: str) -> Body:
    """Read an ONNX file as a body. Raise `NotLearnable` for what cannot be served, under the name of `subject`."""
    if len(data) > MOST_BYTES:
        raise NotLearnable(
            f"{subject}: expected a graph of at most {MOST_BYTES / 1e6:,.0f} MB, got {len(data):,} bytes"
        )
    try:
        model = onnx.load_from_string(data)
        _name_domain(model)
        _refuse_files(model, subject)
        _refuse_large(model, subject)
        model = _converted(inliner.inline_local_functions(model) if model.functions else model, subject)
        onnx.checker.check_model(model)
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        _refuse_wide(model, subject)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, DecodeError) as error:
        raise NotLearnable(f"{subject}: expected a valid ONNX graph, got {_first_lines(error)}") from error
    _refuse_operators(model, subject)
    _refuse_sizes_by_values(model, subject)
    shape, outputs = _ends(model, subject)
    return Body(subject, model, shape, outputs)


def _name_domain(model: onnx.ModelProto) -> None:
    """Give ONNX's own operators one name of their domain where they have its other."""
    for imported in model.opset_import:
        imported.domain = "" if imported.domain == "ai.onnx" else imported.domain
    for node in model.graph.node:
        node.domain = "" if node.domain == "ai.onnx" else node.domain


def _refuse_large(model: onnx.ModelProto, subject: str) -> None:
    """Demand few operators, those of functions counted as often as they are called: each call becomes a copy."""
    functions = {(each.domain, each.name, each.overload): each.node for each in model.functions}
    sizes: dict[tuple[str, str, str], int] = {}

    def size(nodes: Iterable[onnx.NodeProto]) -> int:
        total = 0
        for node in nodes:
            called = (node.domain, node.op_type, node.overload)
            if called in functions and called not in sizes:
                sizes[called] = MOST_NODES + 1  # what a call of itself counts, which has no end
                sizes[called] = size(functions[called])
            total += sizes.get(called, 1)
        return total

    if (operators := size(model.graph.node)) > MOST_NODES:
        raise NotLearnable(f"{subject}: expected at most {MOST_NODES:,} operators, got {operators:,}")


def _refuse_wide(model: onnx.ModelProto, subject: str) -> None:
    """Demand that what is computed of one row is no larger than `MOST_NUMBERS`: constants ask for any size as well."""
    graph, held = model.graph, {each.name for each in model.graph.initializer}
    # Sizes are followed for a single row, so that all are known, and without the weights, which may be large.
    weights = [each for each in graph.initializer if prod(each.dims) > _LARGEST_SIZES]
    one_row = onnx.GraphProto(
        name=graph.name,
        node=graph.node,
        input=[each for each in graph.input if each.name not in held],
        output=[onnx.ValueInfoProto(name=each.name) for each in graph.output],
        initializer=[each for each in graph.initializer if prod(each.dims) <= _LARGEST_SIZES],
    )
    for dimensions in (each.type.tensor_type.shape.dim for each in one_row.input):
        for first in dimensions[:1]:
            first.dim_value = 1
    one_row.input.extend(helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in weights)
    alone = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, graph=one_row)
    for value in onnx.shape_inference.infer_shapes(alone, data_prop=True).graph.value_info:
        numbers = prod(each.dim_value or 1 for each in value.type.tensor_type.shape.dim)
        if numbers > MOST_NUMBERS:
            raise NotLearnable(
                f"{subject}: expected at most {MOST_NUMBERS:,} numbers in what is computed of a row, got {numbers:,} "
                f"in {value.name!r}"
            )


def _refuse_files(model: onnx.ModelProto, subject: str) -> None:
    """Demand that all numbers are in the graph, dense: others are read from paths that the file names."""
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    attributes = [attribute for node in nodes for attribute in node.attribute]
    tensors = [*model.graph.initializer, *(each for one in attributes for each in (one.t, *one.tensors))]
    if any(tensor.data_location == TensorProto.EXTERNAL or tensor.external_data for tensor in tensors):
        raise NotLearnable(f"{subject}: expected one file with all weights in it, got external data")
    if model.graph.sparse_initializer or any(one.HasField("sparse_tensor") for one in attributes):
        raise NotLearnable(f"{subject}: expected dense weights, got sparse ones")


def _converted(model: onnx.ModelProto, subject: str) -> onnx.ModelProto:
    """Return the graph with the operators of the set that is served."""
    imported = {each.domain: each.version for each in model.opset_import}
    opset = imported.get("", OPSET)
    if opset < _OLDEST_OPSET or imported.get(ML_DOMAIN, 0) > _OPSETS[ML_DOMAIN]:
        known = f"operator sets from {_OLDEST_OPSET} on, and up to {_OPSETS[ML_DOMAIN]} of {ML_DOMAIN}"
        raise NotLearnable(f"{subject}: expected {known}, got {imported}")
    if opset == OPSET:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as error:  # whatever its C++ part throws
        raise NotLearnable(
            f"{subject}: expected a graph that can be written in operator set {OPSET}, got one of {opset}: "
            f"{_first_lines(error)}"
        ) from error


def _refuse_operators(model: onnx.ModelProto, subject: str) -> None:
    for node in model.graph.node:
        if node.domain not in _OPSETS:
            raise NotLearnable(f"{subject}: expected operators of ONNX alone, got {node.op_type} of {node.domain!r}")
        if node.op_type in _UNBOUNDED:
            raise NotLearnable(f"{subject}: expected no branches and loops in the graph, got {node.op_type}")
        if node.op_type in _RANDOM or (node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]):
            raise NotLearnable(f"{subject}: expected the same answer each time, got {node.op_type}, which is random")


def _refuse_sizes_by_values(model: onnx.ModelProto, subject: str) -> None:
    """Demand that the number of rows alone decides how large anything is: a value could ask for all memory."""
    held = {tensor.name for tensor in model.graph.initializer}
    valued = {each.name for each in model.graph.input if each.name not in held}
    for node in model.graph.node:
        sizes = [node.input[place] for place in _SIZED_BY.get(node.op_type, ()) if place < len(node.input)]
        if told := valued.intersection(sizes):
            raise NotLearnable(
                f"{subject}: expected sizes that follow from the number of rows, got {node.op_type} of a size that "
                f"follows from the rows' values, {sorted(told)[0]!r}"
            )
        if node.op_type not in _MEASURES and valued.intersection(node.input):
            valued.update(node.output)


def _ends(model: onnx.ModelProto, subject: str) -> tuple[tuple[int, ...], int]:
    """Return the shape of a row and the number of outputs, as the graph declares them."""
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in held]
    outputs = list(model.graph.output)
    if len(inputs) != 1 or len(outputs) != 1:
        names = f"{[each.name for each in inputs]} and {[each.name for each in outputs]}"
        raise NotLearnable(f"{subject}: expected one input and one output, got {names}")
    rows, answers = (_declared(each, subject) for each in (inputs[0], outputs[0]))
    if len(answers) != 1:
        raise NotLearnable(f"{subject}: expected answers [batch, outputs], got [batch, {', '.join(map(str, answers))}]")
    return rows, answers[0]


def _declared(end: onnx.ValueInfoProto, subject: str) -> tuple[int, ...]:
    """Return the dimensions behind the batch's."""
    tensor = end.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        given = TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type else "another"
        raise NotLearnable(f"{subject}: expected {end.name!r} of type FLOAT, got {given}")
    sizes = [each.dim_value if each.HasField("dim_value") else None for each in tensor.shape.dim]
    told = ["?" if size is None else size for size in sizes]
    if not sizes or sizes[0] is not None:
        raise NotLearnable(
            f"{subject}: expected {end.name!r} with any number of rows in its first dimension, got {told}"
        )
    known = tuple(size for size in sizes[1:] if size)
    if len(known) != len(sizes) - 1:
        raise NotLearnable(
            f"{subject}: expected {end.name!r} with dimensions that are known behind the rows, got {told}"
        )
    return known


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
