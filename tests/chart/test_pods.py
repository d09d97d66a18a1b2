"""Every pod is hardened alike, stops in time, and reaches only what it needs."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from headrace_runtime.process.service import STOP_TIMEOUT_S
from headrace_runtime.rpc.host import LIVE
from headrace_runtime.rpc.leaving import AGE_JITTER
from headrace_runtime.topic_plan import TopicPlan

Manifest = dict[str, Any]

SCRATCH = "/tmp"  # noqa: S108 - a folder of the pod's own
COMPONENT = "app.kubernetes.io/component"
ATTEMPT_S = 65
"""Longest attempt of a job: what `health_check` is given, and what a client of Kafka takes to give up."""
GRPC_GRACE_S = 10
"""What GrpcHost gives calls in flight."""


def container(pod: Manifest) -> Manifest:
    (only,) = pod["spec"]["containers"]
    assert "initContainers" not in pod["spec"]
    return dict(only)


def environment(pod: Manifest) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(pod)["env"] if "value" in each}


def found(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def selects(selector: Manifest, pod: Manifest) -> bool:
    return selector.items() <= pod["metadata"]["labels"].items()


def test_pods_are_hardened(pods: dict[str, Manifest]) -> None:
    assert pods.keys() >= {"inference", "topics", "test"}
    assert len(pods) >= 8
    for pod in pods.values():
        spec, only = pod["spec"], container(pod)
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        kinds = {next(key for key in volume if key != "name") for volume in spec["volumes"]}
        # The token of the trainer that makes pods for runs is a volume of its own: see test_runs.
        assert kinds <= {"emptyDir", "secret", "configMap", "persistentVolumeClaim", "projected"}
        assert not re.search(r":(latest)?$", only["image"])
        assert ":" in only["image"]


def test_containers_say_what_they_need_and_may_take(pods: dict[str, Manifest]) -> None:
    for pod in pods.values():
        resources = container(pod)["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys()
        assert {"cpu", "memory"} <= resources["limits"].keys()


def test_a_limit_can_be_taken_away(render: Any) -> None:
    unlimited = {"resources": {"limits": {"cpu": None}}}
    made = found(render({"defaults": unlimited, "services": {"trainer": unlimited}}), "StatefulSet")
    limits = {one["metadata"]["labels"][COMPONENT]: container(one["spec"]["template"])["resources"] for one in made}
    assert {name for name, each in limits.items() if "cpu" not in each["limits"]} >= {"trainer", "ingestion"}
    assert all(each["limits"]["memory"] for each in limits.values())


def test_everything_that_is_written_has_a_volume(pods: dict[str, Manifest]) -> None:
    for pod in pods.values():
        mounts = {mount["mountPath"]: mount for mount in container(pod)["volumeMounts"]}
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        assert {mount["name"] for mount in mounts.values()} == volumes
        assert SCRATCH in mounts
        variables = environment(pod)
        assert variables["HOME"] == SCRATCH
        assert variables.get("HEADRACE_WORK_DIR", SCRATCH) in mounts
        if variables.get("HEADRACE_STORE_URL", "").startswith("file://"):
            assert variables["HEADRACE_STORE_URL"].removeprefix("file://") in mounts
        for name, value in variables.items():
            if value.startswith("/etc/headrace/"):
                folder = value if value in mounts else value.rpartition("/")[0]
                assert mounts[folder]["readOnly"], name


def test_secrets_are_named_and_never_written(pods: dict[str, Manifest], manifests: list[Manifest]) -> None:
    assert not found(manifests, "Secret")
    for pod in pods.values():
        for variable in container(pod)["env"]:
            if re.search("PASSWORD|USERNAME|SECRET|TOKEN", variable["name"]):
                assert "secretKeyRef" in variable["valueFrom"], variable["name"]
            assert "@" not in variable.get("value", "")


def test_servers_are_probed_by_grpc_and_others_by_their_metrics(
    workloads: dict[str, Manifest], facts: dict[str, Manifest]
) -> None:
    for component, workload in workloads.items():
        pod = workload["spec"]["template"]
        only, variables = container(pod), environment(pod)
        ports = {port["name"]: port["containerPort"] for port in only["ports"]}
        startup, liveness, readiness = (only[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness"))
        if facts[component].get("grpcPort"):
            told = variables.get("HEADRACE_HEALTH_ADDRESS", variables["HEADRACE_LISTEN_ADDRESS"])
            port = int(told.rpartition(":")[2])
            assert port == ports["health" if "HEADRACE_GRPC_TLS_CERT_FILE" in variables else "grpc"]
            assert startup["grpc"] == liveness["grpc"] == {"port": port, "service": LIVE}
            assert readiness["grpc"] == {"port": port}
        else:
            assert variables["HEADRACE_METRICS_ADDRESS"] == f"0.0.0.0:{ports['metrics']}"
            for probe in (startup, liveness, readiness):
                assert probe["httpGet"] == {"path": "/metrics", "port": "metrics"}
        assert startup["failureThreshold"] * startup["periodSeconds"] >= 120
        assert all(address.startswith("0.0.0.0:") for name, address in variables.items() if name.endswith("_ADDRESS"))


def test_the_grace_is_longer_than_the_longest_stop(workloads: dict[str, Manifest]) -> None:
    for component, workload in workloads.items():
        pod = workload["spec"]["template"]
        waits = container(pod).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        fields = importlib.import_module(f"headrace_{component.replace('-', '_')}.settings").Settings.model_fields
        drain_s = aging_s = 0.0
        if "drain_s" in fields:
            drain_s = float(environment(pod)["HEADRACE_DRAIN_S"])
            assert drain_s >= 5, "load balancers need a while to hear of it"
            aging_s = float(
                environment(pod).get("HEADRACE_MAX_CONNECTION_AGE_S", fields["max_connection_age_s"].default)
            )
        elif "listen_address" in fields:
            assert waits >= 5, "load balancers need a while to hear of it"
        longest = waits + drain_s + aging_s * AGE_JITTER + GRPC_GRACE_S + STOP_TIMEOUT_S
        assert pod["spec"]["terminationGracePeriodSeconds"] >= longest


def test_instances_are_called_after_their_pods(workloads: dict[str, Manifest]) -> None:
    for workload in workloads.values():
        (instance,) = (
            each for each in container(workload["spec"]["template"])["env"] if each["name"] == "HEADRACE_INSTANCE"
        )
        assert instance["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


def test_rollouts_keep_the_service_up(workloads: dict[str, Manifest]) -> None:
    for workload in workloads.values():
        if workload["kind"] == "Deployment":
            assert workload["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        else:
            assert workload["spec"]["podManagementPolicy"] == "Parallel"
            assert workload["spec"]["updateStrategy"] == {"type": "RollingUpdate"}


def test_a_service_publishes_calls_or_metrics_and_monitors_select_the_latter(
    manifests: list[Manifest], workloads: dict[str, Manifest], facts: dict[str, Manifest]
) -> None:
    services = {each["metadata"]["name"]: each for each in found(manifests, "Service")}
    for component, workload in workloads.items():
        port = facts[component].get("grpcPort")
        calls = services.pop(f"headrace-{component}", {"spec": {"ports": []}})
        opened = {each["name"] for each in container(workload["spec"]["template"])["ports"]}
        rest = [8000] * ("rest" in opened)
        assert [each["port"] for each in calls["spec"]["ports"]] == [*([port] if port else []), *rest]
        metrics = services[f"headrace-{component}-metrics"]["spec"]
        assert metrics["clusterIP"] == "None"
        assert [(each["name"], each["port"]) for each in metrics["ports"]] == [("metrics", 8002)]
        if workload["kind"] == "StatefulSet":
            assert workload["spec"]["serviceName"] == f"headrace-{component}-metrics"
    assert len(services) == len(workloads)
    for monitor in found(manifests, "ServiceMonitor"):
        chosen = monitor["spec"]["selector"]["matchLabels"]
        names = {each["metadata"]["name"] for each in found(manifests, "Service") if selects(chosen, each)}
        assert names == services.keys()


def test_callers_from_outside_the_cluster_are_let_in(render: Any) -> None:
    outside: dict[str, Any] = {"services": {"inference": {"service": {"headless": False, "type": "LoadBalancer"}}}}
    for clients in ([], [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}]):
        manifests = render(outside | {"networkPolicy": {"clients": {"inference": clients}}})
        (policy,) = (
            each for each in found(manifests, "NetworkPolicy") if each["metadata"]["name"] == "headrace-inference"
        )
        calls = policy["spec"]["ingress"][-1]
        assert calls["ports"] == [{"protocol": "TCP", "port": "grpc"}]
        assert calls["from"] == clients
    assert render(outside | {"networkPolicy": {"enabled": False}})


def test_services_budgets_and_scalers_find_their_pods(
    manifests: list[Manifest], pods: dict[str, Manifest], workloads: dict[str, Manifest]
) -> None:
    for service in found(manifests, "Service"):
        chosen = [name for name, pod in pods.items() if selects(service["spec"]["selector"], pod)]
        assert len(chosen) == 1
        offered = {port["name"]: port["containerPort"] for port in container(pods[chosen[0]])["ports"]}
        for port in service["spec"]["ports"]:
            assert offered[port["targetPort"]] == port["port"]
    for budget in found(manifests, "PodDisruptionBudget"):
        assert sum(selects(budget["spec"]["selector"]["matchLabels"], pod) for pod in pods.values()) == 1
        assert budget["spec"]["maxUnavailable"] == 1
    scaled = {manifest["metadata"]["name"]: manifest for manifest in workloads.values()}
    for scaler in (*found(manifests, "ScaledObject"), *found(manifests, "HorizontalPodAutoscaler")):
        target = scaler["spec"]["scaleTargetRef"]
        assert scaled[target["name"]]["kind"] == target["kind"]
        least = scaler["spec"].get("minReplicaCount", scaler["spec"].get("minReplicas"))
        assert scaled[target["name"]]["spec"]["replicas"] == least


def test_pods_that_own_partitions_go_when_there_was_less_work_for_a_while(render: Any) -> None:
    keda = {"enabled": True, "minReplicas": 1, "cooldownPeriod": 5, "stabilizationWindowSeconds": 900}
    (scaler,) = found(render({"services": {"trainer": {"keda": keda}}}), "ScaledObject")
    behaviour = scaler["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behaviour == {"scaleDown": {"stabilizationWindowSeconds": 900}}
    assert scaler["spec"]["cooldownPeriod"] == 5


def test_nothing_is_open_but_what_is_named(
    manifests: list[Manifest], pods: dict[str, Manifest], facts: dict[str, Manifest], example: str
) -> None:
    policies = found(manifests, "NetworkPolicy")
    if example == "small":
        assert not policies
        return
    (rest,) = (policy for policy in policies if policy["metadata"]["name"] == "headrace-default")
    assert all(selects(rest["spec"]["podSelector"]["matchLabels"], pod) for pod in pods.values())
    assert [port["port"] for rule in rest["spec"]["egress"] for port in rule["ports"]] == [53, 53]
    for component, pod in pods.items():
        (own,) = (
            policy
            for policy in policies
            if policy is not rest and selects(policy["spec"]["podSelector"]["matchLabels"], pod)
        )
        incoming = {port["port"] for rule in own["spec"].get("ingress", []) for port in rule["ports"]}
        if component not in facts:
            assert (incoming, own["spec"]["policyTypes"]) == (set(), ["Egress"])
            assert own["spec"]["egress"][0] == rest["spec"]["egress"][0], "it runs before the one for all is there"
            continue
        ports = {port["name"] for port in container(pod)["ports"]}
        assert incoming == ports
        tasks, named = own["spec"]["ingress"][1], own["spec"]["ingress"][2:]
        assert {port["port"] for port in tasks["ports"]} == ports - {"rest"}
        assert [selects(tasks["from"][0]["podSelector"]["matchLabels"], each) for each in pods.values()]
        assert {port["port"] for rule in named for port in rule["ports"]} == ports & {"grpc", "rest"}
        assert ("rest" in ports) == (component == "inference" and example == "production")
        assert all(rule["from"] for rule in own["spec"].get("ingress", []))
        outgoing = {port["port"] for rule in own["spec"]["egress"] for port in rule["ports"]}
        variables = environment(pod)
        assert outgoing >= {
            int(each.rpartition(":")[2]) for each in variables["HEADRACE_KAFKA_BOOTSTRAP_SERVERS"].split(",")
        }
        assert (443 in outgoing) == bool(facts[component].get("store"))
        assert (6379 in outgoing) == (component == "inference" and example == "production")
        assert (4317 in outgoing) == ("HEADRACE_OTLP_ENDPOINT" in variables)


def test_a_port_that_is_named_twice_is_opened_once(render: Any) -> None:
    policies = found(render({"redis": {"url": "redis://cache:6379/0"}}), "NetworkPolicy")
    (inference,) = (one for one in policies if one["metadata"]["labels"].get(COMPONENT) == "inference")
    ports = [[port["port"] for port in rule["ports"]] for rule in inference["spec"]["egress"]]
    assert [rule for rule in ports if 6379 in rule] == [[6379]]


def test_a_store_of_one_s_own_is_reached_and_trusted(render: Any, facts: dict[str, Manifest]) -> None:
    peers: dict[str, Any] = {"to": [{"podSelector": {"matchLabels": {"app": "minio"}}}], "ports": [9000, 80]}
    manifests = render({"store": {"caSecret": "store-ca"}, "networkPolicy": {"store": peers}})
    policies = {each["metadata"]["name"]: each["spec"] for each in found(manifests, "NetworkPolicy")}
    for workload in (*found(manifests, "StatefulSet"), *found(manifests, "Deployment")):
        pod, uses = workload["spec"]["template"], bool(facts[workload["metadata"]["labels"][COMPONENT]].get("store"))
        assert (environment(pod).get("AWS_CA_BUNDLE") == "/etc/headrace/store/ca.crt") == uses
        mounts = {each["name"]: each["mountPath"] for each in container(pod)["volumeMounts"]}
        assert (mounts.get("store-ca") == "/etc/headrace/store") == uses
        secrets = {each["name"]: each["secret"] for each in pod["spec"]["volumes"] if "secret" in each}
        assert secrets == (
            {"store-ca": {"secretName": "store-ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}} if uses else {}
        )
        ports = [{"protocol": "TCP", "port": port} for port in peers["ports"]]
        rule = {"ports": ports, "to": peers["to"]}
        assert (rule in policies[workload["metadata"]["name"]]["egress"]) == uses


def test_the_job_makes_the_topics_of_the_code(manifests: list[Manifest], example: str) -> None:
    (config,) = (each for each in found(manifests, "ConfigMap") if "topics.json" in each["data"])
    plan = TopicPlan.parse(config["data"]["topics.json"].encode())
    replicas, in_sync = (1, "1") if example == "small" else (3, "2")
    planned = TopicPlan.production().topics
    assert plan.topics.keys() == planned.keys()
    for name, topic in plan.topics.items():
        assert topic.partitions == planned[name].partitions
        assert topic.replication_factor == replicas
        assert topic.config == {**planned[name].config, "min.insync.replicas": in_sync}
    job = jobs(manifests)["topics"]
    only = container(job["spec"]["template"])
    mounts = {mount["mountPath"]: mount["name"] for mount in only["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in job["spec"]["template"]["spec"]["volumes"]}
    assert only["command"][1:3] == ["-m", "headrace_runtime.provision"]
    folder, _, file = only["command"][3].rpartition("/")
    assert volumes[mounts[folder]]["configMap"]["name"] == config["metadata"]["name"]
    assert file in config["data"]
    assert only["command"][4:] == ["--owner", "headrace/headrace"]


def jobs(manifests: list[Manifest]) -> dict[str, Manifest]:
    return {each["metadata"]["labels"][COMPONENT]: each for each in found(manifests, "Job")}


def test_a_hook_is_made_after_what_it_needs(manifests: list[Manifest], example: str) -> None:
    for component, job in jobs(manifests).items():
        mine = [each for each in manifests if each["metadata"]["labels"].get(COMPONENT) == component]
        kinds = {each["kind"]: each["metadata"]["annotations"] for each in mine}
        assert ("NetworkPolicy" in kinds) == (example != "small")
        assert len({each["helm.sh/hook"] for each in kinds.values()}) == 1
        order = sorted(kinds, key=lambda kind: int(kinds[kind]["helm.sh/hook-weight"]))
        assert order[-1] == job["kind"] == "Job"
        assert order[0] == ("NetworkPolicy" if example != "small" else order[0])
        assert len({each["helm.sh/hook-weight"] for each in kinds.values()}) == len(kinds)


def test_the_log_of_a_job_can_be_read_when_it_is_done_or_has_failed(manifests: list[Manifest]) -> None:
    for job in jobs(manifests).values():
        annotations, spec = job["metadata"]["annotations"], job["spec"]
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation"
        assert annotations["helm.sh/hook-output-log-policy"] == "hook-failed"
        assert spec["ttlSecondsAfterFinished"] >= 3600
        # Kubernetes removes a job's pods at its deadline, and Helm gives up after five minutes without a reason.
        assert 0 < spec["activeDeadlineSeconds"] < 300
        pauses = sum(10 * 2**attempt for attempt in range(spec["backoffLimit"]))
        assert pauses + (spec["backoffLimit"] + 1) * ATTEMPT_S < spec["activeDeadlineSeconds"]
        assert container(spec["template"])["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_every_pod_takes_the_defaults_of_where_it_runs_and_what_it_is_called(render: Any) -> None:
    placement = {
        "priorityClassName": "business",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "mine", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    }
    manifests = render({"defaults": placement | {"podLabels": {"team": "a"}, "podAnnotations": {"note": "b"}}})
    pods = [
        each["spec"]["template"] for kind in ("Deployment", "StatefulSet", "Job") for each in found(manifests, kind)
    ]
    assert len(pods) == 8
    for pod in pods:
        assert placement.items() <= pod["spec"].items()
        assert pod["metadata"]["labels"]["team"] == "a"
        assert pod["metadata"]["annotations"] == {"note": "b"}


def test_the_page_says_how_to_run_models_of_language(render: Any) -> None:
    page = (Path(__file__).parents[2] / "docs" / "kubernetes.md").read_text()
    (values,) = re.findall(r"```yaml\n(services:\n.*?answer_threads.*?)```", page, re.DOTALL)
    (inference,) = found(render(yaml.safe_load(values)), "Deployment")
    pod = inference["spec"]["template"]
    settings = {name: value for name, value in environment(pod).items() if name.startswith("HEADRACE_")}
    assert settings["HEADRACE_ANSWER_THREADS"] == container(pod)["resources"]["requests"]["cpu"] == "4"
    assert settings["HEADRACE_KEYS_AND_VALUES_BYTES"] == str(2 * 2**30)
    assert settings["HEADRACE_REST_ADDRESS"] == "0.0.0.0:8000"
    test_the_grace_is_longer_than_the_longest_stop({"inference": inference})


@pytest.mark.parametrize("number", [16777216, 0.05, True])
def test_numbers_reach_the_settings_as_they_are_written(render: Any, number: float | bool) -> None:
    field = {int: "max_message_bytes", float: "trace_sample_ratio", bool: "publish_predictions"}[type(number)]
    manifests = render({"services": {"inference": {"settings": {field: number}}}})
    (inference,) = found(manifests, "Deployment")
    value = environment(inference["spec"]["template"])[f"HEADRACE_{field.upper()}"]
    assert json.loads(value) == number
    assert "e+" not in value
