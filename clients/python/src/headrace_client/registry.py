"""The registry client: pipelines, datasets, runs, versions and releases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self, TypeVar

import grpc
from headrace.events.v1.pipeline_pb2 import PipelineApplied
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace.registry.v1.registry_service_pb2_grpc import RegistryServiceStub

from headrace_client.addresses import find_addresses
from headrace_client.channels import open_channel, trace_metadata, translated
from headrace_client.errors import NotFound

SERVICE = "the registry"

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")


class RegistryClient:
    """Calls the registry; a context manager. Not connected before the first call.

    Every method raises Unreachable when nobody answers, TimedOut after `timeout_s`, and a Rejected when the registry
    refuses. Answers are the protobuf messages of `headrace.registry.v1` and `headrace.events.v1`.
    """

    def __init__(self, address: str | None = None, *, timeout_s: float = 15.0) -> None:
        self.address = address or find_addresses().registry
        self._timeout_s = timeout_s
        self._channel = open_channel(self.address)
        self._stub = RegistryServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel; calls under way end with an error."""
        self._channel.close()

    def apply(self, document: bytes | str, *, create_topic: bool = False) -> messages.ApplyPipelineResponse:
        """Put a pipeline (YAML or JSON) in force; create its producers' topic too when asked."""
        encoded = document.encode() if isinstance(document, str) else document
        request = messages.ApplyPipelineRequest(document=encoded, create_topic=create_topic)
        return self._call(self._stub.ApplyPipeline, request)

    def freeze(self, pipeline: str) -> str:
        """Ask for a dataset now and return the request's id, which the frozen dataset repeats."""
        answer = self._call(self._stub.FreezeDataset, messages.FreezeDatasetRequest(pipeline=pipeline))
        return answer.request_id

    def pipelines(self, pipeline: str = "") -> list[PipelineApplied]:
        """Return the pipelines by name; with a name, that one or none."""
        answer = self._call(self._stub.ListPipelines, messages.ListPipelinesRequest(pipeline=pipeline))
        return list(answer.pipelines)

    def pipeline(self, name: str) -> PipelineApplied:
        """Return one pipeline as it is in force; raise NotFound when it was never applied."""
        found = self.pipelines(name)
        if not found:
            raise NotFound(f"there is no pipeline '{name}': apply one with `headrace apply FILE`", "NOT_FOUND")
        return found[0]

    def datasets(self, pipeline: str = "") -> list[messages.Dataset]:
        """Return the datasets of one pipeline, or of all, oldest first."""
        answer = self._call(self._stub.ListDatasets, messages.ListDatasetsRequest(pipeline=pipeline))
        return list(answer.datasets)

    def runs(self, pipeline: str = "") -> list[messages.Run]:
        """Return the runs of one pipeline, or of all, oldest first."""
        answer = self._call(self._stub.ListRuns, messages.ListRunsRequest(pipeline=pipeline))
        return list(answer.runs)

    def versions(self, model: str = "") -> list[messages.Version]:
        """Return the versions of one model, or of all, oldest first."""
        answer = self._call(self._stub.ListVersions, messages.ListVersionsRequest(model=model))
        return list(answer.versions)

    def releases(self, model: str = "") -> list[messages.Release]:
        """Return the releases of one model, or of all, oldest first."""
        answer = self._call(self._stub.ListReleases, messages.ListReleasesRequest(model=model))
        return list(answer.releases)

    def lags(self) -> list[messages.Lag]:
        """Return how far each consumer group is behind, by group and topic."""
        answer = self._call(self._stub.ListLags, messages.ListLagsRequest())
        return list(answer.lags)

    def watch(self, pipeline: str, *, timeout_s: float | None = None) -> Iterator[messages.WatchPipelineResponse]:
        """Yield the pipeline's state now, and again whenever it changes; TimedOut ends it after `timeout_s`.

        Closing the iterator ends the call.
        """
        request = messages.WatchPipelineRequest(pipeline=pipeline)
        with self._translated():
            call = self._stub.WatchPipeline(request, timeout=timeout_s, metadata=trace_metadata())
            try:
                yield from call
            finally:
                _cancel(call)

    def _call(self, method: grpc.UnaryUnaryMultiCallable[RequestT, AnswerT], request: RequestT) -> AnswerT:
        with self._translated():
            return method(request, timeout=self._timeout_s, metadata=trace_metadata())

    def _translated(self) -> AbstractContextManager[None]:
        return translated(SERVICE, self.address)


def _cancel(call: object) -> None:
    if isinstance(call, grpc.Call):
        call.cancel()
