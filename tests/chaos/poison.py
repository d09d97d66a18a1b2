"""Messages that nobody can carry out or read, in between: each ends as it must, and no service ends of them."""

from __future__ import annotations

from collections import Counter
from contextlib import closing

import pyarrow as pa
from headrace.events.v1 import dataset_pb2, pipeline_pb2, record_pb2, run_pb2
from headrace_data.batches import to_ipc
from headrace_runtime.kafka import TransactionalProducer
from headrace_runtime.kafka.envelopes import encode
from headrace_runtime.poison.bisection import CRASH
from headrace_runtime.record_topics import clean_topic, dead_topic, raw_topic
from headrace_runtime.records import Outgoing
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import DATASET_REQUESTED, RUN_FAILED, TRAINING_REQUESTED
from reading import named, read, unequal, until
from records import PARTITIONS, PIPELINE, POISON_KEY


def send(settings: KafkaSettings, number: int) -> None:
    """Write commands, batches and requests of each bad kind; `number` tells the calls apart."""
    garbage = Outgoing(TRAINING_REQUESTED.name, f"{number}".encode(), b"\xff no command")
    commands = [garbage, *(encode(command, source="chaos") for command in _commands(number)), garbage]
    messages = [*commands, *_batches(number % PARTITIONS), *_requests(number)]
    with closing(TransactionalProducer(settings, "chaos.poison")) as producer, producer.transaction() as transaction:
        transaction.send(messages)


def _commands(number: int) -> list[run_pb2.TrainingRequested]:
    ids = ["", "..", f"../../{number}", f"nul\0{number}", "x" * 300 + str(number), f"a/b-{number}"]
    commands = [run_pb2.TrainingRequested(run_id=run_id, pipeline=PIPELINE) for run_id in ids]
    no_text = pipeline_pb2.PipelineSpec(json=b'{"kind": "\xff"}')
    return [*commands, run_pb2.TrainingRequested(run_id=f"train-{number}", pipeline=PIPELINE, spec=no_text)]


def _batches(partition: int) -> list[Outgoing]:
    """Return what holds no records of the pipeline, for its raw and for its clean topic."""
    foreign = to_ipc(pa.record_batch({"x": pa.array([1], pa.int64())}))
    first = record_pb2.SourceRange(partition=0, start=0, end=1)
    lies = [
        record_pb2.RecordBatch(),
        record_pb2.RecordBatch(pipeline=PIPELINE, arrow=b"rubbish", rows=7),
        record_pb2.RecordBatch(pipeline=PIPELINE, arrow=b"rubbish", rows=2**32 - 1),
        record_pb2.RecordBatch(pipeline=PIPELINE, arrow=foreign, rows=1),
        record_pb2.RecordBatch(pipeline="somebody", arrow=_rows(), rows=1, sources=[first]),
        record_pb2.RecordBatch(pipeline=PIPELINE, arrow=_rows(), rows=1),
    ]
    values = [b"\xff no batch", None, *(lie.SerializeToString() for lie in lies)]
    messages = [Outgoing(raw_topic(PIPELINE), POISON_KEY, value, partition=partition) for value in values]
    far = record_pb2.SourceRange(partition=0, start=10**12, end=10**12 + 1)
    values += [
        record_pb2.RecordBatch(pipeline=PIPELINE, arrow=b"rubbish", rows=1, sources=[where]).SerializeToString()
        for where in (first, far)
    ]
    return messages + [Outgoing(clean_topic(PIPELINE), POISON_KEY, value, partition=partition) for value in values]


def _rows() -> bytes:
    """Return a row as the pipeline's own are, from a place where nobody has written."""
    columns = {"id": pa.int64(), "value": pa.float32(), "digit": pa.int64()}
    lineage = {"_partition": pa.int32(), "_offset": pa.int64(), "_index": pa.int32()}
    schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in (columns | lineage).items()])
    return to_ipc(pa.record_batch([pa.array([0], field.type) for field in schema], schema=schema))


def _requests(number: int) -> list[Outgoing]:
    requests = [
        dataset_pb2.DatasetRequested(pipeline="nobody", request_id=f"nobody-{number}"),
        dataset_pb2.DatasetRequested(pipeline=PIPELINE, request_id=f"past-{number}", incarnation=7),
        *(
            dataset_pb2.DatasetRequested(pipeline=PIPELINE, request_id=request_id)
            for request_id in ("", "../..", f"nul\0{number}", "x" * 300 + str(number), f"twice-{number}")
        ),
        dataset_pb2.DatasetRequested(pipeline=PIPELINE, request_id=f"twice-{number}"),
    ]
    garbage = Outgoing(DATASET_REQUESTED.name, PIPELINE.encode(), b"\xff no request")
    return [garbage, *(encode(request, source="chaos") for request in requests), garbage]


def audit(settings: KafkaSettings, times: int) -> list[str]:
    """Return what is wrong with what became of the poison that was written so many times."""
    asked = Counter(command.run_id for number in range(times) for command in _commands(number))

    def ended() -> Counter[str]:
        # The registry asks for runs as well, once there is a dataset.
        return named(
            settings, RUN_FAILED.name, run_pb2.RunFailed, lambda fact: fact.run_id if fact.run_id in asked else None
        )

    return [*unequal("command of run", asked, until(ended, asked)), *_letters(settings)]


def _letters(settings: KafkaSettings) -> list[str]:
    """Compare the poison of the raw topic with the dead letters that it must have become, one of each message."""
    written = Counter(record.coordinates for record in read(settings, raw_topic(PIPELINE)) if record.key == POISON_KEY)
    letters = [record for record in read(settings, dead_topic(PIPELINE)) if record.key == POISON_KEY]
    found = Counter(
        f"{record.header('dead-topic')}:{record.header('dead-partition')}:{record.header('dead-offset')}"
        for record in letters
    )
    rules = {record.header("dead-rule") for record in letters} - {CRASH}
    return [*unequal("poison", written, found), *(f"poison: expected rule {CRASH}, found {rule}" for rule in rules)]
