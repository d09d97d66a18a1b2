"""The registry client: pipelines, datasets, runs, versions and releases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from headrace.events.v1.backfill_pb2 import Backfill
from headrace.events.v1.forget_pb2 import KeyDigest
from headrace.events.v1.hold_pb2 import Hold
from headrace.events.v1.pipeline_pb2 import PipelineApplied, PipelineTroubled
from headrace.registry.v1 import proof_pb2
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace.registry.v1.registry_service_pb2_grpc import RegistryServiceStub

from headrace_client.addresses import find_addresses
from headrace_client.channels import AnswerT, ServiceClient, trace_metadata
from headrace_client.errors import NotFound, TimedOut
from headrace_client.tls import Tls

RequestT = TypeVar("RequestT")


class RegistryClient(ServiceClient):
    """Calls the registry; a context manager. Not connected before the first call.

    Every method raises Unreachable when nobody answers, TimedOut after `timeout_s`, and a Rejected when the registry
    refuses. Answers are the protobuf messages of `headrace.registry.v1` and `headrace.events.v1`. Lists take `as_of`,
    an aware datetime: the registry as it was at that moment.
    """

    def __init__(self, address: str | None = None, *, timeout_s: float = 15.0, tls: Tls | None = None) -> None:
        super().__init__("the registry", address or find_addresses().registry, timeout_s, tls)
        self._stub = RegistryServiceStub(self._channel)

    def apply(
        self, document: bytes | str, *, create_topic: bool = False, dry_run: bool = False
    ) -> messages.ApplyPipelineResponse:
        """Put a pipeline (YAML or JSON) in force; create its producers' topic too when asked.

        With `dry_run` it is checked only, and the answer tells what would be in force.
        """
        encoded = document.encode() if isinstance(document, str) else document
        request = messages.ApplyPipelineRequest(document=encoded, create_topic=create_topic, dry_run=dry_run)
        with _unsure("the pipeline may be in force all the same; applying it once more is safe"):
            return self._call(self._stub.ApplyPipeline, request)

    def delete_pipeline(
        self, pipeline: str, *, purge: bool = False, timeout_s: float = 120.0
    ) -> messages.DeletePipelineResponse:
        """Delete a pipeline and withdraw its releases; with `purge` its record topics and consumer groups too.

        Raises NotFound when there is none of that name.
        """
        request = messages.DeletePipelineRequest(pipeline=pipeline, purge=purge)
        with self._translated():
            return self._stub.DeletePipeline(request, timeout=timeout_s, metadata=trace_metadata())

    def delete_leftovers(self, pipeline: str, *, timeout_s: float = 120.0) -> messages.DeleteLeftoversResponse:
        """Delete the record topics and consumer groups of deleted pipelines of that name; one in force stays.

        Raises NotFound when none was deleted.
        """
        request = messages.DeleteLeftoversRequest(pipeline=pipeline)
        with self._translated():
            return self._stub.DeleteLeftovers(request, timeout=timeout_s, metadata=trace_metadata())

    def freeze(self, pipeline: str, backfill: Backfill | None = None) -> str:
        """Ask for a dataset now, or for one with a backfill, and return the request's id, which the dataset repeats."""
        request = messages.FreezeDatasetRequest(pipeline=pipeline, backfill=backfill)
        with _unsure("the dataset may be frozen all the same: look at `headrace get datasets` before you ask again"):
            answer = self._call(self._stub.FreezeDataset, request)
        return answer.request_id

    def forget_key(self, pipeline: str, key: KeyDigest, *, retrain: bool = False) -> str:
        """Ask for a key to be forgotten, and return the request's id; with `retrain` for a dataset without it, too."""
        request = messages.ForgetKeyRequest(pipeline=pipeline, key=key, retrain=retrain)
        with _unsure("the key may be forgotten all the same; asking once more is safe"):
            return self._call(self._stub.ForgetKey, request).request_id

    def forgotten(self, pipeline: str = "", *, as_of: datetime | None = None) -> list[messages.ForgottenKey]:
        """Return what was done about keys of one pipeline, or of all, oldest first."""
        request = messages.ListForgottenKeysRequest(pipeline=pipeline, as_of=_timestamp(as_of))
        return list(self._call(self._stub.ListForgottenKeys, request).keys)

    def settle(self, pipeline: str, hold: Hold) -> str:
        """Ask for a held segment to be accepted or dropped, and return the request's id."""
        request = messages.FreezeDatasetRequest(pipeline=pipeline, hold=hold)
        with _unsure("it may be done all the same: look at `headrace hold list` before you ask again"):
            answer = self._call(self._stub.FreezeDataset, request)
        return answer.request_id

    def held(self, pipeline: str = "") -> list[messages.Held]:
        """Return the segments of one pipeline, or of all, that are held or were dropped, oldest first."""
        answer = self._call(self._stub.ListHeldSegments, messages.ListHeldSegmentsRequest(pipeline=pipeline))
        return list(answer.held)

    def pipelines(self, pipeline: str = "", *, as_of: datetime | None = None) -> list[PipelineApplied]:
        """Return the pipelines by name; with a name, that one or none."""
        request = messages.ListPipelinesRequest(pipeline=pipeline, as_of=_timestamp(as_of))
        answer = self._call(self._stub.ListPipelines, request)
        return list(answer.pipelines)

    def pipeline(self, name: str) -> PipelineApplied:
        """Return one pipeline as it is in force; raise NotFound when it was never applied."""
        found = self.pipelines(name)
        if not found:
            raise NotFound(f"there is no pipeline '{name}': apply one with `headrace apply FILE`")
        return found[0]

    def datasets(self, pipeline: str = "", *, as_of: datetime | None = None) -> list[messages.Dataset]:
        """Return the datasets of one pipeline, or of all, oldest first."""
        request = messages.ListDatasetsRequest(pipeline=pipeline, as_of=_timestamp(as_of))
        answer = self._call(self._stub.ListDatasets, request)
        return list(answer.datasets)

    def runs(self, pipeline: str = "", *, as_of: datetime | None = None) -> list[messages.Run]:
        """Return the runs of one pipeline, or of all, oldest first."""
        request = messages.ListRunsRequest(pipeline=pipeline, as_of=_timestamp(as_of))
        answer = self._call(self._stub.ListRuns, request)
        return list(answer.runs)

    def versions(self, model: str = "", *, as_of: datetime | None = None) -> list[messages.Version]:
        """Return the versions of one model, or of all, oldest first."""
        request = messages.ListVersionsRequest(model=model, as_of=_timestamp(as_of))
        answer = self._call(self._stub.ListVersions, request)
        return list(answer.versions)

    def releases(self, model: str = "", *, as_of: datetime | None = None) -> list[messages.Release]:
        """Return the releases of one model, or of all, oldest first."""
        request = messages.ListReleasesRequest(model=model, as_of=_timestamp(as_of))
        answer = self._call(self._stub.ListReleases, request)
        return list(answer.releases)

    def decisions(self, pipeline: str = "", *, as_of: datetime | None = None) -> list[messages.Decided]:
        """Return which datasets of one pipeline, or of all, are trained on or not, and why, oldest first."""
        request = messages.ListDecisionsRequest(pipeline=pipeline, as_of=_timestamp(as_of))
        return list(self._call(self._stub.ListDecisions, request).decisions)

    def evaluations(self, pipeline: str = "", *, as_of: datetime | None = None) -> list[messages.Evaluated]:
        """Return what was scored on new rows of one pipeline, or of all, while it was served, oldest first."""
        request = messages.ListEvaluationsRequest(pipeline=pipeline, as_of=_timestamp(as_of))
        return list(self._call(self._stub.ListEvaluations, request).evaluations)

    def rollback(self, model: str, ordinal: int = 0) -> messages.Release:
        """Make an earlier release of a model again and return the new one; 0 stands for the one before the current.

        Raises NotPossibleNow when there is no such release, NotFound when there is no such model.
        """
        with _unsure("the release may be made all the same: look at `headrace get releases` before you ask again"):
            answer = self._call(self._stub.RollbackModel, messages.RollbackModelRequest(model=model, ordinal=ordinal))
        return answer.release

    def move_rollout(self, model: str, *, advance: bool) -> messages.Rollout:
        """Begin the next step of a model's candidate, or take the candidate back; return where the rollout stands.

        Raises NotPossibleNow when none is rolled out.
        """
        with _unsure("the candidate may have moved all the same: look at `headrace rollout` before you ask again"):
            request = messages.MoveRolloutRequest(model=model, advance=advance)
            return self._call(self._stub.MoveRollout, request).rollout

    def rollouts(self, model: str = "", *, as_of: datetime | None = None) -> list[messages.Rollout]:
        """Return the rollouts of one model, or of all: those that are over first, then those under way."""
        request = messages.ListRolloutsRequest(model=model, as_of=_timestamp(as_of))
        return list(self._call(self._stub.ListRollouts, request).rollouts)

    def try_canary(self, model: str, version: str, *, last_s: int, against: str = "") -> str:
        """Have a version held against another, or the champion, on rows of the past; return the run's id.

        Versions are ordinals, aliases or beginnings of digests. Raises NotPossibleNow with the reason where they
        cannot be compared.
        """
        request = messages.TryCanaryRequest(model=model, version=version, against=against, last_s=last_s)
        with _unsure("the run may be asked for all the same; asking once more is safe"):
            return self._call(self._stub.TryCanary, request).run_id

    def canaries(self, model: str = "", *, as_of: datetime | None = None) -> list[messages.Canary]:
        """Return what came of versions of one model, or of all, that were held against others on rows of the past."""
        request = messages.ListCanariesRequest(model=model, as_of=_timestamp(as_of))
        return list(self._call(self._stub.ListCanaries, request).canaries)

    def recalibrate(self, model: str) -> str:
        """Have the variants of a model's champion made again with rows of the newest dataset; return the run's id.

        Raises NotPossibleNow when nothing is served, no newer dataset is there, or a version is under way.
        """
        with _unsure("the run may be asked for all the same: look at `headrace get runs` before you ask again"):
            return self._call(self._stub.RecalibrateModel, messages.RecalibrateModelRequest(model=model)).run_id

    def lineage(self, name: str) -> messages.GetLineageResponse:
        """Return what lies behind a prediction, version, run or dataset, by its id or a unique beginning of it.

        Raises NotFound when nothing has such an id, and InvalidRequest, listing them, when several have.
        """
        return self._call(self._stub.GetLineage, messages.GetLineageRequest(id=name))

    def record_fates(self, topic: str, partition: int, offset: int) -> list[messages.RecordFate]:
        """Return what became of a record in each pipeline that reads its topic; NotFound when it is not there."""
        request = messages.GetRecordFateRequest(topic=topic, partition=partition, offset=offset)
        return list(self._call(self._stub.GetRecordFate, request).fates)

    def log_head(self) -> proof_pb2.LogHead:
        """Return how far the registry's log goes and what its tree is, signed where the registry has a key."""
        return self._call(self._stub.GetLogHead, proof_pb2.GetLogHeadRequest()).head

    def log_lines(self, *, timeout_s: float = 3600.0) -> Iterator[proof_pb2.LogLine]:
        """Yield the entries of the registry's log as Kafka holds them, oldest first."""
        call = self._stub.ReadLog(proof_pb2.ReadLogRequest(), timeout=timeout_s, metadata=trace_metadata())
        for answer in self._streamed(call):
            yield from answer.lines

    def prove(self, prediction: str, rows: Sequence[tuple[str, int, int]] = (), *, timeout_s: float = 600.0) -> bytes:
        """Return the proof of a prediction as JSON; `rows` are records (topic, partition, offset) of its dataset.

        Raises NotFound when there is no such prediction, and InvalidRequest when the dataset has no such row.
        """
        places = [proof_pb2.RecordAt(topic=topic, partition=at, offset=offset) for topic, at, offset in rows]
        request = proof_pb2.ProvePredictionRequest(prediction=prediction, rows=places)
        with self._translated():
            return self._stub.ProvePrediction(request, timeout=timeout_s, metadata=trace_metadata()).proof

    def collect_garbage(self, *, dry_run: bool = False, timeout_s: float = 3600.0) -> messages.CollectGarbageResponse:
        """Remove objects that nothing needs, as found at two looks, and let versions go; or only tell what would go.

        Raises NotPossibleNow while another collection is under way, which a call that timed out leaves behind.
        """
        with self._translated():
            request = messages.CollectGarbageRequest(dry_run=dry_run)
            return self._stub.CollectGarbage(request, timeout=timeout_s, metadata=trace_metadata())

    def lags(self) -> list[messages.Lag]:
        """Return how far each consumer group is behind, by group and topic."""
        answer = self._call(self._stub.ListLags, messages.ListLagsRequest())
        return list(answer.lags)

    def troubles(self) -> list[PipelineTroubled]:
        """Return what services report to be wrong with pipelines now, by pipeline and part."""
        answer = self._call(self._stub.ListTroubles, messages.ListTroublesRequest())
        return list(answer.troubles)

    def watch(self, pipeline: str, *, timeout_s: float | None = None) -> Iterator[messages.WatchPipelineResponse]:
        """Yield the pipeline's state now, and again whenever it changes; TimedOut ends it after `timeout_s`.

        Closing the iterator ends the call.
        """
        request = messages.WatchPipelineRequest(pipeline=pipeline)
        yield from self._streamed(self._stub.WatchPipeline(request, timeout=timeout_s, metadata=trace_metadata()))

    def _call(self, method: grpc.UnaryUnaryMultiCallable[RequestT, AnswerT], request: RequestT) -> AnswerT:
        with self._translated():
            return method(request, timeout=self._timeout_s, metadata=trace_metadata())


@contextmanager
def _unsure(hint: str) -> Iterator[None]:
    """Say what may have come of a write that was not answered."""
    try:
        yield
    except TimedOut as error:
        raise TimedOut(f"{error}; {hint}") from error


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
