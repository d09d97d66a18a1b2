"""RegistryService over gRPC: convert, call, convert."""
# ruff: noqa: N802 - the methods have the contract's names

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from headrace.registry.v1 import registry_service_pb2 as pb
from headrace.registry.v1 import registry_service_pb2_grpc

from headrace_model_registry.core.registry import Registry
from headrace_model_registry.transport.converters import fill, listing
from headrace_model_registry.transport.watch import Watchers

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["RegistryService"].full_name


class RegistryServicer(registry_service_pb2_grpc.RegistryServiceServicer):
    """Reads answer from memory in the event loop; what waits for Kafka runs in a thread."""

    def __init__(self, registry: Registry, watchers: Watchers) -> None:
        self._registry = registry
        self._watchers = watchers

    async def ApplyPipeline(self, request: pb.ApplyPipelineRequest, context: Any) -> pb.ApplyPipelineResponse:
        """Check a pipeline, create its topics and put it in force."""
        applied = await asyncio.to_thread(self._registry.apply_pipeline, request.document, request.create_topic)
        return fill(pb.ApplyPipelineResponse(), applied)

    async def FreezeDataset(self, request: pb.FreezeDatasetRequest, context: Any) -> pb.FreezeDatasetResponse:
        """Ask for a dataset now."""
        request_id = await asyncio.to_thread(self._registry.freeze_dataset, request.pipeline)
        return pb.FreezeDatasetResponse(request_id=request_id)

    async def ListPipelines(self, request: pb.ListPipelinesRequest, context: Any) -> pb.ListPipelinesResponse:
        """List pipelines by name."""
        return listing(pb.ListPipelinesResponse(), self._registry.list_pipelines(request.pipeline))

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Any) -> pb.ListDatasetsResponse:
        """List datasets, oldest first."""
        return listing(pb.ListDatasetsResponse(), self._registry.list_datasets(request.pipeline))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Any) -> pb.ListRunsResponse:
        """List runs, oldest first."""
        return listing(pb.ListRunsResponse(), self._registry.list_runs(request.pipeline))

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Any) -> pb.ListVersionsResponse:
        """List versions, oldest first."""
        return listing(pb.ListVersionsResponse(), self._registry.list_versions(request.model))

    async def ListReleases(self, request: pb.ListReleasesRequest, context: Any) -> pb.ListReleasesResponse:
        """List releases, oldest first."""
        return listing(pb.ListReleasesResponse(), self._registry.list_releases(request.model))

    async def ListLags(self, request: pb.ListLagsRequest, context: Any) -> pb.ListLagsResponse:
        """List how far each consumer group is behind."""
        return listing(pb.ListLagsResponse(), await asyncio.to_thread(self._registry.list_lags))

    async def WatchPipeline(
        self, request: pb.WatchPipelineRequest, context: Any
    ) -> AsyncIterator[pb.WatchPipelineResponse]:
        """Stream a pipeline's status, now and whenever it changes."""
        async with aclosing(self._watchers.watch(lambda: self._registry.status(request.pipeline))) as statuses:
            async for status in statuses:
                yield fill(pb.WatchPipelineResponse(), status)
