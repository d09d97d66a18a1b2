"""What every served ONNX graph has in common: the names of its tensors, and the classes that it holds.

Inputs are the features by field name, raw, with the batch as first dimension: numbers as NaN where they are missing,
categories as texts, empty where they are missing. The model's property `OPTIONAL` names the inputs that may be missing.
Where a text is language, the graph takes its tokens, and the property `TOKENS` says how an engine makes these.

A classification's outputs are `PROBABILITIES` [batch, classes] float32 and `LABEL` [batch]. The tensor before the
softmax is called `LOGITS`, so that two graphs can be compared there; the label values are the constant `CLASSES`, in
the order of the probabilities' columns. The property `LABELS` repeats them as texts, for who reads no constants. A
regression's output is `PREDICTION` [batch] float32 or float64, in the label's unit; of a label with places it is
[batch, places], and the property `STEPS` names these. Behind the outputs of the task stands what a network answers
beside it, such as `embedding` [batch, width] float32.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from headrace_data.tasks import TASKS, Task, task_of_outputs
from headrace_data.tasks.classification import LABEL
from headrace_engines.beside import Graph, is_language
from headrace_engines.properties import LABELS, OPTIONAL, STEPS

from headrace_learning.errors import NotAServedGraph
from headrace_learning.large import as_graph, folder_of, structure_of, values_of

LOGITS = "logits"
CLASSES = "classes"

Array = np.ndarray[Any, Any]

Columns = Mapping[str, Array]
"""Raw features by field name, each [rows, *shape of the field]."""


def class_values(graph: Graph) -> list[int] | list[str]:
    """Return the label values that the graph answers with, in the order of the probabilities' columns."""
    for initializer in structure_of(graph).graph.initializer:
        if initializer.name == CLASSES:
            values = values_of(initializer, folder_of(graph))
            # ONNX holds strings as bytes: numpy gives them back as objects.
            return [value.decode() if isinstance(value, bytes) else value for value in values.tolist()]
    raise NotAServedGraph(f"graph: expected a constant named {CLASSES!r} with the label values, found none")


def task_of_graph(graph: Graph) -> Task:
    """Return the task of a graph, by the names of its outputs; that of a model of language is to write."""
    if is_language(graph):
        return TASKS["generation"]
    names = [output.name for output in structure_of(graph).graph.output]
    if (task := task_of_outputs(names)) is None:
        known = "; ".join(f"{kind}: {', '.join(each.outputs)}" for kind, each in TASKS.items())
        raise NotAServedGraph(f"graph: expected the outputs of a task ({known}), got {', '.join(names)}")
    return task


def classes_of_graph(graph: Graph) -> list[int] | list[str]:
    """Return what the places of the answers stand for: `class_values`, or what the graph says of its first output."""
    outputs = task_of_graph(graph).outputs
    if LABEL in outputs:
        return class_values(graph)
    if is_language(graph):
        return []
    properties = {each.key: each.value for each in structure_of(graph).metadata_props}
    places: list[str] = json.loads(properties.get(LABELS, "{}")).get(outputs[0], [])
    return places


def steps_of_graph(graph: Graph) -> list[str]:
    """Return the names of the label's places where numbers are answered for each of several; else none."""
    if is_language(graph):
        return []
    properties = {each.key: each.value for each in structure_of(graph).metadata_props}
    steps: list[str] = json.loads(properties.get(STEPS, "{}")).get(task_of_graph(graph).outputs[0], [])
    return steps


def optional_inputs(graph: Graph) -> frozenset[str]:
    """Return the names of the inputs that may be missing."""
    properties = {each.key: each.value for each in structure_of(graph).metadata_props}
    return frozenset(json.loads(properties.get(OPTIONAL, "[]")))


def with_logits(graph: Graph) -> Graph:
    """Return the graph with the tensor before the softmax as an extra output, to measure it."""
    model = structure_of(graph)
    if any(output.name == LOGITS for output in model.graph.output):
        return graph
    if not any(LOGITS in node.output for node in model.graph.node):
        raise NotAServedGraph(f"graph: expected an internal tensor named {LOGITS!r}, found none")
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(LOGITS, onnx.TensorProto.FLOAT, ["batch", len(classes_of_graph(graph))])
    )
    return as_graph(model, folder_of(graph))
