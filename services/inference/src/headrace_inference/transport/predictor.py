"""ModelInfer: check the call, look for the answer in the cache, compute it otherwise, tell what was done.

Most calls need nobody else: their model is quick, and its answers are not kept. `infer_now` answers those in the thread
in which they arrive. `infer` answers all others, and those that are traced, in an event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from headrace_runtime import errors
from headrace_runtime.errors import DeadlineExceeded
from headrace_runtime.kafka.envelopes import new_id
from headrace_runtime.telemetry import names
from headrace_runtime.telemetry.traces import child_span, traceparent
from opentelemetry import trace

from headrace_inference.core.cache_key import cache_key
from headrace_inference.core.degrading import Degrading
from headrace_inference.core.occlusion import Occlusion
from headrace_inference.core.served import Served
from headrace_inference.core.shelf import LoadedVersion, Shelf
from headrace_inference.core.signature import Call
from headrace_inference.core.statistics import Statistics, VersionStatistics
from headrace_inference.core.tensors import Array, OutputTensor, encode_raw
from headrace_inference.ports import CallContext, Hot, Predictions
from headrace_inference.transport import converters, metrics, wire
from headrace_inference.transport.compute import Compute, check_deadline, is_quick
from headrace_inference.transport.known_calls import KnownCall, KnownCalls

PREDICTION_ID = "headrace-prediction-id"
"""Key of the trailing metadata that holds the prediction's id."""
LARGEST_NOW_BYTES = 256 * 1024
"""Unknown calls above this size are not even parsed in the thread that other calls arrive in."""

_OUTCOMES: dict[type[BaseException], str] = {
    errors.InvalidInput: "invalid_input",
    errors.NotFound: "not_found",
    errors.Unavailable: "unavailable",
    errors.DeadlineExceeded: "deadline_exceeded",
    errors.Overloaded: "overloaded",
    errors.TooLarge: "invalid_input",
}


@dataclass(slots=True)
class _Work:
    """A call that was found to fit."""

    version: LoadedVersion
    statistics: VersionStatistics
    arrays: dict[str, Array]
    outputs: tuple[str, ...]
    rows: int
    size_bytes: int
    read_s: float
    """Seconds that it took to read the call."""


@dataclass(slots=True)
class _Asked:
    """A call, and as much as is known of what it asks for."""

    request: bytes
    context: CallContext
    started: float
    """When it came, on the clock of `time.perf_counter`."""
    version: LoadedVersion | None = None


class Predictor:
    """Answers ModelInfer. `infer` is used in one event loop, `infer_now` in one thread, which may be another."""

    def __init__(
        self,
        shelf: Shelf,
        hot: Hot,
        compute: Compute,
        predictions: Predictions,
        degrading: Degrading | None = None,
    ) -> None:
        self._shelf = shelf
        self._degrading = degrading or Degrading()
        self.line_strain: Callable[[float | None], float] = lambda left_s: 0.0
        """How near a call is to being refused on its way here, given the seconds until its caller stops waiting."""
        self._hot = hot
        self._compute = compute
        self._predictions = predictions
        self._known = KnownCalls()
        self.statistics = Statistics()

    def infer_now(self, request: bytes, context: CallContext) -> bytes | None:
        """Return a serialised ModelInferResponse when it can be had at once, None when `infer` has to be asked.

        Raises errors of headrace_runtime.errors.
        """
        asked = _Asked(request, context, time.perf_counter())
        known = self._known.find(request)
        if known is not None and (answer := self._infer_known(known, asked)) is not None:
            return answer
        try:
            self._look_ahead(asked)
            if len(request) > LARGEST_NOW_BYTES or (asked.version is not None and not _may_be_quick(asked.version)):
                return None
            call, version = self._open(asked)
            if call.explain or not _may_be_quick(version):
                return None
            work = self._read(version, call, asked)
            if not is_quick(version, work.rows):
                return None
            check_deadline(version, _left_s(asked, call))
            computing = time.perf_counter()
            results = version.model.run(work.arrays, work.outputs)
            part = _outputs_part(work, results, time.perf_counter() - computing)
            answer = self._answer(asked, call, work, part, cached=False)
        except BaseException as error:
            self._count_failure(asked, error)
            raise
        self._known.learn(request, call, version, work.outputs)
        return answer

    async def infer(self, request: bytes, context: CallContext) -> bytes:
        """Return a serialised ModelInferResponse to a serialised request. Raises errors of headrace_runtime.errors."""
        asked = _Asked(request, context, time.perf_counter())
        try:
            self._look_ahead(asked)
            call, version = self._open(asked)
            work = self._read(version, call, asked)
            async with _within(version, call, _left_s(asked, call)):
                left_s = partial(_left_s, asked, call)
                part, cached = (
                    (await self._explained(work, left_s()), False)
                    if call.explain
                    else await self._outputs(work, left_s)
                )
            return self._answer(asked, call, work, part, cached=cached)
        except BaseException as error:
            self._count_failure(asked, error)
            raise

    def _look_ahead(self, asked: _Asked) -> None:
        """Refuse a call by its model's name and its size, before anything else of it is read.

        A call whose answer may be kept in Redis is not refused for want of time: an answer that is there costs none.
        Does nothing for a call that does not begin with its name.
        """
        name, version_name = wire.leading_texts(asked.request)
        if not self._shelf.models.get(name):
            return
        version = self._resolve(name, version_name, asked)
        asked.version = version
        version.model.signature.check_size(len(asked.request))
        if not version.cached:
            self._compute.check(version, 1, len(asked.request), asked.context.time_remaining())

    def _resolve(self, name: str, version: str, asked: _Asked) -> LoadedVersion:
        """Return the version that a call asks: under overload the variant of it that answers in less time."""
        best = self._shelf.resolve(name, version)
        if not best.cheaper:
            return best
        left_s = asked.context.time_remaining()
        strain = max(self._compute.strain(best, left_s), self.line_strain(left_s))
        return (best, *best.cheaper)[self._degrading.step(strain, len(best.cheaper))]

    def _open(self, asked: _Asked) -> tuple[Call, LoadedVersion]:
        """Return a call that was parsed, and the version that it asks."""
        message = converters.parse("ModelInfer", asked.request)
        asked.version = version = self._resolve(message.model_name, message.model_version, asked)
        # Hundreds of thousands fit into a small message, and each costs time in which other calls wait.
        version.model.signature.check_counts(len(message.inputs), len(message.outputs))
        return converters.to_call(message), version

    def _infer_known(self, known: KnownCall, asked: _Asked) -> bytes | None:
        """Return the answer to a call of which all but the values is known; None when it must go the long way.

        That is when the version moved on, keeps its answers, is slow, or the call is late or has gaps.
        """
        try:
            version = self._resolve(*known.asked, asked)
        except errors.HeadraceError:
            return None
        left_s = asked.context.time_remaining()
        if (
            version.prefix is not known.prefix
            or version.cached
            or not is_quick(version, known.rows)
            or (left_s is not None and left_s <= 0)
            or (array := known.array(asked.request)) is None
        ):
            return None
        asked.version = version
        try:
            computing = time.perf_counter()
            results = version.model.run({known.name: array}, known.outputs)
            computed = time.perf_counter()
            part = known.outputs_part(version, results)
        except BaseException as error:
            self._count_failure(asked, error)
            raise
        metrics.of_version(version.release.model, version.release.ordinal).compute.observe(computed - computing)
        statistics = self.statistics.of(version.release)
        read_s, wrote_s = computing - asked.started, time.perf_counter() - computed
        statistics.computed(known.rows, read_s, computed - computing, wrote_s)
        prediction_id = new_id()
        answer = b"".join((version.prefix, part, known.before_id, prediction_id.encode(), known.after_id))
        self._tell(asked, version, statistics, known.rows, prediction_id, answer, cached=False)
        return answer

    def _read(self, version: LoadedVersion, call: Call, asked: _Asked) -> _Work:
        signature = version.model.signature
        arrays, outputs = signature.arrays(call), signature.requested(call.outputs)
        statistics = self.statistics.of(version.release)
        read_s = time.perf_counter() - asked.started
        return _Work(version, statistics, arrays, outputs, signature.rows(arrays), len(asked.request), read_s)

    async def _outputs(self, work: _Work, left_s: Callable[[], float | None]) -> tuple[bytes, bool]:
        """Return the outputs' part of the answer, and whether it was kept from an earlier call."""
        release = work.version.release
        if not work.version.cached:
            return await self._computed(work, left_s()), False
        started = time.perf_counter()
        key = cache_key(release.graph.digest, work.arrays, work.outputs)
        part = await self._hot.get(release.model, key)
        looked_s = time.perf_counter() - started
        if part is not None:
            work.statistics.found(looked_s)
            return part, True
        part = await self._computed(work, left_s())
        self._hot.put(key, part, release.cache_ttl_s or None)
        work.statistics.missed(looked_s)
        return part, False

    async def _computed(self, work: _Work, left_s: float | None) -> bytes:
        started = time.perf_counter()
        with child_span(names.SPAN_INFER):
            results, queue_s = await self._compute.run(
                work.version, work.arrays, work.outputs, work.rows, work.size_bytes, left_s
            )
        return _outputs_part(work, results, time.perf_counter() - started - queue_s, queue_s)

    async def _explained(self, work: _Work, left_s: float | None) -> bytes:
        """Return the outputs of a row and what its values add to them: an answer that is not kept."""
        signature = work.version.model.signature
        occlusion = Occlusion.of(signature, work.arrays, work.rows)
        work.rows = 1  # answered; another is the reference
        started = time.perf_counter()
        with child_span(names.SPAN_INFER):
            results, queue_s = await self._compute.run(
                work.version.with_rows_apart(),
                occlusion.arrays,
                work.outputs,
                occlusion.rows,
                occlusion.size_bytes,
                left_s,
            )
        tensors = occlusion.tensors(signature, dict(zip(work.outputs, results, strict=True)))
        return _part_of(work, tensors, time.perf_counter() - started - queue_s, queue_s)

    def _answer(self, asked: _Asked, call: Call, work: _Work, part: bytes, *, cached: bool) -> bytes:
        """Return the answer around its outputs, and tell of it."""
        version = work.version
        if call.classes:
            part = converters.as_classified(part, call.classes, version.model.signature)
        if not call.raws:
            part = converters.as_typed(part)
        prediction_id = new_id()
        answer = version.prefix + part + converters.answer_suffix(call.id, prediction_id, cached=cached)
        self._tell(asked, version, work.statistics, work.rows, prediction_id, answer, cached=cached)
        return answer

    def _tell(
        self,
        asked: _Asked,
        version: LoadedVersion,
        statistics: VersionStatistics,
        rows: int,
        prediction_id: str,
        answer: bytes,
        *,
        cached: bool,
    ) -> None:
        """Tell the caller, the metrics and the log of predictions of an answered call."""
        asked.context.set_trailing_metadata(((PREDICTION_ID, prediction_id),))
        duration_s = time.perf_counter() - asked.started
        statistics.answered(duration_s)
        observed = metrics.of_version(version.release.model, version.release.ordinal)
        observed.answered.inc()
        observed.duration.observe(duration_s)
        observed.rows.inc(rows)
        if version.degraded:
            metrics.DEGRADED.labels(version.release.model, version.release.variant).inc()
        trace_context = _describe(version, prediction_id, rows, cached=cached)
        self._predictions.add(
            Served(version.release, prediction_id, rows, cached, duration_s, asked.request, answer, trace_context)
        )

    def _count_failure(self, asked: _Asked, error: BaseException) -> None:
        model, ordinal = "", ""
        if asked.version is not None:
            release = asked.version.release
            model, ordinal = release.model, str(release.ordinal)
            self.statistics.of(release).failed(time.perf_counter() - asked.started)
        metrics.REQUESTS.labels(model, ordinal, _outcome(error)).inc()


def _may_be_quick(version: LoadedVersion) -> bool:
    return is_quick(version, 1) and not version.cached


def _outputs_part(work: _Work, results: list[Array], infer_s: float, queue_s: float = 0.0) -> bytes:
    """Return the outputs' part of an answer, and count how it was computed."""
    signature = work.version.model.signature
    tensors = (
        OutputTensor(name, datatype.name, array.shape, encode_raw(array, datatype))
        for name, array in zip(work.outputs, results, strict=True)
        for datatype in (signature.output(name).datatype,)
    )
    return _part_of(work, tensors, infer_s, queue_s)


def _part_of(work: _Work, tensors: Iterable[OutputTensor], infer_s: float, queue_s: float) -> bytes:
    began = time.perf_counter()
    version = work.version
    metrics.of_version(version.release.model, version.release.ordinal).compute.observe(infer_s + queue_s)
    part = converters.outputs_part(tensors)
    work.statistics.computed(work.rows, work.read_s, infer_s, time.perf_counter() - began, queue_s)
    return part


def _describe(version: LoadedVersion, prediction_id: str, rows: int, *, cached: bool) -> str:
    """Give the current span attributes and return its context, empty without one."""
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
    return traceparent(current)


def _left_s(asked: _Asked, call: Call) -> float | None:
    """Return the seconds until the caller stops waiting, None without a limit of time."""
    left_s = asked.context.time_remaining()
    if call.timeout_s is None:
        return left_s
    own_s = call.timeout_s - (time.perf_counter() - asked.started)
    return own_s if left_s is None else min(left_s, own_s)


@asynccontextmanager
async def _within(version: LoadedVersion, call: Call, left_s: float | None) -> AsyncIterator[None]:
    """End a call whose own time is over with DeadlineExceeded. The transport ends those whose deadline has passed."""
    if call.timeout_s is None:
        yield
        return
    check_deadline(version, left_s)
    try:
        async with asyncio.timeout(left_s):
            yield
    except TimeoutError as error:
        model = version.release.model
        raise DeadlineExceeded(f"model {model!r}: the call's timeout of {call.timeout_s:g} s is over") from error


def _outcome(error: BaseException) -> str:
    for ancestor in type(error).__mro__:
        if ancestor in _OUTCOMES:
            return _OUTCOMES[ancestor]
    return "internal_error" if isinstance(error, Exception) else "cancelled"
