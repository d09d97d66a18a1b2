"""The JobSets of one namespace, by the REST interface of the cluster that this process runs in.

Four calls of a public, stable interface: a client library would bring some thirty packages for them. Who calls is known
by the token of a service account, which is read anew each time, as it is replaced every hour.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from headrace_runtime.errors import SettingsInvalid

from headrace_trainer.core.pods import API, Object

TIMEOUT_S: Final = 10.0
"""How long a call may take."""
_MOST_BYTES: Final = 16 * 2**20
_ERROR: Final = 400


class ApiRefused(Exception):
    """The API server does not do what it is asked for; the message says what, and why."""

    def __init__(self, asked: str, code: int, said: str) -> None:
        super().__init__(f"Kubernetes refused to {asked}: {said} ({code})")
        self.code = code
        """HTTP status."""


class ApiUnreachable(Exception):
    """The API server does not answer, or something that is none."""


class JobSetApi:
    """Makes, reads and deletes JobSets. Each method raises ApiRefused and ApiUnreachable."""

    def __init__(self, address: tuple[str, int], account: Path) -> None:
        """`account` is the folder of a service account, with `token`, `ca.crt` and `namespace`."""
        self._address = address
        self._account = account

    @classmethod
    def of_cluster(cls, account: Path) -> JobSetApi:
        """Return that of the cluster in which this process runs. Raises SettingsInvalid outside of any."""
        host, port = (os.environ.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
        if not host or not port.isdigit():
            expected = "HEADRACE_PODS_TEMPLATE: expected KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT beside it"
            raise SettingsInvalid([f"{expected}, as every pod has them, got {host!r} and {port!r}"])
        return cls((host, int(port)), account)

    def create(self, made: Object) -> None:
        """Make a JobSet."""
        self._call("POST", "make a JobSet", body=made)

    def get(self, name: str) -> Object | None:
        """Return the JobSet of a name, None where there is none."""
        try:
            return self._call("GET", f"read JobSet {name}", f"/{quote(name, safe='')}")
        except ApiRefused as refusal:
            if refusal.code == http.HTTPStatus.NOT_FOUND:
                return None
            raise

    def named(self, labels: Mapping[str, str]) -> list[str]:
        """Return the names of those with these labels, among them such as are on their way out."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self._call("GET", "list JobSets", f"?{urlencode({'labelSelector': selector})}")
        return [each["metadata"]["name"] for each in found.get("items", [])]

    def delete(self, name: str) -> None:
        """Have a JobSet and its pods deleted, the pods first. Nothing happens where there is none."""
        policy = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
        try:
            self._call("DELETE", f"delete JobSet {name}", f"/{quote(name, safe='')}", policy)
        except ApiRefused as refusal:
            if refusal.code != http.HTTPStatus.NOT_FOUND:
                raise

    def _call(self, method: str, asked: str, below: str = "", body: Object | None = None) -> Object:
        """Return what is answered; `below` follows the path of the namespace's JobSets."""
        try:
            status, data = self._exchange(method, below, None if body is None else json.dumps(body))
        except (OSError, http.client.HTTPException) as error:
            host, port = self._address
            raise ApiUnreachable(f"Kubernetes at {host}:{port} does not answer: {error}") from error
        if status >= _ERROR:
            is_unknown = status == http.HTTPStatus.NOT_FOUND and not below.startswith("/")
            raise ApiRefused(asked, status, _message(data) + (f"; it does not know {API}: install it" * is_unknown))
        try:
            return dict(json.loads(data))
        except (ValueError, TypeError) as error:
            raise ApiUnreachable(f"Kubernetes answers something else than an object: {data[:80]!r}") from error

    def _exchange(self, method: str, below: str, sent: str | None) -> tuple[int, bytes]:
        namespace, token = (self._told(file) for file in ("namespace", "token"))
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        context = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
        connection = http.client.HTTPSConnection(*self._address, timeout=TIMEOUT_S, context=context)
        try:
            connection.request(method, f"/apis/{API}/namespaces/{namespace}/jobsets{below}", sent, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(_MOST_BYTES)
        finally:
            connection.close()

    def _told(self, file: str) -> str:
        return (self._account / file).read_text(encoding="utf-8").strip()


def _message(data: bytes) -> str:
    """Return what a refusal says."""
    try:
        said: Any = json.loads(data)["message"]
    except (ValueError, TypeError, KeyError):
        said = data.decode(errors="replace")
    return " ".join(str(said).split())[:1000] or "it gave no reason"
