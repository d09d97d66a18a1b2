"""The past of a registry: rollback, lists as of a moment, lineage, record fates, and a spec that was mended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from headrace.events.v1.artifact_pb2 import Artifact
from headrace.events.v1.dataset_pb2 import DatasetFrozen, SplitRows
from headrace.events.v1.model_pb2 import ModelReleased
from headrace.events.v1.pipeline_pb2 import PipelineApplied
from headrace.events.v1.prediction_pb2 import PredictionServed, PredictionsServed
from headrace.events.v1.record_pb2 import SourceRange
from headrace.events.v1.run_pb2 import (
    RUN_KIND_RECALIBRATION,
    RUN_KIND_TRAINING,
    CompressionRequested,
    RunFailed,
    TrainingRequested,
)
from headrace.registry.v1 import registry_service_pb2 as pb
from headrace.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from headrace_data.manifest import Manifest, OffsetRange, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import parse_canonical
from headrace_data.windows import only_dataset
from headrace_model_registry.settings import Settings
from headrace_runtime.kafka.envelopes import new_id
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.records import Outgoing
from headrace_runtime.stream.dead_letters import DeadLetter

pytestmark = pytest.mark.contract

RECORDS = 60
BROKEN, WAITING = 50, 55
"""Offsets of a record that was rejected, and of the first one behind the dataset."""


def refusal(call: Any) -> Any:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value


def rollback(registry: RegistryServiceStub, model: str, ordinal: int = 0) -> ModelReleased:
    answer = registry.RollbackModel(pb.RollbackModelRequest(model=model, ordinal=ordinal), timeout=60)
    assert answer.release.HasField("release_time")
    released: ModelReleased = answer.release.released
    return released


def test_a_rollback_is_a_release_of_the_older_version_and_outlives_a_restart(
    settings: Settings, cluster: Any, running: Any, cast: Any
) -> None:
    name = "registry-rollback"
    with running(settings) as (_, registry):
        applied = cast.apply(registry, name).applied
        first = cast.release(cluster, applied, 1)
        alone = refusal(lambda: rollback(registry, name))
        assert alone.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "no release of model registry-rollback before version 1" in alone.details()
        unknown = refusal(lambda: rollback(registry, "registry-nothing"))
        assert unknown.code() == grpc.StatusCode.NOT_FOUND

        second = cast.release(cluster, applied, 2)
        before = datetime.now(UTC)
        back = rollback(registry, name)
        assert (back.epoch, back.ordinal, back.reason) == (second.epoch + 1, 1, "rollback")
        assert (back.version_id, back.variant, back.graph) == (first.version_id, first.variant, first.graph)
        assert cluster.wait_for(ModelReleased, name, 3) == back
        assert [item.released.ordinal for item in cast.everything(registry, name)[4].releases] == [1, 2, 1]
        assert [item.released.ordinal for item in cast.everything(registry, name, before)[4].releases] == [1, 2]

    with running(settings) as (_, registry):
        assert cluster.log(name).count("model_released") == 3
        cluster.publish(cast.frozen(applied, 3))
        cluster.publish(cast.trained(cluster.wait_for(TrainingRequested, name, 3)))
        assert cluster.wait_for(CompressionRequested, name, 3).champion.version_id == first.version_id
        assert rollback(registry, name, 2).epoch == back.epoch + 1


def test_a_recalibration_is_a_run_of_its_own_and_a_release_of_the_same_version(
    settings: Settings, cluster: Any, running: Any, cast: Any
) -> None:
    name = "registry-recalibration"
    wish = pb.RecalibrateModelRequest(model=name)
    with running(settings) as (_, registry):
        applied = cast.apply(registry, name).applied
        first = cast.release(cluster, applied, 1)
        early = refusal(lambda: registry.RecalibrateModel(wish, timeout=60))
        assert early.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "there is no newer one to make its variants with" in early.details()
        cluster.publish(cast.frozen(applied, 2))
        cluster.publish(
            RunFailed(
                run_id=cluster.wait_for(TrainingRequested, name, 2).run_id,
                pipeline=name,
                kind=RUN_KIND_TRAINING,
                reason="loss is NaN",
                attempt=1,
            )
        )
        cast.wait_until(lambda: cluster.log(name).count("run_failed") == 1)

        run_id = registry.RecalibrateModel(wish, timeout=60).run_id
        request = cluster.wait_for(CompressionRequested, name, 2)
        assert (request.run_id, request.candidate.dataset.dataset_id) == (run_id, f"sha256:{name}-2")
        run = cast.everything(registry, name)[2].runs[-1]
        assert (run.run_id, run.kind) == (run_id, RUN_KIND_RECALIBRATION)
        cluster.publish(cast.compressed(request))
        again = cluster.wait_for(ModelReleased, name, 2)
        assert (again.version_id, again.epoch, again.reason) == (first.version_id, 2, "recalibrated")


def test_the_past_is_the_same_after_a_restart(settings: Settings, cluster: Any, running: Any, cast: Any) -> None:
    name = "registry-past"
    with running(settings) as (_, registry):
        applied = cast.apply(registry, name).applied
        cast.release(cluster, applied)
        now = cast.everything(registry, name)
        (release,) = now[4].releases
        made = release.release_time.ToDatetime(UTC)
        before = cast.everything(registry, name, made - timedelta(microseconds=1))
        assert [len(answer.ListFields()) for answer in before] == [1, 1, 1, 1, 0]
        assert before[3].versions[0].state == pb.VERSION_STATE_CANDIDATE
        assert cast.everything(registry, name, made) == now
        assert not any(answer.ListFields() for answer in cast.everything(registry, name, made - timedelta(days=1)))
        no_time = pb.ListReleasesRequest(model=name)
        no_time.as_of.seconds = 2**60
        assert refusal(lambda: registry.ListReleases(no_time)).code() == grpc.StatusCode.INVALID_ARGUMENT
    with running(settings) as (_, registry):
        assert cast.everything(registry, name, made - timedelta(microseconds=1)) == before
        assert cast.everything(registry, name, made) == now


def test_a_mended_spec_is_trained_by_at_once_and_watchers_see_its_dataset(
    registry: RegistryServiceStub, cluster: Any, cast: Any
) -> None:
    name = "registry-mended"
    cluster.publish(cast.frozen(cast.apply(registry, name).applied))
    request = cluster.wait_for(TrainingRequested, name)
    cluster.publish(RunFailed(run_id=request.run_id, pipeline=name, kind=RUN_KIND_TRAINING, reason="diverged"))
    cast.wait_until(lambda: cluster.log(name)[-1] == "run_failed")
    mended = cast.apply(registry, name, seed=8).applied
    again = cluster.wait_for(TrainingRequested, name, 2)
    assert (again.dataset, again.spec) == (request.dataset, mended.spec)
    stream = registry.WatchPipeline(pb.WatchPipelineRequest(pipeline=name), timeout=cast.timeout_s)
    status = next(stream)
    stream.cancel()
    assert status.dataset.frozen.spec_digest == mended.spec.digest
    assert [(run.run_id, run.state) for run in status.runs] == [(again.run_id, pb.RUN_STATE_RUNNING)]


def test_a_prediction_is_followed_to_its_ranges(registry: RegistryServiceStub, cluster: Any, cast: Any) -> None:
    name = "registry-lineage"
    applied = cast.apply(registry, name).applied
    released = cast.release(cluster, applied)
    served = [
        PredictionServed(
            prediction_id=new_id(), model=name, version_id=released.version_id, variant=released.variant, rows=1
        )
        for _ in range(20)
    ]
    cluster.publish(*(PredictionsServed(predictions=served[start : start + 8]) for start in range(0, 20, 8)))

    def lineage(name: str) -> pb.GetLineageResponse:
        answer: pb.GetLineageResponse = registry.GetLineage(pb.GetLineageRequest(id=name), timeout=cast.timeout_s)
        return answer

    for one in (served[0], served[-1]):
        found = lineage(one.prediction_id)
        assert found.prediction == one
        assert (found.version.trained.version_id, found.version.ordinal) == (released.version_id, 1)
        assert found.runs[0].run_id == released.run_id
        assert (found.dataset.frozen.dataset_id, found.topic) == (released.dataset_id, name)
    assert lineage(served[7].prediction_id[:-1]).prediction == served[7]
    assert lineage(released.version_id).version.trained.version_id == released.version_id
    several = refusal(lambda: lineage(served[0].prediction_id[:8]))
    assert several.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "ids begin with" in several.details()
    assert refusal(lambda: lineage(new_id())).code() == grpc.StatusCode.NOT_FOUND


@pytest.fixture
def dataset(settings: Settings, registry: RegistryServiceStub, cluster: Any, cast: Any) -> Manifest:
    """Records in partition 1 of a producers' topic: one rejected, most in a dataset, the last ones waiting."""
    name = "registry-fates"
    applied = cast.apply(registry, name).applied
    pipeline = parse_canonical(applied.spec.json)
    pixels = str(np.zeros((8, 8)).tolist())
    values = [f'{{"id": "r{n}", "pixels": {pixels}, "digit": {n % 10}}}'.encode() for n in range(RECORDS)]
    cluster.send(*(Outgoing(name, None, value, partition=1) for value in values))
    letter = DeadLetter("ingestion", "type", "pixels", "expected numbers", name, 1, BROKEN, None, values[BROKEN])
    cluster.send(letter.outgoing(name, 1))
    kept = [n for n in range(WAITING) if n != BROKEN]
    times = np.array(kept, "M8[s]").astype("M8[us]")
    checked = RecordChecker(pipeline.stream).check([values[n] for n in kept], [1] * len(kept), kept, None, times)
    assert not checked.rejected
    store = ObjectStore(settings.store_url)
    writer = SegmentWriter(pipeline, store)
    writer.add(checked.batch)
    source = OffsetRange(partition=1, start=0, end=WAITING)
    manifest = only_dataset(
        writer.finish(
            Provenance(cluster_id="", topic=name, topic_id="", sources=(source,), clean_ranges=(), rejected={"type": 1})
        ),
        pipeline,
        store,
    )
    cluster.publish(_announced(manifest, store, applied))
    cluster.publish(cast.trained(cluster.wait_for(TrainingRequested, name)))
    cluster.wait_for(CompressionRequested, name)
    return manifest


def _announced(manifest: Manifest, store: ObjectStore, applied: PipelineApplied) -> DatasetFrozen:
    stored = store.put(manifest.to_json())
    return DatasetFrozen(
        pipeline=manifest.pipeline,
        dataset_id=manifest.dataset_id,
        spec_digest=applied.spec.digest,
        manifest=Artifact(uri=stored.uri, digest=stored.digest, size_bytes=stored.size_bytes),
        rows=SplitRows(**{name: split.rows for name, split in manifest.splits.items()}),
        sources=[SourceRange(partition=1, start=0, end=WAITING)],
    )


def test_every_record_has_a_fate(registry: RegistryServiceStub, dataset: Manifest, cast: Any) -> None:
    name = dataset.pipeline

    def fate(offset: int, partition: int = 1) -> pb.RecordFate:
        request = pb.GetRecordFateRequest(topic=name, partition=partition, offset=offset)
        (found,) = registry.GetRecordFate(request, timeout=cast.timeout_s).fates
        assert found.pipeline == name
        return found

    splits = {"train": 0, "validation": 0, "test": 0}
    for offset in (*range(0, 45, 3), WAITING - 1):
        found = fate(offset)
        assert (found.dataset_id, found.waiting, found.HasField("rejection")) == (dataset.dataset_id, False, False)
        assert [version.ordinal for version in found.versions] == [1]
        assert found.event_time == Timestamp(seconds=offset)
        splits[found.split] += 1
    assert splits["train"] > 0
    rejected = fate(BROKEN)
    assert rejected.rejection == pb.RecordRejection(
        stage="ingestion", rule="type", field="pixels", reason="expected numbers"
    )
    assert (rejected.dataset_id, rejected.waiting) == ("", False)
    assert fate(WAITING) == pb.RecordFate(pipeline=name, waiting=True)
    for wrong in ({"offset": RECORDS}, {"offset": 0, "partition": 0}, {"offset": 0, "partition": 7}):
        assert refusal(lambda wrong=wrong: fate(**wrong)).code() == grpc.StatusCode.NOT_FOUND
    elsewhere = pb.GetRecordFateRequest(topic="registry-not-read", partition=0, offset=0)
    assert "no pipeline reads topic" in refusal(lambda: registry.GetRecordFate(elsewhere)).details()
