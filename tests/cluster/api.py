"""A client of the API server: JSON in, JSON out."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any

Object = dict[str, Any]
TIMEOUT_S = 30.0


class Refused(Exception):
    """The API server answered with an error; has its code and what it said."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"{code}: {said}")
        self.code = code


class Api:
    """Calls one API server as an administrator. Safe for use by several threads: each call has its own connection."""

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self._headers = {"Authorization": f"Bearer {token}"}
        # Its certificate is its own, made when it started on this machine.
        self._context = ssl.create_default_context()
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    def call(self, method: str, path: str, body: Object | None = None, kind: str = "application/json") -> Object:
        """Return the answer. Raises Refused, or OSError when nobody answers."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self._context, timeout=TIMEOUT_S)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, self._headers | {"Content-Type": kind})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 400:
            raise Refused(answer.status, text)
        return json.loads(text) if text.startswith("{") else {"text": text}

    def get(self, path: str) -> Object:
        """Return an object."""
        return self.call("GET", path)

    def items(self, path: str) -> list[Object]:
        """Return the objects of a list."""
        return list(self.get(path)["items"])

    def patch(self, path: str, body: Object, manager: str = "stand-in") -> Object:
        """Merge into an object in somebody's name."""
        return self.call("PATCH", f"{path}?fieldManager={manager}", body, "application/merge-patch+json")
