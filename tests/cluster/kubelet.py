"""What takes the place of nodes: scheduled pods run and are ready, those of jobs end, those that go are gone."""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime

from api import Api, Object, Refused

COMPONENT = "app.kubernetes.io/component"
LOOK_EVERY_S = 0.2
CAPACITY = {"cpu": "64", "memory": "256Gi", "pods": "500", "ephemeral-storage": "500Gi"}


class Kubelet(threading.Thread):
    """Nodes and what they would do. `failing` names the components whose jobs fail."""

    def __init__(self, api: Api, nodes: int) -> None:
        super().__init__(name="kubelet")
        self.failing: set[str] = set()
        self.policies: dict[str, set[str]] = {}
        """Names of the network policies that were there when the first pod of a task was seen, by its component."""
        self._api = api
        self._stopping = threading.Event()
        for number in range(nodes):
            self._register(f"node-{number}")

    def _register(self, name: str) -> None:
        labels = {"kubernetes.io/os": "linux", "kubernetes.io/hostname": name}
        self._api.call("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}, "spec": {}})
        conditions = [{"type": "Ready", "status": "True", "reason": "Stands", "lastHeartbeatTime": now()}]
        status = {"capacity": CAPACITY, "allocatable": CAPACITY, "conditions": conditions}
        self._api.patch(f"/api/v1/nodes/{name}/status", {"status": status})

    def run(self) -> None:
        """Look after the pods until stopped."""
        while not self._stopping.wait(LOOK_EVERY_S):
            for pod in self._api.items("/api/v1/pods"):
                # It may have gone meanwhile.
                with contextlib.suppress(Refused):
                    self._look_after(pod)

    def _look_after(self, pod: Object) -> None:
        about, status = pod["metadata"], pod["status"]
        path = f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}"
        if not pod["spec"].get("nodeName"):
            return
        if "deletionTimestamp" in about:
            self._api.call("DELETE", path, {"gracePeriodSeconds": 0})
        elif status["phase"] == "Pending":
            owners = {owner["kind"] for owner in about.get("ownerReferences", [])}
            self._api.patch(f"{path}/status", {"status": self._ended(pod) if "Job" in owners else running(pod)})

    def _ended(self, pod: Object) -> Object:
        component, namespace = pod["metadata"]["labels"][COMPONENT], pod["metadata"]["namespace"]
        policies = self._api.items(f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies")
        self.policies.setdefault(f"{namespace}/{component}", {each["metadata"]["name"] for each in policies})
        failed = component in self.failing
        ended = {"terminated": {"exitCode": int(failed), "reason": "Error" if failed else "Completed"}}
        return {"phase": "Failed" if failed else "Succeeded", "containerStatuses": statuses(pod, ended, ready=False)}

    def stop(self) -> None:
        """Stop looking."""
        self._stopping.set()
        self.join()


def running(pod: Object) -> Object:
    """Return the status of a pod whose containers run and are ready."""
    kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": now()} for kind in kinds]
    containers = statuses(pod, {"running": {"startedAt": now()}}, ready=True)
    return {"phase": "Running", "conditions": conditions, "containerStatuses": containers, "startTime": now()}


def statuses(pod: Object, state: Object, *, ready: bool) -> list[Object]:
    """Return the status of each container."""
    return [
        {
            "name": each["name"],
            "image": each["image"],
            "imageID": "",
            "ready": ready,
            "restartCount": 0,
            "state": state,
        }
        for each in pod["spec"]["containers"]
    ]


def now() -> str:
    """Return the time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
