"""What is in a file of Keras's, looked at without Keras: a zip archive (.keras), or HDF5 (.h5) of any version before.

Nothing is followed that leads out of the file, nothing is unpacked that is larger than the file says it is, and the
numbers in it bound what its layers may have.
"""

import importlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from headrace_learning.errors import NotLearnable

SUBJECT: Final = "imported Keras file"
ZIP_START, HDF5_START = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS: Final = {"metadata.json", _CONFIG, _WEIGHTS}
_MOST_CONFIG_BYTES = 16 * 2**20
_MOST_OBJECTS = 100_000
"""Groups and sets of numbers in a file."""
_STARTS: Final = {
    b"\x80": "a pickle, which is never read: it can run any program",
    b"\x08": "an ONNX or TensorFlow graph; --format onnx reads ONNX",
    b"{": "JSON, which has no weights; save the model with model.save('model.keras')",
}


@dataclass(frozen=True)
class KerasFile:
    """A file whose outer form is sound."""

    data: bytes
    suffix: str
    """.keras or .h5."""
    config: Mapping[str, Any]
    """How its layers are put together, as Keras wrote it down."""
    numbers: int
    """How many numbers its weights are, those of an optimiser included."""


def read_keras_file(data: bytes) -> KerasFile:
    """Look a file through. Raise `NotLearnable` for what is none, or is not whole, or leads elsewhere."""
    if data.startswith(ZIP_START):
        return _read_zip(data)
    if data.startswith(HDF5_START):
        with _hdf5(data) as file:
            return KerasFile(
                data, ".h5", _config(file.attrs.get("model_config"), "attribute model_config"), _count(file)
            )
    known = next((what for start, what in _STARTS.items() if data.startswith(start)), f"it begins with {data[:8]!r}")
    raise NotLearnable(f"{SUBJECT}: expected a .keras file (a zip archive) or an .h5 file (HDF5), got another: {known}")


def _read_zip(data: bytes) -> KerasFile:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {each.filename: each for each in archive.infolist()}
            if len(members) != len(archive.infolist()) or not {_CONFIG, _WEIGHTS} <= members.keys() <= _MEMBERS:
                told = sorted(each.filename for each in archive.infolist())[:10]
                raise NotLearnable(
                    f"{SUBJECT}: expected {', '.join(sorted(_MEMBERS))} in it and nothing else, got {told}"
                )
            config = _config(_member(archive, members[_CONFIG], _MOST_CONFIG_BYTES), _CONFIG)
            # Keras does not compress weights, so they are no larger than the file.
            weights = _member(archive, members[_WEIGHTS], len(data))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
        raise NotLearnable(f"{SUBJECT}: expected a whole zip archive, got {_told(error)}") from error
    with _hdf5(weights) as file:
        return KerasFile(data, ".keras", config, _count(file))


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most_bytes: int) -> bytes:
    with archive.open(member) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise NotLearnable(f"{SUBJECT}: expected at most {most_bytes:,} bytes of {member.filename}, got more")
    return data


def _config(text: Any, name: str) -> Mapping[str, Any]:
    if text is None:
        raise NotLearnable(
            f"{SUBJECT}: expected a whole model, got weights alone: there is no {name}; save it with model.save(...)"
        )
    try:
        if len(text) > _MOST_CONFIG_BYTES:
            raise NotLearnable(f"{SUBJECT}: expected at most {_MOST_CONFIG_BYTES:,} bytes of {name}, got {len(text):,}")
        config = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise NotLearnable(f"{SUBJECT}: expected JSON in {name}, got {_told(error)}") from error
    if not isinstance(config, dict):
        raise NotLearnable(f"{SUBJECT}: expected a JSON object in {name}, got {type(config).__name__}")
    return config


@contextmanager
def _hdf5(data: bytes) -> Iterator[Any]:
    h5py = _h5py()
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            yield file
    except NotLearnable:
        raise
    except Exception as error:  # h5py raises whatever comes to HDF5's mind: KeyError, RuntimeError, ValueError, OSError
        raise NotLearnable(f"{SUBJECT}: expected whole HDF5, got {_told(error)}") from error


def _h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise needs_extra(error) from error


def needs_extra(error: ImportError) -> NotLearnable:
    """Return what to say where Keras is not installed."""
    return NotLearnable(
        "train.network.format: keras needs Keras and h5py, which are not here: install headrace-learning[keras] beside "
        f"the trainer ({error})"
    )


def _count(file: Any) -> int:
    """Return how many numbers a file holds, all of which are in it, in the open."""
    h5py = _h5py()
    numbers, seen, waiting = 0, set[Any](), [("", file)]
    while waiting:
        name, group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        if len(seen) > _MOST_OBJECTS:
            raise NotLearnable(f"{SUBJECT}: expected at most {_MOST_OBJECTS:,} groups and sets of numbers, got more")
        if isinstance(group, h5py.Dataset):
            numbers += _size(f"{name} of the weights", group)
            continue
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise NotLearnable(f"{SUBJECT}: expected all weights in one file, got a link at {name}/{key}")
            waiting.append((f"{name}/{key}", group[key]))
    return numbers


def _size(name: str, dataset: Any) -> int:
    if dataset.is_virtual or dataset.external:
        raise NotLearnable(f"{SUBJECT}: expected all weights in one file, got {name} from another")
    if dataset.dtype.kind not in "fiub" or dataset.dtype.hasobject or dataset.dtype.subdtype is not None:
        raise NotLearnable(f"{SUBJECT}: expected numbers at {name}, got {dataset.dtype}")
    # Chunks that were never written, and what compresses well, would be larger in memory than in the file.
    if dataset.id.get_storage_size() < dataset.size * np.dtype(dataset.dtype).itemsize:
        raise NotLearnable(f"{SUBJECT}: expected uncompressed numbers at {name}, got fewer bytes than its shape has")
    return int(dataset.size)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
