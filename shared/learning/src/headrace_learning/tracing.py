"""Any module of PyTorch's as an ONNX graph, by PyTorch's own exporter.

The layers that a pipeline can name are written one by one instead (writing.py): the exporter brings a compiler, which
takes seconds of a run and 300 MB. It is part of the extra `python`, and imported here alone.
"""

import importlib
import logging
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import nn

from headrace_learning.bodies import MOST_BYTES, Body, read_body
from headrace_learning.errors import NotLearnable
from headrace_learning.writer import OPSET

_ROWS_TRACED = 2
"""Rows of the example: with one, the exporter takes the number of rows for a constant."""
_TOLD = 600
"""Characters of the exporter's reason that an error repeats."""


def trace(module: nn.Module, shape: Sequence[int], subject: str) -> Body:
    """Return what a module answers to prepared rows [batch, *shape] float32, in evaluation mode.

    The same module and libraries give the same graph. Raise `NotLearnable`, under the name of `subject`, for a module
    that the exporter cannot follow, such as one that branches on values, and for a graph that cannot be served.
    """
    if (taken := sum(each.nbytes for each in module.state_dict().values())) > MOST_BYTES:
        raise NotLearnable(f"{subject}: expected a module of at most {MOST_BYTES:,} bytes of weights, got {taken:,}")
    was_training = module.training
    module.eval()
    try:
        with _quiet():
            model = _export(module, torch.zeros((_ROWS_TRACED, *shape)), subject)
    finally:
        module.train(was_training)
    _number_constants(model.graph, module.state_dict().keys())
    return read_body(model.SerializeToString(), subject)


def _export(module: nn.Module, rows: torch.Tensor, subject: str) -> onnx.ModelProto:
    exporter = _exporter()
    try:
        program: Any = exporter.export(
            module,
            (rows,),
            input_names=["rows"],
            output_names=["answers"],
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )
        model: onnx.ModelProto = program.model_proto
    except Exception as error:  # whatever the module raises, and the exporter's own
        raise NotLearnable(
            f"{subject}: expected a module that torch.export can follow for any number of rows, whatever their values "
            f"are, got {_reason(error)}"
        ) from error
    return model


def _exporter() -> Any:
    try:
        importlib.import_module("onnxscript")
        return importlib.import_module("torch.onnx")
    except ImportError as error:
        raise NotLearnable(
            "train.network: a module of your own needs PyTorch's exporter, which this trainer lacks a part of: install "
            f"headrace-learning[python] beside it ({error})"
        ) from error


def _number_constants(graph: onnx.GraphProto, learned: Collection[str]) -> None:
    """Give numbers to constants that have no name in the module, in the order of their use."""
    held = {tensor.name for tensor in graph.initializer} - set(learned)
    names: dict[str, str] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in held:
                node.input[place] = names.setdefault(name, f"constant/{len(names)}")
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)


def _reason(error: Exception) -> str:
    """Return the first cause, without the exporter's advice around it."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    told = " ".join(str(error).split())
    return f"{type(error).__name__}: {told[:_TOLD]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporter tells of its own parts: whatever matters to the caller, it raises."""
    log = logging.getLogger("torch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
