"""Calls of a champion's that its candidate answers, or computes in the shadow.

A caller notices neither: what the candidate cannot answer in time, with finite numbers, the champion answers in the
same call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from headrace import open_inference as oip
from headrace_runtime.errors import Overloaded

from headrace_inference.core import metrics
from headrace_inference.core.asked import Answer, Asked, left_of
from headrace_inference.core.releases import CANDIDATE, Stage
from headrace_inference.core.rollout import Ending, all_finite, differing, is_taken
from headrace_inference.core.serving import Serving
from headrace_inference.core.shelf import CHAMPION, LoadedVersion, Shelf
from headrace_inference.core.signature import Call
from headrace_inference.core.tensors import DATATYPES, Array, decode_raw
from headrace_inference.transport import converters, wire
from headrace_inference.transport.beside import Beside, timed
from headrace_inference.transport.rollout_messages import rollout_key

logger = logging.getLogger(__name__)

LEAST_S = 0.5
"""What a candidate has at least to answer a call whose caller has time (s)."""
TIMES = 10
"""How many times as long as when it was warmed it may take."""
SPARE_S = 0.05
"""What is left to the champion, beside twice its own time, of the time of a caller (s)."""


Send = Callable[[bytes, Asked, Call, Answer], bytes]
"""Makes what is sent of a request's answer, and tells of it."""


class Candidates:
    """Tries candidates. `of` and `shade` are used by any thread, `answer` in one event loop."""

    def __init__(self, shelf: Shelf, serving: Serving, beside: Beside) -> None:
        self._shelf = shelf
        self._serving = serving
        self._beside = beside
        self._tallies = beside.tallies

    def of(self, request: bytes) -> LoadedVersion | None:
        """Return the candidate that answers a serialised call; None where the champion does."""
        candidates = self._shelf.candidates
        if not candidates:
            return None
        name, version = wire.leading_texts(request)
        candidate = candidates.get(name)
        if candidate is None or version or candidate.release.stage is not Stage.CANARY:
            return None
        return candidate if is_taken(candidate.release, rollout_key(request)) else None

    def tried(self, request: bytes, version: LoadedVersion) -> str:
        """Return the version of the candidate in whose canary a call was answered by whom its share gave it to.

        Empty outside of a canary, and where the champion answered in the candidate's place: answers of the two are
        held against each other, so nothing but the share may decide whose rows are whose.
        """
        candidate = self._shelf.candidates.get(version.release.model)
        if candidate is None or candidate.release.stage is not Stage.CANARY or wire.leading_texts(request)[1]:
            return ""
        is_own = is_taken(candidate.release, rollout_key(request))
        return candidate.release.version_id if (version.release.alias == CANDIDATE) == is_own else ""

    async def answer(
        self, candidate: LoadedVersion, asked: Asked, request: bytes, send: Send
    ) -> bytes | Callable[[], None]:
        """Return a candidate's answer to a call, as `send` makes it; or, where the champion has to, what counts why.

        That is to be called once the champion has answered: what neither can answer is no fault of the candidate's.
        """
        release, tally = candidate.release, self._tallies.of(candidate.release)
        try:
            call = converters.to_call(converters.parse("ModelInfer", request))
            if call.version or call.explain or call.chat:
                return _nothing
            work = self._serving.read(candidate, call, asked)
            within_s = self._within_s(candidate, left_of(asked, call), work.rows)
            results, took_s = await self._beside.run(candidate.model, work.arrays, work.outputs, within_s)
            if not all_finite(results):
                champion = self._shelf.resolve(release.model, CHAMPION)
                expected, _ = await self._beside.run(champion.model, work.arrays, work.outputs, within_s)
                ending = Ending.NOT_FINITE if all_finite(expected) else Ending.SKIPPED
                return partial(self._ended, candidate, ending, "an answer that is no finite number")
            sent = send(request, asked, call, self._serving.computed(work, results, took_s))
        except Overloaded as error:
            return partial(self._ended, candidate, Ending.SKIPPED, str(error))
        except Exception as error:  # whatever it is: the champion is at hand
            return partial(self._ended, candidate, Ending.FAILED, str(error) or repr(error))
        tally.candidate_took(took_s)
        metrics.CANDIDATE.labels(release.model, Ending.ANSWERED).inc()
        return sent

    def shade(self, asked: Asked, answer: Answer, request: bytes) -> None:
        """Let the candidate compute what the champion has answered, if there is time for it."""
        version = answer.version
        candidate = self._shelf.candidates.get(version.release.model)
        if (
            candidate is None
            or candidate.release.stage is not Stage.SHADOW
            or version.release.alias != CHAMPION
            or version.degraded
            or answer.cached
        ):
            return
        self._beside.shade(partial(self._shaded, candidate, request, answer, asked.size_bytes))

    def _shaded(self, candidate: LoadedVersion, request: bytes, answer: Answer, size_bytes: int) -> None:
        tally = self._tallies.of(candidate.release)
        try:
            call = converters.to_call(converters.parse("ModelInfer", request))
            if call.explain:
                return
            signature = candidate.model.signature
            signature.check_size(size_bytes)
            arrays, outputs = signature.arrays(call), signature.requested(call.outputs)
            expected = _arrays_of(answer.outputs)
            results, took_s = timed(candidate.model, arrays, outputs)
            if not all_finite(results) and all_finite(expected):
                self._ended(candidate, Ending.NOT_FINITE, "an answer that is no finite number")
                return
            tally.candidate_took(took_s)
            tally.compared(answer.rows, differing(results, expected, answer.rows))
            metrics.CANDIDATE.labels(candidate.release.model, Ending.ANSWERED).inc()
        except Exception as error:  # as above
            self._ended(candidate, Ending.FAILED, str(error) or repr(error))

    def _within_s(self, candidate: LoadedVersion, left_s: float | None, rows: int) -> float:
        """Return the time that a candidate has (s), with enough left for the champion. Raises Overloaded for none."""
        expected_s = candidate.speed.of(rows)
        within_s = max(LEAST_S, TIMES * expected_s)
        if left_s is None:
            return within_s
        champion = self._shelf.resolve(candidate.release.model, CHAMPION)
        within_s = min(within_s, left_s - SPARE_S - 2 * champion.speed.of(rows))
        if within_s <= 2 * expected_s:
            raise Overloaded("the caller has no time for a candidate", 0.0)
        return within_s

    def _ended(self, candidate: LoadedVersion, ending: Ending, why: str) -> None:
        release = candidate.release
        self._tallies.of(release).ended(ending)
        metrics.CANDIDATE.labels(release.model, ending).inc()
        if ending is not Ending.SKIPPED:
            logger.warning("%s: the champion answers in its place: %s", release, why)


def _nothing() -> None:
    """Count nothing: the call is none for a candidate."""


def _arrays_of(part: bytes) -> list[Array]:
    """Return the outputs of a serialised answer as arrays."""
    answer = oip.ModelInferResponse.FromString(part)
    return [
        decode_raw(output.name, DATATYPES[output.datatype], tuple(output.shape), raw)
        for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
    ]
