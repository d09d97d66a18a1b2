"""Runs in pods of their own: the worker's JobSets on a real API server, with JobSet's controller and real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from headrace.events.v1 import artifact_pb2, model_pb2, pipeline_pb2, run_pb2
from headrace_runtime.kafka import LogReader, TransactionalProducer
from headrace_runtime.kafka.envelopes import decode, encode
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.child import FAILED, REFUSED
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.telemetry.hold import CHILD_VARIABLE
from headrace_runtime.topics import MODEL_TRAINED, RUN_FAILED, RUN_PROGRESSED
from headrace_trainer.adapters.api_server import ApiRefused, JobSetApi
from headrace_trainer.adapters.pods import Pods
from headrace_trainer.child import alone
from headrace_trainer.core.pods import API, RUN_LABEL, Attempt, Group, Template, job_set, key_of

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1] / "scripts"), str(HERE), str(HERE.parent / "families")]

from api import Api, Object, Refused  # noqa: E402 - found through the line above
from cluster import CHART, Cluster  # noqa: E402
from groups import NEAR, Lane, Quiet, declared, distance, lane_in, two  # noqa: E402

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from headrace_local.launcher import Platform

pytest_plugins = ("standing",)
pytestmark = pytest.mark.timeout(1200)

LONGEST_S = 300.0
WAIT = ("--wait", "--timeout", "5m")
VALUES: dict[str, Any] = {
    "services": {"trainer": {"pods": {"enabled": True, "patienceSeconds": 240, "queue": "training"}}}
}


@dataclass(frozen=True)
class Installation:
    """A release whose trainers may make pods, as one of them sees it."""

    cluster: Cluster
    namespace: str
    template: Path
    account: Path

    @property
    def api(self) -> JobSetApi:
        return JobSetApi(("127.0.0.1", self.cluster.api.port), self.account)

    def job_sets(self) -> list[Object]:
        return self.cluster.api.items(f"/apis/{API}/namespaces/{self.namespace}/jobsets")

    def uid(self, pod: str = "headrace-trainer-0") -> str:
        found = self.cluster.api.get(f"/api/v1/namespaces/{self.namespace}/pods/{pod}")
        return str(found["metadata"]["uid"])


@pytest.fixture(scope="module")
def installed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    namespace, folder = cluster.namespace("runs"), tmp_path_factory.mktemp("runs")
    cluster.helm("install", namespace, *WAIT, values=VALUES)
    written = cluster.api.get(f"/api/v1/namespaces/{namespace}/configmaps/headrace-pods")["data"]["template.json"]
    (folder / "template.json").write_text(written)
    (account := folder / "account").mkdir()
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/headrace-trainer/token"
    token = cluster.api.call("POST", path, {"spec": {"expirationSeconds": 7200}})["status"]["token"]
    (account / "token").write_text(token)
    (account / "namespace").write_text(namespace)
    root = cluster.api.get(f"/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt")["data"]["ca.crt"]
    (account / "ca.crt").write_text(root)
    return Installation(cluster, namespace, folder / "template.json", account)


@pytest.fixture
def lane(tmp_path: Path) -> Lane:
    return lane_in(tmp_path)


@pytest.fixture
def expected(lane: Lane) -> Mapping[str, Any]:
    return alone(lane.assignment(declared("{device: cpu}"), "alone"), Quiet())


@contextmanager
def trainer(installed: Installation, broker: Platform, lane: Lane) -> Iterator[subprocess.Popen[bytes]]:
    """A worker as the release's first trainer."""
    told = {
        "HEADRACE_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "HEADRACE_KAFKA_SESSION_TIMEOUT_MS": "6000",
        "HEADRACE_STORE_URL": lane.store.url,
        "HEADRACE_WORK_DIR": str(lane.folder / "work"),
        "HEADRACE_METRICS_ADDRESS": "",
        "HEADRACE_CHECKPOINT_S": "0",
        "HEADRACE_STANDBY": "false",
        "HEADRACE_INSTANCE": "headrace-trainer-0",
        "HEADRACE_PODS_TEMPLATE": str(installed.template),
        "HEADRACE_PODS_ACCOUNT": str(installed.account),
        "HEADRACE_PODS_OWNER": installed.uid(),
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(installed.cluster.api.port),
    }
    installed.cluster.kubelet.runs.environment = {"HEADRACE_STORE_URL": lane.store.url}
    with subprocess.Popen([sys.executable, "-m", "headrace_trainer"], env={**os.environ, **told}) as worker:
        try:
            yield worker
        finally:
            worker.terminate()


def request(broker: Platform, lane: Lane, run_id: str, strategy: str) -> KafkaSettings:
    settings = KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers)
    dataset = artifact_pb2.Artifact(**lane.dataset["manifest"])
    command = run_pb2.TrainingRequested(
        run_id=run_id,
        pipeline="together",
        spec=pipeline_pb2.PipelineSpec(json=two(strategy).canonical_json()),
        dataset=run_pb2.DatasetReference(dataset_id=lane.dataset["dataset_id"], manifest=dataset),
    )
    with closing(TransactionalProducer(settings, "check")) as producer, producer.transaction() as transaction:
        transaction.send([encode(command, source="check")])
    return settings


def facts(settings: KafkaSettings, topic: str, kind: type[Message], run_id: str) -> list[Any]:
    with LogReader(settings, "check") as reader:
        places = reader.partitions(topic)
        reader.start_at(dict.fromkeys(places))
        records = [record for batch in reader.read_to(reader.ends(places), stall_s=10) for record in batch]
    found: list[Any] = [decode(record, kind) for record in records]
    return [message for message in found if message.run_id == run_id]


def until(what: str, condition: Callable[[], Any]) -> Any:
    ends_s = time.monotonic() + LONGEST_S
    while not (found := condition()):
        assert time.monotonic() < ends_s, what
        time.sleep(0.2)
    return found


def trained(settings: KafkaSettings, run_id: str) -> model_pb2.ModelTrained:
    """Return the one fact of a run."""
    fact: model_pb2.ModelTrained
    (fact,) = until("a fact", lambda: facts(settings, MODEL_TRAINED.name, model_pb2.ModelTrained, run_id))
    assert not facts(settings, RUN_FAILED.name, run_pb2.RunFailed, run_id)
    return fact


def apart(expected: Mapping[str, Any], fact: model_pb2.ModelTrained, lane: Lane) -> float:
    weights = {field.name: value for field, value in fact.weights.ListFields()}
    return distance(lane.weights(expected), lane.weights({"weights": weights}))


def gone(installed: Installation) -> None:
    until("no JobSet is left", lambda: not installed.job_sets())
    until("no pod is left", lambda: not installed.cluster.pods(installed.namespace, "training"))
    until("no process is left", lambda: not installed.cluster.kubelet.runs.running())


def test_a_run_trains_in_two_pods(
    installed: Installation, broker: Platform, lane: Lane, expected: Mapping[str, Any]
) -> None:
    settings, runs = request(broker, lane, "in-pods", "ddp"), installed.cluster.kubelet.runs
    before = len(runs.started)
    with trainer(installed, broker, lane):
        until("two pods run", lambda: len(runs.started) == before + 2)
        (made,) = installed.job_sets()
        first, second = sorted(runs.started[before:], key=lambda pod: str(pod["metadata"]["name"]))
        fact = trained(settings, "in-pods")
        gone(installed)
    assert (fact.attempt, apart(expected, fact, lane) < NEAR["ddp"]) == (1, True)
    progress = facts(settings, RUN_PROGRESSED.name, run_pb2.RunProgressed, "in-pods")
    assert [each.step for each in progress] == [1, 2, 3, 4]
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training"
    meetings = {each["name"]: each.get("value") for each in second["spec"]["containers"][0]["env"]}
    assert meetings["HEADRACE_MEETING"] == f"{first['spec']['hostname']}.{first['spec']['subdomain']}:29500"
    assert "serviceAccountToken" not in json.dumps(first["spec"]), "pods of runs may call nothing"


def test_what_a_killed_worker_leaves_goes_before_another_attempt(
    installed: Installation, broker: Platform, lane: Lane, expected: Mapping[str, Any]
) -> None:
    holds = lane.folder / "holds"
    holds.mkdir()
    for step in (2, 3):
        (holds / f"step-{step}").touch()
    settings, runs = request(broker, lane, "killed", "fsdp"), installed.cluster.kubelet.runs
    with trainer(installed, broker, lane) as worker:
        runs.environment[CHILD_VARIABLE] = str(holds)
        until("it is held", (holds / "step-2.held").exists)
        (left,) = installed.job_sets()
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert [each["metadata"]["uid"] for each in installed.job_sets()] == [left["metadata"]["uid"]]
    assert len(runs.running()) == 2, "nobody has ended them"
    with trainer(installed, broker, lane) as worker:
        runs.environment[CHILD_VARIABLE] = str(holds)
        until("it is held", (holds / "step-3.held").exists)
        (second,) = installed.job_sets()
        assert second["metadata"]["annotations"]["headrace/attempt"] == "2"
        assert len(runs.running()) == 2
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)
        gone(installed)
    with trainer(installed, broker, lane):
        fact = trained(settings, "killed")
        gone(installed)
    assert (fact.attempt, apart(expected, fact, lane) < NEAR["fsdp"]) == (3, True)
    progress = facts(settings, RUN_PROGRESSED.name, run_pb2.RunProgressed, "killed")
    assert [each.step for each in progress if each.attempt == 3] == [4], "it goes on from the checkpoint"


def test_a_pod_that_is_killed_costs_an_attempt(
    installed: Installation, broker: Platform, lane: Lane, expected: Mapping[str, Any]
) -> None:
    (holds := lane.folder / "holds").mkdir()
    (holds / "step-2").touch()
    settings, runs = request(broker, lane, "evicted", "ddp"), installed.cluster.kubelet.runs
    before = len(runs.started)
    with trainer(installed, broker, lane):
        runs.environment[CHILD_VARIABLE] = str(holds)
        until("it is held", (held := holds / "step-2.held").exists)
        for pod in runs.started[before:]:
            if (process := runs.process(pod)) and "-0-1-" in pod["metadata"]["name"]:
                process.kill()
        held.unlink()
        fact = trained(settings, "evicted")
        gone(installed)
    assert (fact.attempt, apart(expected, fact, lane) < NEAR["ddp"]) == (2, True)


@pytest.fixture
def attempt() -> Attempt:
    return Attempt("refused", 1, "p", "runs/refused/attempt-1/assignment.json", "ab" * 32, Group(2, 1))


@pytest.fixture
def template(installed: Installation) -> Template:
    return Template.read(installed.template.read_bytes())


def test_a_quota_is_waited_out(installed: Installation, template: Template, attempt: Attempt, tmp_path: Path) -> None:
    quotas = f"/api/v1/namespaces/{installed.namespace}/resourcequotas"
    hard = {"count/jobsets.jobset.x-k8s.io": "0"}
    installed.cluster.api.call("POST", quotas, {"metadata": {"name": "none"}, "spec": {"hard": hard}})
    until("it is in force", lambda: installed.cluster.api.get(f"{quotas}/none").get("status", {}).get("used"))
    try:
        with following(installed, template, attempt, tmp_path, patience_s=0) as at_once:
            until("it has ended", lambda: at_once.ended)
            assert at_once.code == FAILED
            assert "exceeded quota: none" in at_once.reason
        with following(installed, template, attempt, tmp_path, patience_s=120) as waiting:
            until("it waits", lambda: "exceeded quota" in waiting._held)
            assert not waiting.ended
            installed.cluster.api.call("DELETE", f"{quotas}/none")
            until("it is made", installed.job_sets)
    finally:
        with suppress(Refused):  # gone already
            installed.cluster.api.call("DELETE", f"{quotas}/none")
    gone(installed)


@contextmanager
def following(
    installed: Installation, template: Template, attempt: Attempt, tmp_path: Path, patience_s: float
) -> Iterator[Pods]:
    pods = Pods(installed.api, ObjectStore(str(tmp_path)), template, attempt, patience_s)
    try:
        yield pods
    finally:
        pods.stop()


def test_what_is_no_pod_ends_the_run(
    installed: Installation, template: Template, attempt: Attempt, tmp_path: Path
) -> None:
    template.pod["spec"]["containers"][0]["imagePullPolicy"] = 7
    with following(installed, template, attempt, tmp_path, 120) as pods:
        until("it has ended", lambda: pods.ended)
        assert pods.code == REFUSED
        assert "imagePullPolicy" in pods.reason


def test_the_production_examples_pods_are_taken(installed: Installation, attempt: Attempt) -> None:
    """GPUs, a queue, places and a priority; restricted pods alone are let in."""
    cluster, values = installed.cluster, CHART / "examples" / "production" / "values.yaml"
    rendered = cluster.run(
        "template", "headrace", str(CHART), "--values", str(values), "--show-only", "templates/pods.yaml"
    )
    (written,) = [each for each in yaml.safe_load_all(rendered) if each["kind"] == "ConfigMap"]
    made = job_set(Template.read(written["data"]["template.json"]), attempt)
    made["spec"]["suspend"] = True  # as Kueue holds it until there is room
    path = f"/apis/{API}/namespaces/{installed.namespace}/jobsets"
    cluster.api.call("POST", path, made)
    jobs = f"/apis/batch/v1/namespaces/{installed.namespace}/jobs"
    suspended = lambda: [job for job in cluster.api.items(jobs) if job["spec"].get("suspend")]  # noqa: E731
    (job,) = until("its job is made", suspended)
    pod = job["spec"]["template"]["spec"]
    pod_path = f"/api/v1/namespaces/{installed.namespace}/pods?dryRun=All"
    as_made = {"metadata": {"generateName": "run-"}, "spec": pod | {"serviceAccountName": "headrace"}}
    taken = cluster.api.call("POST", pod_path, as_made)
    (container,) = taken["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in taken["spec"]["tolerations"]
    assert taken["spec"]["priority"] == 1000
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training"
    installed.api.delete(made["metadata"]["name"])
    gone(installed)


def test_pods_go_with_the_trainers_pod(installed: Installation, template: Template, attempt: Attempt) -> None:
    owner = ("headrace-trainer-1", installed.uid("headrace-trainer-1"))
    installed.api.create(job_set(template, attempt, owner))
    assert installed.api.named({RUN_LABEL: key_of(template, attempt.run_id)})
    installed.cluster.api.call("DELETE", f"/api/v1/namespaces/{installed.namespace}/pods/{owner[0]}")
    gone(installed)


def may(api: Api, namespace: str, verb: str, resource: str, group: str = "") -> bool:
    """Return whether a caller may do something."""
    asked = {"namespace": namespace, "verb": verb, "resource": resource, "group": group}
    body = {"spec": {"resourceAttributes": asked}, "kind": "SelfSubjectAccessReview"}
    return bool(api.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)["status"]["allowed"])


def test_rights_are_enough_and_no_more(installed: Installation) -> None:
    api, group = Api(installed.cluster.api.port, (installed.account / "token").read_text()), "jobset.x-k8s.io"
    verbs = {"create", "get", "list", "delete", "watch", "update", "patch", "deletecollection"}
    allowed = {verb for verb in verbs if may(api, installed.namespace, verb, "jobsets", group)}
    assert allowed == {"create", "get", "list", "delete"}
    assert not any(may(api, "default", verb, "jobsets", group) for verb in verbs)
    for resource in ("pods", "secrets", "configmaps", "services", "serviceaccounts/token", "pods/exec"):
        assert not any(may(api, installed.namespace, verb, resource) for verb in verbs)
    assert not any(may(api, installed.namespace, verb, "jobs", "batch") for verb in verbs)
    elsewhere = JobSetApi(("127.0.0.1", installed.cluster.api.port), installed.account)
    (installed.account / "namespace").write_text("default")
    try:
        with pytest.raises(ApiRefused, match=r"list JobSets: .* forbidden.* \(403\)"):
            elsewhere.named({"a": "b"})
    finally:
        (installed.account / "namespace").write_text(installed.namespace)
