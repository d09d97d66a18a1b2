"""Graphs of any size: bytes, or a file with its weights beside it where these are too many for memory and protobuf.

What lies beside a graph, and by which names, is `headrace_engines.beside`'s. Weights are mapped and not read, so that
whoever goes through them takes one after the other into memory.
"""

import hashlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from headrace_engines.beside import Graph, require_beside
from onnx import TensorProto, helper, numpy_helper

LARGEST_BYTES = 256 * 2**20
"""What the constants of a graph may take that is one file."""
LEAST_BYTES: Final = 64 * 2**10
"""A constant that takes less stays in the graph, whatever its size."""
_PLAIN: Final = frozenset("fiu")
"""Kinds of numpy's types that are written as they are in memory."""
Array = np.ndarray[Any, Any]


def structure_of(graph: Graph) -> onnx.ModelProto:
    """Return a graph as a message; weights beside it stay there. Raises NotAModel where one is not there."""
    return onnx.load_from_string(graph if isinstance(graph, bytes) else require_beside(graph))


def whole(graph: Graph) -> bytes:
    """Return the bytes of a graph that holds its weights. Raises TypeError for another."""
    if isinstance(graph, bytes):
        return graph
    raise TypeError(f"graph: expected one file, got {graph} with weights beside it")


def folder_of(graph: Graph) -> Path | None:
    """Return where the weights of a graph lie beside it; None where it holds them."""
    return None if isinstance(graph, bytes) else graph.parent


def values_of(tensor: TensorProto, folder: Path | None) -> Array:
    """Return the numbers of a constant; those beside the graph, which lie in the folder, are mapped."""
    if folder is None or not tensor.external_data:
        return numpy_helper.to_array(tensor)
    location = next(each.value for each in tensor.external_data if each.key == "location")
    return np.memmap(
        folder / location, helper.tensor_dtype_to_np_dtype(tensor.data_type), "r", shape=tuple(tensor.dims)
    )


def constant(name: str, values: Array, folder: Path | None = None) -> TensorProto:
    """Return a constant of a graph. With a folder its numbers are written there, where they are many."""
    if folder is None or values.nbytes < LEAST_BYTES or values.dtype.kind not in _PLAIN:
        return numpy_helper.from_array(values, name)
    data = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data.cast("B")
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if not (folder / digest).exists():
        (folder / digest).write_bytes(data)
    tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(values.dtype), dims=values.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", digest), ("length", str(len(data)))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def as_graph(model: onnx.ModelProto, folder: Path | None = None) -> Graph:
    """Return a model as a graph: the same bytes for the same model.

    With a folder it is a file there where its constants take more than `LARGEST_BYTES`; weights that lie beside it are
    in that folder.
    """
    if folder is None:
        return bytes(model.SerializeToString(deterministic=True))
    is_large = sum(map(_size, model.graph.initializer)) > LARGEST_BYTES
    for tensor in model.graph.initializer:
        if is_large != bool(tensor.external_data):
            tensor.CopyFrom(constant(tensor.name, values_of(tensor, folder), folder if is_large else None))
    data = bytes(model.SerializeToString(deterministic=True))
    return written(data, folder) if is_large else data


def written(data: bytes, folder: Path) -> Path:
    """Write a graph whose weights lie in a folder beside them, and return its file."""
    path = folder / f"{hashlib.sha256(data).hexdigest()}.onnx"
    path.write_bytes(data)
    return path


def _size(tensor: TensorProto) -> int:
    return next((int(each.value) for each in tensor.external_data if each.key == "length"), tensor.ByteSize())
