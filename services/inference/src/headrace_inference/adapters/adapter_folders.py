"""Adapters of models of language as the folders that PEFT writes and vLLM reads, made of the one file of a version."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from headrace_runtime.errors import Unprocessable

from headrace_inference.core.releases import Graph

ADAPTER: Final = "headrace.adapter"
"""The key of a safetensors file's metadata that has the adapter's configuration."""
SPARE: Final = 32
"""Folders that stay beside a new one, the newest: other replicas may load from them again."""
_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_SIZE: Final = 8
"""Bytes before the header, which say how long it is."""
_MOST_HEADER: Final = 64 * 1024 * 1024
_UNDONE: Final = ".undone-"


class AdapterFolders:
    """Writes adapters below a folder, each under its digest. `read` and `head` fetch a graph, or its first bytes."""

    def __init__(
        self, folder: Path | None, read: Callable[[Graph], bytes], head: Callable[[Graph, int], bytes]
    ) -> None:
        self._folder = folder
        self._read = read
        self._head = head

    def folder(self, graph: Graph) -> Path | None:
        """Return the folder of an adapter; None for a graph that is none, of which little is fetched.

        Raises what fetching raises, OSError, and Unprocessable for an adapter that no folder can be made of.
        """
        if self._head(graph, _SIZE + 1)[_SIZE:] != b"{":
            return None
        if self._folder is None:
            raise Unprocessable("an adapter: expected HEADRACE_UPSTREAM_ADAPTERS_DIR, a folder that servers see, too")
        path = self._folder / graph.digest.removeprefix("sha256:")
        if not (path / _CONFIG).is_file():
            self._write(path, self._read(graph))
        with suppress(OSError):
            path.touch()
        return path

    def _write(self, path: Path, data: bytes) -> None:
        config = _config_of(data)
        path.parent.mkdir(parents=True, exist_ok=True)
        undone = Path(mkdtemp(prefix=_UNDONE, dir=path.parent))
        try:
            (undone / _WEIGHTS).write_bytes(data)
            (undone / _CONFIG).write_text(json.dumps(config))
            # The server may be another user.
            undone.chmod(0o755)
            undone.rename(path)
        except OSError:
            if not (path / _CONFIG).is_file():  # another replica's, of the same bytes
                raise
        finally:
            shutil.rmtree(undone, ignore_errors=True)
        self._tidy(path.parent)

    def _tidy(self, folder: Path) -> None:
        with suppress(OSError):
            found = [each for each in folder.iterdir() if len(each.name) == 64]
            for each in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)[SPARE:]:
                shutil.rmtree(each, ignore_errors=True)


def _config_of(data: bytes) -> dict[str, Any]:
    """Return the configuration of an adapter, as PEFT has it."""
    (size,) = struct.unpack("<Q", data[:_SIZE])
    try:
        if size > min(len(data), _MOST_HEADER):
            raise ValueError("the header is cut off")  # noqa: TRY301 - told with the others
        told = json.loads(data[_SIZE : _SIZE + size])["__metadata__"][ADAPTER]
        config = json.loads(told)["config"]
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise Unprocessable(f"expected an adapter, safetensors with {ADAPTER} among its metadata: {error!r}") from error
    if not isinstance(config, dict):
        raise Unprocessable(f"{ADAPTER}: expected a config, got {config!r:.64}")
    return config
