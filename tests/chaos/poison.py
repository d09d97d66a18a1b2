"""Commands that nobody can carry out, in between: each ends in one fact, and no worker ends of them."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing

from headrace.events.v1 import pipeline_pb2, run_pb2
from headrace_runtime.errors import Unprocessable
from headrace_runtime.kafka import LogReader, TransactionalProducer
from headrace_runtime.messages import Outgoing, decode, encode
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import RUN_FAILED, TRAINING_REQUESTED
from records import PIPELINE

FACTS_WAIT_S = 120.0
"""How long the facts of the last commands may take after everything else is done."""


def send(settings: KafkaSettings, number: int) -> None:
    """Write one command of each bad kind; `number` tells the calls apart."""
    ids = ["", "..", f"../../{number}", f"nul\0{number}", "x" * 300 + str(number), f"a/b-{number}"]
    commands = [run_pb2.TrainingRequested(run_id=run_id, pipeline=PIPELINE) for run_id in ids]
    no_text = pipeline_pb2.PipelineSpec(json=b'{"kind": "\xff"}')
    commands.append(run_pb2.TrainingRequested(run_id=f"train-{number}", pipeline=PIPELINE, spec=no_text))
    garbage = Outgoing(TRAINING_REQUESTED.name, f"{number}".encode(), b"\xff no command")
    with closing(TransactionalProducer(settings, "chaos.poison")) as producer, producer.transaction() as transaction:
        transaction.send([garbage, *(encode(command, source="chaos") for command in commands), garbage])


def audit(settings: KafkaSettings) -> tuple[int, list[str]]:
    """Return how many commands were asked for that name a run, and what is wrong with the facts that ended them."""
    asked = _runs(settings, TRAINING_REQUESTED.name, run_pb2.TrainingRequested)
    deadline_s = time.monotonic() + FACTS_WAIT_S
    while (failed := _runs(settings, RUN_FAILED.name, run_pb2.RunFailed)) != asked and time.monotonic() < deadline_s:
        time.sleep(1.0)
    wrong = [
        f"command of run {run_id[:20]!r}: asked for {asked[run_id]} times, ended in {failed[run_id]} facts"
        for run_id in sorted(asked | failed)
        if asked[run_id] != failed[run_id]
    ]
    return asked.total(), wrong


def _runs(
    settings: KafkaSettings, topic: str, kind: type[run_pb2.TrainingRequested] | type[run_pb2.RunFailed]
) -> Counter[str]:
    """Return how often each run is named in a topic; what cannot be read names none."""
    runs: Counter[str] = Counter()
    with LogReader(settings, "chaos") as reader:
        places = reader.partitions(topic)
        reader.start_at(dict.fromkeys(places))
        for records in reader.read_to(reader.ends(places)):
            for record in records:
                try:
                    runs[decode(record, kind).run_id] += 1
                except Unprocessable:
                    continue
    return runs
