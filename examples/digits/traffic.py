"""Callers that never pause: they take images and labels from the stream, ask the served model, and keep count."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from headrace_client import InferenceClient
from headrace_client.errors import HeadraceClientError
from headrace_data.spec import Pipeline
from headrace_data.split import assign_splits
from kafka import KafkaConsumer, TopicPartition

TEST = 2
"""Number of the test split: only images that no version learned from are asked about."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call as its caller saw it."""

    moment_s: float
    """When it was answered, on the monotonic clock."""
    latency_ms: float
    right: bool = False
    cached: bool = False
    version: str = ""
    failure: str = ""


@dataclass
class Stream:
    """The newest record of each image of the test split, as the producers' topic tells."""

    pipeline: Pipeline
    bootstrap_servers: str
    rows: dict[str, tuple[Any, int]] = field(default_factory=dict)
    """Pixels and digit by image."""

    def follow(self, stopping: threading.Event) -> None:
        """Read the topic from its beginning until told to stop."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap_servers, isolation_level="read_committed")
        topic = self.pipeline.stream.topic
        consumer.assign([TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)])
        consumer.seek_to_beginning()
        while not stopping.is_set():
            for records in consumer.poll(100).values():
                for record in records:
                    self.take(record.value)
        consumer.close(autocommit=False)

    def take(self, value: bytes) -> None:
        """Keep a record of the test split; what is broken is left to Headrace."""
        try:
            row = json.loads(value)
            pixels = np.asarray(row["pixels"], np.float32).reshape(1, 8, 8)
            if pixels.max() <= 16 and self._is_test(row["image"]):
                self.rows[row["image"]] = (pixels, row["digit"])
        except (ValueError, KeyError):
            return

    def _is_test(self, image: str) -> bool:
        return bool(assign_splits(pa.array([image]), self.pipeline.prepare.split)[0] == TEST)


class Traffic:
    """Callers in closed loops, one thread each."""

    def __init__(self, stream: Stream, address: str, callers: int = 2) -> None:
        self.calls: list[Call] = []
        self.stopping = threading.Event()
        self._stream = stream
        self._address = address
        self._threads = [threading.Thread(target=stream.follow, args=(self.stopping,), daemon=True)]
        self._threads += [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(callers)]

    def start(self) -> None:
        """Start reading and calling."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every caller finish its call."""
        self.stopping.set()
        for thread in self._threads:
            thread.join()

    def first_answer_of(self, version: str) -> float | None:
        """Return when a version answered first, None when it has not."""
        return next((call.moment_s for call in self.calls if call.version == version), None)

    def versions(self) -> Counter[str]:
        """Return how many calls each version answered."""
        return Counter(call.version for call in self.calls if not call.failure)

    @property
    def failed(self) -> int:
        """Calls that got no answer."""
        return sum(bool(call.failure) for call in self.calls)

    def _run(self, number: int) -> None:
        with InferenceClient(self._address) as client:
            for turn in itertools.count(number):
                if self.stopping.is_set():
                    return
                rows = list(self._stream.rows.values())
                if rows:
                    self.calls.append(self._call(client, *rows[turn * 7 % len(rows)]))
                else:
                    self.stopping.wait(0.05)

    def _call(self, client: InferenceClient, pixels: Any, digit: int) -> Call:
        start = time.monotonic()
        try:
            result = client.infer(self._stream.pipeline.model, {"pixels": pixels})
        except HeadraceClientError as error:
            return Call(time.monotonic(), (time.monotonic() - start) * 1e3, failure=str(error))
        now = time.monotonic()
        right = bool(result.outputs["label"][0] == digit)
        return Call(now, (now - start) * 1e3, right, result.cached, result.version)
