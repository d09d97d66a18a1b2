"""Servers of models of language beside inference: what replicas are told of them, and a vLLM over several pods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

Manifest = dict[str, Any]
NEWEST = ".".join(kubernetes_validate.latest_version().split(".")[:2])
COMPONENT = "app.kubernetes.io/component"
VLLM = {
    "enabled": True,
    "model": "/models/large",
    "servedName": "large-v3",
    "modelsClaim": "models",
    "nodes": 2,
    "tensorParallel": 8,
    "pipelineParallel": 2,
    "key": "vllm",
    "args": ["--max-model-len=8192"],
    "resources": {"limits": {"nvidia.com/gpu": 8}},
    "nodeSelector": {"gpu": "h200"},
}
VALUES = {"upstream": {"hosts": ["other:9000"], "keysSecret": "keys", "adaptersClaim": "adapters", "vllm": VLLM}}


@pytest.fixture(scope="module")
def rendered(render_all: Callable[[Any], list[Manifest]]) -> dict[tuple[str, str], Manifest]:
    """Every object by kind and name."""
    return {(each["kind"], each["metadata"]["name"]): each for each in render_all(VALUES)}


Objects = dict[tuple[str, str], Manifest]


def pod_of(rendered: Objects, kind: str, name: str) -> tuple[Manifest, Manifest]:
    spec = rendered[kind, name]["spec"]["template"]["spec"]
    (only,) = spec["containers"]
    return spec, only


def test_kubernetes_takes_what_is_made(rendered: Objects) -> None:
    mine = [each for (_, name), each in rendered.items() if "upstream" in name]
    assert len(mine) == 7
    for each in mine:
        kubernetes_validate.validate(each, NEWEST, strict=True)


def test_replicas_are_told_whom_they_may_ask_and_where_keys_are(rendered: Objects) -> None:
    spec, only = pod_of(rendered, "Deployment", "headrace-inference")
    told = {each["name"]: each.get("value") for each in only["env"]}
    assert told["HEADRACE_UPSTREAM_HOSTS"] == "other:9000,headrace-upstream:8000"
    mounts = {each["name"]: each["mountPath"] for each in only["volumeMounts"]}
    assert told["HEADRACE_UPSTREAM_KEYS_DIR"] == mounts["upstream-keys"]
    assert told["HEADRACE_UPSTREAM_ADAPTERS_DIR"] == mounts["adapters"]
    assert {"name": "adapters", "persistentVolumeClaim": {"claimName": "adapters"}} in spec["volumes"]
    other = pod_of(rendered, "StatefulSet", "headrace-trainer")[1]
    assert not any("UPSTREAM" in each["name"] for each in other["env"])


def test_pods_have_one_model_together(rendered: Objects) -> None:
    first_set, others_set = (rendered["StatefulSet", f"headrace-{each}"] for each in ("upstream", "upstream-nodes"))
    assert (first_set["spec"]["replicas"], others_set["spec"]["replicas"]) == (1, 1)
    for name, place in (("upstream", "0"), ("upstream-nodes", "1")):
        spec, only = pod_of(rendered, "StatefulSet", f"headrace-{name}")
        args = only["args"]
        assert args[0] == "/models/large"
        wanted = {
            "--served-model-name=large-v3",
            "--tensor-parallel-size=8",
            "--pipeline-parallel-size=2",
            "--nnodes=2",
        }
        assert wanted | {"--enable-lora", "--max-model-len=8192"} <= set(args)
        assert "--master-addr=headrace-upstream-0.headrace-upstream-nodes" in args
        assert ("--headless" in args) == (name == "upstream-nodes")
        assert {"name": "FIRST", "value": place} in only["env"]
        assert "startupProbe" in only or "--headless" in args
        assert only["resources"]["limits"] == {"nvidia.com/gpu": 8}
        assert spec["nodeSelector"] == {"gpu": "h200"}
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert only["securityContext"]["readOnlyRootFilesystem"] is True
        # Adapters lie where replicas write them.
        assert {"name": "adapters", "mountPath": "/var/lib/headrace/adapters", "readOnly": True} in only["volumeMounts"]
    names = rendered["Service", "headrace-upstream-nodes"]["spec"]
    assert (names["clusterIP"], names["publishNotReadyAddresses"]) == ("None", True)
    assert first_set["spec"]["serviceName"] == "headrace-upstream-nodes"


def test_who_may_call_whom(rendered: Objects) -> None:
    policy = rendered["NetworkPolicy", "headrace-upstream"]["spec"]
    callers, *_ = policy["ingress"]
    assert callers["ports"] == [{"protocol": "TCP", "port": "http"}]
    assert callers["from"][0]["podSelector"]["matchLabels"][COMPONENT] == "inference"
    # The model lies in a claim: nothing is fetched from outside.
    assert all(rule.get("to") for rule in policy["egress"])
    outgoing = rendered["NetworkPolicy", "headrace-inference"]["spec"]["egress"]
    ports = {port["port"]: rule.get("to") for rule in outgoing for port in rule["ports"]}
    assert ports[8000][0]["podSelector"]["matchLabels"][COMPONENT] == "upstream"
    assert ports[9000] is None
    others = rendered["NetworkPolicy", "headrace-upstream-nodes"]["spec"]["ingress"]
    assert [rule["from"][0]["podSelector"]["matchExpressions"][0]["values"] for rule in others] == [
        ["upstream", "upstream-nodes"]
    ]


def test_nothing_of_it_is_there_by_default(render_all: Callable[[Any], list[Manifest]]) -> None:
    assert not [each for each in render_all({}) if "upstream" in each["metadata"]["name"]]
