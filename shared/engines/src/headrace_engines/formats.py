"""Which format a model is in, told by its first bytes."""

from typing import Final

from headrace_engines.beside import Graph, is_language

ONNX: Final = "onnx"
GGUF: Final = "gguf"


def format_of(graph: Graph) -> str:
    """Return the format of a model: `gguf` for one of language, `onnx` for every other.

    Whether it is one is for the engine to say. Raises OSError where there is no such file.
    """
    return GGUF if is_language(graph) else ONNX
