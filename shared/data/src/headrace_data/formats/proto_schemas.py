"""Schemas of Protobuf: from the text of .proto files, or from descriptors, to a pool of their own.

Text is compiled by protoc in a process of its own, which sees nothing but a folder with these files: a text that it
does not survive ends that process alone. A registry that keeps what Python's serialisers register gives descriptors in
base64 instead.
"""

from __future__ import annotations

import base64
import binascii
import errno
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headrace_data.formats.schemas import Schema, SchemaInvalid

if TYPE_CHECKING:
    from google.protobuf.descriptor import FileDescriptor
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

COMPILE_S: Final = 30.0
"""Seconds that protoc may take."""
_FILE: Final = "headrace_records.proto"
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/\s]+=*\s*")
_WELL_KNOWN: Final = "google/protobuf/"
_KILLED: Final = (signal.SIGKILL, signal.SIGTERM)
_SHOWN: Final = 300


def file_of(schema: Schema) -> FileDescriptor:
    """Return the file of a schema in a pool of its own. Raises SchemaInvalid, and OSError when no process can run."""
    from google.protobuf.descriptor_pool import DescriptorPool

    pool = DescriptorPool()
    try:
        for file in _descriptors(schema):
            pool.Add(file)
        return pool.FindFileByName(_FILE)
    except (TypeError, KeyError, ValueError) as error:
        raise SchemaInvalid(f"expected a schema of Protobuf, got none: {str(error)[:_SHOWN]}") from error


def _descriptors(schema: Schema) -> Iterator[FileDescriptorProto]:
    """Yield the files of a schema, each behind what it imports."""
    if not _BASE64.fullmatch(schema.text):
        yield from _compiled(schema)
        return
    found = {name: _decoded(name, text) for name, text in {**schema.references, _FILE: schema.text}.items()}
    yield from _well_known({name for file in found.values() for name in file.dependency if name not in found}, set())
    yield from found.values()


def _decoded(name: str, text: str) -> FileDescriptorProto:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.message import DecodeError

    try:
        file = FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, DecodeError) as error:
        raise SchemaInvalid(f"expected the descriptor of {name} in base64, got none: {error}") from error
    file.name = name
    return file


def _well_known(names: set[str], done: set[str]) -> Iterator[FileDescriptorProto]:
    """Yield the files that come with Protobuf, each behind what it imports."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    for name in sorted(names - done):
        done.add(name)
        if not name.startswith(_WELL_KNOWN) or not _NAME.fullmatch(name):
            raise SchemaInvalid(f"expected a reference for {name!r}, which it imports")
        try:
            module = import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
        except ImportError as error:
            raise SchemaInvalid(f"expected a file that comes with Protobuf, got {name!r}") from error
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        yield from _well_known(set(file.dependency), done)
        yield file


def _compiled(schema: Schema) -> Iterator[FileDescriptorProto]:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    with tempfile.TemporaryDirectory(prefix="headrace-proto-") as folder:
        root = Path(folder)
        (root / "in").mkdir()
        for name, text in {**schema.references, _FILE: schema.text}.items():
            if name.startswith(_WELL_KNOWN):
                continue
            if not _NAME.fullmatch(name) or ".." in name:
                raise SchemaInvalid(f"expected names of files with letters, digits and ._-/, got {name!r}")
            path = root / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        _run_protoc(root)
        found = FileDescriptorSet.FromString((root / "out").read_bytes())
    yield from found.file


def _run_protoc(root: Path) -> None:
    tools = find_spec("grpc_tools")
    if tools is None or tools.origin is None:
        raise ImportError("expected grpcio-tools for schemas of Protobuf: install headrace-data[formats]")
    known = Path(tools.origin).parent / "_proto"
    command = [sys.executable, "-I", "-m", "grpc_tools.protoc", f"-I{root / 'in'}", f"-I{known}", "--include_imports"]
    command += [f"--descriptor_set_out={root / 'out'}", _FILE]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, check=False, timeout=COMPILE_S)
    except subprocess.TimeoutExpired as error:
        raise SchemaInvalid(f"expected one that protoc compiles within {COMPILE_S:.0f} s") from error
    if -done.returncode in _KILLED:
        # Whoever ended it did not read the text.
        raise ChildProcessError(errno.ECHILD, f"protoc was ended by signal {-done.returncode}")
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().replace(f"{root / 'in'}/", "").splitlines()
        # Beside what is wrong with files, it writes of itself.
        found = [line for line in told if line.partition(":")[0].endswith(".proto")] or told[-1:]
        reason = found[0] if found else f"protoc ended with {done.returncode}"
        raise SchemaInvalid(f"expected a schema of Protobuf, got none: {reason[:_SHOWN]}")
