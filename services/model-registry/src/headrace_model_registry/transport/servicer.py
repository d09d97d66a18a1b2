"""RegistryService over gRPC: convert, call, convert."""
# ruff: noqa: N802 - the methods have the contract's names

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

from headrace.registry.v1 import proof_pb2, registry_service_pb2_grpc
from headrace.registry.v1 import registry_service_pb2 as pb

from headrace_model_registry.core.collection import Collector
from headrace_model_registry.core.facts import CHAMPION
from headrace_model_registry.core.facts.backfill import Backfill
from headrace_model_registry.core.facts.forgotten import KeyDigest
from headrace_model_registry.core.facts.hold import Hold
from headrace_model_registry.core.fate import RecordPlace
from headrace_model_registry.core.proving import Prover
from headrace_model_registry.core.registry import Registry
from headrace_model_registry.core.stories import Stories
from headrace_model_registry.core.wishes import Canary
from headrace_model_registry.transport.converters import fill, from_request, listing, moment_of
from headrace_model_registry.transport.log_stream import chunks
from headrace_model_registry.transport.watch import Watchers

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["RegistryService"].full_name


class RegistryServicer(registry_service_pb2_grpc.RegistryServiceServicer):
    """Watching answers from memory in the event loop; what waits for Kafka or folds the log runs in a thread."""

    def __init__(
        self, registry: Registry, stories: Stories, watchers: Watchers, collector: Collector, prover: Prover
    ) -> None:
        self._registry = registry
        self._collector = collector
        self._stories = stories
        self._watchers = watchers
        self._prover = prover

    async def ApplyPipeline(self, request: pb.ApplyPipelineRequest, context: Any) -> pb.ApplyPipelineResponse:
        """Check a pipeline, create its topics and put it in force."""
        apply = partial(self._registry.apply_pipeline, dry_run=request.dry_run)
        applied = await asyncio.to_thread(apply, request.document, request.create_topic, _until_s(context))
        return fill(pb.ApplyPipelineResponse(), applied)

    async def DeletePipeline(self, request: pb.DeletePipelineRequest, context: Any) -> pb.DeletePipelineResponse:
        """Delete a pipeline and withdraw its releases."""
        deleted = await asyncio.to_thread(
            self._registry.delete_pipeline, request.pipeline, request.purge, _until_s(context)
        )
        return fill(pb.DeletePipelineResponse(), deleted)

    async def DeleteLeftovers(self, request: pb.DeleteLeftoversRequest, context: Any) -> pb.DeleteLeftoversResponse:
        """Delete what deleted pipelines have left."""
        purged = await asyncio.to_thread(self._registry.delete_leftovers, request.pipeline)
        return fill(pb.DeleteLeftoversResponse(), purged)

    async def FreezeDataset(self, request: pb.FreezeDatasetRequest, context: Any) -> pb.FreezeDatasetResponse:
        """Ask for a dataset now."""
        backfill, hold = from_request(Backfill, request, "backfill"), from_request(Hold, request, "hold")
        if hold is not None:
            request_id = await asyncio.to_thread(self._registry.settle_hold, request.pipeline, hold, _until_s(context))
            return pb.FreezeDatasetResponse(request_id=request_id)
        request_id = await asyncio.to_thread(
            self._registry.freeze_dataset, request.pipeline, _until_s(context), backfill
        )
        return pb.FreezeDatasetResponse(request_id=request_id)

    async def ForgetKey(self, request: pb.ForgetKeyRequest, context: Any) -> pb.ForgetKeyResponse:
        """Ask for a key to be forgotten."""
        key = from_request(KeyDigest, request, "key")
        request_id = await asyncio.to_thread(
            self._registry.forget_key, request.pipeline, key, request.retrain, _until_s(context)
        )
        return pb.ForgetKeyResponse(request_id=request_id)

    async def ListForgottenKeys(
        self, request: pb.ListForgottenKeysRequest, context: Any
    ) -> pb.ListForgottenKeysResponse:
        """List keys that were forgotten, oldest first."""
        found = await asyncio.to_thread(self._registry.list_forgotten, request.pipeline, moment_of(request))
        return listing(pb.ListForgottenKeysResponse(), found)

    async def ListPipelines(self, request: pb.ListPipelinesRequest, context: Any) -> pb.ListPipelinesResponse:
        """List pipelines by name."""
        found = await asyncio.to_thread(self._registry.list_pipelines, request.pipeline, moment_of(request))
        return listing(pb.ListPipelinesResponse(), found)

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Any) -> pb.ListDatasetsResponse:
        """List datasets, oldest first."""
        found = await asyncio.to_thread(self._registry.list_datasets, request.pipeline, moment_of(request))
        return listing(pb.ListDatasetsResponse(), found)

    async def ListRuns(self, request: pb.ListRunsRequest, context: Any) -> pb.ListRunsResponse:
        """List runs, oldest first."""
        found = await asyncio.to_thread(self._registry.list_runs, request.pipeline, moment_of(request))
        return listing(pb.ListRunsResponse(), found)

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Any) -> pb.ListVersionsResponse:
        """List versions, oldest first."""
        found = await asyncio.to_thread(self._registry.list_versions, request.model, moment_of(request))
        return listing(pb.ListVersionsResponse(), found)

    async def ListReleases(self, request: pb.ListReleasesRequest, context: Any) -> pb.ListReleasesResponse:
        """List releases, oldest first."""
        found = await asyncio.to_thread(self._registry.list_releases, request.model, moment_of(request))
        return listing(pb.ListReleasesResponse(), found)

    async def ListDecisions(self, request: pb.ListDecisionsRequest, context: Any) -> pb.ListDecisionsResponse:
        """List decisions whether to train, oldest first."""
        found = await asyncio.to_thread(self._registry.list_decisions, request.pipeline, moment_of(request))
        return listing(pb.ListDecisionsResponse(), found)

    async def ListEvaluations(self, request: pb.ListEvaluationsRequest, context: Any) -> pb.ListEvaluationsResponse:
        """List what was scored on new rows, oldest first."""
        found = await asyncio.to_thread(self._registry.list_evaluations, request.pipeline, moment_of(request))
        return listing(pb.ListEvaluationsResponse(), found)

    async def RollbackModel(self, request: pb.RollbackModelRequest, context: Any) -> pb.RollbackModelResponse:
        """Move a model's champion back to an earlier release."""
        release = await asyncio.to_thread(
            self._registry.rollback_model, request.model, request.ordinal, _until_s(context)
        )
        return pb.RollbackModelResponse(release=fill(pb.Release(), release))

    async def MoveRollout(self, request: pb.MoveRolloutRequest, context: Any) -> pb.MoveRolloutResponse:
        """Move a candidate on, or take it back."""
        rollout = await asyncio.to_thread(
            self._registry.move_rollout, request.model, request.advance, _until_s(context)
        )
        return pb.MoveRolloutResponse(rollout=fill(pb.Rollout(), rollout))

    async def ListRollouts(self, request: pb.ListRolloutsRequest, context: Any) -> pb.ListRolloutsResponse:
        """List rollouts, those that are over first."""
        found = await asyncio.to_thread(self._registry.list_rollouts, request.model, moment_of(request))
        return listing(pb.ListRolloutsResponse(), found)

    async def TryCanary(self, request: pb.TryCanaryRequest, context: Any) -> pb.TryCanaryResponse:
        """Hold a version against another on rows of the past."""
        wish = Canary(request.model, request.version, request.against or CHAMPION, request.last_s)
        run_id = await asyncio.to_thread(self._registry.try_canary, wish, _until_s(context))
        return pb.TryCanaryResponse(run_id=run_id)

    async def ListCanaries(self, request: pb.ListCanariesRequest, context: Any) -> pb.ListCanariesResponse:
        """List what came of such runs."""
        found = await asyncio.to_thread(self._registry.list_canaries, request.model, moment_of(request))
        return listing(pb.ListCanariesResponse(), found)

    async def RecalibrateModel(self, request: pb.RecalibrateModelRequest, context: Any) -> pb.RecalibrateModelResponse:
        """Make the variants of a model's champion again with newer rows."""
        run_id = await asyncio.to_thread(self._registry.recalibrate_model, request.model, _until_s(context))
        return pb.RecalibrateModelResponse(run_id=run_id)

    async def GetLineage(self, request: pb.GetLineageRequest, context: Any) -> pb.GetLineageResponse:
        """Tell where a prediction, version, run or dataset comes from."""
        return fill(pb.GetLineageResponse(), await asyncio.to_thread(self._stories.lineage, request.id))

    async def GetRecordFate(self, request: pb.GetRecordFateRequest, context: Any) -> pb.GetRecordFateResponse:
        """Tell what became of one record of a producers' topic."""
        place = RecordPlace(request.topic, request.partition, request.offset)
        return listing(pb.GetRecordFateResponse(), await asyncio.to_thread(self._stories.fates, place))

    async def ListHeldSegments(self, request: pb.ListHeldSegmentsRequest, context: Any) -> pb.ListHeldSegmentsResponse:
        """List the segments that are suspected."""
        return listing(pb.ListHeldSegmentsResponse(), self._registry.list_held(request.pipeline))

    async def GetLogHead(self, request: proof_pb2.GetLogHeadRequest, context: Any) -> proof_pb2.GetLogHeadResponse:
        """Tell what the log is, signed."""
        return proof_pb2.GetLogHeadResponse(head=fill(proof_pb2.LogHead(), self._prover.head()))

    async def ReadLog(
        self, request: proof_pb2.ReadLogRequest, context: Any
    ) -> AsyncIterator[proof_pb2.ReadLogResponse]:
        """Stream the log's bytes."""
        async with aclosing(chunks(self._prover.lines)) as read:
            async for chunk in read:
                yield chunk

    async def ProvePrediction(
        self, request: proof_pb2.ProvePredictionRequest, context: Any
    ) -> proof_pb2.ProvePredictionResponse:
        """Prove what a prediction comes from."""
        places = [RecordPlace(each.topic, each.partition, each.offset) for each in request.rows]
        proof = await asyncio.to_thread(self._prover.prove, request.prediction, places)
        return proof_pb2.ProvePredictionResponse(proof=proof)

    async def ListLags(self, request: pb.ListLagsRequest, context: Any) -> pb.ListLagsResponse:
        """List how far each consumer group is behind."""
        return listing(pb.ListLagsResponse(), await asyncio.to_thread(self._registry.list_lags))

    async def ListTroubles(self, request: pb.ListTroublesRequest, context: Any) -> pb.ListTroublesResponse:
        """List what is wrong with pipelines now."""
        return listing(pb.ListTroublesResponse(), self._registry.list_troubles())

    async def CollectGarbage(self, request: pb.CollectGarbageRequest, context: Any) -> pb.CollectGarbageResponse:
        """Remove objects that nothing needs."""
        collected = await asyncio.to_thread(self._collector.collect, request.dry_run)
        return fill(pb.CollectGarbageResponse(), collected)

    async def WatchPipeline(
        self, request: pb.WatchPipelineRequest, context: Any
    ) -> AsyncIterator[pb.WatchPipelineResponse]:
        """Stream a pipeline's status, now and whenever it changes."""
        async with aclosing(self._watchers.watch(lambda: self._registry.status(request.pipeline))) as statuses:
            async for status in statuses:
                yield fill(pb.WatchPipelineResponse(), status)


def _until_s(context: Any) -> float | None:
    """Return when the caller stops waiting (time.monotonic), None for a call without a deadline."""
    left_s = context.time_remaining()
    return None if left_s is None else time.monotonic() + left_s
