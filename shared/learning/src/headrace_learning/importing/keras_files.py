"""What is in a file of Keras's, looked at without Keras: a zip archive (.keras), or HDF5 (.h5) of any version before.

Nothing is followed that leads out of the file, nothing is unpacked that is larger than the file says it is, and the
numbers in it bound what its layers may have. Keras is given what was looked at: an archive is packed anew, without what
models were compiled with, which would be built as well.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from headrace_learning.errors import NotLearnable
from headrace_learning.importing.hdf5 import MOST_CONFIG_BYTES, look

SUBJECT: Final = "imported Keras file"
ZIP_START, HDF5_START = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS: Final = {"metadata.json", _CONFIG, _WEIGHTS}
_STARTS: Final = {
    b"\x80": "a pickle, which is never read: it can run any program",
    b"\x08": "an ONNX or TensorFlow graph; --format onnx reads ONNX",
    b"{": "JSON, which has no weights; save the model with model.save('model.keras')",
}


@dataclass(frozen=True)
class KerasFile:
    """A file whose outer form is sound."""

    data: bytes
    """What Keras is given."""
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
        found = look(data, SUBJECT)
        return KerasFile(data, ".h5", _config(found.config, "attribute model_config"), found.numbers)
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
            config = _uncompiled(_config(_member(archive, members[_CONFIG], MOST_CONFIG_BYTES), _CONFIG))
            # Keras does not compress weights, so they are no larger than the file.
            weights = _member(archive, members[_WEIGHTS], len(data))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
        raise NotLearnable(f"{SUBJECT}: expected a whole zip archive, got {_told(error)}") from error
    return KerasFile(_packed(config, weights), ".keras", config, look(weights, SUBJECT).numbers)


def _uncompiled(value: Any) -> Any:
    """Return a config without losses and optimisers, of models within models too: they may be the maker's own."""
    if isinstance(value, dict):
        return {name: _uncompiled(each) for name, each in value.items() if name != "compile_config"}
    return [_uncompiled(each) for each in value] if isinstance(value, list) else value


def _packed(config: Mapping[str, Any], weights: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(_CONFIG, json.dumps(config))
        archive.writestr(_WEIGHTS, weights)
    return packed.getvalue()


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most_bytes: int) -> bytes:
    with archive.open(member) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise NotLearnable(f"{SUBJECT}: expected at most {most_bytes:,} bytes of {member.filename}, got more")
    return data


def _config(text: str | bytes | None, name: str) -> Mapping[str, Any]:
    if text is None:
        raise NotLearnable(
            f"{SUBJECT}: expected a whole model, got weights alone: there is no {name}; save it with model.save(...)"
        )
    try:
        config = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise NotLearnable(f"{SUBJECT}: expected JSON in {name}, got {_told(error)}") from error
    if not isinstance(config, dict):
        raise NotLearnable(f"{SUBJECT}: expected a JSON object in {name}, got {type(config).__name__}")
    return config


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
