"""Which format a model is in, told by its first bytes."""

from typing import Final

from headrace_engines.beside import Graph

ONNX: Final = "onnx"
GGUF: Final = "gguf"
_MAGIC: Final = b"GGUF"


def format_of(graph: Graph) -> str:
    """Return the format of a model: `gguf` for one of language, `onnx` for every other.

    Whether it is one is for the engine to say. Raises OSError where there is no such file.
    """
    if isinstance(graph, bytes):
        return GGUF if graph[: len(_MAGIC)] == _MAGIC else ONNX
    with graph.open("rb") as file:
        return GGUF if file.read(len(_MAGIC)) == _MAGIC else ONNX
