"""What an installer adds without changing the chart: containers, volumes, objects, images by digest, pipelines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from headrace_data.spec import load_pipeline

Manifest = dict[str, Any]
COMPONENT = "app.kubernetes.io/component"
DIGEST = f"sha256:{'0a' * 32}"
VOLUME = {"name": "models", "persistentVolumeClaim": {"claimName": "models"}}
MOUNT = {"name": "models", "mountPath": "/models", "readOnly": True}
FIRST = {"name": "first", "image": "busybox:1", "command": ["true"]}
BESIDE = {"name": "proxy", "image": "proxy:1", "ports": [{"containerPort": 9}]}
SOURCE = {"configMapRef": {"name": "more"}}
SERVICE = {
    "image": {"repository": "mirror.example.org/trainer", "digest": DIGEST},
    "envFrom": [SOURCE],
    "extraVolumes": [VOLUME],
    "extraVolumeMounts": [MOUNT],
    "initContainers": [FIRST],
    "sidecars": [BESIDE],
    "annotations": {"reloader": "on"},
    "runtimeClassName": "gvisor",
}
OBJECTS = [
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}},
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: as-text}\ndata: {n: {{ .Values.defaults.replicas | quote }}}",
]
SPEC = (Path(__file__).parents[2] / "examples" / "digits" / "pipeline.yaml").read_text()


@pytest.fixture(scope="module")
def added(render_all: Callable[[Any], list[Manifest]]) -> list[Manifest]:
    """The default example with something of everything in the trainer."""
    values = {
        "services": {"trainer": SERVICE, "model-registry": {"image": {"digest": DIGEST}}, "inference": {"image": TAG}},
        "extraObjects": OBJECTS,
        "pipelines": {"digits": {"spec": SPEC}},
        "nameOverride": "race",
    }
    return render_all(values)


TAG = {"tag": "mine"}


def workload(manifests: list[Manifest], component: str, kind: str = "StatefulSet") -> Manifest:
    (found,) = (
        each for each in manifests if each["kind"] == kind and each["metadata"]["labels"].get(COMPONENT) == component
    )
    return found


def test_a_service_takes_what_is_added_and_others_do_not(added: list[Manifest]) -> None:
    trainer, compressor = workload(added, "trainer"), workload(added, "compressor")
    spec = trainer["spec"]["template"]["spec"]
    assert trainer["metadata"]["annotations"] == {"reloader": "on"}
    assert spec["runtimeClassName"] == "gvisor"
    assert spec["initContainers"] == [FIRST]
    assert VOLUME in spec["volumes"]
    own, beside = spec["containers"]
    assert (own["name"], beside) == ("trainer", BESIDE)
    assert MOUNT in own["volumeMounts"]
    assert own["envFrom"] == [{"secretRef": {"name": "headrace-store"}}, SOURCE]
    other = compressor["spec"]["template"]["spec"]
    assert "annotations" not in compressor["metadata"]
    assert not {"runtimeClassName", "initContainers"} & other.keys()
    assert [each["name"] for each in other["containers"]] == ["compressor"]
    assert VOLUME not in other["volumes"]


def test_an_image_is_named_by_digest_by_tag_or_by_version(added: list[Manifest]) -> None:
    def image(component: str, kind: str = "StatefulSet") -> str:
        return str(workload(added, component, kind)["spec"]["template"]["spec"]["containers"][0]["image"])

    assert image("trainer") == f"mirror.example.org/trainer@{DIGEST}"
    assert image("inference", "Deployment") == "headrace-inference:mine"
    assert image("compressor") == "headrace-compressor:0.1.0"
    for task in ("topics", "pipelines", "test"):
        assert image(task, "Job") == image("model-registry") == f"headrace-model-registry@{DIGEST}"


def test_objects_of_one_s_own_are_templates(added: list[Manifest]) -> None:
    mine = {each["metadata"]["name"]: each for each in added if "labels" not in each["metadata"]}
    assert mine.keys() == {"headrace-more", "as-text"}
    assert mine["as-text"]["data"] == {"n": "2"}


def test_pods_are_found_by_labels_that_no_value_changes(
    added: list[Manifest], render: Callable[[Any], list[Manifest]]
) -> None:
    def selectors(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
        kinds = ("StatefulSet", "Deployment")
        return {
            (each["kind"], each["metadata"]["name"]): each["spec"]["selector"]
            for each in manifests
            if each["kind"] in kinds
        }

    # "headrace" holds "race", so that every object keeps its name.
    assert selectors(added) == selectors(render({}))


def test_a_pipeline_in_the_values_is_applied_as_it_is_written(added: list[Manifest]) -> None:
    (config,) = (
        each
        for each in added
        if each["kind"] == "ConfigMap" and each["metadata"].get("labels", {}).get(COMPONENT) == "pipelines"
    )
    assert config["data"].keys() == {"digits.yaml"}
    assert load_pipeline(config["data"]["digits.yaml"].encode()) == load_pipeline(SPEC.encode())
    pod = workload(added, "pipelines", "Job")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert variables == {"HOME": "/tmp", "HEADRACE_REGISTRY_ADDRESS": "headrace-model-registry:7020"}  # noqa: S108
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert mounts["pipelines"] == "/etc/headrace/pipelines"
    assert "grpc://headrace-model-registry-metrics:7020 &&" in container["command"][-1]


@pytest.mark.parametrize("component", ["pipelines", "gc"])
def test_a_job_that_calls_the_registry_speaks_tls_where_it_does(
    rendering: Callable[[str], str], component: str
) -> None:
    manifests = [each for each in yaml.safe_load_all(rendering("production")) if each]
    if component == "gc":
        pod = workload(manifests, component, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    else:
        pod = workload(manifests, component, "Job")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    volumes = {each["name"]: each for each in pod["volumes"]}
    secret = volumes[mounts["/etc/headrace/client"]]["secret"]
    assert secret["secretName"] == "headrace-ci-tls"
    files = {f"/etc/headrace/client/{item['path']}" for item in secret["items"]}
    named = {name: variables.pop(f"HEADRACE_TLS_{name}") for name in ("CA_FILE", "CERT_FILE", "KEY_FILE")}
    assert set(named.values()) == files
    assert variables["HEADRACE_TLS_SERVER_NAME"] == "headrace.example.org"
    # Health has a port of its own there, without TLS.
    assert "grpc://headrace-model-registry-metrics:8003 &&" in container["command"][-1]


def test_a_cron_job_collects_once_there_is_a_schedule(
    render_all: Callable[[Any], list[Manifest]], added: list[Manifest]
) -> None:
    assert not [each for each in added if each["kind"] == "CronJob"]
    manifests = render_all({"gc": {"schedule": "17 3 * * *"}})
    cron = workload(manifests, "gc", "CronJob")["spec"]
    assert (cron["schedule"], cron["concurrencyPolicy"]) == ("17 3 * * *", "Forbid")
    assert "timeZone" not in cron
    (container,) = cron["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"][-1].endswith("grpc://headrace-model-registry-metrics:7020 && exec /app/bin/headrace gc")
    policy = workload(manifests, "gc", "NetworkPolicy")
    assert "annotations" not in policy["metadata"]
    assert policy["spec"]["egress"][-1]["to"]


@pytest.mark.contract
def test_the_job_applies_every_pipeline_and_fails_for_one_that_cannot_be(added: list[Manifest], tmp_path: Path) -> None:
    from headrace_client import RegistryClient
    from headrace_local.launcher import Platform
    from headrace_runtime.services import SERVICES

    (container,) = workload(added, "pipelines", "Job")["spec"]["template"]["spec"]["containers"]
    folder = tmp_path / "pipelines"
    folder.mkdir()
    (folder / "bad.yaml").write_text(SPEC.replace("kind: Pipeline", "kind: Pipelines"))
    (folder / "digits.yaml").write_text(SPEC)
    with Platform.on_free_ports(tmp_path / "home", services=[SERVICES["model-registry"]]) as platform:
        address = platform.addresses["registry"]
        moved = {
            "/app/bin": str(Path(sys.executable).parent),
            "/etc/headrace/pipelines": str(folder),
            "headrace-model-registry-metrics:7020": address,
            "headrace apply": "headrace apply --create-topic",
        }
        *shell, script = container["command"]
        for inside, here in moved.items():
            assert inside in script
            script = script.replace(inside, here)
        environment = {"HOME": str(tmp_path), "HEADRACE_REGISTRY_ADDRESS": address}

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run([*shell, script], env=environment, capture_output=True, text=True, check=False)

        failed = run()
        assert failed.returncode == 1
        assert "kind" in failed.stdout + failed.stderr
        with RegistryClient(address) as registry:
            assert [each.pipeline for each in registry.pipelines()] == ["digits"], failed.stdout + failed.stderr
        (folder / "bad.yaml").unlink()
        again = run()
        assert again.returncode == 0, again.stdout + again.stderr
        assert "nothing changed" in again.stdout
