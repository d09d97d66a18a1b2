"""Runs in pods of their own: how many a run gets, and the JobSet that makes them.

A JobSet (`jobset.x-k8s.io/v1alpha2`) is one Job whose pods find each other by name. The installation gives what is its
own, `Template`: image, settings, volumes, places, queues. What follows from the run is set here, and so is what keeps
the lease whole: no pod is started a second time by anybody but the worker.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Object = dict[str, Any]
Owner = tuple[str, str]
"""Name and uid of a pod."""

API: Final = "jobset.x-k8s.io/v1alpha2"
RUN_LABEL: Final = "headrace/run"
"""Label of the JobSets of one run, whatever the attempt; its value is `key_of`."""
PORT: Final = 29500
"""Where the processes of a run meet: torchrun's own."""
_DIGEST: Final = "headrace/assignment-digest"
_JOB: Final = "pods"
_LONGEST_NAME: Final = 63 - len(f"-{_JOB}-0-9999-abcde")
"""Characters of a JobSet's name at most, so that those of its pods are DNS labels."""
_NAME: Final = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


@dataclass(frozen=True)
class Group:
    """Over how many pods a run is spread."""

    pods: int
    processes: int
    """Of each."""


@dataclass(frozen=True)
class Spread:
    """Which runs get pods of their own, and how many."""

    least: int
    """Processes from which a run gets some."""
    most: int
    """Processes of each pod at most."""

    def group(self, asked: int) -> Group | None:
        """Return over how many pods so many processes are spread, all with as many; None where they get none.

        A number that cannot be shared evenly leaves a rest away, less than one for each pod.
        """
        if asked < self.least:
            return None
        pods = -(-asked // self.most)
        return Group(pods, asked // pods)


@dataclass(frozen=True)
class Template:
    """What an installation says of the pods of its runs."""

    name: str
    """What their names begin with: lower-case letters, digits and inner hyphens, a letter first."""
    pod: Object
    """`metadata` and `spec` as of a pod, with one container that runs `headrace_trainer.pod`, the first."""
    labels: dict[str, str] = field(default_factory=dict)
    """Of the JobSet, such as `kueue.x-k8s.io/queue-name`."""
    annotations: dict[str, str] = field(default_factory=dict)
    ttl_s: int = 600
    """Seconds for which one that has ended stays where nobody is left to delete it."""

    @classmethod
    def read(cls, document: str | bytes) -> Template:
        """Return the template that a JSON document holds: the fields above, the last as `ttlSeconds`.

        Raises ValueError that names the path, what was expected and what came.
        """
        written = json.loads(document)
        if not isinstance(written, dict):
            raise ValueError(f"expected an object, got {written!r:.80}")  # noqa: TRY004 - it is data
        if unknown := written.keys() - {"name", "pod", "labels", "annotations", "ttlSeconds"}:
            raise ValueError(
                f"expected name, pod, labels, annotations and ttlSeconds, got {', '.join(sorted(unknown))}"
            )
        pod: Any = written.get("pod")
        name, ttl_s = written.get("name"), written.get("ttlSeconds", 600)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"name: expected lower-case letters, digits and inner hyphens, got {name!r}")
        if fault := _fault_of(pod):
            raise ValueError(fault)
        if not isinstance(ttl_s, int) or ttl_s < 0:
            raise ValueError(f"ttlSeconds: expected whole seconds from 0, got {ttl_s!r}")
        return cls(name, pod, _texts(written, "labels"), _texts(written, "annotations"), ttl_s)


def _fault_of(pod: object) -> str:
    """Return what is wrong with a pod where something of a run is added to it; empty for nothing."""
    if not isinstance(pod, dict) or not _has_container(pod):
        return "pod.spec.containers: expected a container at least, got none"
    about, variables = pod.get("metadata", {}), pod["spec"]["containers"][0].get("env", [])
    if not isinstance(about, dict) or not isinstance(about.get("labels", {}), dict):
        return f"pod.metadata: expected an object, and in labels one, got {about!r:.80}"
    if not isinstance(variables, list) or not all(isinstance(each, dict) for each in variables):
        return f"pod.spec.containers[0].env: expected a list of objects, got {variables!r:.80}"
    return ""


def _has_container(pod: Mapping[str, Any]) -> bool:
    spec = pod.get("spec")
    containers = spec.get("containers") if isinstance(spec, dict) else None
    return isinstance(containers, list) and bool(containers) and all(isinstance(each, dict) for each in containers)


def _texts(written: Mapping[str, Any], key: str) -> dict[str, str]:
    found = written.get(key) or {}
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise ValueError(f"{key}: expected texts by name, got {found!r}")
    return found


@dataclass(frozen=True)
class Attempt:
    """One attempt at a run."""

    run_id: str
    number: int
    pipeline: str
    assignment: str
    """Name of what is to be done in the object store."""
    digest: str
    """SHA-256 of the assignment, as hex: pods do that and nothing else, whoever else may write to the store."""
    group: Group
    trace: Mapping[str, str] = field(default_factory=dict)
    """Variables by which what the pods log belongs to the worker's trace."""


def key_of(template: Template, run_id: str) -> str:
    """Return what tells a run from others where its id is too long, and from the same run of another installation."""
    return hashlib.sha256(f"{template.name}/{run_id}".encode()).hexdigest()[:12]


def name_of(template: Template, attempt: Attempt) -> str:
    """Return the name of an attempt's JobSet: the same for the same attempt."""
    tail = f"-{key_of(template, attempt.run_id)}-{attempt.number}"
    return template.name[: _LONGEST_NAME - len(tail)].rstrip("-") + tail


def job_set(template: Template, attempt: Attempt, owner: Owner | None = None) -> Object:
    """Return the JobSet of an attempt. `owner` is the pod with whose end it goes."""
    name, labels = name_of(template, attempt), {RUN_LABEL: key_of(template, attempt.run_id)}
    about: Object = {
        "name": name,
        "labels": {**template.labels, **labels},
        "annotations": {
            **template.annotations,
            "headrace/run-id": attempt.run_id,
            "headrace/attempt": str(attempt.number),
            "headrace/pipeline": attempt.pipeline,
            _DIGEST: attempt.digest,
        },
    }
    if owner is not None:
        # The cluster itself deletes it where this pod goes and nobody takes the run over.
        about["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": owner[0], "uid": owner[1]}]
    job = {
        "backoffLimit": 0,
        "completionMode": "Indexed",
        "completions": attempt.group.pods,
        "parallelism": attempt.group.pods,
        "template": _pod(template, attempt, f"{name}-{_JOB}-0-0.{name}", labels),
    }
    return {
        "apiVersion": API,
        "kind": "JobSet",
        "metadata": about,
        "spec": {
            "failurePolicy": {"maxRestarts": 0},
            "successPolicy": {"operator": "All"},
            "startupPolicy": {"startupPolicyOrder": "AnyOrder"},
            "network": {"enableDNSHostnames": True, "subdomain": name, "publishNotReadyAddresses": True},
            "ttlSecondsAfterFinished": template.ttl_s,
            "replicatedJobs": [{"name": _JOB, "replicas": 1, "template": {"spec": job}}],
        },
    }


def is_of(found: Mapping[str, Any] | None, attempt: Attempt) -> bool:
    """Return whether a JobSet is there, and is that of an attempt."""
    about = {} if found is None else found["metadata"]
    return bool(about.get("annotations", {}).get(_DIGEST) == attempt.digest)


def _pod(template: Template, attempt: Attempt, first: str, labels: Mapping[str, str]) -> Object:
    """Return the template of the pods; `first` is the name by which they find the first of them."""
    pod = copy.deepcopy(template.pod)
    about, spec = pod.setdefault("metadata", {}), pod["spec"]
    about["labels"] = {**about.get("labels", {}), **labels}
    spec["restartPolicy"] = "Never"
    spec["automountServiceAccountToken"] = False
    told = {
        "HEADRACE_ASSIGNMENT": attempt.assignment,
        "HEADRACE_ASSIGNMENT_DIGEST": attempt.digest,
        "HEADRACE_MEETING": f"{first}:{PORT}",
        **attempt.trace,
    }
    container = spec["containers"][0]
    own = [each for each in container.get("env", []) if each.get("name") not in told]
    container["env"] = own + [{"name": key, "value": value} for key, value in told.items()]
    return pod


@dataclass(frozen=True)
class State:
    """What the API server says of a JobSet."""

    is_ready: bool
    """Whether all pods are there and ready, or were."""
    ending: str
    """`Completed` or `Failed`; empty while neither holds."""
    said: str
    """What the controller says of it, for a person."""


def state_of(found: Mapping[str, Any]) -> State:
    """Return the state of a JobSet as the API server has it."""
    status = found.get("status") or {}
    jobs = status.get("replicatedJobsStatus") or []
    ready = any(each.get("ready", 0) + each.get("succeeded", 0) + each.get("failed", 0) for each in jobs)
    holding = {
        each["type"]: str(each.get("message", ""))
        for each in status.get("conditions") or []
        if each.get("status") == "True"
    }
    ending = next((each for each in ("Completed", "Failed") if each in holding), "")
    return State(ready, ending, holding.get(ending) or holding.get("Suspended", ""))
