"""Measures the answers of a pipeline's versions once their labels come, and tells of it.

It reads what was served from as long ago as a label may come, and labels from as long before: the two topics are all
the state that there is. Nothing is told before both are read as far as they were at the start, so that who begins anew
tells of no part. The instance that freezes does it, beside its cuts.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from headrace import open_inference as oip
from headrace.events.v1 import evaluation_pb2, prediction_pb2, quality_pb2
from headrace_data.formats import Schemas
from headrace_data.live_quality import LiveQuality, Measured
from headrace_data.records import RecordChecker, message_times
from headrace_data.spec import Pipeline
from headrace_runtime.errors import Unprocessable
from headrace_runtime.kafka import EventProducer, LogReader
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.process.service import Background
from headrace_runtime.records import Place, Record
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import PREDICTION_SERVED

logger = logging.getLogger(__name__)

TELL_EVERY_S = 1.0
"""How long figures wait to be told."""
REPEAT_S = 60.0
"""How often they are told again: whoever shows them may have begun anew."""
POLL_S = 0.5
AWAIT_S = 1.0
"""How often it is looked whether this instance freezes."""
_DTYPES = {
    "BOOL": np.dtype(np.bool_),
    **{f"{kind.upper()}{bits}": np.dtype(f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
}
_TYPED = {
    "BOOL": "bool_contents",
    **{f"INT{bits}": "int_contents" for bits in (8, 16, 32)},
    **{f"UINT{bits}": "uint_contents" for bits in (8, 16, 32)},
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class QualityWatch(Background):
    """Measures the answers of one pipeline."""

    def __init__(
        self,
        settings: KafkaSettings,
        pipeline: Pipeline,
        events: EventProducer,
        schemas: Callable[[], Schemas | None],
        freezes: Callable[[], bool],
    ) -> None:
        """`freezes` tells whether this instance freezes the pipeline's datasets."""
        super().__init__(f"quality.{pipeline.own_name}")
        self._settings, self._pipeline, self._events = settings, pipeline, events
        self._schemas, self._freezes = schemas, freezes

    def run(self) -> None:
        """Measure while this instance freezes, until stopped."""
        while not self.stopping.is_set():
            self.on_round()
            if self._freezes():
                self._measure()
            else:
                self.stopping.wait(AWAIT_S)

    def _measure(self) -> None:
        labels = self._pipeline.stream.of_labels
        quality, checker = LiveQuality(self._pipeline), RecordChecker(labels, schemas=self._schemas())
        with LogReader(self._settings, self.name) as reader:
            self.wake = reader.wake
            served, told = reader.partitions(PREDICTION_SERVED.name), reader.partitions(labels.topic)
            ends = self._begin(reader, served, told, quality.within_s)
            count, told_s, is_news = len(told), time.monotonic(), False
            while self._freezes() and not self.stopping.is_set() and len(reader.partitions(labels.topic)) == count:
                self.on_round()
                records = reader.poll(POLL_S, self.stopping.is_set)
                is_news |= self._take(records, quality, checker, labels.topic)
                if ends:
                    quality.look()  # nothing is told until all is read, which may be a lot
                quiet_s = time.monotonic() - told_s
                if quiet_s >= (TELL_EVERY_S if is_news else REPEAT_S) and reader.reached(ends):
                    self._tell(quality)
                    told_s, is_news, ends = time.monotonic(), False, {}

    @staticmethod
    def _begin(
        reader: LogReader, served: Sequence[Place], labels: Sequence[Place], within_s: float
    ) -> dict[Place, int]:
        """Go to where reading begins, and return as far as which both topics are there by now."""
        now_s = time.time()
        since = dict.fromkeys(served, round((now_s - within_s) * 1_000))
        since |= dict.fromkeys(labels, max(0, round((now_s - 2 * within_s) * 1_000)))
        found, ends = reader.offsets_at(since), reader.ends(since)
        reader.start_at({place: ends[place] if found[place] is None else found[place] for place in since})
        return ends

    def _take(self, records: Sequence[Record], quality: LiveQuality, checker: RecordChecker, topic: str) -> bool:
        """Take in messages, labels first: so a call whose label is known already is measured at once."""
        labels = [record for record in records if record.topic == topic and record.value is not None]
        if labels:
            quality.labelled(_labels(labels, checker), round(time.time() * 1_000_000))
        calls = [call for record in records if record.topic != topic for call in self._calls(record)]
        for call, record in calls:
            places = json.loads(call.places) if call.places else []
            answers = _answers(call.response) if call.response else {}
            time_us, tried = record.timestamp_ms * 1_000, call.release.tried_version_id
            quality.answered(call.version_id, places, time_us, call.keys, answers, call.rows, tried)
        return bool(labels or calls)

    def _calls(self, record: Record) -> list[tuple[prediction_pb2.PredictionServed, Record]]:
        try:
            served = decode(record, prediction_pb2.PredictionsServed).predictions
        except Unprocessable as error:
            logger.warning("passed over %s: %s", record.coordinates, error)
            return []
        return [(call, record) for call in served if call.model == self._pipeline.model]

    def _tell(self, quality: LiveQuality) -> None:
        for version, measured in quality.measured().items():
            self._events.publish(_message(self._pipeline, version, measured))
        for (version, tried), measured in quality.canaries.items():
            self._events.publish(_message(self._pipeline, version, measured, tried))


def _message(pipeline: Pipeline, version: str, measured: Measured, tried: str = "") -> quality_pb2.QualityMeasured:
    since = Timestamp()
    since.FromMicroseconds(measured.since_us)
    return quality_pb2.QualityMeasured(
        pipeline=pipeline.name,
        incarnation=pipeline.incarnation,
        model=pipeline.model,
        version_id=version,
        rows=measured.rows,
        metrics=measured.metrics,
        awaiting_labels=measured.awaiting,
        unlabelled=measured.unlabelled,
        unmeasured=measured.unmeasured,
        since_time=since,
        tried_version_id=tried,
        compared=evaluation_pb2.Bounded(**asdict(bounded)) if (bounded := measured.bounded) else None,
    )


def _labels(records: Sequence[Record], checker: RecordChecker) -> pa.RecordBatch:
    """Return the labels in some messages; those that are none are the freezer's to tell of."""
    return checker.check(
        [record.value for record in records],
        [record.partition for record in records],
        [record.offset for record in records],
        times=message_times([record.timestamp_ms for record in records]),
        now_s=time.time(),
        messages=records,
    ).batch


def _answers(response: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return the outputs of an answer by name; none of what is no answer."""
    try:
        answer = oip.ModelInferResponse.FromString(response)
        raws = list(answer.raw_output_contents)
        return {output.name: _array(output, raws[at] if raws else None) for at, output in enumerate(answer.outputs)}
    except (DecodeError, KeyError, IndexError, ValueError):
        return {}


def _array(output: Any, raw: bytes | None) -> npt.NDArray[Any]:
    """Return one output. Raises KeyError and ValueError when it is none."""
    shape, is_text = tuple(output.shape), output.datatype == "BYTES"
    if raw is None:
        values = list(getattr(output.contents, _TYPED[output.datatype]))
        texts = [value.decode() for value in values] if is_text else values
        return np.array(texts, object if is_text else _DTYPES[output.datatype]).reshape(shape)
    if not is_text:
        return np.frombuffer(raw, _DTYPES[output.datatype]).reshape(shape)
    found, at = list[str](), 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        found.append(raw[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return np.array(found, object).reshape(shape)
