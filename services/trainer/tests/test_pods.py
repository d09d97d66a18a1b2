"""The JobSet that a run's attempt becomes."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from headrace.events.v1 import pipeline_pb2, run_pb2
from headrace_runtime.errors import SettingsInvalid
from headrace_runtime.settings import load_settings
from headrace_trainer.adapters.api_server import JobSetApi
from headrace_trainer.core.pods import (
    RUN_LABEL,
    Attempt,
    Group,
    Spread,
    State,
    Template,
    job_set,
    key_of,
    name_of,
    state_of,
)
from headrace_trainer.settings import Settings
from headrace_trainer.transport.consumer import training

WRITTEN: dict[str, Any] = {
    "name": "headrace-run",
    "labels": {"kueue.x-k8s.io/queue-name": "training"},
    "annotations": {"note": "kept"},
    "ttlSeconds": 60,
    "pod": {
        "metadata": {"labels": {"app.kubernetes.io/component": "training"}},
        "spec": {
            "restartPolicy": "Always",
            "automountServiceAccountToken": True,
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "containers": [
                {
                    "name": "training",
                    "image": "trainer:1",
                    "env": [{"name": "HEADRACE_MEETING", "value": "elsewhere:1"}, {"name": "HOME", "value": "/home"}],
                    "resources": {"limits": {"nvidia.com/gpu": 8}},
                }
            ],
        },
    },
}
ATTEMPT = Attempt(
    "train-7.A_b",
    3,
    "digits",
    "runs/train-7.A_b/attempt-3/assignment.json",
    "ab" * 32,
    Group(2, 8),
    {"TRACEPARENT": "00"},
)
LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


def test_it_is_the_installations_pods_with_the_runs_group() -> None:
    before, key = copy.deepcopy(WRITTEN), key_of(Template.read(json.dumps(WRITTEN)), ATTEMPT.run_id)
    made = job_set(Template.read(json.dumps(WRITTEN)), ATTEMPT, ("trainer-0", "uid-1"))
    assert before == WRITTEN
    name, spec = made["metadata"]["name"], made["spec"]
    assert made["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "training", RUN_LABEL: key}
    assert made["metadata"]["annotations"] == {
        "note": "kept",
        "headrace/run-id": "train-7.A_b",
        "headrace/attempt": "3",
        "headrace/pipeline": "digits",
        "headrace/assignment-digest": ATTEMPT.digest,
    }
    assert made["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Pod", "name": "trainer-0", "uid": "uid-1"}
    ]
    assert spec["ttlSecondsAfterFinished"] == 60
    (jobs,) = spec["replicatedJobs"]
    job = jobs["template"]["spec"]
    assert (jobs["replicas"], job["parallelism"], job["completions"]) == (1, 2, 2)
    pod = job["template"]
    assert pod["metadata"]["labels"] == {"app.kubernetes.io/component": "training", RUN_LABEL: key}
    assert pod["spec"]["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    (container,) = pod["spec"]["containers"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 8}}
    assert {each["name"]: each["value"] for each in container["env"]} == {
        "HOME": "/home",
        "HEADRACE_ASSIGNMENT": ATTEMPT.assignment,
        "HEADRACE_ASSIGNMENT_DIGEST": ATTEMPT.digest,
        "HEADRACE_MEETING": f"{name}-pods-0-0.{name}:29500",
        "TRACEPARENT": "00",
    }


def test_nobody_but_the_worker_starts_a_pod_again() -> None:
    spec = job_set(Template.read(json.dumps(WRITTEN)), ATTEMPT)["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    assert (spec["failurePolicy"], job["backoffLimit"]) == ({"maxRestarts": 0}, 0)
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert job["template"]["spec"]["automountServiceAccountToken"] is False


def test_names_of_pods_are_labels_of_dns() -> None:
    template = Template.read(json.dumps(WRITTEN | {"name": "a-" * 20 + "b"}))
    for number in (1, 999_999_999):
        made = name_of(template, Attempt("R" * 128, number, "p", "", "", Group(1, 1)))
        assert LABEL.fullmatch(made)
        assert len(f"{made}-pods-0-1023-abcde") <= 63
    assert name_of(template, ATTEMPT) == name_of(template, ATTEMPT)
    assert len({name_of(template, Attempt(run, 1, "p", "", "", Group(1, 1))) for run in ("a", "A", "a.")}) == 3


def test_the_same_run_of_another_installation_is_another() -> None:
    names = [f"a-release-that-is-rather-long-of-{place}-run" for place in "ab"]
    one, other = (job_set(Template.read(json.dumps(WRITTEN | {"name": each})), ATTEMPT)["metadata"] for each in names)
    assert one["name"] != other["name"]
    assert one["labels"][RUN_LABEL] != other["labels"][RUN_LABEL]


@pytest.mark.parametrize(
    ("asked", "group"), [(1, None), (2, Group(1, 2)), (8, Group(1, 8)), (9, Group(2, 4)), (16, Group(2, 8))]
)
def test_processes_are_spread_evenly(asked: int, group: Group | None) -> None:
    assert Spread(least=2, most=8).group(asked) == group


def test_every_run_gets_pods_where_one_process_is_enough() -> None:
    assert Spread(least=1, most=8).group(1) == Group(1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Headrace"}, r"name: expected lower-case letters.*got 'Headrace'"),
        ({"pod": {"spec": {"containers": []}}}, r"pod\.spec\.containers: expected a container at least, got none"),
        ({"pod": None}, r"pod\.spec\.containers"),
        ({"pod": WRITTEN["pod"] | {"metadata": None}}, r"pod\.metadata: expected an object.*got None"),
        ({"pod": {"metadata": {"labels": ["a"]}, "spec": WRITTEN["pod"]["spec"]}}, r"pod\.metadata: expected .*'a'"),
        ({"pod": {"spec": {"containers": [{"env": None}]}}}, r"containers\[0\]\.env: expected a list.*got None"),
        ({"ttlSeconds": -1}, r"ttlSeconds: expected whole seconds from 0, got -1"),
        ({"labels": {"a": 1}}, r"labels: expected texts by name"),
        ({"replicas": 3}, r"expected name, pod, labels, annotations and ttlSeconds, got replicas"),
    ],
)
def test_a_bad_template_says_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Template.read(json.dumps(WRITTEN | changes))


def condition(kind: str, status: str = "True") -> dict[str, str]:
    return {"type": kind, "status": status, "message": f"it is {kind}"}


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (None, State(is_ready=False, ending="", said="")),
        ({"conditions": [condition("Suspended")]}, State(is_ready=False, ending="", said="it is Suspended")),
        ({"replicatedJobsStatus": [{"ready": 0, "active": 1}]}, State(is_ready=False, ending="", said="")),
        ({"replicatedJobsStatus": [{"ready": 1}]}, State(is_ready=True, ending="", said="")),
        ({"conditions": [condition("Failed")]}, State(is_ready=False, ending="Failed", said="it is Failed")),
        ({"conditions": [condition("Failed", "False")]}, State(is_ready=False, ending="", said="")),
    ],
)
def test_what_the_api_server_says_is_understood(status: Any, state: State) -> None:
    assert state_of({"status": status}) == state


@pytest.mark.parametrize(
    ("spec", "group"),
    [
        ({"train": {"compute": {"processes": 5}}}, {"pods": 2, "processes": 2}),
        ({"train": {"compute": {"device": "cpu"}}}, None),
        ({"train": {"compute": None}}, None),
        ([], None),
    ],
)
def test_the_assignment_says_over_how_many_pods_it_is_spread(spec: Any, group: Any) -> None:
    asked = pipeline_pb2.PipelineSpec(json=json.dumps(spec).encode())
    command = run_pb2.TrainingRequested(run_id="run", pipeline="digits", spec=asked)
    assignment = training(0, spread=Spread(least=2, most=4)).assignment(command)
    assert assignment.get("group") == group
    assert ("pipeline" in assignment) == (group is not None)
    assert "group" not in training(0).assignment(command)


def test_settings_say_what_is_wrong_with_the_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "template.json"
    monkeypatch.setenv("HEADRACE_PODS_TEMPLATE", str(file))
    with pytest.raises(SettingsInvalid, match=r"HEADRACE_PODS_TEMPLATE: .*No such file"):
        load_settings(Settings)
    file.write_text("{}")
    with pytest.raises(SettingsInvalid, match=r"HEADRACE_PODS_TEMPLATE: .*template\.json: name: expected"):
        load_settings(Settings)
    file.write_text(json.dumps(WRITTEN))
    assert load_settings(Settings).pods_template == file
    for name, value in {"NODES": "2", "MEETING": "a:1", "MEETING_SECRET": "s" * 16}.items():
        monkeypatch.setenv(f"HEADRACE_{name}", value)
    with pytest.raises(SettingsInvalid, match=r"expected none beside HEADRACE_NODES above 1"):
        load_settings(Settings)


def test_pods_outside_of_a_cluster_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(SettingsInvalid, match=r"HEADRACE_PODS_TEMPLATE: expected KUBERNETES_SERVICE_HOST"):
        JobSetApi.of_cluster(Path("account"))
