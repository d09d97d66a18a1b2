"""Servers outside of the replica that have a released model, found by its name; adapters are loaded there."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from headrace_engines.errors import EngineDied, EngineError, Unanswerable
from headrace_engines.generator import Room
from headrace_engines.upstream import Absent, Upstream, read_object
from headrace_engines.upstream_generator import UpstreamGenerator
from headrace_runtime.errors import Unprocessable

from headrace_inference.adapters.adapter_folders import AdapterFolders
from headrace_inference.core.releases import Graph, Release

logger = logging.getLogger(__name__)

LOAD_S: Final = 60.0
"""Seconds that a server may take to load an adapter."""
_MOST_KEY_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """Which servers a replica asks, and with what."""

    hosts: frozenset[str] = frozenset()
    """Each host:port. A pipeline that names another is not served: its author is not who runs the replica."""
    keys_dir: Path | None = None
    """Folder with a file for each key, by its name."""
    adapters_dir: Path | None = None
    """Folder for adapters, which servers see at the same path."""


class Upstreams:
    """Makes what answers for releases that other servers have. Used by one thread."""

    def __init__(self, limits: UpstreamLimits, read: Callable[[Graph], bytes], head: Callable[[Graph, int], bytes]):
        self._limits = limits
        self._adapters = AdapterFolders(limits.adapters_dir, read, head)
        self._loaded = _Loaded()

    def generator(self, release: Release, room: Room, on_health: Callable[[bool], None]) -> UpstreamGenerator:
        """Return the model of a release where a server has it now.

        Raises Unprocessable for a release that names a server or a key that this replica is not told of, and
        EngineDied while no server has the model.
        """
        engine = release.upstream
        assert engine is not None  # noqa: S101 - asked for those alone
        key = self._key(engine.key)
        servers = [Upstream(self._allowed(url), key) for url in engine.urls]
        name = engine.model.format(model=release.model, version=release.ordinal)
        folder = self._adapters.folder(release.graph)
        place = _Named(name, servers) if folder is None else _Adapter(name, servers, folder, self._loaded)
        return UpstreamGenerator(place, room, on_health)

    def _allowed(self, url: str) -> str:
        parts = urlsplit(url)
        host = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        if host not in self._limits.hosts:
            known = ", ".join(sorted(self._limits.hosts)) or "none"
            raise Unprocessable(f"serve.engine.urls: expected a host of HEADRACE_UPSTREAM_HOSTS ({known}), got {host}")
        return url

    def _key(self, name: str) -> Callable[[], str]:
        if not name:
            return str
        folder = self._limits.keys_dir
        if folder is None or not (folder / name).is_file():
            raise Unprocessable(f"serve.engine.key: expected a file {name} in HEADRACE_UPSTREAM_KEYS_DIR, got none")
        return lambda: _read_key(folder / name)


def _read_key(path: Path) -> str:
    """Return a key as it is now: a file may have been replaced."""
    try:
        key = path.read_text()[:_MOST_KEY_BYTES].strip()
    except (OSError, ValueError) as error:
        raise EngineDied(f"the key {path.name} cannot be read: {error!r}") from error
    if not key.isascii() or not key.isprintable():
        raise EngineDied(f"the key {path.name}: expected printable ASCII, got something else")
    return key


class _Named:
    """A model that is looked for by its name; whoever has it stays in use while it has."""

    def __init__(self, model: str, servers: Sequence[Upstream]) -> None:
        self.model = model
        self._servers = list(servers)

    def find(self) -> Upstream:
        """Return the server that has the model now. Raises EngineDied where none has."""
        troubles = []
        for server in tuple(self._servers):
            try:
                self._ensure(server)
            except EngineError as error:
                troubles.append(str(error))
                continue
            # Looked at first from now on: answers stay where they are.
            self._servers.sort(key=lambda each: each is not server)
            return server
        raise EngineDied(f"no server has {self.model!r}: {'; '.join(troubles)}")

    def leave(self) -> None:
        """Nothing was made there."""

    def _ensure(self, server: Upstream) -> None:
        _check_health(server)
        if self.model in (names := _models_of(server)):
            return
        try:
            server.get(f"/v1/models/{quote(self.model)}")  # another replica tells versions when it is asked
        except EngineError as error:
            told = f"{server}: expected {self.model!r} among its models, got {', '.join(names)[:200] or 'none'}"
            raise EngineDied(told) from error


class _Adapter(_Named):
    """An adapter, which is loaded where it is not there: for the first time, and after a server's start."""

    def __init__(self, model: str, servers: Sequence[Upstream], folder: Path, loaded: _Loaded) -> None:
        super().__init__(model, servers)
        self._folder = folder
        self._at: set[Upstream] = set()
        self._loaded = loaded
        loaded.hold(model)

    def leave(self) -> None:
        """Unload it where it was loaded, unless another release is served by it."""
        if self._loaded.let_go(self.model):
            for server in self._at:
                with suppress(EngineError):
                    server.tell("/v1/unload_lora_adapter", {"lora_name": self.model}, LOAD_S)
                    logger.info("%s: %s is unloaded", server, self.model)

    def _ensure(self, server: Upstream) -> None:
        _check_health(server)
        if self.model not in _models_of(server):
            self._load(server)
        self._at.add(server)

    def _load(self, server: Upstream) -> None:
        asked = {"lora_name": self.model, "lora_path": str(self._folder)}
        try:
            server.tell("/v1/load_lora_adapter", asked, LOAD_S)
        except Absent as error:
            told = "expected a vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, which sees the folder"
            raise EngineDied(f"{told} {self._folder}: {error}") from error
        except Unanswerable as error:
            # Another replica may have been faster.
            if self.model not in _models_of(server):
                raise EngineDied(f"it took no adapter: {error}") from error
        logger.info("%s: %s is loaded from %s", server, self.model, self._folder)


class _Loaded:
    """How many releases are served by an adapter: an alias may follow another one, and a version come back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()

    def hold(self, name: str) -> None:
        """Count one more."""
        with self._lock:
            self._held[name] += 1

    def let_go(self, name: str) -> bool:
        """Count one less; return whether it was the last."""
        with self._lock:
            self._held[name] -= 1
            return not self._held[name]


def _check_health(server: Upstream) -> None:
    # Only vLLM says how it is; of others it is enough that they answer.
    with suppress(Absent):
        server.get("/health")


def _models_of(server: Upstream) -> list[str]:
    told = read_object(server, server.get("/v1/models")).get("data")
    if not isinstance(told, list):
        raise EngineDied(f"{server}: expected a list of models, got {told!r:.64}")
    return [str(each["id"]) for each in told if isinstance(each, dict) and "id" in each]
