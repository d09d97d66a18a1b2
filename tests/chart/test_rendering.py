"""Helm accepts the chart, makes of its examples what is committed, and Kubernetes would take every object."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "headrace"
CUSTOM = json.loads((Path(__file__).parent / "custom_resources.json").read_text())
"""The parts of KEDA's and Prometheus Operator's objects that the chart uses; kubernetes-validate knows none of them."""

OLDEST = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"].removeprefix(">=").removesuffix(".0-0")
NEWEST = ".".join(kubernetes_validate.latest_version().split(".")[:2])


def check(manifest: dict[str, Any], version: str) -> None:
    if manifest["kind"] in CUSTOM:
        jsonschema.validate(manifest, CUSTOM[manifest["kind"]])
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_chart_lints(helm: Callable[..., str], example: str) -> None:
    values = CHART / "examples" / example / "values.yaml"
    assert "1 chart(s) linted, 0 chart(s) failed" in helm("lint", "--strict", str(CHART), "--values", str(values))


def test_an_example_renders_as_committed(rendering: Callable[[str], str], example: str) -> None:
    committed = (CHART / "examples" / example / "rendered.yaml").read_text()
    assert rendering(example) == committed, "the chart renders something else now: look at it, then run `make chart`"


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_every_object(manifests: list[dict[str, Any]], version: str) -> None:
    for manifest in manifests:
        check(manifest, version)


def test_the_check_of_objects_finds_mistakes(manifests: list[dict[str, Any]]) -> None:
    for manifest in manifests:
        spoilt = manifest | {"spec": manifest.get("spec", {}) | {"replicaz": 1}}
        with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
            check(spoilt, NEWEST)


SASL = {"mechanism": "PLAIN", "existingSecret": "kafka"}
USER = ["username", "password"]


@pytest.mark.parametrize(
    ("kafka", "parameters"),
    [
        ({"securityProtocol": "PLAINTEXT"}, []),
        ({"securityProtocol": "SSL"}, []),
        ({"securityProtocol": "SSL", "tls": {"existingSecret": "tls"}}, ["ca"]),
        ({"securityProtocol": "SASL_PLAINTEXT", "sasl": SASL}, USER),
        ({"securityProtocol": "SASL_SSL", "sasl": SASL}, USER),
        ({"securityProtocol": "SASL_SSL", "sasl": SASL, "tls": {"existingSecret": "t"}}, [*USER, "ca"]),
    ],
)  # fmt: skip
def test_scalers_authenticate_where_there_is_something_to_show(
    render: Callable[[Any], list[dict[str, Any]]], kafka: dict[str, Any], parameters: list[str]
) -> None:
    manifests = render({"kafka": kafka, "services": {"trainer": {"keda": {"enabled": True}}}})
    for manifest in manifests:
        if manifest["kind"] in CUSTOM:
            check(manifest, NEWEST)
    shown = [each for each in manifests if each["kind"] == "TriggerAuthentication"]
    assert [ref["parameter"] for each in shown for ref in each["spec"]["secretTargetRef"]] == parameters
    (scaler,) = (each for each in manifests if each["kind"] == "ScaledObject")
    (trigger,) = scaler["spec"]["triggers"]
    named = [trigger["authenticationRef"]] if "authenticationRef" in trigger else []
    assert named == [{"name": each["metadata"]["name"]} for each in shown]
    assert (trigger["metadata"].get("tls") == "enable") == kafka["securityProtocol"].endswith("SSL")


def test_names_are_unique_and_every_object_has_the_release_s_labels(manifests: list[dict[str, Any]]) -> None:
    names = Counter((manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests)
    assert set(names.values()) == {1}
    for manifest in manifests:
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "headrace"
        assert labels["app.kubernetes.io/part-of"] == "headrace"
        assert manifest["metadata"]["namespace"] == "headrace"


def test_two_releases_share_no_name(helm: Callable[..., str]) -> None:
    values = CHART / "examples" / "production" / "values.yaml"
    texts = [helm("template", name, str(CHART), "--values", str(values)) for name in ("blue", "green")]
    blue, green = (
        {(each["kind"], each["metadata"]["name"]) for each in yaml.safe_load_all(text) if each} for text in texts
    )
    assert len(blue) == len(green) > 20
    assert not blue & green


def test_a_long_release_name_leaves_room_for_what_kubernetes_adds(helm: Callable[..., str]) -> None:
    values = str(CHART / "examples" / "default" / "values.yaml")
    made = [one for one in yaml.safe_load_all(helm("template", "r" * 53, str(CHART), "--values", values)) if one]
    longest = dict.fromkeys({one["kind"] for one in made}, 63) | {"StatefulSet": 63 - len("-5d4c8f9b6d")}
    assert [one["metadata"]["name"] for one in made if len(one["metadata"]["name"]) > longest[one["kind"]]] == []


@pytest.mark.parametrize(
    ("tls", "told"),
    [
        ({}, set()),
        ({"existingSecret": "certificates"}, {"CA_FILE", "SERVER_NAME"}),
        ({"existingSecret": "certificates", "clientCaKey": "ca"}, {"CA_FILE", "SERVER_NAME", "CERT_FILE", "KEY_FILE"}),
    ],
)  # fmt: skip
def test_the_notes_say_how_to_call_through_tls(
    helm: Callable[..., str], tmp_path: Path, tls: dict[str, str], told: set[str]
) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps({"defaults": {"tls": tls}}))
    example = CHART / "examples" / "default" / "values.yaml"
    options = ("--dry-run=client", "--values", str(example), "--values", str(file))
    notes = helm("install", "headrace", str(CHART), *options).partition("NOTES:")[2]
    before, _, after = notes.partition("headrace apply")
    assert set(re.findall(r"HEADRACE_TLS_(\w+)=", before)) == told
    assert ("get secret certificates" in before) == bool(told)
    assert "headrace wait NAME" in after
    assert "HEADRACE_TLS" not in after


def test_the_production_example_has_everything_on(helm: Callable[..., str]) -> None:
    values = CHART / "examples" / "production" / "values.yaml"
    kinds = Counter(
        manifest["kind"]
        for manifest in yaml.safe_load_all(helm("template", "headrace", str(CHART), "--values", str(values)))
        if manifest
    )
    assert set(CUSTOM) < set(kinds)
    assert kinds["ScaledObject"] == 4
    assert kinds["HorizontalPodAutoscaler"] == 1
    # six services, pods of runs, two jobs, the cron job, the test, and what denies the rest
    assert kinds["NetworkPolicy"] == 12
    assert kinds["Role"] == kinds["RoleBinding"] == 1
