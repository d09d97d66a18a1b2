"""ModelInfer: check the call, look for the answer in the cache, compute it otherwise, tell what was done."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from google.protobuf.message import Message
from headrace.events.v1.prediction_pb2 import PredictionServed
from headrace_runtime import errors
from headrace_runtime import telemetry_names as names
from headrace_runtime.messages import new_id
from opentelemetry import trace

from headrace_inference.adapters import metrics
from headrace_inference.adapters.compute import Compute, is_quick
from headrace_inference.adapters.hot_predictions import HotPredictions
from headrace_inference.adapters.spans import child_span
from headrace_inference.core.cache_key import cache_key
from headrace_inference.core.shelf import LoadedVersion, Shelf
from headrace_inference.core.signature import Call
from headrace_inference.core.statistics import Statistics, VersionStatistics
from headrace_inference.core.tensors import Array, OutputTensor, encode_raw
from headrace_inference.errors import Overloaded
from headrace_inference.ports import CallContext
from headrace_inference.transport import converters
from headrace_inference.transport.known_calls import KnownCall, KnownCalls

PREDICTION_ID = "headrace-prediction-id"
"""Key of the trailing metadata that holds the prediction's id."""

_COME_AGAIN = (("grpc-retry-pushback-ms", "1000"),)
_OUTCOMES: dict[type[BaseException], str] = {
    errors.InvalidInput: "invalid_input",
    errors.NotFound: "not_found",
    errors.Unavailable: "unavailable",
    errors.DeadlineExceeded: "deadline_exceeded",
    Overloaded: "overloaded",
}


class Events(Protocol):
    """Where events go that may be lost."""

    def publish_made(self, kind: type[Message], make: Callable[[], Message], held_bytes: int = 0) -> None:
        """Take what makes an event of a kind, and keeps so much in memory, without waiting or making it now."""


class NoEvents:
    """Takes events and drops them."""

    def publish_made(self, kind: type[Message], make: Callable[[], Message], held_bytes: int = 0) -> None:
        """Do nothing."""


@dataclass(slots=True)
class _Work:
    """A call that was found to fit."""

    version: LoadedVersion
    statistics: VersionStatistics
    arrays: dict[str, Array]
    outputs: tuple[str, ...]
    rows: int
    read_s: float
    """Seconds that it took to read the call."""


class Predictor:
    """Answers ModelInfer. Used in one event loop."""

    def __init__(self, shelf: Shelf, hot: HotPredictions, compute: Compute, events: Events) -> None:
        self._shelf = shelf
        self._hot = hot
        self._compute = compute
        self._events = events
        self._known = KnownCalls()
        self.statistics = Statistics()

    async def infer(self, request: bytes, context: CallContext) -> bytes:
        """Return a serialised ModelInferResponse to a serialised request. Raises errors of headrace_runtime.errors."""
        started = time.perf_counter()
        known = self._known.find(request)
        if known is not None and (answer := self._infer_known(known, request, context, started)) is not None:
            return answer
        version: LoadedVersion | None = None
        try:
            call = converters.to_call(converters.parse("ModelInfer", request))
            version = self._shelf.resolve(call.model, call.version)
            work = self._read(version, call, started)
            part, cached = await self._outputs(work, context)
            if call.classes:
                part = converters.as_classified(part, call.classes, batched=version.model.signature.batched)
        except BaseException as error:
            self._count_failure(version, _outcome(error), time.perf_counter() - started)
            if isinstance(error, Overloaded):
                context.set_trailing_metadata(_COME_AGAIN)
            raise
        self._known.learn(request, call, version, work.outputs)
        prediction_id = new_id()
        if not call.raws:
            part = converters.as_typed(part)
        answer = version.prefix + part + converters.answer_suffix(call.id, prediction_id, cached=cached)
        self._tell(work, prediction_id, request, answer, context, started, cached=cached)
        return answer

    def _infer_known(self, known: KnownCall, request: bytes, context: CallContext, started: float) -> bytes | None:
        """Return the answer to a call of which all but the values is known; None when it must go the long way.

        That is when the version moved on, keeps its answers, is slow, or the call is traced, late or has gaps.
        """
        try:
            version = self._shelf.resolve(*known.asked)
        except errors.HeadraceError:
            return None
        left_s = context.time_remaining()
        if (
            version.prefix is not known.prefix
            or version.cached
            or not is_quick(version, known.rows)
            or (left_s is not None and left_s <= 0)
            or trace.get_current_span().is_recording()
            or (array := known.array(request)) is None
        ):
            return None
        arrays = {known.name: array}
        work = _Work(version, self.statistics.of(version.release), arrays, known.outputs, known.rows, 0.0)
        try:
            computing = time.perf_counter()
            results = version.model.run(arrays, known.outputs)
            computed = time.perf_counter()
            part = known.outputs_part(version, results)
        except BaseException as error:
            self._count_failure(version, _outcome(error), time.perf_counter() - started)
            raise
        metrics.of_version(version.release.model, version.release.ordinal).compute.observe(computed - computing)
        work.statistics.queue.add(0.0)
        work.statistics.computed(known.rows, computing - started, computed - computing, time.perf_counter() - computed)
        prediction_id = new_id()
        answer = b"".join((version.prefix, part, known.before_id, prediction_id.encode(), known.after_id))
        self._tell(work, prediction_id, request, answer, context, started, cached=False)
        return answer

    def _tell(
        self,
        work: _Work,
        prediction_id: str,
        request: bytes,
        answer: bytes,
        context: CallContext,
        started: float,
        *,
        cached: bool,
    ) -> None:
        """Tell the caller, the metrics and the log of predictions of an answered call."""
        context.set_trailing_metadata(((PREDICTION_ID, prediction_id),))
        version, rows = work.version, work.rows
        duration_s = time.perf_counter() - started
        work.statistics.success.add(duration_s)
        work.statistics.last_s = time.time()
        _observe(version, rows, prediction_id, cached=cached, duration_s=duration_s)
        request, answer = converters.event_part(request), converters.event_part(answer)
        self._events.publish_made(
            PredictionServed,
            partial(
                converters.to_served,
                version,
                prediction_id,
                rows,
                cached=cached,
                duration_s=duration_s,
                request=request,
                answer=answer,
            ),
            len(request) + len(answer),
        )

    def _read(self, version: LoadedVersion, call: Call, started: float) -> _Work:
        signature = version.model.signature
        arrays, outputs = signature.arrays(call), signature.requested(call.outputs)
        statistics = self.statistics.of(version.release)
        return _Work(version, statistics, arrays, outputs, signature.rows(arrays), time.perf_counter() - started)

    async def _outputs(self, work: _Work, context: CallContext) -> tuple[bytes, bool]:
        """Return the outputs' part of the answer, and whether it was kept from an earlier call."""
        release = work.version.release
        if not work.version.cached:
            return await self._computed(work, context), False
        started = time.perf_counter()
        key = cache_key(release.graph.digest, work.arrays, work.outputs)
        part = await self._hot.get(release.model, key)
        looked_s = time.perf_counter() - started
        if part is not None:
            work.statistics.hit.add(looked_s)
            work.statistics.queue.add(0.0)
            return part, True
        part = await self._computed(work, context)
        self._hot.put(key, part, release.cache_ttl_s or None)
        work.statistics.miss.add(looked_s)
        return part, False

    async def _computed(self, work: _Work, context: CallContext) -> bytes:
        version, signature = work.version, work.version.model.signature
        started = time.perf_counter()
        with child_span(names.SPAN_INFER):
            results, queue_s = await self._compute.run(
                version, work.arrays, work.outputs, work.rows, context.time_remaining()
            )
        ended = time.perf_counter()
        metrics.of_version(version.release.model, version.release.ordinal).compute.observe(ended - started)
        tensors: list[OutputTensor] = []
        for name, array in zip(work.outputs, results, strict=True):
            datatype = signature.output(name).datatype
            tensors.append(OutputTensor(name, datatype.name, array.shape, encode_raw(array, datatype)))
        part = converters.outputs_part(tensors)
        work.statistics.queue.add(queue_s)
        work.statistics.computed(work.rows, work.read_s, ended - started - queue_s, time.perf_counter() - ended)
        return part

    def _count_failure(self, version: LoadedVersion | None, outcome: str, duration_s: float) -> None:
        model, ordinal = "", ""
        if version is not None:
            model, ordinal = version.release.model, str(version.release.ordinal)
            self.statistics.of(version.release).fail.add(duration_s)
        metrics.REQUESTS.labels(model, ordinal, outcome).inc()


def _observe(version: LoadedVersion, rows: int, prediction_id: str, *, cached: bool, duration_s: float) -> None:
    observed = metrics.of_version(version.release.model, version.release.ordinal)
    observed.answered.inc()
    observed.duration.observe(duration_s)
    observed.rows.inc(rows)
    current = trace.get_current_span()
    if current.is_recording():
        current.set_attributes(
            {
                names.MODEL: version.release.model,
                names.VERSION_ID: version.release.version_id,
                names.VARIANT: version.release.variant,
                names.PREDICTION_ID: prediction_id,
                names.CACHED: cached,
                names.ROWS: rows,
            }
        )


def _outcome(error: BaseException) -> str:
    for ancestor in type(error).__mro__:
        if ancestor in _OUTCOMES:
            return _OUTCOMES[ancestor]
    return "internal_error" if isinstance(error, Exception) else "cancelled"
