"""A schema registry over HTTP, with the API of Confluent's: what records name schemas of.

What it answers about an id, or about a version of a subject, never changes: each is asked for once in a process. Only
its own word that it knows none counts as that: whatever else goes wrong, a key that it refuses, a page of some other
server, no answer within seconds, may pass, and is told as Unavailable.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from headrace_runtime.errors import Unavailable, Unprocessable

ANSWER_S: Final = 5.0
"""Seconds that a connection, and then the whole answer, may take."""
UNKNOWN_S: Final = 5.0
"""Seconds for which an id counts as unknown without being asked for again."""
_MOST_BYTES: Final = 8 * 1024 * 1024
_MOST_KEPT: Final = 10_000
_MOST_KEY_BYTES: Final = 4096
_CHUNK: Final = 64 * 1024
_UNKNOWN_CODES: Final = frozenset({40401, 40402, 40403})
"""What a registry calls a subject, a version and a schema that it does not know."""
_HEADERS: Final = {
    "Accept": "application/vnd.schemaregistry.v1+json, application/json",
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """Which registries a service asks, and with what."""

    hosts: frozenset[str] = frozenset()
    """Each host:port. A pipeline that names another is not read: its author is not who runs the service."""
    keys_dir: Path | None = None
    """Folder with a file for each key, by its name."""
    answer_s: float = ANSWER_S
    """Seconds that a connection, and then the whole answer, may take."""

    def open(self, url: str, key: str | None, login: str) -> SchemaRegistry:
        """Return a registry, asked with a key where one is named: `login` says whether it is basic or bearer.

        Raises Unprocessable for a registry or a key that this service is not told of.
        """
        parts = urlsplit(url)
        host = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        if host not in self.hosts:
            known = ", ".join(sorted(self.hosts)) or "none"
            raise Unprocessable(
                f"stream.format.registry.url: expected a host of HEADRACE_SCHEMA_REGISTRY_HOSTS ({known}), got {host}"
            )
        if key is None:
            return SchemaRegistry(url, answer_s=self.answer_s)
        if self.keys_dir is None or not (self.keys_dir / key).is_file():
            raise Unprocessable(
                f"stream.format.registry.key: expected a file {key} in HEADRACE_SCHEMA_REGISTRY_KEYS_DIR, got none"
            )
        path = self.keys_dir / key
        return SchemaRegistry(url, lambda: _authorization(path, login), self.answer_s)


def _authorization(path: Path, login: str) -> str:
    """Return what a request is sent with, of a key as it is now: its file may have been replaced."""
    try:
        key = path.read_text()[:_MOST_KEY_BYTES].strip()
    except (OSError, ValueError) as error:
        raise Unavailable(f"the key {path.name} cannot be read: {error!r}") from error
    if login == "basic":
        return f"Basic {base64.b64encode(key.encode()).decode()}"
    if not key.isascii() or not key.isprintable():
        raise Unavailable(f"the key {path.name}: expected printable ASCII, got something else")
    return f"Bearer {key}"


class SchemaRegistry:
    """One registry. Used from any thread."""

    def __init__(self, url: str, authorization: Callable[[], str] = str, answer_s: float = ANSWER_S) -> None:
        """Take its address, and what gives the header Authorization of each request, empty for none.

        A connection, and then the whole answer, may take `answer_s` seconds.
        """
        self._url = url.rstrip("/")
        parts = urlsplit(self._url)
        self._path = parts.path
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if tls else 80)
        self._connection = (
            HTTPSConnection(parts.hostname or "", port, timeout=answer_s, context=tls)
            if tls
            else HTTPConnection(parts.hostname or "", port, timeout=answer_s)
        )
        # Whoever stops asking says so to nobody.
        weakref.finalize(self, self._connection.close)
        self._alone = threading.Lock()
        self._authorization = authorization
        self._answer_s = answer_s
        self._silent = ""
        """What was said when it did not answer, for as long as it is not asked again."""
        self._silent_until_s = 0.0
        self._known: dict[str, Mapping[str, Any]] = {}
        self._unknown: dict[str, float] = {}
        """Until when (of the steady clock) what is unknown is not asked for again."""

    def by_id(self, number: int) -> Mapping[str, Any] | None:
        """Return the schema with an id, as the registry tells it; None when it knows none. Raises Unavailable."""
        return self._kept(f"/schemas/ids/{number}")

    def by_guid(self, guid: str) -> Mapping[str, Any] | None:
        """Return the same of a schema with a GUID. Raises Unavailable."""
        return self._kept(f"/schemas/guids/{quote(guid, safe='')}")

    def by_version(self, subject: str, version: int) -> Mapping[str, Any] | None:
        """Return the same of a version of a subject. Raises Unavailable."""
        return self._kept(f"/subjects/{quote(subject, safe='')}/versions/{version}")

    def _kept(self, path: str) -> Mapping[str, Any] | None:
        found = self._known.get(path)
        if found is not None:
            return found
        if self._unknown.get(path, 0.0) > time.monotonic():
            return None
        found = self._asked(path)
        if found is None:
            _room(self._unknown)[path] = time.monotonic() + UNKNOWN_S
            return None
        _room(self._known)[path] = found
        return found

    def _asked(self, path: str) -> Mapping[str, Any] | None:
        status, body = self._exchange(path)
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if status == 200 and isinstance(document, dict) and isinstance(document.get("schema"), str):
            return document
        if status == 404 and isinstance(document, dict) and document.get("error_code") in _UNKNOWN_CODES:
            return None
        told = document.get("message") if isinstance(document, dict) else None
        reason = f"{status}{f' ({told})' if isinstance(told, str) else ''}"[:300]
        raise Unavailable(f"schema registry {self._url}: expected a schema at {path}, got {reason}")

    def _exchange(self, path: str) -> tuple[int, bytes]:
        """Return the status and the body of an answer. Raises Unavailable.

        Who waited in vain waits for no second time before as long has passed: others may need the time.
        """
        key = self._authorization()
        headers = {**_HEADERS, "Authorization": key} if key else _HEADERS
        with self._alone:
            if self._silent_until_s > (began_s := time.monotonic()):
                raise Unavailable(f"{self._silent} a moment ago")
            is_kept = self._connection.sock is not None
            try:
                return self._answered(path, headers)
            except (OSError, HTTPException, ValueError) as error:
                # A connection that was kept may have been closed at the other end since.
                if not is_kept:
                    raise self._away(path, error, began_s) from error
            try:
                return self._answered(path, headers)
            except (OSError, HTTPException, ValueError) as error:
                raise self._away(path, error, began_s) from error

    def _away(self, path: str, error: Exception, began_s: float) -> Unavailable:
        self._silent = f"schema registry {self._url}: no answer at {path}: {error!r}"
        self._silent_until_s = 2 * time.monotonic() - began_s
        return Unavailable(self._silent)

    def _answered(self, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        try:
            self._connection.request("GET", self._path + path, headers=headers)
            response = self._connection.getresponse()
            return response.status, _whole(response, self._answer_s)
        except BaseException:
            self._connection.close()
            raise


def _whole(response: HTTPResponse, answer_s: float) -> bytes:
    """Return all that is answered; raises TimeoutError of one that drips, and ValueError of one without an end."""
    until_s, body = time.monotonic() + answer_s, bytearray()
    while chunk := response.read1(_CHUNK):
        body += chunk
        if len(body) > _MOST_BYTES:
            raise ValueError(f"expected at most {_MOST_BYTES} bytes, got more")
        if time.monotonic() > until_s:
            raise TimeoutError(f"expected an answer within {answer_s:.0f} s, got a part of it")
    # All of it is read, which reading by pieces takes no note of: the connection is free for the next request.
    response.close()
    return bytes(body)


def _room(kept: dict[str, Any]) -> dict[str, Any]:
    """Return a dictionary with room for one more; what was put in first goes."""
    while len(kept) >= _MOST_KEPT:
        kept.pop(next(iter(kept)), None)
    return kept
