"""Runs in pods of their own: what the trainer makes, what it may do, and who may talk to whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from headrace_trainer.core.pods import Attempt, Group, Template, job_set
from headrace_trainer.settings import Settings

Manifest = dict[str, Any]
Render = Callable[[Any], list[Manifest]]

ATTEMPT = Attempt("train-1", 1, "digits", "runs/train-1/attempt-1/assignment.json", "ab" * 32, Group(2, 8))


def values(**pods: Any) -> Manifest:
    return {"services": {"trainer": {"pods": {"enabled": True} | pods}}}


def found(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (only,) = [each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return only


def template(manifests: list[Manifest]) -> Template:
    return Template.read(found(manifests, "ConfigMap", "headrace-pods")["data"]["template.json"])


def test_nothing_of_it_is_there_unless_it_is_asked_for(render: Render) -> None:
    manifests = render({})
    assert not {each["kind"] for each in manifests} & {"Role", "RoleBinding"}
    (trainer,) = [each for each in manifests if each["metadata"]["name"] == "headrace-trainer"][:1]
    assert "HEADRACE_PODS_TEMPLATE" not in str(trainer)


def test_the_template_is_the_trainers_pod_without_kafka_and_token(render: Render) -> None:
    manifests = render(values(resources={"limits": {"nvidia.com/gpu": 8}}, queue="training", sharedMemory="1Gi"))
    made = job_set(template(manifests), ATTEMPT)
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training"
    assert made["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "headrace-trainer"
    pod = made["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    trainer = found(manifests, "StatefulSet", "headrace-trainer")["spec"]["template"]
    (own,) = trainer["spec"]["containers"]
    assert container["image"] == own["image"]
    assert container["securityContext"] == own["securityContext"]
    assert pod["spec"]["securityContext"] == trainer["spec"]["securityContext"]
    assert container["command"] == ["/app/bin/python", "-m", "headrace_trainer.pod"]
    assert container["resources"]["limits"] == own["resources"]["limits"] | {"nvidia.com/gpu": 8}
    names = {each["name"] for each in container["env"]}
    assert "HEADRACE_STORE_URL" in names
    assert not any("KAFKA" in name for name in names)
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["serviceAccountName"] == "headrace", "which may call nothing"
    assert {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}} in pod["spec"]["volumes"]


def test_the_trainer_alone_has_a_token_and_may_make_jobsets_alone(render: Render) -> None:
    manifests = render(values())
    (rule,) = found(manifests, "Role", "headrace-trainer")["rules"]
    assert rule["apiGroups"] == ["jobset.x-k8s.io"]
    assert rule["resources"] == ["jobsets"]
    assert sorted(rule["verbs"]) == ["create", "delete", "get", "list"]
    (subject,) = found(manifests, "RoleBinding", "headrace-trainer")["subjects"]
    assert subject["name"] == found(manifests, "ServiceAccount", "headrace-trainer")["metadata"]["name"]
    workloads = [each for each in manifests if each["kind"] in ("StatefulSet", "Deployment")]
    with_token = [
        each["metadata"]["name"]
        for each in workloads
        if any("projected" in volume for volume in each["spec"]["template"]["spec"]["volumes"])
        or each["spec"]["template"]["spec"]["serviceAccountName"] != "headrace"
    ]
    assert with_token == ["headrace-trainer"]


def test_an_account_of_ones_own_is_bound_and_not_made(render: Render) -> None:
    manifests = render(values(serviceAccount="trainers"))
    (subject,) = found(manifests, "RoleBinding", "headrace-trainer")["subjects"]
    assert subject["name"] == "trainers"
    assert [each["metadata"]["name"] for each in manifests if each["kind"] == "ServiceAccount"] == ["headrace"]


def test_pods_of_runs_talk_to_each_other_and_the_store(render: Render) -> None:
    manifests = render(values())
    policy = found(manifests, "NetworkPolicy", "headrace-training")["spec"]
    labels = template(manifests).pod["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    ((peer,),) = [rule["from"] for rule in policy["ingress"]]
    assert peer["podSelector"] == policy["podSelector"]
    group, store = policy["egress"]
    assert group["to"] == [peer]
    assert [each["port"] for each in store["ports"]] == [443]
    trainer = found(manifests, "NetworkPolicy", "headrace-trainer")["spec"]
    assert [443, 6443] in [[each["port"] for each in rule["ports"]] for rule in trainer["egress"]]
    assert not any(
        selector["podSelector"]["matchLabels"].items() <= labels.items()
        for selector in (each["spec"] for each in manifests if each["kind"] == "NetworkPolicy")
        if selector not in (policy, found(manifests, "NetworkPolicy", "headrace-default")["spec"])
    )


def test_the_trainer_is_told_where_its_template_is(render: Render) -> None:
    manifests = render(values(processes=8, **{"from": 1}))
    pod = found(manifests, "StatefulSet", "headrace-trainer")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    told = {each["name"]: each.get("value", "") for each in container["env"]}
    fields = {name for name in Settings.model_fields if name.startswith("pods_")}
    assert {f"HEADRACE_{name.upper()}" for name in fields} <= told.keys()
    assert (told["HEADRACE_PODS_PROCESSES"], told["HEADRACE_PODS_FROM"]) == ("8", "1")
    mounted = {each["mountPath"] for each in container["volumeMounts"]}
    assert {"/etc/headrace/pods", told["HEADRACE_PODS_ACCOUNT"]} <= mounted
    other = found(render(values(processes=4, queue="q")), "StatefulSet", "headrace-trainer")["spec"]["template"]
    assert other["metadata"]["annotations"] != pod["metadata"]["annotations"], "a new template starts it anew"


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"pods": {"enabled": True}, "settings": {"nodes": 2}}, r"expected false beside settings\.nodes \(2\)"),
        ({"pods": {"processes": 0}}, r"processes"),
        ({"pods": {"labels": {"app.kubernetes.io/name": "x"}}}, r"pods\.labels: expected no label that the chart sets"),
        ({"settings": {"pods_template": "/x"}}, r"pods_template"),
    ],
)
def test_values_that_cannot_work_are_refused(render: Render, trainer: Manifest, message: str) -> None:
    with pytest.raises(Exception, match=message):
        render({"services": {"trainer": trainer}})
