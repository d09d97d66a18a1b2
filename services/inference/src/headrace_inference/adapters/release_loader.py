"""Brings releases into memory, one after another, beside what is being served."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from headrace_engines import GGUF, format_of
from headrace_engines.run_limit import RunLimit
from headrace_runtime.errors import Corrupt, DeadlineExceeded, HeadraceError, NotFound, Unprocessable
from headrace_runtime.process.service import Background
from headrace_runtime.telemetry import names
from headrace_runtime.telemetry.traces import tracer
from opentelemetry.context import Context

from headrace_inference.adapters import metrics
from headrace_inference.adapters.engine_model import EngineModel
from headrace_inference.adapters.graph_cache import GraphCache
from headrace_inference.adapters.graph_trial import GraphTrial
from headrace_inference.adapters.language import Language
from headrace_inference.adapters.language_model import LanguageLimits, LanguageModel, load, local
from headrace_inference.adapters.upstreams import UpstreamLimits, Upstreams
from headrace_inference.core.releases import CANDIDATE, Fault, Place, Release, ReleaseBook
from headrace_inference.core.shelf import LoadedVersion, Shelf

logger = logging.getLogger(__name__)

_FAULTS: dict[type[Exception], Fault] = {
    Unprocessable: Fault.UNFIT,
    DeadlineExceeded: Fault.UNFIT,  # of a run that is warmed
    NotFound: Fault.MISSING,
    Corrupt: Fault.MISSING,
}
SetHealth = Callable[[bool | None, str], None]
"""Tells health of a name: serving, not serving, or (None) forgotten."""


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """Most rows of a call; the seconds that the trial of a graph may take, and those of one run while it serves."""

    max_rows: int
    load_s: float = 60.0
    run_s: float = 60.0
    language: LanguageLimits = field(default_factory=LanguageLimits)
    """Those of models of language."""
    upstreams: UpstreamLimits = field(default_factory=UpstreamLimits)
    """Those of models that other servers have."""


class ReleaseLoader(Background):
    """Loads each release: fetch, try in another process, load, warm, then one swap on the shelf.

    Calls in hand keep their version. A release whose graph is still in memory, such as a rollback, is served at once,
    whatever is being loaded. A release that does not load leaves the older one serving and is tried again, ever more
    rarely. The server becomes ready when every release that was there at the start is loaded, or will not be for a
    fault of its own, and stays so.
    """

    def __init__(
        self,
        shelf: Shelf,
        graphs: GraphCache,
        limits: LoadLimits,
        prefix_of: Callable[[Release], bytes],
        set_health: SetHealth,
    ) -> None:
        super().__init__("release loader")
        self._shelf = shelf
        self._graphs = graphs
        self._limits = limits
        self._trial = GraphTrial(limits.max_rows, limits.load_s)
        self._run_limit = RunLimit(limits.run_s)
        self._upstreams = Upstreams(limits.upstreams, graphs.alone, graphs.head)
        self._prefix_of = prefix_of
        self._set_health = set_health
        self._changed = threading.Condition()
        self._book = ReleaseBook()
        self._causes: dict[Place, Context] = {}
        self._complete = False

    def announce(self, release: Release, cause: Context) -> None:
        """Take note of a release; `cause` is the trace context of its event. From any thread."""
        with self._changed:
            if not self._book.announce(release, time.monotonic()):
                logger.info("%s is not newer than what was released before", release)
                return
            self._causes[release.place] = cause
            metrics.PENDING.labels(*release.place).set(1)
            if (resident := self._shelf.holding(release)) is not None:
                with self._span(release):
                    self._book.loaded(release)
                    self._serve(self._again(release, resident))
            self._tell()

    def withdraw(self, place: Place) -> None:
        """Take note that nothing is released under an alias any more. From any thread."""
        with self._changed:
            self._book.withdraw(place)
            if self._causes.pop(place, None) is not None:
                metrics.PENDING.remove(*place)
            with self._retiring():
                removed = self._shelf.remove(place)
            if removed is not None:
                metrics.LOADED.remove(*place)
            if place[0] not in self._book.models():
                self._set_health(None, f"model/{place[0]}")
            self._tell()

    def all_announced(self) -> None:
        """Take note that every release that the topic held at the start was announced. From any thread."""
        with self._changed:
            self._complete = True
            self._tell()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until everything that the topic held at the start is loaded; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._shelf.ready or self.stopping.is_set(), timeout_s)

    def stop(self) -> None:
        """Give the trial in hand up, or finish the release that is being loaded. Engines end with their last answer."""
        self.stopping.set()
        self._trial.stop()
        with self._changed:
            self._changed.notify_all()
        super().stop()
        for language in _languages(self._shelf.all):
            language.retire()

    def run(self) -> None:
        """Load what is due until stopped."""
        try:
            while (release := self._next()) is not None:
                self._attempt(release)
        finally:
            self._trial.close()

    def _tell(self) -> None:
        """With the lock held: show what is released, judge readiness, wake the thread."""
        self._shelf.announce(self._book.models(), complete=self._complete, failing=self._book.failing())
        for model in self._book.models() - self._shelf.models.keys():
            self._set_health(False, f"model/{model}")
        if self._complete and self._book.settled() and not self._shelf.ready:
            self._shelf.ready = True
            self._set_health(True, "")
            logger.info("ready: %s", sorted(self._book.models()) or "nothing is released yet")
        self._changed.notify_all()

    def _next(self) -> Release | None:
        with self._changed:
            while not self.stopping.is_set():
                now_s = time.monotonic()
                release = self._book.due(now_s)
                if release is not None:
                    return release
                due_s = self._book.next_due_s()
                self._changed.wait(None if due_s is None else due_s - now_s)
            return None

    def _attempt(self, release: Release) -> None:
        try:
            loaded = self._load(release)
        except Exception as error:
            if not self.stopping.is_set():
                self._failed(release, error)
            return
        with self._changed, self._retiring(loaded):
            if self._book.wants(release):
                self._book.loaded(release)
                self._serve(loaded)
                self._tell()
        self._graphs.tidy(self._used())

    def _failed(self, release: Release, error: Exception) -> None:
        metrics.LOAD_FAILURES.labels(*release.place).inc()
        fault = next((fault for kind, fault in _FAULTS.items() if isinstance(error, kind)), Fault.AROUND)
        if release.upstream is not None and fault is not Fault.MISSING:
            fault = Fault.AWAITED
        reason = str(error) if isinstance(error, HeadraceError) else repr(error)
        with self._changed:
            wait_s = self._book.failed(release, time.monotonic(), reason, fault)
            self._tell()
        served = self._shelf.models.get(release.model)
        serving = served and served.aliases.get(release.alias)
        logger.error(
            "%s did not load, %s; the next attempt is in %.0f s: %s",
            release,
            f"version {serving.release.ordinal} goes on serving" if serving else "nothing is served in its place",
            wait_s,
            reason,
        )

    def _load(self, release: Release) -> LoadedVersion:
        started = time.perf_counter()
        with self._span(release):
            loaded = replace(self._version(release), cheaper=tuple(self._cheaper(release)))
        metrics.LOAD_DURATION.labels(release.model).observe(time.perf_counter() - started)
        return loaded

    @contextmanager
    def _retiring(self, *loaded: LoadedVersion) -> Iterator[None]:
        """With the lock held: after a change of the shelf, let go of the engines that are on it no more."""
        before = _languages((*loaded, *self._shelf.all))
        yield
        for language in before - _languages(self._shelf.all):
            language.retire()

    def _used(self) -> set[str]:
        with self._changed:
            return self._book.digests()

    def _version(self, release: Release) -> LoadedVersion:
        model: EngineModel | LanguageModel
        if release.upstream is not None:
            return self._of_upstream(release)
        graph = self._graphs.get(release.graph, self._used)
        if isinstance(graph, Path) and format_of(graph) == GGUF:
            # Its engine is a process of its own: what it does to that, it does to nothing else.
            make = partial(local, graph, self._limits.language)
            model = load(make, self._limits.language, self._limits.load_s, self.stopping.is_set)
        else:
            self._trial.attempt(release.graph, graph)
            model = EngineModel(graph, self._limits.max_rows, self._run_limit)
        return LoadedVersion(release, model, model.warm(), self._prefix_of(release), language=model.language)

    def _of_upstream(self, release: Release) -> LoadedVersion:
        """Return a version that another server has, once it has it: nothing but an adapter is fetched here."""
        limits = self._limits.language
        make = partial(self._upstreams.generator, release, limits.room, partial(self._heard, release))
        model = load(make, limits, self._limits.load_s, self.stopping.is_set)
        return LoadedVersion(release, model, model.warm(), self._prefix_of(release), language=model.language)

    def _heard(self, release: Release, healthy: bool) -> None:
        """Take note of whether a server has what is served by it. From any thread."""
        with self._changed:
            served = self._shelf.models.get(release.model)
            if served is not None and any(each.release == release for each in served.aliases.values()):
                self._set_health(healthy, f"model/{release.model}")
        (logger.info if healthy else logger.error)(
            "%s: %s", release, "a server has it again" if healthy else "no server has it now"
        )

    def _cheaper(self, release: Release) -> Iterator[LoadedVersion]:
        """Yield what may answer for a release under overload: one that does not load is done without."""
        for each in release.cheaper:
            answered = release.answered_by(each)
            try:
                yield replace(self._version(answered), degraded=True)
            except Exception as error:  # whatever it is: the one that is served is at hand
                logger.warning("%s did not load, and nothing answers in its place under overload: %s", answered, error)

    def _again(self, release: Release, held: LoadedVersion) -> LoadedVersion:
        """Return a version in memory as it is released now."""
        others = {each.release.graph.digest: each for each in held.cheaper}
        wanted = [each for each in release.cheaper if each.graph.digest in others]
        cheaper = [(release.answered_by(each), others[each.graph.digest]) for each in wanted]
        return replace(
            held,
            release=release,
            prefix=self._prefix_of(release),
            cheaper=tuple(
                replace(each, release=now, prefix=self._prefix_of(now), measured=each.worth) for now, each in cheaper
            ),
            measured=held.worth,
        )

    def _span(self, release: Release) -> AbstractContextManager[object]:
        """Return a span in the trace of the release's event."""
        attributes = {names.MODEL: release.model, names.VERSION_ID: release.version_id, names.VARIANT: release.variant}
        return tracer.start_as_current_span(
            f"{names.SPAN_LOAD} {release.model}", context=self._causes.get(release.place), attributes=attributes
        )

    def _serve(self, loaded: LoadedVersion) -> None:
        """With the lock held: swap."""
        release = loaded.release
        with self._retiring():
            self._shelf.put(loaded)
        metrics.LOADED.labels(*release.place).set(release.ordinal)
        metrics.PENDING.labels(*release.place).set(0)
        metrics.SWAPS.labels(*release.place).inc()
        if release.alias != CANDIDATE:
            self._set_health(True, f"model/{release.model}")
        logger.info(
            "%s is served: %.3f ms a row, hot predictions %s",
            release,
            loaded.speed.first_row_s * 1e3,
            "in Redis" if loaded.cached else "not kept",
        )


def _languages(versions: Iterable[LoadedVersion]) -> set[Language]:
    """Return the models of language among versions and what answers in their place."""
    found = (each.language for version in versions for each in (version, *version.cheaper))
    return {each for each in found if isinstance(each, Language)}
