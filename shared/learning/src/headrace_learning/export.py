"""A trained model as one ONNX graph: raw features in, `probabilities` and `label` out, nothing beside the file.

The bytes depend on the model alone, because a graph's digest is part of a version's identity: every internal name is
given here, and whatever the exporter tells about itself and its surroundings is taken out.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from headrace_learning.errors import ExportMismatch, NotLearnable
from headrace_learning.graphs import CLASSES, LABEL, LOGITS, PROBABILITIES, Columns
from headrace_learning.served import ServedModel
from headrace_learning.sessions import cpu_session, run_in_batches

OPSET = 18
"""The exporter's own operator set: a later one would only be converted to."""
LARGEST_DIFFERENCE = 1e-5
"""Up to this much may the probabilities of ONNX Runtime and PyTorch differ: orders of summation do."""

_NOISY_LOGGER = "torch.onnx._internal.exporter._registration"


@dataclass(frozen=True)
class ExportedGraph:
    """An ONNX graph that was compared with the model that it came from."""

    data: bytes
    difference: float
    """Largest absolute difference of a probability from PyTorch's, over the rows compared."""
    rows: int
    """Number of rows compared."""


def export_graph(model: ServedModel, classes: Sequence[int] | Sequence[str], rows: Columns) -> ExportedGraph:
    """Export the model in evaluation mode and compare the graph with it on `rows`.

    `classes` are the label values in the order of the logits. Raise `ExportMismatch` when the two disagree.
    """
    was_training = model.training
    model.eval()
    try:
        exported = _export(model)
        _rename(exported, [feature.name for feature in model.features])
        _append_label(exported, classes)
        data = _as_bytes(exported)
        return ExportedGraph(data, _compare(data, model, classes, rows), len(next(iter(rows.values()))))
    finally:
        model.train(was_training)


def _export(model: ServedModel) -> onnx.ModelProto:
    # Two rows: the exporter takes a dimension of 1 for a constant.
    example = tuple(torch.zeros(2, *feature.shape, dtype=feature.tensor_type) for feature in model.features)
    # The features share one batch. The exporter warns when the same name is given twice, so only the first is named.
    batch = [{0: "batch"}, *({0: torch.export.Dim.DYNAMIC} for _ in example[1:])]
    with _quiet_exporter():
        program = torch.onnx.export(
            model, example, dynamic_shapes=(tuple(batch),), opset_version=OPSET, external_data=False, verbose=False
        )
    if program is None:
        raise RuntimeError("PyTorch's exporter: expected a program, got none")
    return program.model_proto


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    # It warns of operators of torchvision, which nothing here uses.
    logger = logging.getLogger(_NOISY_LOGGER)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _rename(model: onnx.ModelProto, features: Sequence[str]) -> None:
    """Give inputs the features' names, the outputs theirs, and everything inside a name that no field can have."""
    graph = model.graph
    names = dict(zip((each.name for each in graph.input), features, strict=True))
    names |= dict(zip((each.name for each in graph.output), (LOGITS, PROBABILITIES), strict=True))
    for initializer in graph.initializer:
        names[initializer.name] = initializer.name = f"weights/{initializer.name}"
    for place, node in enumerate(graph.node):
        for output in node.output:
            if output:
                names.setdefault(output, f"tensor/{place}" if len(node.output) == 1 else f"tensor/{place}/{output}")
        node.name = f"{node.op_type}/{place}"
        node.doc_string = ""
        del node.metadata_props[:]
        node.attribute.sort(key=lambda attribute: attribute.name)
        node.input[:] = [names[name] if name else name for name in node.input]
        node.output[:] = [names[name] if name else name for name in node.output]
    for each in (*graph.input, *graph.output):
        each.name = names[each.name]


def _append_label(model: onnx.ModelProto, classes: Sequence[int] | Sequence[str]) -> None:
    """Add the class of the highest probability as an output, and hide the logits."""
    graph = model.graph
    values = _class_constant(classes)
    kept = [each for each in graph.output if each.name == PROBABILITIES]
    graph.node.append(helper.make_node("ArgMax", [PROBABILITIES], ["label/place"], "ArgMax/label", axis=1, keepdims=0))
    graph.node.append(helper.make_node("Gather", [CLASSES, "label/place"], [LABEL], "Gather/label", axis=0))
    graph.initializer.append(values)
    del graph.output[:], graph.value_info[:]
    graph.output.extend(kept)
    graph.output.append(helper.make_tensor_value_info(LABEL, values.data_type, ["batch"]))


def _class_constant(classes: Sequence[int] | Sequence[str]) -> onnx.TensorProto:
    if all(isinstance(value, int) for value in classes):
        return numpy_helper.from_array(np.array(classes, dtype=np.int64), CLASSES)
    if all(isinstance(value, str) for value in classes):
        return numpy_helper.from_array(np.array(classes, dtype=object), CLASSES)
    raise NotLearnable(f"classes: expected whole numbers or strings, got {list(classes)!r}")


def _as_bytes(model: onnx.ModelProto) -> bytes:
    """Serialise without what the exporter tells of itself, and check that the model is valid and whole."""
    model.producer_name = model.producer_version = model.doc_string = model.graph.doc_string = ""
    model.graph.name = "served"
    del model.metadata_props[:], model.graph.metadata_props[:], model.functions[:]
    parts: list[Any] = [*model.graph.input, *model.graph.output, *model.graph.initializer]
    for part in parts:
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


@torch.no_grad()
def _compare(data: bytes, model: ServedModel, classes: Sequence[int] | Sequence[str], rows: Columns) -> float:
    """Return the largest difference of the graph's probabilities from the model's."""
    probabilities, labels = run_in_batches(cpu_session(data), rows, [PROBABILITIES, LABEL])
    expected = model(*model.tensors(rows))[1].numpy()
    difference = float(np.abs(probabilities - expected).max())
    wrong = int(np.sum(labels != np.asarray(classes, dtype=labels.dtype)[probabilities.argmax(axis=1)]))
    # Written so that a difference that is no number counts as a mismatch.
    if wrong or not difference <= LARGEST_DIFFERENCE:
        raise ExportMismatch(difference, LARGEST_DIFFERENCE, wrong)
    return difference
