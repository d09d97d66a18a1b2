"""What is in an HDF5 file, looked at by a process of its own, which is ended where it does not end.

The library that reads HDF5 was not made for files that mean no good: some have it loop, and some end its process.
Who has asked goes on, and reads again what was read through once.
"""

import importlib
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from headrace_learning.errors import NotLearnable

MOST_CONFIG_BYTES: Final = 16 * 2**20
_MOST_OBJECTS: Final = 100_000
"""Groups and sets of numbers in a file."""
_CPU_S, _CPU_S_EACH_GIB = 5, 30
"""Processor time for a look."""
_SLACK: Final = 30
"""How often that a look may take in all, whatever else the machine does."""


@dataclass(frozen=True)
class Looked:
    """What a file holds."""

    config: str | None
    """The attribute `model_config` of its root; None without one."""
    numbers: int
    """How many numbers are in it, all of them in the open."""


def look(data: bytes, subject: str) -> Looked:
    """Look a file through. Raise `NotLearnable`, under the name of `subject`, for one that is not whole or sound."""
    most_cpu_s = _CPU_S + _CPU_S_EACH_GIB * len(data) // 2**30
    with tempfile.NamedTemporaryFile(prefix="headrace-import-", suffix=".h5") as file:
        file.write(data)
        file.flush()
        command = [sys.executable, "-m", __name__, file.name, str(most_cpu_s)]
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=_SLACK * most_cpu_s)
        except subprocess.TimeoutExpired as error:
            raise NotLearnable(f"{subject}: expected whole HDF5, got a file whose reading does not end") from error
    if done.returncode != 0 or not done.stdout:
        told = done.stderr.decode(errors="replace").strip().rsplit("\n", 1)[-1][:300]
        raise NotLearnable(
            f"{subject}: expected whole HDF5, got a file that ends its reader, by {done.returncode} ({told})"
        )
    found = json.loads(done.stdout)
    if "error" in found:
        raise NotLearnable(f"{subject}: {found['error']}")
    return Looked(found["config"], found["numbers"])


class _Unsound(Exception):
    """A file is not as it should be; the text says what was expected and what came."""


def _main(path: str, most_cpu_s: int) -> dict[str, Any]:
    resource.setrlimit(resource.RLIMIT_CPU, (most_cpu_s, most_cpu_s))
    room = 4 * 2**30 + 4 * Path(path).stat().st_size
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        return {"error": needs_extra(error)}
    try:
        with h5py.File(path, "r") as file:
            return {"config": _config(file), "numbers": _count(h5py, file)}
    except _Unsound as error:
        return {"error": str(error)}
    except Exception as error:  # whatever comes to HDF5's mind: KeyError, RuntimeError, ValueError, OSError
        return {"error": f"expected whole HDF5, got {type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def needs_extra(error: ImportError) -> str:
    """Return what to say where Keras is not installed."""
    return (
        "train.network.format: keras needs Keras and h5py, which are not here: install headrace-learning[keras] beside "
        f"the trainer ({error})"
    )


def _config(file: Any) -> str | None:
    config = file.attrs.get("model_config")
    if isinstance(config, bytes):
        config = config.decode()
    if config is not None and (not isinstance(config, str) or len(config) > MOST_CONFIG_BYTES):
        raise _Unsound(f"expected a text of at most {MOST_CONFIG_BYTES:,} characters as model_config, got another")
    return config


def _count(h5py: Any, file: Any) -> int:
    """Return how many numbers a file holds, all of which are in it, in the open; read everything once."""
    numbers, seen, waiting = 0, set[Any](), [("", file)]
    while waiting:
        name, group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        if len(seen) > _MOST_OBJECTS:
            raise _Unsound(f"expected at most {_MOST_OBJECTS:,} groups and sets of numbers, got more")
        for attribute in group.attrs:
            group.attrs[attribute]
        if isinstance(group, h5py.Dataset):
            numbers += _size(f"{name} of the weights", group)
            continue
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise _Unsound(f"expected all weights in one file, got a link at {name}/{key}")
            waiting.append((f"{name}/{key}", group[key]))
    return numbers


def _size(name: str, dataset: Any) -> int:
    if dataset.is_virtual or dataset.external:
        raise _Unsound(f"expected all weights in one file, got {name} from another")
    if dataset.dtype.kind not in "fiub" or dataset.dtype.hasobject or dataset.dtype.subdtype is not None:
        raise _Unsound(f"expected numbers at {name}, got {dataset.dtype}")
    # Chunks that were never written, and what compresses well, would be larger in memory than in the file.
    if dataset.id.get_storage_size() < dataset.size * dataset.dtype.itemsize:
        raise _Unsound(f"expected uncompressed numbers at {name}, got fewer bytes than its shape has")
    dataset[()]
    return int(dataset.size)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_main(sys.argv[1], int(sys.argv[2]))))
