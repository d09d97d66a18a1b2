"""A server with the part of a schema registry's API that readers ask for, over real HTTP on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


class SchemaServer:
    """Serves what it was given, by path; `answer` stands for everything while it is set."""

    def __init__(self) -> None:
        self.documents: dict[str, Mapping[str, Any]] = {}
        self.answer: tuple[int, bytes] | None = None
        """Status and body of every answer, whatever is asked."""
        self.login = ""
        """What the header Authorization must be; empty for any."""
        self.asked: list[str] = []
        """The path of each request so far."""
        server = self

        self.hangs_up: set[str] = set()
        """Paths behind whose answer a connection is closed, though the answer says that it is kept."""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, body = server.answered(unquote(self.path), self.headers.get("Authorization", ""))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.close_connection |= self.path in server.hangs_up

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._http.server_port}"
        self.url = f"http://{self.host}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), name="schemas", daemon=True).start()

    def add(self, number: int, text: str, schema_type: str = "AVRO", references: object = ()) -> None:
        """Serve a schema by its id."""
        told = {"schema": text, "schemaType": schema_type, "references": references}
        self.documents[f"/schemas/ids/{number}"] = told

    def answered(self, path: str, login: str) -> tuple[int, bytes]:
        """Return the answer to a request."""
        self.asked.append(path)
        if self.answer is not None:
            return self.answer
        if self.login and login != self.login:
            return 401, b'{"error_code": 401, "message": "Unauthorized"}'
        found = self.documents.get(path)
        if found is None:
            return 404, b'{"error_code": 40403, "message": "Schema not found"}'
        return 200, json.dumps(found).encode()

    def close(self) -> None:
        """Stop answering."""
        self._http.shutdown()
        self._http.server_close()
