"""Candidates beside a champion, with the real registry, a real replica and real graphs: no call fails in any of it."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from headrace import open_inference as oip
from headrace.events.v1.evaluation_pb2 import Bounded
from headrace.events.v1.model_pb2 import ModelRefused
from headrace.events.v1.quality_pb2 import QualityMeasured
from headrace.events.v1.rollout_pb2 import ROLLOUT_OUTCOME_PROMOTED, ROLLOUT_OUTCOME_ROLLED_BACK
from headrace.events.v1.run_pb2 import CompressionRequested, TrainingRequested
from headrace.registry.v1 import registry_service_pb2 as pb
from headrace_inference.settings import Settings as InferenceSettings
from headrace_inference.wiring import build as build_inference
from headrace_model_registry.settings import Settings
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.rpc.host import GrpcHost
from onnx import TensorProto, helper

pytestmark = pytest.mark.contract

NAME = "registry-rollout"
PLAN = "serve: {cache: off, quality: true, rollout: {canary: [50, 100], every: 1s, calls: 40, errors: 0.5}}"
"""On a busy machine some calls of a candidate take longer than it has."""
LABELS = f"topic: {NAME}\n  labels: {{topic: {NAME}-labels}}"
SIDE = 450
"""Of the matrix that a slow graph multiplies by itself: some milliseconds."""


def graph(offset: float, least: float = -1e9, slow: bool = False) -> bytes:
    """Return a graph that answers with the mean of the pixels plus an offset; no number where that is below `least`."""
    side = SIDE if slow else 1
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])
    scalars = {"offset": offset, "least": -least}
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "offset"], ["moved"]),
        helper.make_node("Add", ["moved", "least"], ["above"]),
        helper.make_node("Sqrt", ["above"], ["root"]),  # NaN of what is negative
        helper.make_node("Sub", ["root", "root"], ["nothing"]),
        helper.make_node("Add", ["moved", "nothing"], ["told"]),
        helper.make_node("ReduceMean", ["told"], ["one"], keepdims=0),
        helper.make_node("Expand", ["one", "square"], ["spread"]),
        helper.make_node("MatMul", ["spread", "spread"], ["product"]),
        helper.make_node("ReduceMax", ["product"], ["most"], keepdims=0),
        helper.make_node("Sub", ["most", "most"], ["zero"]),
        helper.make_node("Add", ["told", "zero"], ["probabilities"]),
    ]
    made = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch"])],
        [
            axes,
            helper.make_tensor("square", TensorProto.INT64, [2], [side, side]),
            *(helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in scalars.items()),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString())


class Calls:
    """A caller that calls without a pause, and never makes a call a second time."""

    def __init__(self, port: int) -> None:
        self.answered: Counter[str] = Counter()
        self.failed: list[str] = []
        self._port, self._stop = port, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Calls:
        self._thread.start()
        return self

    def __exit__(self, *_ended: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{self._port}") as channel:
            infer: Any = channel.unary_unary(f"/{oip.SERVICE}/ModelInfer")
            for number in itertools.count():
                if self._stop.wait(0.02):  # fifty a second: the registry has to do with them, too
                    return
                mean = number % 16
                request = oip.ModelInferRequest(model_name=NAME, id=str(number))
                request.inputs.add(name="pixels", datatype="FP32", shape=[1, 8, 8])
                request.raw_input_contents.append(np.full((1, 8, 8), mean, np.float32).tobytes())
                try:
                    answer = oip.ModelInferResponse.FromString(infer(request.SerializeToString(), timeout=30))
                except grpc.RpcError as error:
                    if self.answered:  # before there is a first version there is nothing to answer with
                        self.failed.append(str(error))
                    continue
                value = float(np.frombuffer(answer.raw_output_contents[0], np.float32)[0])
                if value != mean + int(answer.model_version):
                    self.failed.append(f"{answer.model_version} answered {value} for {mean}")
                self.answered[answer.model_version] += 1


@contextmanager
def serving(settings: Settings, folder: Path) -> Iterator[int]:
    """Run a replica; yield its port."""
    chosen = {
        "kafka_bootstrap_servers": settings.kafka_bootstrap_servers,
        "listen_address": "127.0.0.1:0",
        "metrics_address": "",
        "store_url": settings.store_url,
        "work_dir": folder,
        "redis_url": "",
        "cpu_class": "avx2",
        "drain_s": 0.0,
        "max_connection_age_s": 0.0,
    }
    service = build_inference(InferenceSettings.model_validate(chosen))
    service.start()
    try:
        (host,) = (part for part in service._components if isinstance(part, GrpcHost))
        yield host.port
    finally:
        service.stop()


class Story:
    """What trainer and compressor tell of versions with graphs of their own."""

    def __init__(self, settings: Settings, cluster: Any, cast: Any, registry: Any) -> None:
        self._store, self._cluster, self._cast = ObjectStore(settings.store_url), cluster, cast
        document = cast.document(NAME).replace(b"serve: {cache: redis}", PLAN.encode())
        document = document.replace(f"topic: {NAME}".encode(), LABELS.encode())
        request = pb.ApplyPipelineRequest(document=document, create_topic=True)
        self._applied = registry.ApplyPipeline(request, timeout=cast.timeout_s).applied

    def version(self, number: int, content: bytes) -> str:
        """Tell of a version that passes its gates; return its digest."""
        cluster, cast, kept = self._cluster, self._cast, self._store.put(content)
        cluster.publish(cast.frozen(self._applied, number))
        trained = cast.trained(cluster.wait_for(TrainingRequested, NAME, number))
        trained.graph.uri, trained.graph.digest, trained.graph.size_bytes = kept.uri, kept.digest, kept.size_bytes
        cluster.publish(trained)
        compressed = cast.compressed(cluster.wait_for(CompressionRequested, NAME, number))
        del compressed.variants[1]
        cluster.publish(compressed)
        return str(trained.version_id)

    def measured(self, candidate: str, champion: str) -> None:
        """Tell that the candidate answers worse on the calls of its canary, as who joins labels does."""
        for version, value in ((candidate, 0.7), (champion, 0.95)):
            measured = QualityMeasured(
                pipeline=NAME, model=NAME, version_id=version, tried_version_id=candidate, rows=300
            )
            measured.incarnation = self._applied.incarnation
            measured.since_time.GetCurrentTime()
            measured.compared.MergeFrom(Bounded(name="accuracy", value=value, low=value - 0.05, high=value + 0.05))
            self._cluster.publish(measured)

    def states(self, registry: Any) -> list[int]:
        return [version.state for version in registry.ListVersions(pb.ListVersionsRequest(model=NAME)).versions]


def test_a_good_candidate_takes_over_and_bad_ones_go_back_though_the_registry_is_killed(
    settings: Settings, cluster: Any, running: Any, started: Any, cast: Any, tmp_path: Path
) -> None:
    """Worse by the labels that come while no registry runs, then no finite numbers, then slow."""
    released = pb.VERSION_STATE_RELEASED
    with serving(settings, tmp_path) as port, Calls(port) as calls:
        with running(settings) as (_, registry):
            story = Story(settings, cluster, cast, registry)
            story.version(1, graph(1.0))
            cast.wait_until(lambda: bool(calls.answered["1"]))
            champion = story.version(2, graph(2.0))
            cast.wait_until(lambda: story.states(registry)[1:] == [released])
            assert cluster.log(NAME)[-3:] == ["rollout_ended", "model_released", "model_withdrawn"]
        with started(settings) as process:
            worse = story.version(3, graph(3.0))
            cast.wait_until(lambda: cluster.log(NAME)[-2:] == ["rollout_advanced", "model_released"])
            process.kill()
        assert calls.answered["2"], "the champion answers"
        story.measured(worse, champion)
        with running(settings) as (_, registry):
            refused = [cluster.wait_for(ModelRefused, NAME).reason]
            for number, content in ((4, graph(4.0, least=10.0)), (5, graph(5.0, slow=True))):
                story.version(number, content)
                refused.append(cluster.wait_for(ModelRefused, NAME, number - 2).reason)
            rollouts = registry.ListRollouts(pb.ListRolloutsRequest(model=NAME)).rollouts
            assert story.states(registry) == [pb.VERSION_STATE_REPLACED, released, *[pb.VERSION_STATE_REFUSED] * 3]
    assert calls.failed == []
    promoted, *back = rollouts
    assert (promoted.ordinal, promoted.outcome, promoted.share) == (2, ROLLOUT_OUTCOME_PROMOTED, 50)
    assert promoted.counts.candidate_calls >= 40
    assert "live quality is in doubt: 0 of its answers" in promoted.reason
    assert [each.ordinal for each in back] == [3, 4, 5]
    assert {each.outcome for each in back} == {ROLLOUT_OUTCOME_ROLLED_BACK}
    saids = ("worse: accuracy is 0.7000", "answers that are no finite numbers", "slow: its computations take")
    for each, reason, said in zip(back, refused, saids, strict=True):
        assert f"with 50 % of the calls: {said}" in each.reason
        assert each.reason in reason
    assert (back[0].quality.candidate_rows, back[0].quality.candidate.value) == (300, 0.7)
    assert back[1].counts.not_finite
    log = cluster.log(NAME)
    assert log[-3:] == ["rollout_ended", "model_withdrawn", "model_refused"]
    assert (log.count("rollout_advanced"), log.count("rollout_ended")) == (4, 4)
