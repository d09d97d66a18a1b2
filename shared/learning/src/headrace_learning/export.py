"""A trained model as one ONNX graph: raw features in, answers out (see graphs.py).

The bytes depend on the model alone, because a graph's digest is part of a version's identity: every internal name is
given here, and whatever the exporter tells about itself and its surroundings is taken out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from headrace_data.tasks import Classes
from headrace_data.transforms import FittedText
from headrace_engines.beside import Graph
from headrace_engines.model import run_in_batches
from headrace_engines.properties import LABELS, OPTIONAL, STEPS, TOKENS
from onnx import helper

from headrace_learning import large
from headrace_learning.errors import ExportMismatch
from headrace_learning.evaluation import open_graph
from headrace_learning.features import Feature
from headrace_learning.graphs import Array, Columns
from headrace_learning.language import FittedTokens
from headrace_learning.served import ServedModel
from headrace_learning.transform_graphs import ML_DOMAIN, ML_OPSET, RUNTIME_DOMAIN, write_codes
from headrace_learning.writing import write_model

LARGEST_DIFFERENCE = 1e-5
"""Up to this much may the answers of ONNX Runtime and PyTorch differ: orders of summation do."""
ROUNDINGS = 4.0
"""So many times the rounding of PyTorch's own answers are no difference beyond that."""
_OPSETS = {ML_DOMAIN: ML_OPSET, RUNTIME_DOMAIN: 1}
"""The operator sets beside `OPSET`: of what makes codes of texts, and of trees."""


@dataclass(frozen=True)
class Exported:
    """A model as it is served, compared with the one that it came from."""

    data: Graph
    difference: float
    """Largest difference of an answer from PyTorch's, over the rows compared: of probabilities, or of predictions
    beyond the rounding of their type, as a share of the label's deviation and their distance from its mean together;
    of embeddings that of any of their numbers. Where it is large, what float32 rounds in PyTorch is taken off."""
    rows: int
    """Number of rows compared."""


def export_graph(
    model: ServedModel,
    classes: Classes,
    rows: Columns,
    decision: Array | None = None,
    folder: Path | None = None,
) -> Exported:
    """Export the model in evaluation mode and compare the graph with it on `rows`.

    `classes` are what the places of the answers stand for, such as the label's values in the order of the logits; a
    regression has none. `decision`, [classes] float32, is what probabilities are multiplied by before the largest
    decides; None for the likeliest class. Where the model takes more than `large.LARGEST_BYTES` the graph is a file in
    `folder`, with its weights beside it; without a folder it is bytes, whatever its size. Raise `ExportMismatch` when
    the two disagree.
    """
    was_training = model.training
    if sum(each.nbytes for each in model.state_dict().values()) <= large.LARGEST_BYTES:
        folder = None
    model.eval()
    try:
        exported, outputs = write_model(model, folder)
        _rename(exported, model.features, outputs)
        model.complete(exported, classes, decision)
        _take_texts(exported, model.features)
        data = _finished(exported, _properties(model, classes), folder)
        beside = model.beside(rows)
        names = (*model.answers, *beside)
        given = dict(zip(names, run_in_batches(open_graph(data), rows, names), strict=True))
        difference, wrong = model.difference(given, rows, classes, decision)
        # Not Python's max, which may leave out what is no number.
        difference = float(np.max([difference, *(np.abs(given[name] - each).max() for name, each in beside.items())]))
        if difference > LARGEST_DIFFERENCE:
            difference = max(difference - ROUNDINGS * _rounding(model, given, rows, classes, decision), 0.0)
        # Written so that a difference that is no number counts as a mismatch.
        if wrong or not difference <= LARGEST_DIFFERENCE:
            raise ExportMismatch(difference, LARGEST_DIFFERENCE, wrong)
        return Exported(data, difference, len(next(iter(rows.values()))))
    finally:
        model.train(was_training)


def _rounding(
    model: ServedModel, given: Mapping[str, Array], rows: Columns, classes: Classes, decision: Array | None
) -> float:
    """Return how far PyTorch's answers are from those that it computes in float64, measured as a graph's are.

    Which order sums have depends on the processor, and is nothing that a graph could be right or wrong about. A network
    that cannot compute in float64, such as one of a user's own, has no rounding that is known.
    """
    answered = {**given, model.answers[0]: model.answered(rows)}
    try:
        rounding, _ = model.in_float64().difference(answered, rows, classes, decision)
    except RuntimeError:
        return 0.0
    return rounding if np.isfinite(rounding) else 0.0


def _code_name(feature: Feature) -> str:
    """Return what the graph calls a feature where PyTorch takes it: a category's codes are no input of the graph."""
    return f"codes/{feature.name}" if feature.has_codes else feature.name


def _rename(exported: onnx.ModelProto, taken: Sequence[Feature], outputs: Sequence[str]) -> None:
    """Give inputs the features' names, the outputs theirs, and everything inside a name that no field can have."""
    graph = exported.graph
    features = [_code_name(feature) for feature in taken]
    names = dict(zip((each.name for each in graph.input), features, strict=True))
    names |= dict(zip((each.name for each in graph.output), outputs, strict=True))
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


def _take_texts(model: onnx.ModelProto, features: Sequence[Feature]) -> None:
    """Put what makes codes of texts in front: the graph takes texts, the transforms in it take their codes."""
    graph = model.graph
    del graph.value_info[:]
    texts = [each.fitted for each in features if each.has_codes and isinstance(each.fitted, FittedText)]
    nodes = [node for text in texts for node in write_codes(text, f"codes/{text.name}")]
    for text in texts:
        place = next(place for place, each in enumerate(graph.input) if each.name == f"codes/{text.name}")
        graph.input[place].CopyFrom(helper.make_tensor_value_info(text.name, onnx.TensorProto.STRING, ["batch"]))
    for node in reversed(nodes):
        graph.node.insert(0, node)
    for domain in sorted({node.domain for node in graph.node} & _OPSETS.keys()):
        model.opset_import.append(helper.make_opsetid(domain, _OPSETS[domain]))


def _properties(model: ServedModel, classes: Classes) -> dict[str, str]:
    """Return what the graph says of its inputs and outputs beside their types and shapes."""
    optional = [feature.name for feature in model.features if feature.fitted.optional]
    properties = {OPTIONAL: json.dumps(optional)} if optional else {}
    tokenised = {each.name: each.fitted.tokenised for each in model.features if isinstance(each.fitted, FittedTokens)}
    if tokenised:
        plain = {name: each.model_dump(mode="json", exclude_defaults=True) for name, each in tokenised.items()}
        properties[TOKENS] = json.dumps(plain, ensure_ascii=False, sort_keys=True)
    if classes:
        named = [str(value) for value in classes]
        properties[LABELS] = json.dumps(dict.fromkeys(model.named_answers, named), ensure_ascii=False)
    if model.steps:
        properties[STEPS] = json.dumps({model.answers[0]: list(model.steps)}, ensure_ascii=False)
    return properties


def _finished(model: onnx.ModelProto, properties: Mapping[str, str], folder: Path | None) -> Graph:
    """Serialise without what the exporter tells of itself, and check that the model is valid and whole."""
    model.producer_name = model.producer_version = model.doc_string = model.graph.doc_string = ""
    model.graph.name = "served"
    del model.metadata_props[:], model.graph.metadata_props[:], model.functions[:]
    parts: list[Any] = [*model.graph.input, *model.graph.output, *model.graph.initializer]
    for part in parts:
        part.doc_string = ""
        del part.metadata_props[:]
    helper.set_model_props(model, dict(properties))
    data = bytes(model.SerializeToString(deterministic=True))
    graph = data if folder is None else large.written(data, folder)
    onnx.checker.check_model(model if isinstance(graph, bytes) else str(graph), full_check=True)
    return graph
