"""One registry at a time: kills, take-overs, stops, and a log that must be kept."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from headrace.events.v1.run_pb2 import TrainingRequested
from headrace.registry.v1 import registry_service_pb2 as pb
from headrace.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from headrace_data.log_chain import LogChain
from headrace_model_registry.adapters.log import read_log
from headrace_model_registry.settings import Settings
from headrace_model_registry.transport.converters import from_log_entry
from headrace_model_registry.wiring import build
from headrace_runtime.errors import FailedPrecondition
from headrace_runtime.kafka import Admin, Fenced
from headrace_runtime.topics import REGISTRY_LOG
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

pytestmark = pytest.mark.contract


def test_a_killed_registry_decides_everything_once(
    settings: Settings, cluster: Any, running: Any, started: Any, cast: Any
) -> None:
    name = "registry-killed"
    with running(settings) as (_, registry):
        applied = cast.apply(registry, name).applied
    datasets = [cast.frozen(applied, number) for number in range(30)]
    with started(settings) as process:
        cluster.publish(*datasets[:10])
        process.kill()
        process.wait(cast.timeout_s)
    cluster.publish(*datasets[10:])
    with running(settings) as (_, registry):
        cast.wait_until(lambda: len(registry.ListRuns(pb.ListRunsRequest(pipeline=name)).runs) == len(datasets))
        states = [run.state for run in registry.ListRuns(pb.ListRunsRequest(pipeline=name)).runs]
    # One run is asked for, the newest dataset waits for it, and those in between gave way.
    assert [each.dataset.dataset_id for each, _ in cluster.find(TrainingRequested, name)] == [datasets[0].dataset_id]
    between = [pb.RUN_STATE_SUPERSEDED] * (len(datasets) - 2)
    assert states == [pb.RUN_STATE_RUNNING, *between, pb.RUN_STATE_WAITING]
    assert cluster.log(name).count("dataset_frozen") == len(datasets)
    require_one_chain(settings)


def require_one_chain(settings: Settings) -> None:
    """Require that each entry of the log carries the root of those before it, whichever registry wrote them."""
    chain = LogChain()
    entries = list(read_log(settings, from_log_entry, chain=chain))
    assert (chain.begins, chain.first_break, chain.unchained, chain.tree.leaves) == (0, None, 0, len(entries))


@pytest.mark.parametrize("by", ["a write", "an entry of the other"])
def test_a_second_registry_takes_over_and_the_first_one_ends(
    settings: Settings, cluster: Any, by: str, running: Any, cast: Any
) -> None:
    name = f"registry-fenced-by-{by.replace(' ', '-')}"
    first = build(settings)
    failed: list[BaseException] = []
    first.fail = failed.append  # type: ignore[assignment,method-assign]
    first.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{cast.port_of(first)}") as channel:
            applied = cast.apply(RegistryServiceStub(channel), name).applied
            with running(settings) as (_, second):
                assert cast.everything(second, name)[0].pipelines == [applied]
                if by == "a write":
                    with pytest.raises(grpc.RpcError) as raised:
                        cast.apply(RegistryServiceStub(channel), name, seed=8)
                    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
                else:
                    cast.apply(second, f"{name}-elsewhere")
                cast.wait_until(lambda: bool(failed))
                assert isinstance(failed[0], Fenced)
                assert cast.release(cluster, applied).epoch == 1
                assert cluster.log(name).count("pipeline_applied") == 1
                require_one_chain(settings)
    finally:
        first.stop()


def test_a_write_that_kafka_does_not_commit_is_answered_in_time_and_made_once(
    broker: Any, settings: Settings, cluster: Any, running: Any, cast: Any
) -> None:
    with running(settings) as (_, registry):
        cast.apply(registry, "registry-slow")
        tasks = Path(f"/proc/{broker.signal('kafka', signal.SIGSTOP)}/task")
        try:
            # Threads stop one by one.
            cast.wait_until(lambda: all(") T " in each.read_text() for each in tasks.glob("*/stat")))
            with pytest.raises(grpc.RpcError) as raised:
                registry.FreezeDataset(pb.FreezeDatasetRequest(pipeline="registry-slow"), timeout=3)
        finally:
            broker.signal("kafka", signal.SIGCONT)
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "s and may still: look whether it did; applying a pipeline once more" in (raised.value.details() or "")
        cast.wait_until(lambda: cluster.log("registry-slow") == ["pipeline_applied", "dataset_requested"])
        assert registry.FreezeDataset(pb.FreezeDatasetRequest(pipeline="registry-slow"), timeout=15).request_id
        assert cluster.log("registry-slow").count("dataset_requested") == 2


def test_a_stopped_registry_ends_its_streams_at_once(settings: Settings, running: Any, cast: Any) -> None:
    with running(settings) as (service, registry):
        cast.apply(registry, "registry-stopped")
        stream = registry.WatchPipeline(pb.WatchPipelineRequest(pipeline="registry-stopped"), timeout=cast.timeout_s)
        next(stream)
        began = time.monotonic()
        service.stop()
        assert time.monotonic() - began < 8.0
        with pytest.raises(grpc.RpcError) as raised:
            next(stream)
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [("cleanup.policy", "compact", "delete"), ("retention.ms", "86400000", "-1"), ("retention.bytes", "1000000", "-1")],
)
def test_a_log_that_would_be_forgotten_stops_the_start(
    settings: Settings, setting: str, value: str, expected: str, cast: Any
) -> None:
    with log_setting(settings, setting, value, expected, cast):
        service = build(settings)
        with pytest.raises(FailedPrecondition, match=f"{setting} is {value}, expected {expected}"):
            service.start()


@contextmanager
def log_setting(settings: Settings, name: str, value: str, usual: str, cast: Any) -> Iterator[None]:
    admin = KafkaAdminClient(**settings.kafka_client())

    def change(to: str) -> None:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, REGISTRY_LOG.name, configs={name: to})])
        with Admin(settings, "test") as reader:
            cast.wait_until(lambda: reader.topic_config(REGISTRY_LOG.name)[name] == to)

    try:
        change(value)
        yield
    finally:
        change(usual)
        admin.close()


def test_the_process_starts_and_stops_by_signal(settings: Settings, started: Any, cast: Any) -> None:
    with started(settings) as process:
        process.terminate()
        assert process.wait(cast.timeout_s) == 0
        assert process.stderr is not None
        assert any("model-registry is down" in line for line in process.stderr)
