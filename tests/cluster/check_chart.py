"""The chart on a real API server: what renders do not show. Run by `make test-cluster`, outside `make test`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1] / "scripts"), str(HERE)]

from cluster import CHART, Cluster  # noqa: E402 - found through the line above

pytest_plugins = ("standing",)

WAIT = ("--wait", "--timeout", "5m")
EXAMPLES = sorted(path.name for path in (CHART / "examples").iterdir())
PIPELINES = {"pipelines": {"digits": {"topic": "digits"}}}
NOTED: dict[str, Any] = {"defaults": {"podAnnotations": {"note": "changed"}}}

pytestmark = pytest.mark.timeout(1200)


def keda(**values: Any) -> dict[str, Any]:
    return PIPELINES | {"services": {"ingestion": {"keda": {"enabled": True} | values}}}


def replicas(cluster: Cluster, namespace: str, kind: str, component: str) -> int:
    return int(cluster.workload(namespace, kind, component)["spec"]["replicas"])


def scale(cluster: Cluster, namespace: str, component: str, number: int) -> None:
    """Do what KEDA does."""
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets/headrace-{component}/scale"
    cluster.api.patch(path, {"spec": {"replicas": number}}, manager="keda-operator")


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_installed_changed_and_taken_back(cluster: Cluster, example: str) -> None:
    namespace, values = cluster.namespace(f"example-{example}"), CHART / "examples" / example / "values.yaml"
    where = ("headrace", str(CHART), "--namespace", namespace, "--values", str(values))
    # No node has the label of the pool where trainers run in the production example.
    cluster.run("install", *where, *WAIT)
    wanted = {
        each["metadata"]["name"]: each["spec"]["replicas"]
        for kind in ("statefulsets", "deployments")
        for each in cluster.api.items(f"/apis/apps/v1/namespaces/{namespace}/{kind}")
    }
    assert len(wanted) == 6
    running = [pod for pod in cluster.pods(namespace) if pod["status"]["phase"] == "Running"]
    assert len(running) == sum(wanted.values())
    hooks = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in cluster.pods(namespace)} - {
        name.removeprefix("headrace-") for name in wanted
    }
    assert "topics" in hooks
    if example != "small":
        assert "headrace-topics" in cluster.kubelet.policies[f"{namespace}/topics"], "its policy is there before it"
    cluster.run("upgrade", *where, *WAIT, "--set", "defaults.podAnnotations.note=changed")
    assert {pod["metadata"]["annotations"]["note"] for pod in cluster.pods(namespace, "inference")} == {"changed"}
    cluster.run("rollback", "headrace", "--namespace", namespace, *WAIT)
    assert not any(
        "note" in pod["metadata"].get("annotations", {}) for pod in cluster.pods(namespace, "model-registry")
    )
    cluster.run("test", "headrace", "--namespace", namespace)
    cluster.run("uninstall", "headrace", "--namespace", namespace, "--wait")
    cluster.until("all pods of services are gone", lambda: len(cluster.pods(namespace)) <= len(hooks) + 1)


def test_a_scaler_takes_the_pods_over_and_gives_them_back(cluster: Cluster) -> None:
    namespace = cluster.namespace("scalers")
    cluster.helm("install", namespace, *WAIT)
    assert replicas(cluster, namespace, "statefulsets", "ingestion") == 2
    names = {pod["metadata"]["uid"] for pod in cluster.pods(namespace, "ingestion")}
    cluster.helm("upgrade", namespace, *WAIT, values=keda(minReplicas=1))
    assert {pod["metadata"]["uid"] for pod in cluster.pods(namespace, "ingestion")} == names, "none was taken away"
    cluster.settle(namespace)
    scale(cluster, namespace, "ingestion", 5)
    cluster.settle(namespace)
    cluster.helm("upgrade", namespace, *WAIT, values=keda(minReplicas=1) | NOTED)
    assert replicas(cluster, namespace, "statefulsets", "ingestion") == 5
    cluster.settle(namespace)
    scale(cluster, namespace, "ingestion", 3)
    cluster.helm("upgrade", namespace, *WAIT, values=keda(minReplicas=1))
    assert replicas(cluster, namespace, "statefulsets", "ingestion") == 3
    cluster.settle(namespace)
    cluster.run("rollback", "headrace", "--namespace", namespace, *WAIT)
    assert replicas(cluster, namespace, "statefulsets", "ingestion") == 3
    cluster.settle(namespace)
    with pytest.raises(Exception, match=r"conflict"):
        cluster.helm("upgrade", namespace, *WAIT, values=PIPELINES)
    cluster.helm("upgrade", namespace, *WAIT, "--force-conflicts", values=PIPELINES)
    assert replicas(cluster, namespace, "statefulsets", "ingestion") == 2


def test_an_autoscaler_takes_the_pods_over(cluster: Cluster) -> None:
    namespace = cluster.namespace("autoscaler")
    cluster.helm("install", namespace, *WAIT)
    on = {"services": {"inference": {"hpa": {"enabled": True, "minReplicas": 1, "maxReplicas": 4}}}}
    names = {pod["metadata"]["uid"] for pod in cluster.pods(namespace, "inference")}
    cluster.helm("upgrade", namespace, *WAIT, values=on)
    assert {pod["metadata"]["uid"] for pod in cluster.pods(namespace, "inference")} == names, "none was taken away"
    more = {"services": {"inference": {"hpa": {"enabled": True, "minReplicas": 3, "maxReplicas": 4}}}}
    cluster.helm("upgrade", namespace, *WAIT, values=more)
    cluster.until("it has its least", lambda: replicas(cluster, namespace, "deployments", "inference") == 3)
    cluster.helm("upgrade", namespace, *WAIT, values=more | NOTED)
    assert replicas(cluster, namespace, "deployments", "inference") == 3


def test_what_was_scaled_by_hand_is_a_conflict_that_can_be_forced(cluster: Cluster) -> None:
    namespace = cluster.namespace("by-hand")
    cluster.helm("install", namespace, *WAIT)
    cluster.kubectl(namespace, "scale", "statefulset/headrace-preprocessing", "--replicas=3")
    cluster.settle(namespace)
    with pytest.raises(Exception, match=r"conflict with \"kubectl\"") as refused:
        cluster.helm("upgrade", namespace, *WAIT, values=NOTED)
    assert ".spec.replicas" in str(refused.value)
    cluster.helm("upgrade", namespace, *WAIT, "--force-conflicts", values=NOTED)
    assert replicas(cluster, namespace, "statefulsets", "preprocessing") == 2


def test_another_name_changes_no_selector(cluster: Cluster) -> None:
    namespace = cluster.namespace("renamed")
    cluster.helm("install", namespace, *WAIT)
    # "headrace" holds it, so that every object keeps its name.
    cluster.helm("upgrade", namespace, *WAIT, values={"nameOverride": "race"})


def test_a_job_that_fails_says_so_before_helm_gives_up(cluster: Cluster) -> None:
    namespace = cluster.namespace("failing")
    cluster.kubelet.failing.add("topics")
    try:
        with pytest.raises(Exception, match=r"(?i)BackoffLimitExceeded|failed") as refused:
            cluster.helm("install", namespace)
    finally:
        cluster.kubelet.failing.remove("topics")
    assert "timed out" not in str(refused.value)
    assert "deadline" not in str(refused.value).lower()
    (job,) = cluster.api.items(f"/apis/batch/v1/namespaces/{namespace}/jobs")
    assert {each["reason"] for each in job["status"]["conditions"]} == {"BackoffLimitExceeded"}
    assert len(cluster.pods(namespace, "topics")) == job["spec"]["backoffLimit"] + 1, "their logs can be read"


def test_a_drain_takes_one_pod_of_a_service_at_a_time(cluster: Cluster) -> None:
    namespace = cluster.namespace("drained")
    cluster.helm("install", namespace, *WAIT)
    cluster.settle(namespace)
    node = cluster.pods(namespace, "ingestion")[0]["spec"]["nodeName"]
    least = min(
        each["status"]["disruptionsAllowed"]
        for each in cluster.api.items(f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets")
    )
    assert least == 1
    selector = "--pod-selector=app.kubernetes.io/instance=headrace"
    cluster.kubectl(namespace, "drain", node, selector, "--delete-emptydir-data", "--force", "--timeout=240s")
    cluster.settle(namespace)
    assert node not in {pod["spec"].get("nodeName") for pod in cluster.pods(namespace, "ingestion")}
    cluster.kubectl(namespace, "uncordon", node)
