"""Keys of personal fields: the two services that treat them have them, and no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Manifest = dict[str, Any]
COMPONENT = "app.kubernetes.io/component"


def test_those_who_treat_personal_fields_have_their_keys(render_all: Callable[[Any], list[Manifest]]) -> None:
    having = set()
    for each in render_all({"personal": {"keysSecret": "people"}}):
        if each["kind"] not in ("StatefulSet", "Deployment"):
            continue
        spec = each["spec"]["template"]["spec"]
        (only,) = spec["containers"]
        mounts = {one["name"]: one["mountPath"] for one in only["volumeMounts"]}
        told = {one["name"]: one.get("value") for one in only["env"]}.get("HEADRACE_PERSONAL_KEYS_DIR")
        assert told == mounts.get("personal-keys")
        if told is not None:
            having.add(each["metadata"]["labels"][COMPONENT])
            assert {"name": "personal-keys", "secret": {"secretName": "people"}} in spec["volumes"]
    assert having == {"ingestion", "preprocessing"}
