"""Dynamic int8 quantisation of ONNX graphs: weights become int8 once, activations become uint8 in every run.

Weights use 7 of their 8 bits. A processor without VNNI adds two products of uint8 and int8 in 16 bits; with full
weights that sum saturates silently, and logits come out a tenth off. With 7 bits it cannot (2 * 255 * 64 < 2^15), so
the graph answers rightly on every processor, and every machine makes the same bytes of it. The bit costs next to
nothing, and int8 weights keep the fast kernels of processors that have VNNI.

The range of activations is that of all rows of a call, so that a row's answer depends on the rows beside it. The graph
says so in the property `ROWS`: answers are never kept by row, and calls never joined.

Only matrix products are quantised. Convolutions stay float: ONNX Runtime's dynamic ones run several times slower than
float32. Transforms, outputs and labels stay float as well.
"""

import json
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from headrace_engines.beside import Graph
from headrace_engines.properties import DEPENDENT, ROWS
from onnxruntime import quantization

from headrace_learning.large import structure_of
from headrace_learning.methods.method import NotApplicable, of_graph

_OPERATORS = ["MatMul"]
_QUANTISED_OPERATORS = {"MatMulInteger"}
_PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}


def quantise_dynamic(graph: Graph) -> Graph | NotApplicable:
    """Return the graph with the weights of its matrix products as int8.

    Inputs and outputs keep their names, types and shapes. Equal graphs give equal bytes. Not applicable when there is
    no matrix product with constant weights.
    """
    model = structure_of(graph)
    properties = {each.key: each.value for each in model.metadata_props}
    producer = model.producer_name, model.producer_version
    before = Counter(node.op_type for node in model.graph.node)

    quantised = _quantise(model)

    if not any(node.op_type in _QUANTISED_OPERATORS for node in quantised.graph.node):
        return NotApplicable(
            "int8-dynamic: expected at least one matrix product (MatMul, Gemm) with constant weights, got a graph of "
            + ", ".join(f"{count} {operator}" for operator, count in sorted(before.items()))
        )
    _forget_origin(quantised)
    quantised.producer_name, quantised.producer_version = producer
    onnx.helper.set_model_props(quantised, properties | {ROWS: json.dumps(DEPENDENT)})
    return bytes(quantised.SerializeToString(deterministic=True))


def _quantise(model: onnx.ModelProto) -> onnx.ModelProto:
    # Exported graphs are optimised and have their shapes already; this tells the library, which would warn otherwise.
    onnx.helper.set_model_props(model, _PREPARED)
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder, _quiet():
        file = Path(folder) / "quantised.onnx"
        quantization.quantize_dynamic(
            model,
            file,
            op_types_to_quantize=_OPERATORS,
            weight_type=quantization.QuantType.QInt8,
            reduce_range=True,
        )
        return onnx.load(file)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library from telling the root's log of each tensor that is no float32, and stays as it should."""
    home = str(Path(quantization.__file__).parent)

    def of_others(record: logging.LogRecord) -> bool:
        return not record.pathname.startswith(home)

    root = logging.getLogger()
    root.addFilter(of_others)
    try:
        yield
    finally:
        root.removeFilter(of_others)


def _forget_origin(model: onnx.ModelProto) -> None:
    """Remove what tools noted about where each piece came from: it says nothing about the model, and grows it."""
    model.ClearField("doc_string")
    model.graph.ClearField("doc_string")
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


METHOD = of_graph(quantise_dynamic)
