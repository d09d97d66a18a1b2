"""An image runs under the security context that the chart gives its pod, beside a real Kafka. By `make test-images`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from headrace_local.launcher import Platform
from headrace_local.ports import find_free
from headrace_runtime.health_check import parse, problems

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import base  # noqa: E402 - found through the line above

ROOT = HERE.parents[1]
RENDERED = ROOT / "deploy" / "helm" / "headrace" / "examples" / "default" / "rendered.yaml"
START_S = 120.0

pytestmark = pytest.mark.timeout(3600)


LIGHT = ("inference", "model-registry")
NEEDED = ("buildah", "podman", "runc", "debootstrap")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "service" in metafunc.fixturenames:
        metafunc.parametrize("service", os.environ.get("IMAGES", "").split() or LIGHT, scope="session")


@pytest.fixture(scope="session")
def image(service: str) -> str:
    """Build the image of a service as deploy/Dockerfile says and return its name; skipped where a part is missing."""
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"there is no {', '.join(missing)} on the path")
    try:
        base.ensure()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no base image could be made: {error}")
    name = f"localhost/headrace-{service}:test"
    command = [
        "buildah",
        "bud",
        "--layers",
        "--isolation",
        "chroot",
        "--pull-never",
        "--network",
        "host",
        "--tag",
        name,
    ]
    if authorities := os.environ.get("SSL_CERT_FILE"):
        command += ["--secret", f"id=ca,src={authorities}"]
    command += ["--build-arg", f"SERVICE={service}", "--file", str(ROOT / "deploy" / "Dockerfile"), str(ROOT)]
    base.run(*command)
    return name


def pod(service: str) -> dict[str, Any]:
    """Return the pod's spec as the chart renders it."""
    (found,) = (
        each["spec"]["template"]["spec"]
        for each in yaml.safe_load_all(RENDERED.read_text())
        if each["kind"] in ("Deployment", "StatefulSet") and each["metadata"]["name"] == f"headrace-{service}"
    )
    return dict(found)


def confined(spec: dict[str, Any]) -> list[str]:
    """Return podman's options for what the pod's security context and limits say."""
    (container,) = spec["containers"]
    context, user = container["securityContext"], spec["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    options = ["--security-opt=no-new-privileges", f"--user={user['runAsUser']}:{user['runAsGroup']}"]
    options += [f"--cap-drop={each}" for each in context["capabilities"]["drop"]]
    limits = container["resources"]["limits"]
    memory = limits["memory"].replace("Gi", "g").replace("Mi", "m")
    options += [f"--cpus={limits['cpu']}", f"--memory={memory}"]
    # Podman's own are higher than what a confined machine lets anybody set.
    options += ["--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"]
    options += ["--read-only", "--read-only-tmpfs=false"] * context["readOnlyRootFilesystem"]
    for volume in container["volumeMounts"]:
        options.append(f"--tmpfs={volume['mountPath']}:rw,mode=1777,size=512m")
    return options


@contextmanager
def started(image: str, options: list[str], variables: dict[str, str]) -> Iterator[str]:
    """Run the image as the chart has it; give the container's id, and remove it at the end."""
    told = [part for name, value in variables.items() for part in ("--env", f"{name}={value}")]
    command = ["podman", "--runtime=runc", "run", "--detach", "--pull=never", "--network=host", *options, *told, image]
    container = base.run(*command)
    try:
        yield container
    finally:
        base.run("podman", "--runtime=runc", "rm", "--force", "--time=0", container, check=False)


def test_an_image_runs_confined_as_the_chart_has_it(image: str, service: str, tmp_path: Path) -> None:
    spec = pod(service)
    with Platform.on_free_ports(tmp_path / "broker", services=()) as broker:
        metrics, listening = find_free(2)
        variables = {each["name"]: str(each.get("value", f"{service}-0")) for each in spec["containers"][0]["env"]}
        variables |= {
            "HEADRACE_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "HEADRACE_METRICS_ADDRESS": f"127.0.0.1:{metrics}",
            "HEADRACE_STORE_URL": "file:///tmp/objects",
        }
        asked = [parse(f"http://127.0.0.1:{metrics}/metrics")]
        if "HEADRACE_LISTEN_ADDRESS" in variables:
            variables["HEADRACE_LISTEN_ADDRESS"] = f"127.0.0.1:{listening}"
            asked.append(parse(f"grpc://127.0.0.1:{listening}"))
        with started(image, confined(spec), variables) as container:
            deadline_s = time.monotonic() + START_S
            while found := [problem for target in asked for problem in problems(target)]:
                said = base.both("podman", "logs", container)
                assert time.monotonic() < deadline_s, (found, said)
                time.sleep(0.2)
            inside = ["podman", "--runtime=runc", "exec", container, "/app/bin/python", "-c"]
            assert base.run(*inside, "import os; print(os.getuid(), os.getgid())") == "65532 65532"
            denied = "open('/app/mine', 'w')"
            assert "Read-only file system" in base.both(*inside, denied)
            status = base.run(*inside, "print(open('/proc/self/status').read())")
            assert "CapEff:\t0000000000000000" in status
            assert "NoNewPrivs:\t1" in status
            base.run(
                "podman", "--runtime=runc", "stop", "--time", str(spec["terminationGracePeriodSeconds"]), container
            )
            state = base.run("podman", "inspect", "--format", "{{.State.ExitCode}}", container)
            assert state == "0", "it stops in order"
