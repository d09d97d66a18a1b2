"""Schema registries: who is told of them, where keys are, and that they can be reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]

Manifest = dict[str, Any]
NEWEST = ".".join(kubernetes_validate.latest_version().split(".")[:2])
VALUES = {"schemaRegistries": {"hosts": ["schemas:8081", "other:443"], "keysSecret": "keys"}}


def test_those_who_read_records_may_ask_registries(render_all: Callable[[Any], list[Manifest]]) -> None:
    found = {(each["kind"], each["metadata"]["name"]): each for each in render_all(VALUES)}
    told, reached = set(), set()
    for (kind, name), each in found.items():
        if kind in ("Deployment", "StatefulSet"):
            spec = each["spec"]["template"]["spec"]
            (only,) = spec["containers"]
            environment = {item["name"]: item.get("value") for item in only["env"]}
            if "HEADRACE_SCHEMA_REGISTRY_HOSTS" not in environment:
                continue
            told.add(name)
            kubernetes_validate.validate(each, NEWEST, strict=True)
            assert environment["HEADRACE_SCHEMA_REGISTRY_HOSTS"] == "schemas:8081,other:443"
            mounts = {item["name"]: item["mountPath"] for item in only["volumeMounts"]}
            assert environment["HEADRACE_SCHEMA_REGISTRY_KEYS_DIR"] == mounts["schema-keys"]
            assert {"name": "schema-keys", "secret": {"secretName": "keys"}} in spec["volumes"]
        if kind == "NetworkPolicy":
            ports = {port["port"] for rule in each["spec"].get("egress", ()) for port in rule.get("ports", ())}
            reached |= {name} if {8081, 443} <= ports else set()
    assert told == {"headrace-ingestion", "headrace-preprocessing", "headrace-inference"}
    assert told <= reached
