"""ModelInfer: serialised calls to `core.serving`, and serialised answers back.

Most calls need nobody else: their model is quick, and its answers are not kept. `infer_now` answers those in the thread
in which they arrive. `infer` answers all others, and those that are traced, in an event loop.
"""

from __future__ import annotations

import time

from headrace_runtime import errors
from headrace_runtime.kafka.envelopes import new_id

from headrace_inference.core import metrics
from headrace_inference.core.degrading import Degrading
from headrace_inference.core.quickness import is_quick, may_be_quick
from headrace_inference.core.serving import Answer, Asked, Serving
from headrace_inference.core.shelf import Shelf
from headrace_inference.core.signature import Call
from headrace_inference.ports import CallContext, Computing, Hot, Predictions
from headrace_inference.transport import converters, wire
from headrace_inference.transport.known_calls import KnownCall, KnownCalls
from headrace_inference.transport.pieces import Pieces

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
    ) -> None:
        self.serving = Serving(
            shelf, hot, compute, predictions, converters.outputs_part, new_id, degrading or Degrading()
        )
        self.pieces = Pieces(shelf, self.serving, self._open, self._sent)
        """Answers calls of models of language, piece by piece."""
        self._known = KnownCalls()
        self.statistics = self.serving.statistics

    def infer_now(self, request: bytes, context: CallContext) -> bytes | None:
        """Return a serialised ModelInferResponse when it can be had at once, None when `infer` has to be asked.

        Raises errors of headrace_runtime.errors.
        """
        asked = Asked(len(request), context, time.perf_counter())
        known = self._known.find(request)
        if known is not None and (found := self._infer_known(known, request, asked)) is not None:
            return found
        try:
            self.serving.look_ahead(asked, *wire.leading_texts(request))
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
        try:
            self.serving.look_ahead(asked, *wire.leading_texts(request))
            call = self._open(request, asked)
            return self._sent(request, asked, call, await self.serving.answer(asked, call))
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

    def _infer_known(self, known: KnownCall, request: bytes, asked: Asked) -> bytes | None:
        """Return the answer to a call of which all but the values is known; None when it must go the long way.

        That is when the version moved on, keeps its answers, is slow, or the call is late or has gaps.
        """
        try:
            version = self.serving.resolve(*known.asked, asked)
        except errors.HeadraceError:
            return None
        left_s = asked.context.time_remaining()
        if (
            version.prefix is not known.prefix
            or version.cached
            or not is_quick(version, known.rows)
            or (left_s is not None and left_s <= 0)
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
        suffix = converters.answer_suffix(call.id, answer.prediction_id, cached=answer.cached)
        sent = answer.version.prefix + part + suffix
        self._tell(request, asked, answer, sent)
        return sent

    def _tell(self, request: bytes, asked: Asked, answer: Answer, sent: bytes) -> None:
        asked.context.set_trailing_metadata(((PREDICTION_ID, answer.prediction_id),))
        self.serving.tell(asked, answer, request, sent)
