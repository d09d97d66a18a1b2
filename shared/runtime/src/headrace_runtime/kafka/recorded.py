"""Events that somebody waits for: they are told once the broker has them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from google.protobuf.message import Message
from kafka import KafkaProducer
from kafka import errors as kafka_errors

from headrace_runtime.errors import Unavailable
from headrace_runtime.kafka.envelopes import encode
from headrace_runtime.kafka.producers import recording_producer, send
from headrace_runtime.settings import KafkaSettings

logger = logging.getLogger(__name__)

ANSWER_S = 10.0
"""How long the broker has to acknowledge an event, in seconds."""


class RecordedEvents:
    """Publishes events, each in its own message, to all in-sync replicas. For use in one event loop.

    The producer is opened with the first event: most processes have none of these.
    """

    def __init__(self, settings: KafkaSettings, source: str) -> None:
        self._settings, self._source = settings, source
        self._producer: KafkaProducer | None = None
        # Some of the client's calls wait: for metadata, or for room.
        self._writing = ThreadPoolExecutor(1, thread_name_prefix=f"{source} recorded events")

    async def publish(self, make: Callable[[], Message]) -> None:
        """Return once the broker has what `make` returns, which is called in another thread.

        Raises Unavailable when it does not say so within `ANSWER_S` seconds; the event may be there all the same.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def tell(error: BaseException | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(Unavailable(f"the answer could not be recorded: {error!r}"))

        def told(error: BaseException | None) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(tell, error)

        def write() -> None:
            try:
                sent = send(self._open(), encode(make(), source=self._source))
            except Exception as error:
                told(error)
            else:
                sent.add_callback(lambda _: told(None))
                sent.add_errback(told)

        self._writing.submit(write)
        try:
            await asyncio.wait_for(done, ANSWER_S)
        except TimeoutError as error:
            raise Unavailable(f"the answer could not be recorded: Kafka did not answer in {ANSWER_S:g} s") from error

    def _open(self) -> KafkaProducer:
        if self._producer is None:
            self._producer = recording_producer(self._settings, f"{self._source}.recorded", ANSWER_S)
        return self._producer

    def close(self) -> None:
        """Close the connections."""
        self._writing.shutdown()
        if self._producer is not None:
            with suppress(kafka_errors.KafkaError):
                self._producer.close(timeout=10)
