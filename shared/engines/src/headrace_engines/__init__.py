"""Engines: what runs a model, whoever made it. Inference serves with them, trainer and compressor measure with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from headrace_engines.beside import Graph
from headrace_engines.formats import GGUF, ONNX, format_of
from headrace_engines.generator import Generator, Room

if TYPE_CHECKING:
    from headrace_engines.model import Model
    from headrace_engines.run_limit import RunLimit

__all__ = ["ENGINES", "GENERATORS", "GGUF", "ONNX", "format_of"]


def _onnx(graph: Graph, limit: RunLimit | None) -> Model:
    # Here, not above: the process of a generator has no need of ONNX Runtime's memory.
    from headrace_engines.onnx_model import OnnxModel

    return OnnxModel(graph, limit)


def _gguf(graph: Graph, room: Room) -> Generator:
    from headrace_engines.openvino_generator import OpenVinoGenerator

    return OpenVinoGenerator(graph, room)


ENGINES: Final[Mapping[str, Callable[[Graph, RunLimit | None], Model]]] = {ONNX: _onnx}
"""What loads a model, by its format. Takes the graph and a limit on each run, None for none; raises `NotAModel`."""
GENERATORS: Final[Mapping[str, Callable[[Graph, Room], Generator]]] = {GGUF: _gguf}
"""What loads a model of language, by its format. Takes the file, and what of a machine; raises `NotAModel`."""
