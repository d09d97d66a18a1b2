"""The OpenAPI 3.1 description of REST, made of the table of its paths, and a page that shows it."""

from __future__ import annotations

import html
import json
import re
from functools import cache
from importlib.metadata import version as installed_version
from typing import Any

from headrace_runtime.priorities import LAST

from headrace_inference.transport.rest.paths import PATHS, Path
from headrace_inference.transport.rest.schemas import SCHEMAS
from headrace_inference.transport.rest.writing import write_json

_STATUSES = {
    "400": "What came does not fit; the text says what was expected",
    "404": "No such model or version",
    "408": "The request did not arrive whole in time",
    "413": "Too large",
    "429": "Too much waits already; Retry-After says when to come again",
    "503": "Not loaded, or down; Retry-After says when to come again",
    "504": "The caller's time was over",
}
_TIMEOUT = {
    "name": "Headrace-Timeout-Ms",
    "in": "header",
    "description": "Milliseconds that the caller waits for the answer",
    "schema": {"type": "integer", "minimum": 1},
}
_PRIORITY = {
    "name": "Headrace-Priority",
    "in": "header",
    "description": "1 for the most urgent; 0 is usual, as 3 is",
    "schema": {"type": "integer", "minimum": 0, "maximum": LAST},
}
_STYLE = (
    "body{font:16px sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "code,pre{background:#eee;padding:.1em .3em}pre{overflow:auto}"
)


@cache
def document() -> bytes:
    """Return the description as JSON."""
    return write_json(described())


def described() -> dict[str, Any]:
    """Return the description."""
    paths: dict[str, dict[str, Any]] = {}
    for each in PATHS:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headrace inference",
            "version": installed_version("headrace-inference"),
            "description": "The Open Inference Protocol below /v2, OpenAI's paths below /v1.",
        },
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }


def _operation(each: Path) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", each.path)
    found: dict[str, Any] = {
        "summary": each.told,
        "operationId": "_".join([each.endpoint, *names]),
        "tags": ["OpenAI" if each.openai else "Open Inference Protocol" if each.path.startswith("/v2") else "about"],
        "parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names],
        "responses": {"200": _answered(each)},
    }
    if each.path.startswith(("/v1", "/v2")):
        found["parameters"] += [_TIMEOUT, _PRIORITY] if each.endpoint == "records" else [_TIMEOUT]
        kind, schema = ("application/json", "OpenAiError") if each.openai else ("application/problem+json", "Problem")
        content = {kind: {"schema": _ref(schema)}}
        found["responses"] |= {status: {"description": told, "content": content} for status, told in _STATUSES.items()}
    if each.body:
        content = {"application/json": {"schema": _ref(each.body)}}
        if each.binary:
            content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
        found["requestBody"] = {"required": not each.optional_body, "content": content}
    return found


def _answered(each: Path) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if each.answer:
        content["application/json"] = {"schema": _ref(each.answer)}
    else:
        content["text/html"] = {"schema": {"type": "string"}}
    if each.binary:
        content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    if each.streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return {"description": "The answer", "content": content}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


@cache
def page() -> bytes:
    """Return the description as a page of HTML that needs nothing else."""
    parts = []
    for each in PATHS:
        takes = f" Takes {_linked(each.body)}." if each.body else ""
        answers = f" Answers {_linked(each.answer)}" if each.answer else " Answers HTML"
        told = f"{html.escape(each.told)}.{takes}{answers}{', or events of it' * each.streams}."
        parts.append(f"<h3><code>{each.method} {html.escape(each.path)}</code></h3><p>{told}</p>")
    for name, schema in SCHEMAS.items():
        shown = html.escape(_indented(schema))
        parts.append(f'<h3 id="{name}">{name}</h3><pre>{shown}</pre>')
    body = "\n".join(parts)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Headrace inference</title><style>{_STYLE}</style>"
        "<h1>Headrace inference</h1><p>Paths and what goes over them; for programs: "
        f'<a href="openapi.json">openapi.json</a>.</p>\n{body}\n</html>\n'
    ).encode()


def _linked(name: str) -> str:
    return f'<a href="#{name}">{name}</a>'


def _indented(schema: Any) -> str:
    return json.dumps(schema, indent=1)
