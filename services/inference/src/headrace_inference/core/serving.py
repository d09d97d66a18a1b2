"""One call from end to end, whatever carries it: a `Call` in, an `Answer` out.

Here are the checks, the cache, the deadline, admission, statistics, metrics and events of every call. What reads and
writes messages is the transport's: it makes a `Call` of what came, and tells `Serving` what it sent.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from headrace_engines.generator import Piece
from headrace_runtime.errors import DeadlineExceeded, InvalidInput, Unavailable
from headrace_runtime.telemetry import names
from headrace_runtime.telemetry.traces import child_span

from headrace_inference.core import metrics
from headrace_inference.core.asked import Answer, Asked, left_of
from headrace_inference.core.degrading import Degrading
from headrace_inference.core.flights import Flights, Left
from headrace_inference.core.generation import STREAM, Whole, ask_of
from headrace_inference.core.occlusion import Occlusion
from headrace_inference.core.outcomes import described, outcome_of
from headrace_inference.core.quickness import check_deadline, is_quick, may_be_quick
from headrace_inference.core.rollout import Tallies
from headrace_inference.core.served import Served
from headrace_inference.core.shelf import CHAMPION, LoadedVersion, Shelf
from headrace_inference.core.signature import Call
from headrace_inference.core.statistics import Statistics
from headrace_inference.core.tensors import Array, OutputTensor, encode_raw
from headrace_inference.core.work import Found, Work
from headrace_inference.core.writing import Writing
from headrace_inference.ports import Computing, Hot, Language, Predictions

TRIES = 3
"""How often a version is looked up that was replaced just then."""


class Serving:
    """Answers calls. `answer` is used in one event loop; `answer_now`, in one thread, which may be another.

    `write` makes the bytes of outputs, which are what the cache keeps; `new_id` makes the ids of predictions.
    """

    def __init__(
        self,
        shelf: Shelf,
        hot: Hot,
        compute: Computing,
        predictions: Predictions,
        write: Callable[[Iterable[OutputTensor]], bytes],
        new_id: Callable[[], str],
        degrading: Degrading,
        flights: Flights[Found],
        tallies: Tallies,
    ) -> None:
        self._shelf = shelf
        self._flights = flights
        self._degrading = degrading
        self.line_strain: Callable[[float | None], float] = lambda left_s: 0.0
        """How near a call is to being refused on its way here, given the seconds until its caller stops waiting."""
        self._hot = hot
        self._compute = compute
        self._predictions = predictions
        self._write = write
        self.new_id = new_id
        self.statistics = Statistics()
        self.tallies = tallies

    def answer_now(self, asked: Asked, call: Call) -> Answer | None:
        """Answer a call in this thread; None when it has to wait for anything, or could keep others waiting."""
        version = self.open(asked, call.model, call.version)
        if call.explain or not may_be_quick(version):
            return None
        work = self.read(version, call, asked)
        if not is_quick(version, work.rows):
            return None
        check_deadline(version, left_of(asked, call))
        computing = time.perf_counter()
        results = version.model.run(work.arrays, work.outputs)
        part = self._outputs_part(work, results, time.perf_counter() - computing)
        return self._answered(work, Found(part))

    async def answer(self, asked: Asked, call: Call) -> Answer:
        """Answer a call. Raises errors of headrace_runtime.errors."""
        version = self.open(asked, call.model, call.version)
        if version.language is not None:
            with self._held(asked, call) as (version, language):
                work, left_s = self.read(version, call, asked), partial(left_of, asked, call)
                if call.chat:
                    await work.render(language)
                if work.ask is not None and work.ask.streamed:
                    raise InvalidInput(f"input {STREAM!r}: expected false for one answer: see ModelStreamInfer")
                found = await self._shared(work, left_s, partial(self._whole, language, work, asked))
            return self._answered(work, found)
        work, left_s = self.read(version, call, asked), partial(left_of, asked, call)
        async with _within(version, call, left_s()):
            explained = call.explain
            found = Found(await self._explained(work, left_s)) if explained else await self._outputs(work, left_s)
        return self._answered(work, found)

    async def generate(self, asked: Asked, call: Call) -> AsyncGenerator[Piece | Answer, None]:
        """Yield the pieces of an answer as a model of language writes them, then the whole of it: the answer.

        What ends without the latter has raised one of headrace_runtime.errors, and is not whole. An answer that was
        kept comes without pieces. Whoever goes before the end has to close the iteration, and gives its place up.
        """
        with self._held(asked, call) as (version, language):
            work = self.read(version, call, asked)
            if call.chat:
                await work.render(language)
            async with aclosing(self._written(language, work, asked, partial(left_of, asked, call))) as written:
                async for each in written:
                    yield each

    @contextmanager
    def _held(self, asked: Asked, call: Call) -> Iterator[tuple[LoadedVersion, Language]]:
        """Keep the version that a call asks, and its model of language, as long as the call has them."""
        for _ in range(TRIES):
            version = self.open(asked, call.model, call.version)
            if version.language is None:
                raise InvalidInput(f"model {call.model!r}: expected a model of language to answer piece by piece")
            if version.language.hold():
                break
        else:
            raise Unavailable(f"model {call.model!r} is stopping")
        try:
            yield version, version.language
        finally:
            version.language.let_go()

    def look_ahead(self, asked: Asked, name: str, version_name: str, priority: int) -> None:
        """Refuse a call by its model's name, its size and the highest priority that it may have, before it is read.

        A call whose answer may be kept in Redis is not refused for want of time: an answer that is there costs none.
        Does nothing for an unknown name.
        """
        if not self._shelf.models.get(name):
            return
        version = self.open(asked, name, version_name)
        version.model.signature.check_size(asked.size_bytes)
        if not version.cached:
            left_s = asked.context.time_remaining()
            if version.language is None:
                self._compute.check(version, 1, asked.size_bytes, left_s, priority)
            else:
                version.language.check(name, None, asked.size_bytes, left_s, priority)

    def open(self, asked: Asked, name: str, version_name: str) -> LoadedVersion:
        """Return the version that a call asks, and remember that it did."""
        version = asked.version = self.resolve(name, version_name, asked)
        return version

    def resolve(self, name: str, version: str, asked: Asked) -> LoadedVersion:
        """Return the version that a call asks: under overload the variant of it that answers in less time."""
        best = self._shelf.resolve(name, version)
        if not best.cheaper:
            return best
        left_s = asked.context.time_remaining()
        language = best.language
        own = self._compute.strain(best, left_s) if language is None else language.strain(left_s)
        strain = max(own, self.line_strain(left_s))
        return (best, *best.cheaper)[self._degrading.step(strain, len(best.cheaper))]

    def took(self, version: LoadedVersion, seconds: float) -> None:
        """Count a computation of a champion beside which a candidate is tried."""
        candidates = self._shelf.candidates
        candidate = candidates.get(version.release.model) if candidates else None
        if candidate is not None and version.release.alias == CHAMPION and not version.degraded:
            self.tallies.of(candidate.release).champion_took(seconds)

    def computed(self, work: Work, results: list[Array], took_s: float) -> Answer:
        """Return the answer of a version that was computed elsewhere."""
        return self._answered(work, Found(self._outputs_part(work, results, took_s)))

    def read(self, version: LoadedVersion, call: Call, asked: Asked) -> Work:
        """Return a call that fits a version. Raises InvalidInput, TooLarge."""
        signature = version.model.signature
        arrays, outputs = signature.arrays(call), signature.requested(call.outputs)
        statistics = self.statistics.of(version.release)
        ask = None
        if version.language is not None:
            if call.explain:
                raise InvalidInput(f"model {call.model!r}: an answer of a model of language is not explained")
            ask = asked.ask = ask_of(arrays, version.language.bounds, call.priority)
        elif call.chat:
            raise InvalidInput(f"model {call.model!r}: expected a model of language for a conversation")
        read_s = time.perf_counter() - asked.started
        rows = signature.rows(arrays)
        return Work(version, statistics, arrays, outputs, rows, asked.size_bytes, read_s, ask, call.priority)

    async def _outputs(self, work: Work, left_s: Left) -> Found:
        """Return the outputs' part of the answer."""
        return await self._shared(work, left_s, partial(self._kept_or_computed, work))

    async def _shared(self, work: Work, left_s: Left, find: Callable[[Left], Coroutine[Any, Any, Found]]) -> Found:
        """Return what is found for a call, or for an equal one that is on its way."""
        if (key := work.key) is None:
            return await find(left_s)
        started = time.perf_counter()
        found, joined = await self._flights.join(key, work.size_bytes, left_s, find)
        if not joined:
            return found
        metrics.SHARED.labels(work.version.release.model, "joined").inc()
        work.statistics.found(time.perf_counter() - started)
        return Found(found.part, cached=True)

    async def _kept_or_computed(self, work: Work, left_s: Left) -> Found:
        if (key := work.kept_key) is None:
            return Found(await self._computed(work, left_s))
        part, looked_s = await self._kept(work, key)
        if part is not None:
            return Found(part, cached=True)
        part = await self._computed(work, left_s)
        self._keep(work, key, part, looked_s)
        return Found(part)

    async def _kept(self, work: Work, key: bytes) -> tuple[bytes | None, float]:
        """Return what was kept of an earlier call, and the seconds that the look took."""
        started = time.perf_counter()
        part = await self._hot.get(work.version.release.model, key)
        looked_s = time.perf_counter() - started
        if part is not None:
            work.statistics.found(looked_s)
        return part, looked_s

    def _keep(self, work: Work, key: bytes, part: bytes, looked_s: float) -> None:
        self._hot.put(key, part, work.version.release.cache_ttl_s or None)
        work.statistics.missed(looked_s)

    async def _written(
        self, language: Language, work: Work, asked: Asked, left_s: Left
    ) -> AsyncGenerator[Piece | Answer, None]:
        assert work.ask is not None  # noqa: S101 - read for a model of language
        key, looked_s = work.kept_key, 0.0
        if key is not None:
            part, looked_s = await self._kept(work, key)
            if part is not None:
                yield self._answered(work, Found(part, cached=True))
                return
        whole, writing = Whole(), Writing(work.version, work.ask, asked.started)
        with writing:
            async with language.answering(work.version.release.model, work.ask, work.size_bytes, left_s()) as answer:
                writing.metrics.queue.observe(answer.queue_s)
                asked.prompt_tokens = whole.prompt_tokens = answer.prompt_tokens
                async for piece in answer:
                    writing.told(piece)
                    whole.add(piece)
                    yield piece
                asked.prompt_tokens = whole.prompt_tokens = answer.prompt_tokens  # which some know at the end
            writing.ended(whole.usage)
        part = self._outputs_part(work, whole.outputs(work.outputs), writing.took_s - answer.queue_s, answer.queue_s)
        if key is not None:
            self._keep(work, key, part, looked_s)
        yield self._answered(work, Found(part, usage=whole.usage))

    async def _whole(self, language: Language, work: Work, asked: Asked, left_s: Left) -> Found:
        *_, answer = [each async for each in self._written(language, work, asked, left_s)]
        assert isinstance(answer, Answer)  # noqa: S101 - the last of them
        return Found(answer.outputs, answer.cached, answer.usage)

    async def _computed(self, work: Work, left_s: Left) -> bytes:
        started = time.perf_counter()
        with child_span(names.SPAN_INFER):
            results, queue_s = await self._compute.run(
                work.version, work.arrays, work.outputs, work.rows, work.size_bytes, left_s, work.priority
            )
        return self._outputs_part(work, results, time.perf_counter() - started - queue_s, queue_s)

    async def _explained(self, work: Work, left_s: Left) -> bytes:
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
                work.priority,
            )
        tensors = occlusion.tensors(signature, dict(zip(work.outputs, results, strict=True)))
        return self._part_of(work, tensors, time.perf_counter() - started - queue_s, queue_s)

    def _outputs_part(self, work: Work, results: list[Array], infer_s: float, queue_s: float = 0.0) -> bytes:
        """Return the outputs' part of an answer, and count how it was computed."""
        self.took(work.version, infer_s)
        signature = work.version.model.signature
        tensors = (
            OutputTensor(name, datatype.name, array.shape, encode_raw(array, datatype))
            for name, array in zip(work.outputs, results, strict=True)
            for datatype in (signature.output(name).datatype,)
        )
        return self._part_of(work, tensors, infer_s, queue_s)

    def _part_of(self, work: Work, tensors: Iterable[OutputTensor], infer_s: float, queue_s: float) -> bytes:
        began = time.perf_counter()
        version = work.version
        metrics.of_version(version.release.model, version.release.ordinal).compute.observe(infer_s + queue_s)
        part = self._write(tensors)
        work.statistics.computed(work.rows, work.read_s, infer_s, time.perf_counter() - began, queue_s)
        return part

    def _answered(self, work: Work, found: Found) -> Answer:
        part, cached, usage = found
        return Answer(work.version, work.statistics, work.rows, work.outputs, part, cached, self.new_id(), usage)

    def tell(
        self, asked: Asked, answer: Answer, request: bytes, sent: bytes, keys: tuple[str, ...] = (), tried: str = ""
    ) -> None:
        """Tell the metrics and the log of predictions of an answered call, with the bytes that came and go.

        `keys` are those of its rows, and `tried` as `Served` has it, where the release is recorded.
        """
        version, rows = answer.version, answer.rows
        duration_s = time.perf_counter() - asked.started
        answer.statistics.answered(duration_s)
        observed = metrics.of_version(version.release.model, version.release.ordinal)
        observed.answered.inc()
        observed.duration.observe(duration_s)
        observed.rows.inc(rows)
        if version.degraded:
            metrics.DEGRADED.labels(version.release.model, version.release.variant).inc()
        trace_context = described(version, answer.prediction_id, rows, cached=answer.cached)
        release, prediction_id = version.release, answer.prediction_id
        served = Served(release, prediction_id, rows, answer.cached, duration_s, request, sent, trace_context)
        if release.records:
            places = next((each.labels for each in version.model.signature.outputs if each.labels), ())
            told = json.dumps(places, ensure_ascii=False) if places else ""
            asked.recorded = self._predictions.record(served._replace(places=told, keys=keys, tried=tried))
        else:
            self._predictions.add(served)

    def count_failure(self, asked: Asked, error: BaseException) -> None:
        """Count a call that ends with an error."""
        model, ordinal = "", ""
        if asked.version is not None:
            release = asked.version.release
            model, ordinal = release.model, str(release.ordinal)
            self.statistics.of(release).failed(time.perf_counter() - asked.started)
        metrics.REQUESTS.labels(model, ordinal, outcome_of(error)).inc()


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
