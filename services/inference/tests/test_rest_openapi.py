"""The OpenAPI page says what is answered, and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from headrace_inference.transport.rest import openapi
from headrace_inference.transport.rest.paths import PATHS
from headrace_inference.transport.rest.schemas import SCHEMAS


@pytest.fixture(scope="module")
def server(rest_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    server = rest_server(tmp_path_factory.mktemp("rest"))
    yield server
    server.host.stop()


def test_every_path_is_described_and_answers(server: Any) -> None:
    _, _, told = server.ask("GET", "/openapi.json")
    assert told["openapi"] == "3.1.0"
    described = {(method.upper(), path) for path, methods in told["paths"].items() for method in methods}
    assert described == {(each.method, each.path) for each in PATHS}
    operations = [each["operationId"] for methods in told["paths"].values() for each in methods.values()]
    assert len(set(operations)) == len(operations)
    for method, path in described:
        asked = path.replace("{model}", "digits").replace("{version}", "1")
        status, _, answer = server.ask(method, asked, b"" if method == "POST" else None)
        assert status in {200, 400} or (path == "/v1/models/{model}" and status == 404), (method, path, answer)


def test_every_schema_is_used_and_every_reference_leads_to_one() -> None:
    used = set(re.findall(r"#/components/schemas/(\w+)", openapi.document().decode()))
    assert used == set(SCHEMAS)


def test_answers_are_what_their_schemas_say(server: Any) -> None:
    jsonschema: Any = pytest.importorskip("jsonschema")
    document = json.loads(openapi.document())
    call = {"inputs": [{"name": "pixels", "datatype": "FP32", "shape": [1, 8, 8], "data": [0.0] * 64}]}
    for each in PATHS:
        if not each.answer or each.path.startswith("/v1/") or each.endpoint in {"openapi", "records"}:
            continue  # records have their own tests
        path = each.path.replace("{model}", "digits").replace("{version}", "1")
        status, _, answer = server.ask(each.method, path, call if each.endpoint == "infer" else None)
        assert status == 200, answer
        schema = {"$ref": f"#/components/schemas/{each.answer}", "components": document["components"]}
        jsonschema.validate(answer, schema)
    jsonschema.validate(call, {"$ref": "#/components/schemas/InferCall", "components": document["components"]})


def test_the_page_loads_nothing(server: Any, tmp_path: Path) -> None:
    status, headers, page = server.ask("GET", "/docs")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    text = page.decode()
    assert all(each.path.replace("&", "&amp;") in text for each in PATHS)
    assert not re.search(r"<script|<link|<img|src=|@import|url\(|https?://", text)
