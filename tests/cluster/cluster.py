"""A cluster without nodes of its own, and the commands that people use on it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm
import yaml
from api import Api, Object, Refused
from kubelet import Kubelet

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "headrace"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
WAIT_S = 120.0


@dataclass
class Cluster:
    """A control plane, the stand-ins for its nodes, and the commands that people use on it."""

    api: Api
    kubelet: Kubelet
    kubeconfig: Path
    helm_program: Path
    folder: Path

    def namespace(self, name: str) -> str:
        """Make a namespace that takes restricted pods alone, with the claim that the small example mounts."""
        self.api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": RESTRICTED}})
        claim = {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "",
        }
        volume = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteMany"],
            "hostPath": {"path": "/objects"},
            "claimRef": {"name": "headrace-objects", "namespace": name},
        }
        self.api.call("POST", "/api/v1/persistentvolumes", {"metadata": {"name": f"objects-{name}"}, "spec": volume})
        path = f"/api/v1/namespaces/{name}/persistentvolumeclaims"
        self.api.call("POST", path, {"metadata": {"name": "headrace-objects"}, "spec": claim})
        return name

    def helm(self, command: str, namespace: str, *options: str, values: Mapping[str, Any] | None = None) -> str:
        """Run Helm on the release `headrace`, with the default example's values and those given. Raises HelmRefused."""
        arguments = [command, "headrace"]
        if command in ("install", "upgrade"):
            file = self.folder / "values.yaml"
            file.write_text(json.dumps(values or {}))
            example = CHART / "examples" / "default" / "values.yaml"
            arguments += [str(CHART), "--values", str(example), "--values", str(file)]
        return self.run(*arguments, "--namespace", namespace, *options)

    def run(self, *arguments: str) -> str:
        """Run Helm as it is called."""
        environment = os.environ | {"KUBECONFIG": str(self.kubeconfig), "HELM_CACHE_HOME": str(self.folder)}
        command = [str(self.helm_program), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise helm.HelmRefused(done.stderr + done.stdout)
        return done.stdout

    def kubectl(self, namespace: str, *arguments: str) -> str:
        """Run kubectl and return what it prints."""
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), "--namespace", namespace, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def workload(self, namespace: str, kind: str, component: str) -> Object:
        """Return a workload of the release."""
        return self.api.get(f"/apis/apps/v1/namespaces/{namespace}/{kind}/headrace-{component}")

    def pods(self, namespace: str, component: str = "") -> list[Object]:
        """Return the pods that are there, of one service or of all, without those that are on their way out."""
        found = self.api.items(f"/api/v1/namespaces/{namespace}/pods")
        labels = [(pod, pod["metadata"]["labels"]["app.kubernetes.io/component"]) for pod in found]
        return [pod for pod, name in labels if component in ("", name) and "deletionTimestamp" not in pod["metadata"]]

    def settle(self, namespace: str) -> None:
        """Return once every rollout is over and every pod counts as available.

        Helm does not wait for `minReadySeconds`, and a rollout that begins within them meets pods that Kubernetes
        (1.37) takes for unavailable: of a StatefulSet it may delete and make the first one in turns.
        """

        def settled(found: Object) -> bool:
            wanted, status = found["spec"]["replicas"], found["status"]
            revisions = {status.get("currentRevision"), status.get("updateRevision")}
            seen = status.get("observedGeneration") == found["metadata"]["generation"]
            return seen and len(revisions) == 1 and wanted == status.get("availableReplicas", 0) == status["replicas"]

        path = f"/apis/apps/v1/namespaces/{namespace}"
        self.until(
            "every pod is available",
            lambda: all(
                settled(each) for kind in ("statefulsets", "deployments") for each in self.api.items(f"{path}/{kind}")
            ),
        )

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Return once something holds; fail after two minutes."""
        deadline_s = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < deadline_s, f"not in time: {what}"
            time.sleep(0.2)


def prepare(api: Api, definitions: list[Path]) -> None:
    """Make what an installation finds: the objects of KEDA, Prometheus Operator and JobSet, and a priority class."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for file in definitions:
        definition = yaml.safe_load(file.read_text())
        api.call("POST", path, definition)
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        try:
            api.get("/apis/keda.sh/v1alpha1/scaledobjects")
            api.get("/apis/monitoring.coreos.com/v1/prometheusrules")
            api.get("/apis/jobset.x-k8s.io/v1alpha2/jobsets")
            break
        except Refused:
            time.sleep(0.2)
    priority = {"metadata": {"name": "business"}, "value": 1000, "globalDefault": False}
    api.call("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", priority)
