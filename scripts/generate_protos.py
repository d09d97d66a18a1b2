"""Generates shared/contracts from protos/. Run by `make proto`; `--check` fails when the committed code differs.

Headrace's own contracts become ordinary modules. The Open Inference Protocol becomes one module over a private
descriptor pool: client libraries register the same message names in the default pool and would collide.
"""

from __future__ import annotations

import argparse
import base64
import filecmp
import shutil
import sys
import tempfile
import textwrap
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = ROOT / "shared" / "contracts" / "src" / "headrace"

OPEN_INFERENCE_TEMPLATE = '''\
"""The Open Inference Protocol's messages, in a private descriptor pool. Generated from protos/inference."""

import base64
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"

_FILE = descriptor_pb2.FileDescriptorProto.FromString(
    base64.b64decode(
{descriptor}
    )
)

POOL = descriptor_pool.DescriptorPool()
"""The private pool; pass it to gRPC reflection."""
POOL.Add(_FILE)  # type: ignore[no-untyped-call]


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"inference.{{name}}"))


METHODS = {{
    method.name: (_message(method.input_type.rsplit(".")[-1]), _message(method.output_type.rsplit(".")[-1]))
    for method in _FILE.service[0].method
}}
"""Request and response class of each method, by the method's name."""

{messages}
'''


def generate(target: Path) -> None:
    """Write the whole package `headrace` into the folder target."""
    target.mkdir(parents=True, exist_ok=True)
    own = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / "headrace").rglob("*.proto"))
    includes = [f"-I{PROTOS}", f"-I{resources.files('grpc_tools') / '_proto'}"]
    outputs = [f"--{kind}_out={target.parent}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    run_protoc([*includes, *outputs, *own])
    for folder in [target, *(path for path in target.rglob("*") if path.is_dir())]:
        text = '"""Generated protobuf and gRPC contracts of Headrace."""\n' if folder == target else ""
        (folder / "__init__.py").write_text(text)
    (target / "py.typed").touch()
    (target / "open_inference.py").write_text(open_inference_module(includes))


def open_inference_module(includes: list[str]) -> str:
    """Return the source of headrace.open_inference."""
    from google.protobuf import descriptor_pb2

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set.binpb"
        run_protoc([*includes, f"--descriptor_set_out={path}", "inference/open_inference.proto"])
        file = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file[0]
    encoded = base64.b64encode(file.SerializeToString()).decode()
    descriptor = "\n".join(f'        "{line}"' for line in textwrap.wrap(encoded, 100))
    messages = "\n".join(f'{message.name} = _message("{message.name}")' for message in file.message_type)
    return OPEN_INFERENCE_TEMPLATE.format(descriptor=descriptor, messages=messages)


def run_protoc(arguments: list[str]) -> None:
    """Run protoc and stop with its code when it fails."""
    if code := protoc.main(["protoc", *arguments]):
        sys.exit(code)


def differences(left: Path, right: Path) -> list[str]:
    """Return the relative paths that differ between two folders, byte for byte."""
    names = {
        str(path.relative_to(root))
        for root in (left, right)
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    return sorted(
        name
        for name in names
        if not (left / name).is_file()
        or not (right / name).is_file()
        or not filecmp.cmp(left / name, right / name, shallow=False)
    )


def main() -> None:
    """Generate, or compare with what is committed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "headrace"
        generate(fresh)
        changed = differences(fresh, PACKAGE)
        if not check:
            shutil.rmtree(PACKAGE, ignore_errors=True)
            shutil.copytree(fresh, PACKAGE)
            print(f"generated {PACKAGE.relative_to(ROOT)}: {len(changed)} files changed")
        elif changed:
            sys.exit("shared/contracts differs from protos/, run `make proto`:\n  " + "\n  ".join(changed))


if __name__ == "__main__":
    main()
