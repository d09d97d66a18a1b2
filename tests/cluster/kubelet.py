"""What takes the place of nodes: scheduled pods run and are ready, those of jobs end, those that go are gone.

Pods of runs are processes of this machine; the others are so in word alone.
"""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime

import containers
from api import Api, Object, Refused
from containers import Containers

COMPONENT = "app.kubernetes.io/component"
LOOK_EVERY_S = 0.2
CAPACITY = {"cpu": "64", "memory": "256Gi", "pods": "500", "ephemeral-storage": "500Gi"}


class Kubelet(threading.Thread):
    """Nodes and what they would do. `failing` names the components whose jobs fail."""

    def __init__(self, api: Api, nodes: int, runs: Containers) -> None:
        super().__init__(name="kubelet")
        self.runs = runs
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
        is_run = about.get("labels", {}).get(COMPONENT) == containers.COMPONENT
        if "deletionTimestamp" in about:
            if is_run and not self.runs.has_gone(pod):
                return
            self._api.call("DELETE", path, {"gracePeriodSeconds": 0})
        elif is_run:
            if told := self._run(pod):
                self._api.patch(f"{path}/status", {"status": told})
        elif status["phase"] == "Pending":
            owners = {owner["kind"] for owner in about.get("ownerReferences", [])}
            self._api.patch(f"{path}/status", {"status": self._ended(pod) if "Job" in owners else running(pod)})

    def _run(self, pod: Object) -> Object | None:
        """Return what has changed in a pod that is a process."""
        phase, code = pod["status"]["phase"], self.runs.code(pod)
        if phase == "Pending":
            self.runs.start(pod)
            return running(pod)
        if phase != "Running" or code is None:
            return None
        ended = {"terminated": {"exitCode": code % 256, "reason": "Error" if code else "Completed"}}
        told = {"containerStatuses": statuses(pod, ended, ready=False), "conditions": conditions("False")}
        return told | {"phase": "Failed" if code else "Succeeded"}

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
        self.runs.stop()


def running(pod: Object) -> Object:
    """Return the status of a pod whose containers run and are ready."""
    told = statuses(pod, {"running": {"startedAt": now()}}, ready=True)
    return {"phase": "Running", "conditions": conditions("True"), "containerStatuses": told, "startTime": now()}


def conditions(ready: str) -> list[Object]:
    """Return the conditions of a pod that has started."""
    kinds = {"PodScheduled": "True", "Initialized": "True", "ContainersReady": ready, "Ready": ready}
    return [{"type": kind, "status": status, "lastTransitionTime": now()} for kind, status in kinds.items()]


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
