"""ModelInfer: check the call, look for the answer in the cache, compute it otherwise, tell what was done."""

from __future__ import annotations

import time
from typing import Protocol

from google.protobuf.message import Message
from headrace_runtime import errors
from headrace_runtime import telemetry_names as names
from headrace_runtime.messages import new_id
from opentelemetry import trace

from headrace_inference.adapters import metrics
from headrace_inference.adapters.compute import Compute
from headrace_inference.adapters.hot_predictions import HotPredictions
from headrace_inference.adapters.spans import child_span
from headrace_inference.core.cache_key import cache_key
from headrace_inference.core.shelf import LoadedVersion, Shelf
from headrace_inference.core.signature import Call
from headrace_inference.core.tensors import Array, OutputTensor, encode_raw
from headrace_inference.errors import Overloaded
from headrace_inference.ports import CallContext
from headrace_inference.transport import converters

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

    def publish(self, message: Message) -> None:
        """Take an event without waiting."""


class NoEvents:
    """Takes events and drops them."""

    def publish(self, message: Message) -> None:
        """Do nothing."""


class Predictor:
    """Answers ModelInfer. Used in one event loop."""

    def __init__(self, shelf: Shelf, hot: HotPredictions, compute: Compute, events: Events) -> None:
        self._shelf = shelf
        self._hot = hot
        self._compute = compute
        self._events = events

    async def infer(self, request: bytes, context: CallContext) -> bytes:
        """Return a serialised ModelInferResponse to a serialised request. Raises errors of headrace_runtime.errors."""
        started = time.perf_counter()
        version: LoadedVersion | None = None
        try:
            call = converters.to_call(converters.parse("ModelInfer", request))
            version = self._shelf.resolve(call.model, call.version)
            arrays = version.model.signature.arrays(call)
            part, cached = await self._outputs(version, call, arrays, context)
        except BaseException as error:
            _count_failure(version, _outcome(error))
            if isinstance(error, Overloaded):
                context.set_trailing_metadata(_COME_AGAIN)
            raise
        prediction_id = new_id()
        context.set_trailing_metadata(((PREDICTION_ID, prediction_id),))
        if not call.raws:
            part = converters.as_typed(part)
        answer = version.prefix + part + converters.answer_suffix(call.id, prediction_id, cached=cached)
        duration_s = time.perf_counter() - started
        rows = version.model.signature.rows(arrays)
        _observe(version, rows, prediction_id, cached=cached, duration_s=duration_s)
        self._events.publish(
            converters.to_served(
                version, prediction_id, rows, cached=cached, duration_s=duration_s, request=request, answer=answer
            )
        )
        return answer

    async def _outputs(
        self, version: LoadedVersion, call: Call, arrays: dict[str, Array], context: CallContext
    ) -> tuple[bytes, bool]:
        """Return the outputs' part of the answer, and whether it was kept from an earlier call."""
        outputs = version.model.signature.requested(call.outputs)
        if not version.cached:
            return await self._computed(version, outputs, arrays, context), False
        key = cache_key(version.release.graph.digest, arrays, outputs)
        part = await self._hot.get(version.release.model, key)
        if part is not None:
            return part, True
        part = await self._computed(version, outputs, arrays, context)
        self._hot.put(key, part, version.release.cache_ttl_s or None)
        return part, False

    async def _computed(
        self, version: LoadedVersion, outputs: tuple[str, ...], arrays: dict[str, Array], context: CallContext
    ) -> bytes:
        signature = version.model.signature
        started = time.perf_counter()
        with child_span(names.SPAN_INFER):
            results = await self._compute.run(
                version, arrays, outputs, signature.rows(arrays), context.time_remaining()
            )
        metrics.of_version(version.release.model, version.release.ordinal).compute.observe(
            time.perf_counter() - started
        )
        tensors: list[OutputTensor] = []
        for name, array in zip(outputs, results, strict=True):
            datatype = signature.output(name).datatype
            tensors.append(OutputTensor(name, datatype.name, array.shape, encode_raw(array, datatype)))
        return converters.outputs_part(tensors)


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


def _count_failure(version: LoadedVersion | None, outcome: str) -> None:
    model, ordinal = (version.release.model, str(version.release.ordinal)) if version else ("", "")
    metrics.REQUESTS.labels(model, ordinal, outcome).inc()


def _outcome(error: BaseException) -> str:
    for ancestor in type(error).__mro__:
        if ancestor in _OUTCOMES:
            return _OUTCOMES[ancestor]
    return "internal_error" if isinstance(error, Exception) else "cancelled"
