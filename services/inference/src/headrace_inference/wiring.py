"""Puts inference together."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, nullcontext
from dataclasses import replace
from functools import partial

from headrace.events.v1.model_pb2 import ModelReleased
from headrace.events.v1.pipeline_pb2 import PipelineApplied
from headrace.open_inference import POOL, SERVICE
from headrace_engines.generator import Room
from headrace_engines.processors import own_class
from headrace_runtime.cache.redis_cache import RedisCache
from headrace_runtime.errors import NotSupported, Unavailable
from headrace_runtime.kafka import CompactedView, GroupConsumer, TransactionalProducer
from headrace_runtime.kafka.troubles import Troubles
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.process.service import Background, Component, Service, settle
from headrace_runtime.record_topics import group_of
from headrace_runtime.rpc.admission import Capacity
from headrace_runtime.rpc.host import GrpcHost
from headrace_runtime.stream.pipelines import Parts
from headrace_runtime.topics import MODEL_RELEASED

from headrace_inference.adapters.graph_cache import GraphCache
from headrace_inference.adapters.hot_predictions import HotPredictions
from headrace_inference.adapters.language_model import LanguageLimits
from headrace_inference.adapters.prediction_log import NoLog, PredictionLog
from headrace_inference.adapters.release_loader import LoadLimits, ReleaseLoader
from headrace_inference.adapters.rollout_reports import RolloutReports
from headrace_inference.adapters.scored_topic import Places
from headrace_inference.adapters.spec_follower import SpecFollower
from headrace_inference.adapters.upstreams import UpstreamLimits
from headrace_inference.adapters.worth_meter import WorthMeter
from headrace_inference.core.cache_key import PREFIX
from headrace_inference.core.flights import Flights
from headrace_inference.core.generation import Bounds
from headrace_inference.core.rollout import Tallies
from headrace_inference.core.shelf import Shelf
from headrace_inference.core.specs import Specs
from headrace_inference.core.work import Found
from headrace_inference.ports import Predictions
from headrace_inference.settings import Settings
from headrace_inference.transport.beside import Beside
from headrace_inference.transport.compute import Compute
from headrace_inference.transport.consumer import HANDLERS
from headrace_inference.transport.converters import answer_prefix, to_served
from headrace_inference.transport.plane import Plane
from headrace_inference.transport.predictor import Predictor
from headrace_inference.transport.recent import RecentAnswers
from headrace_inference.transport.records.desk import RecordDesk, lacking, missing_packages
from headrace_inference.transport.records.door import Door
from headrace_inference.transport.records.servicer import RECORD_SERVICE, record_handler
from headrace_inference.transport.rollout_messages import to_observed
from headrace_inference.transport.servicer import open_inference_handler

logger = logging.getLogger(__name__)

NAME = "inference"
LISTEN_AFTER_S = 60.0
"""How long the server waits at most for the releases to be loaded before it listens."""


def build(settings: Settings) -> Service:
    """Return the service: the gRPC server, the loader of releases, and who follows their topic."""
    log = PredictionLog(settings, NAME, to_served) if settings.publish_predictions else None
    shelf = Shelf(settings.resident_versions)
    tallies, specs, door = Tallies(), Specs(), Door()
    host = build_host(settings, shelf, log or NoLog(), tallies, specs, door)
    loader = build_loader(settings, shelf, host)
    # Measured with a small model, a call takes 4 % less CPU.
    settle()
    on_released = partial(HANDLERS[ModelReleased], loader, settings.cpu_class or own_class())
    view = CompactedView(settings, MODEL_RELEASED, ModelReleased, on_released, NAME, loader.all_announced)
    scoring = Parts(settings, NAME, partial(_scoring, settings, door)) if settings.score_streams else None
    on_applied = partial(HANDLERS[PipelineApplied], specs, scoring)
    follows = scoring is not None or not missing_packages()
    following: list[Component] = [SpecFollower(settings, specs, on_applied, NAME)] if follows else []
    # The server comes last, so that it listens when there is something to answer with, and stops first: releases are
    # followed for as long as calls are answered.
    publishing: list[Component] = [] if log is None else [log]
    reports = RolloutReports(settings, NAME, shelf, tallies, to_observed)
    # Who asks in this process stops even before it.
    asking = [] if scoring is None else [scoring]
    return Service(NAME, [*publishing, loader, reports, *following, view, _Readiness(loader), host, *asking])


class _Lacking(Background):
    """Stands where records of a topic would be answered, and tells what is missing for it."""

    def run(self) -> None:
        raise NotSupported(lacking())


def _scoring(settings: Settings, door: Door, applied: PipelineApplied) -> list[Component]:
    """Return the loop that answers records of a topic for a pipeline; nothing where its spec asks for none."""
    if json.loads(applied.spec.json).get("serve", {}).get("scoring") is None:
        return []
    if missing_packages():
        return [_Lacking(group_of(NAME, applied.pipeline))]
    # What reads records is loaded by replicas that score some.
    from headrace_data.spec import parse_canonical

    from headrace_inference.transport.records.scoring import Scorer, ScoringLoop, scoring_of

    scoring = scoring_of(parse_canonical(applied.spec.json).incarnated(applied.incarnation))
    name, troubles = scoring.group, Troubles(settings, NAME)

    def tell(reason: str, subject: str, valid_s: float) -> None:
        troubles.tell(scoring.pipeline, name, reason, subject, valid_s)

    return [
        ScoringLoop(
            Scorer(scoring, door, NAME),
            partial(
                GroupConsumer, settings, group=name, topics=[scoring.source], instance=settings.instance, leaves=True
            ),
            partial(TransactionalProducer, settings, f"{name}.{settings.instance}"),
            Places(settings, scoring.answers),
            tell,
        )
    ]


class _Readiness:
    """Holds the start up until the releases are loaded: a client that does not watch health calls whoever listens.

    Not for ever: one release that does not load must not keep the others from being served.
    """

    def __init__(self, loader: ReleaseLoader) -> None:
        self._loader = loader

    def start(self) -> None:
        if not self._loader.wait_ready(LISTEN_AFTER_S):
            logger.warning("not everything that is released is loaded after %.0f s; serving what is", LISTEN_AFTER_S)

    def stop(self) -> None:
        """Nothing runs."""


def build_host(
    settings: Settings,
    shelf: Shelf,
    predictions: Predictions,
    tallies: Tallies | None = None,
    specs: Specs | None = None,
    door: Door | None = None,
) -> GrpcHost:
    """Return the gRPC server over a shelf; not serving until told so. `door` is opened while it runs."""
    cache = _cache(settings)
    hot = HotPredictions(cache)
    capacity = Capacity(settings.max_waiting, settings.max_wait_s, settings.max_waiting_bytes)
    compute, beside = Compute(settings.compute_threads, capacity), Beside(settings.compute_threads, tallies)
    flights: Flights[Found] = Flights(settings.max_waiting, settings.max_waiting_bytes)
    recent = RecentAnswers(0 if cache is None else settings.recent_bytes)
    predictor = Predictor(shelf, hot, compute, predictions, flights=flights, recent=recent, beside=beside)
    plane = Plane(shelf, predictor)
    desk = _desk(settings, shelf, specs or Specs(), predictor, capacity)
    rest = _rest(settings)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        with closing(compute), closing(beside), closing(desk):
            meter, resting = _running(WorthMeter(shelf, hot).run()), rest(plane, desk, host.stopping.is_set)
            async with hot, meter, resting, (door or Door()).opened(desk):
                yield

    host = GrpcHost(
        replace(settings.listening(), max_connection_age_s=settings.max_connection_age_s),
        [open_inference_handler(plane), record_handler(desk)],
        [SERVICE, RECORD_SERVICE],
        settings.max_message_bytes,
        POOL,
        lifespan=lifespan,
        drain_s=settings.drain_s,
    )
    predictor.serving.line_strain = host.strain
    host.set_serving(False)
    return host


def _desk(settings: Settings, shelf: Shelf, specs: Specs, predictor: Predictor, capacity: Capacity) -> RecordDesk:
    payloads = ObjectStore(settings.store_url).beginning
    access, limit_s = settings.registry_access, settings.records_timeout_s
    return RecordDesk(shelf, specs, predictor.infer, access, capacity, limit_s, payloads)


@asynccontextmanager
async def _running(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run something until the context is left."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _rest(settings: Settings) -> Callable[[Plane, RecordDesk, Callable[[], bool]], AbstractAsyncContextManager[object]]:
    """Return what serves REST beside the gRPC server. Raises Unavailable where its packages are not installed."""
    if not settings.rest_address:
        return lambda _plane, _desk, _draining: nullcontext()
    try:
        from headrace_inference.transport.rest.server import serving
    except ImportError as error:
        raise Unavailable(f"REST needs packages of the extra headrace-inference[rest]: {error}") from error
    at = replace(settings.listening(), address=settings.rest_address)
    most_bytes = (settings.max_message_bytes, settings.max_json_bytes)
    return lambda plane, desk, draining: serving(plane, desk, at, most_bytes, draining)


def build_loader(settings: Settings, shelf: Shelf, host: GrpcHost) -> ReleaseLoader:
    """Return what brings releases onto the shelf."""
    graphs = GraphCache(ObjectStore(settings.store_url), settings.work_dir / "graphs")
    hosts = frozenset(each.strip().lower() for each in settings.upstream_hosts.split(",") if each.strip())
    limits = LoadLimits(
        settings.max_rows,
        settings.load_timeout_s,
        settings.run_timeout_s,
        _language(settings),
        UpstreamLimits(hosts, settings.upstream_keys_dir, settings.upstream_adapters_dir),
    )
    return ReleaseLoader(shelf, graphs, limits, answer_prefix, host.set_serving)


def _language(settings: Settings) -> LanguageLimits:
    waiting = settings.max_answers_waiting
    return LanguageLimits(
        Bounds(settings.max_prompt_tokens, settings.max_answer_tokens, settings.answer_timeout_s),
        Capacity(settings.max_answers + waiting, settings.max_wait_s, settings.max_waiting_bytes),
        Room(
            cache_bytes=settings.keys_and_values_bytes,
            threads=settings.answer_threads,
            answers=settings.max_answers,
            waiting=waiting,
        ),
    )


def _cache(settings: Settings) -> RedisCache | None:
    if not settings.redis_url:
        return None
    return RedisCache(
        settings.redis_url, prefix=PREFIX, ttl_s=settings.cache_ttl_s, timeout_s=settings.redis_timeout_ms / 1e3
    )
