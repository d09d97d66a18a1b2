"""Engines: what runs a model, whoever made it. Inference serves with them, trainer and compressor measure with them."""

from collections.abc import Callable, Mapping
from typing import Final

from headrace_engines.beside import Graph
from headrace_engines.formats import GGUF, ONNX, format_of
from headrace_engines.generator import Generator, Room
from headrace_engines.model import Model
from headrace_engines.onnx_model import OnnxModel
from headrace_engines.openvino_generator import OpenVinoGenerator
from headrace_engines.run_limit import RunLimit

__all__ = ["ENGINES", "GENERATORS", "GGUF", "ONNX", "format_of"]

ENGINES: Final[Mapping[str, Callable[[Graph, RunLimit | None], Model]]] = {ONNX: OnnxModel}
"""What loads a model, by its format. Takes the graph and a limit on each run, None for none; raises `NotAModel`."""
GENERATORS: Final[Mapping[str, Callable[[Graph, Room], Generator]]] = {GGUF: OpenVinoGenerator}
"""What loads a model of language, by its format. Takes the file, and what of a machine; raises `NotAModel`."""
