"""Until when topics keep records: what the cluster says of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from headrace.events.v1.forget_pb2 import ForgettingTopic
from headrace_data.spec import Pipeline
from headrace_runtime.kafka import Admin
from headrace_runtime.record_topics import CLEAN, DEAD, RAW, SCORED
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import PREDICTION_SERVED, PUSH_ACCEPTED
from kafka.errors import KafkaError

_NAME = "preprocessing.retentions"
_OWN: Final = (
    (RAW, "its records"),
    (CLEAN, "its records"),
    (DEAD, "letters of its records that were rejected"),
)
_FOR_EVER: Final = "keeps records for ever: delete them there"


def retentions(
    settings: KafkaSettings, pipeline: Pipeline, written_s: float, specs: Sequence[Pipeline]
) -> Sequence[ForgettingTopic]:
    """Return where records of a pipeline lie that were written before a time (seconds since 1970), and until when.

    Topics forget whole files of the log, so a record may stay for as long as such a file is written to. `specs` are all
    that the pipeline ever was: what was kept under one of them stays as long as that one says.
    """
    with Admin(settings, _NAME) as admin:
        found = list(_told(admin, pipeline, written_s))
    return [*found, *hot(written_s, [*specs, pipeline])]


def hot(written_s: float, specs: Sequence[Pipeline]) -> Sequence[ForgettingTopic]:
    """Return until when answers of before a time may be hot, where any of these specs keeps them so.

    They lie under hashes of what was asked, and nobody can tell whose they are. They are left to end: who asks once
    more has them kept once more, so that there is nothing to gain by emptying the cache for all.
    """
    if not (kept := [spec.serve.cache_ttl for spec in specs if spec.serve.cache != "off"]):
        return ()
    answers = ForgettingTopic(topic="Redis", holds="answers, under hashes of what was asked, which name no key")
    _end(answers, written_s, round(max(kept) * 1_000))
    return (answers,)


def _told(admin: Admin, pipeline: Pipeline, written_s: float) -> Iterator[ForgettingTopic]:
    holds = {pipeline.stream.topic: "the producers' records"}
    if pipeline.stream.labels is not None:
        holds[pipeline.stream.of_labels.topic] = "labels of its records"
    holds |= {topic.name(pipeline.own_name): what for topic, what in _OWN}
    if pipeline.scored is not None:
        holds.setdefault(pipeline.scored, "records that the model answers")
        holds[SCORED.name(pipeline.own_name)] = "answers to records, under the keys of these"
    holds[PUSH_ACCEPTED.name] = "answers to pushes, which say why records were refused"
    holds[PREDICTION_SERVED.name] = "calls that were answered, with what was asked"
    there = admin.partition_counts(holds)
    for topic, what in holds.items():
        found = ForgettingTopic(topic=topic, holds=what)
        if not there[topic]:
            found.remark = "there is no such topic, or Describe is not granted"
        else:
            _tell(found, admin, written_s)
        yield found


def _tell(found: ForgettingTopic, admin: Admin, written_s: float) -> None:
    try:
        config = admin.topic_config(found.topic)
    except KafkaError as error:
        found.remark = f"its settings cannot be read: {type(error).__name__}"
        return
    if "retention.ms" not in config:
        # To whom it may not tell them, the broker tells none.
        found.remark = "its settings cannot be read: DescribeConfigs is not granted"
        return
    if "delete" not in config.get("cleanup.policy", "delete"):
        found.remark = "keeps the newest record of each key: send one without a value for the key"
        return
    kept_ms = _number(config, "retention.ms")
    if kept_ms < 0:
        found.remark = _FOR_EVER
        return
    _end(found, written_s, kept_ms + max(0, _number(config, "segment.ms")))


def _end(found: ForgettingTopic, written_s: float, kept_ms: int) -> None:
    try:
        until = timedelta(seconds=written_s, milliseconds=kept_ms)
        found.end_time.FromDatetime(datetime(1970, 1, 1, tzinfo=UTC) + until)
    except (OverflowError, ValueError):
        found.remark = _FOR_EVER


def _number(config: Mapping[str, str], name: str) -> int:
    value = config.get(name, "")
    return int(value) if value.lstrip("-").isdecimal() else -1
