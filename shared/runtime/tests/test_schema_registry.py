"""A schema registry over HTTP: what is asked once, what counts as unknown, and what may pass."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from headrace_runtime import schema_registry
from headrace_runtime.errors import SettingsInvalid, Unavailable, Unprocessable
from headrace_runtime.schema_registry import RegistryAccess, SchemaRegistry
from headrace_runtime.settings import RegistrySettings, load_settings

TEXT = '{"type": "record", "name": "A", "fields": []}'


def text_of(registry: SchemaRegistry, number: int) -> Any:
    return (registry.by_id(number) or {}).get("schema")


@pytest.fixture
def server(schema_server: Callable[[], Any]) -> Iterator[Any]:
    started = schema_server()
    started.add(7, TEXT)
    yield started
    started.close()


def test_a_schema_is_asked_for_once(server: Any) -> None:
    registry = SchemaRegistry(server.url + "/")
    assert [text_of(registry, 7) for _ in range(3)] == [TEXT] * 3
    server.documents["/subjects/a/b c/versions/2"] = {"schema": "{}"}
    assert registry.by_version("a/b c", 2) == registry.by_version("a/b c", 2) == {"schema": "{}"}
    assert server.asked == ["/schemas/ids/7", "/subjects/a/b c/versions/2"]


def test_an_unknown_id_is_looked_for_again_after_a_while(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = SchemaRegistry(server.url)
    assert registry.by_id(8) is registry.by_id(8) is None
    assert len(server.asked) == 1
    server.add(8, TEXT)
    monkeypatch.setattr(schema_registry, "UNKNOWN_S", -1.0)
    registry = SchemaRegistry(server.url)
    assert registry.by_id(9) is None
    server.add(9, TEXT)
    assert text_of(registry, 9) == TEXT


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((500, b"no"), "got 500"),
        ((401, b'{"message": "who is it"}'), r"got 401 \(who is it\)"),
        ((404, b"<html>"), "got 404"),
        ((404, b'{"error_code": 404}'), "got 404"),
        ((200, b'{"id": 7}'), "got 200"),
        ((200, b"[" * 100_000), "got 200"),
        ((302, b""), "got 302"),
    ],
)
def test_what_may_pass_is_no_answer(server: Any, answer: tuple[int, bytes], reason: str) -> None:
    registry = SchemaRegistry(server.url)
    server.answer = answer
    with pytest.raises(Unavailable, match=f"{server.url}: expected a schema at /schemas/ids/7, {reason}"):
        registry.by_id(7)
    server.answer = None
    assert text_of(registry, 7) == TEXT


def test_nobody_there_and_nobody_answering() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        registry = SchemaRegistry(f"http://127.0.0.1:{silent.getsockname()[1]}", answer_s=0.3)
        with pytest.raises(Unavailable, match="no answer at /schemas/ids/1: TimeoutError"):
            registry.by_id(1)
        with pytest.raises(Unavailable, match=r"no answer at /schemas/ids/1: TimeoutError.* a moment ago"):
            registry.by_id(2)
        registry._silent_until_s = 0.0
    with pytest.raises(Unavailable, match="no answer at /schemas/ids/1: ConnectionRefusedError"):
        registry.by_id(1)


@pytest.mark.parametrize(
    ("login", "header"),
    [("basic", "Basic " + base64.b64encode(b"reader:s3cret").decode()), ("bearer", "Bearer reader:s3cret")],
)
def test_a_key_is_read_for_each_request(server: Any, tmp_path: Path, login: str, header: str) -> None:
    key = tmp_path / "schemas"
    key.write_text("wrong")
    server.login = header
    registry = RegistryAccess(frozenset({server.host}), tmp_path).open(server.url, "schemas", login)
    with pytest.raises(Unavailable, match="got 401"):
        registry.by_id(7)
    key.write_text("reader:s3cret\n")
    assert json.loads(text_of(registry, 7))["name"] == "A"
    key.unlink()
    with pytest.raises(Unavailable, match="the key schemas cannot be read"):
        registry.by_id(1)


def test_only_registries_and_keys_that_the_service_is_told_of_are_asked(tmp_path: Path) -> None:
    access = RegistryAccess(frozenset({"schemas:443"}), tmp_path)
    access.open("https://Schemas/path", None, "basic")
    with pytest.raises(Unprocessable, match=r"HEADRACE_SCHEMA_REGISTRY_HOSTS \(schemas:443\), got schemas:80"):
        access.open("http://schemas", None, "basic")
    with pytest.raises(Unprocessable, match="expected a file reader in HEADRACE_SCHEMA_REGISTRY_KEYS_DIR, got none"):
        access.open("https://schemas", "reader", "basic")


def test_settings_name_registries_by_host_and_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_SCHEMA_REGISTRY_HOSTS", "A:8081, b:443")
    assert load_settings(RegistrySettings).registry_access.hosts == {"a:8081", "b:443"}
    monkeypatch.setenv("HEADRACE_SCHEMA_REGISTRY_HOSTS", "https://a")
    with pytest.raises(SettingsInvalid, match="HEADRACE_SCHEMA_REGISTRY_HOSTS: expected host:port"):
        load_settings(RegistrySettings)


def test_a_connection_is_kept_and_one_that_was_closed_is_made_anew(server: Any) -> None:
    registry = SchemaRegistry(server.url)
    assert text_of(registry, 7) == TEXT
    kept = registry._connection.sock
    assert kept is not None
    server.hangs_up.add("/schemas/ids/8")
    assert registry.by_id(8) is None
    assert registry._connection.sock is kept
    server.add(9, TEXT)
    assert text_of(registry, 9) == TEXT
    assert server.asked == ["/schemas/ids/7", "/schemas/ids/8", "/schemas/ids/9"]
