"""Measures, again and again, what a hit in Redis and a model cost this replica."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial

from headrace_inference.adapters import metrics
from headrace_inference.adapters.hot_predictions import HotPredictions
from headrace_inference.core.cache_key import PREFIX, cache_key
from headrace_inference.core.releases import CachePolicy
from headrace_inference.core.shelf import LoadedVersion, Shelf

logger = logging.getLogger(__name__)

LOOK_S = 2.0
"""Seconds between looks at what is served: a new version is measured."""
AGAIN_S = 60.0
"""Seconds after which all are measured anew: the cache, the machine and what else runs on it change."""
SLOWEST_S = 0.02
"""A model that took longer when it was warmed is not run for a measurement: whatever a hit costs, it costs less."""
ROUNDS, HITS = 5, 8
"""A hit costs the least of the rounds, each of so many hits: what a busy machine adds says nothing about it."""
_KEY = PREFIX + b"what-a-hit-costs"
_VALUE = bytes(256)


class WorthMeter:
    """Measures for all versions whose pipeline leaves it to the replica. Used in the event loop of `hot`."""

    def __init__(self, shelf: Shelf, hot: HotPredictions) -> None:
        self._shelf = shelf
        self._hot = hot
        self._measured_s = -AGAIN_S

    async def run(self) -> None:
        """Measure until cancelled; a failure is logged and tried again."""
        while True:
            try:
                await self.look()
            except Exception:
                logger.warning("what a hit in Redis costs could not be measured", exc_info=True)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Measure once where something is new or the last measurement is old."""
        again = time.monotonic() - self._measured_s >= AGAIN_S
        due = [each for each in self._left_to_us() if again or not each.worth.measured]
        if not due:
            return
        lookup_s = await self._lookup_s()
        if lookup_s is None:  # the cache does not answer: what was decided stays
            return
        if again:
            self._measured_s = time.monotonic()
        for each in due:
            hit_s, model_s = await asyncio.to_thread(_costs, each)
            _tell(each, each.worth.learn(lookup_s + hit_s, model_s))

    def _left_to_us(self) -> Iterator[LoadedVersion]:
        for versions in self._shelf.models.values():
            for best in versions.all:
                for each in (best, *best.cheaper):
                    if each.release.cache is CachePolicy.AUTO and each.language is None:
                        yield each

    async def _lookup_s(self) -> float | None:
        """Return the CPU seconds of a look-up that finds, and of its way to the event loop and back."""
        if not await self._hot.keep_for_measuring(_KEY, _VALUE):
            return None
        loop = asyncio.get_running_loop()

        def hits() -> tuple[float, bool]:
            began_s, found = time.thread_time(), True
            for _ in range(HITS):
                looked = asyncio.run_coroutine_threadsafe(self._hot.look_up(_KEY), loop).result()
                found = found and looked is not None
            return time.thread_time() - began_s, found

        least_s = float("inf")
        for _ in range(ROUNDS):
            began_s = time.thread_time()
            beside_s, found = await asyncio.to_thread(hits)
            if not found:
                return None
            least_s = min(least_s, (time.thread_time() - began_s + beside_s) / HITS)
        return least_s


def _costs(version: LoadedVersion) -> tuple[float, float]:
    """Return the CPU seconds of a key and of the model, for one row."""
    arrays, outputs = version.model.sample(), version.model.signature.output_names
    key_s = _least_s(partial(cache_key, version.release.graph.digest, arrays, outputs))
    model_s = version.speed.first_row_s
    return key_s, model_s if model_s > SLOWEST_S else _least_s(partial(version.model.run, arrays, outputs))


def _least_s(work: Callable[[], object]) -> float:
    """Return the least CPU seconds that something takes this thread, of several times."""
    times = []
    for _ in range(HITS):
        began_s = time.thread_time()
        work()
        times.append(time.thread_time() - began_s)
    return min(times)


def _tell(version: LoadedVersion, turned: bool) -> None:
    release, worth = version.release, version.worth
    metrics.HIT_COST.labels(release.model, release.variant).set(worth.hit_s)
    metrics.MODEL_COST.labels(release.model, release.variant).set(worth.model_s)
    metrics.PAYS.labels(release.model, release.variant).set(worth.pays)
    if turned:
        kept = "are kept in Redis" if worth.pays else "are not kept"
        logger.info("%s: hot predictions %s: %s", release, kept, worth)
