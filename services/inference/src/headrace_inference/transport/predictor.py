"""ModelInfer: serialised calls to `core.serving`, and serialised answers back.

Most calls need nobody else: their model is quick, and its answers are not kept. `infer_now` answers those in the thread
in which they arrive. `infer` answers all others, and those that are traced, in an event loop.
"""

from __future__ import annotations

import time

from headrace_runtime import errors
from headrace_runtime.kafka.envelopes import new_id

from headrace_inference.core import metrics
from headrace_inference.core.asked import Answer, Asked
from headrace_inference.core.degrading import Degrading
from headrace_inference.core.flights import Flights
from headrace_inference.core.quickness import is_quick, may_be_quick
from headrace_inference.core.serving import Serving
from headrace_inference.core.shelf import LoadedVersion, Shelf
from headrace_inference.core.signature import Call
from headrace_inference.core.work import Found
from headrace_inference.ports import CallContext, Computing, Hot, Predictions
from headrace_inference.transport import converters, wire
from headrace_inference.transport.beside import Beside
from headrace_inference.transport.candidates import Candidates
from headrace_inference.transport.known_calls import KnownCall, KnownCalls
from headrace_inference.transport.pieces import Pieces
from headrace_inference.transport.recent import RecentAnswers
from headrace_inference.transport.row_keys import keys_of

PREDICTION_ID = "headrace-prediction-id"
"""Key of the trailing metadata that holds the prediction's id."""
LARGEST_NOW_BYTES = 256 * 1024
"""Unknown calls above this size are not even parsed in the thread that other calls arrive in."""


class Predictor:
    """Answers ModelInfer. `infer` is used in one event loop, `infer_now` in one thread, which may be another."""

    def __init__(
        self,
        shelf: Shelf,
        hot: Hot,
        compute: Computing,
        predictions: Predictions,
        degrading: Degrading | None = None,
        flights: Flights[Found] | None = None,
        recent: RecentAnswers | None = None,
        beside: Beside | None = None,
    ) -> None:
        beside = beside or Beside(1)
        self.serving = Serving(
            shelf,
            hot,
            compute,
            predictions,
            converters.outputs_part,
            new_id,
            degrading or Degrading(),
            flights or Flights(most_calls=1000, most_bytes=64 * 1024 * 1024),
            beside.tallies,
        )
        self.pieces = Pieces(shelf, self.serving, self._open, self._sent)
        """Answers calls of models of language, piece by piece."""
        self._candidates = Candidates(shelf, self.serving, beside)
        self._known = KnownCalls()
        self._recent = recent or RecentAnswers(0)
        self.statistics = self.serving.statistics

    def infer_now(self, request: bytes, context: CallContext) -> bytes | None:
        """Return a serialised ModelInferResponse when it can be had at once, None when `infer` has to be asked.

        Raises errors of headrace_runtime.errors.
        """
        asked = Asked(len(request), context, time.perf_counter())
        if self._candidates.of(request) is not None:
            return None
        if (sent := self._recalled(request, asked, may_wait=False)) is not None:
            return sent
        known = self._known.find(request)
        if known is not None and (found := self._infer_known(known, request, asked)) is not None:
            return found
        try:
            self.serving.look_ahead(asked, *wire.leading_texts(request), converters.most_urgent(request))
            if len(request) > LARGEST_NOW_BYTES or (asked.version is not None and not may_be_quick(asked.version)):
                return None
            call = self._open(request, asked)
            answer = self.serving.answer_now(asked, call)
            if answer is None:
                return None
            sent = self._sent(request, asked, call, answer)
        except BaseException as error:
            self.serving.count_failure(asked, error)
            raise
        self._known.learn(request, call, answer.version, answer.asked_outputs)
        return sent

    async def infer(self, request: bytes, context: CallContext) -> bytes:
        """Return a serialised ModelInferResponse to a serialised request. Raises errors of headrace_runtime.errors."""
        asked = Asked(len(request), context, time.perf_counter())
        if (candidate := self._candidates.of(request)) is None:
            return await self._infer(request, asked)
        tried = await self._candidates.answer(candidate, asked, request, self._sent)
        if isinstance(tried, bytes):
            await self._recorded(asked)
            return tried
        sent = await self._infer(request, asked)
        tried()
        return sent

    async def _infer(self, request: bytes, asked: Asked) -> bytes:
        """Return what the version that is asked answers."""
        try:
            if (sent := self._recalled(request, asked, may_wait=True)) is None:
                self.serving.look_ahead(asked, *wire.leading_texts(request), converters.most_urgent(request))
                call = self._open(request, asked)
                sent = self._sent(request, asked, call, await self.serving.answer(asked, call))
        except BaseException as error:
            self.serving.count_failure(asked, error)
            raise
        await self._recorded(asked)
        return sent

    async def _recorded(self, asked: Asked) -> None:
        """Wait until the answer is recorded, where it has to be."""
        try:
            if asked.recorded is not None:
                await asked.recorded
        except BaseException as error:
            self.serving.count_failure(asked, error)
            raise

    def _open(self, request: bytes, asked: Asked) -> Call:
        """Return a call that was parsed, of a version that there is."""
        message = converters.parse("ModelInfer", request)
        version = self.serving.open(asked, message.model_name, message.model_version)
        # Hundreds of thousands fit into a small message, and each costs time in which other calls wait.
        version.model.signature.check_counts(len(message.inputs), len(message.outputs))
        return converters.to_call(message)

    def _recalled(self, request: bytes, asked: Asked, *, may_wait: bool) -> bytes | None:
        """Return the answer that the same bytes had just now, as one of another prediction; None without one.

        What is recorded before it is sent has to wait.
        """
        recent = self._recent.find(request)
        if recent is None:
            return None
        version = self._unmoved(recent.asked, recent.prefix, asked)
        if version is None or not version.cached or (version.release.records and not may_wait):
            return None
        asked.version = version
        statistics = self.statistics.of(version.release)
        statistics.found(time.perf_counter() - asked.started)
        metrics.SHARED.labels(version.release.model, "recent").inc()
        answer = Answer(version, statistics, recent.rows, recent.outputs, recent.part, True, self.serving.new_id())
        sent = version.prefix + recent.part + converters.answer_suffix(recent.id, answer.prediction_id, cached=True)
        self._tell(request, asked, answer, sent)
        return sent

    def _unmoved(self, named: tuple[str, str], prefix: bytes, asked: Asked) -> LoadedVersion | None:
        """Return the version that is asked by its names, as long as it is that of the prefix and there is time left."""
        try:
            version = self.serving.resolve(*named, asked)
        except errors.HeadraceError:
            return None
        left_s = asked.context.time_remaining()
        return None if version.prefix is not prefix or (left_s is not None and left_s <= 0) else version

    def _infer_known(self, known: KnownCall, request: bytes, asked: Asked) -> bytes | None:
        """Return the answer to a call of which all but the values is known; None when it must go the long way.

        That is when the version moved on, keeps its answers, is slow, or the call is late or has gaps.
        """
        version = self._unmoved(known.asked, known.prefix, asked)
        if (
            version is None
            or version.cached
            or version.release.records
            or not is_quick(version, known.rows)
            or (array := known.array(request)) is None
        ):
            return None
        asked.version = version
        try:
            computing = time.perf_counter()
            results = version.model.run({known.name: array}, known.outputs)
            computed = time.perf_counter()
            part = known.outputs_part(version, results)
        except BaseException as error:
            self.serving.count_failure(asked, error)
            raise
        self.serving.took(version, computed - computing)
        metrics.of_version(version.release.model, version.release.ordinal).compute.observe(computed - computing)
        statistics = self.statistics.of(version.release)
        read_s, wrote_s = computing - asked.started, time.perf_counter() - computed
        statistics.computed(known.rows, read_s, computed - computing, wrote_s)
        answer = Answer(version, statistics, known.rows, known.outputs, part, False, self.serving.new_id())
        sent = b"".join((version.prefix, part, known.before_id, answer.prediction_id.encode(), known.after_id))
        self._tell(request, asked, answer, sent)
        return sent

    def _sent(self, request: bytes, asked: Asked, call: Call, answer: Answer) -> bytes:
        """Return what is sent as the answer, and tell of it."""
        part = answer.outputs
        if call.classes:
            part = converters.as_classified(part, call.classes, answer.version.model.signature)
        if not call.raws:
            part = converters.as_typed(part)
        if answer.cached and answer.version.cached:
            self._recent.keep(request, call, answer, part, answer.version.release.cache_ttl_s)
        suffix = converters.answer_suffix(call.id, answer.prediction_id, cached=answer.cached)
        sent = answer.version.prefix + part + suffix
        self._tell(request, asked, answer, sent)
        return sent

    def _tell(self, request: bytes, asked: Asked, answer: Answer, sent: bytes) -> None:
        asked.context.set_trailing_metadata(((PREDICTION_ID, answer.prediction_id),))
        if answer.version.release.records:
            tried = self._candidates.tried(request, answer.version)
            self.serving.tell(asked, answer, request, sent, keys_of(request, answer.rows), tried)
        else:
            self.serving.tell(asked, answer, request, sent)
        self._candidates.shade(asked, answer, request)
