"""A worker: takes a command, runs it in a child process however long that takes, and reports one fact.

The lease is the partition, the progress is the checkpoint, the queue is the topic: the worker pauses its partitions and
keeps polling while the child works. The fact and the command's offset are written in one transaction, so each command
ends in exactly one fact. Losing the partition, or stopping, closes the child's standard input: it ends, and whoever
gets the command next starts a new attempt, which finds the checkpoints of the earlier ones.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message
from headrace.events.v1 import run_pb2
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from headrace_runtime import telemetry_names as names
from headrace_runtime.child import REFUSED, Progress, output_prefix, result_name
from headrace_runtime.child_process import ChildProcess, Standby
from headrace_runtime.errors import Unprocessable
from headrace_runtime.hold import child_environment
from headrace_runtime.kafka.consumers import GroupConsumer
from headrace_runtime.kafka.events import EventProducer
from headrace_runtime.kafka.markers import Markers
from headrace_runtime.kafka.producers import MembershipLost, TransactionalProducer
from headrace_runtime.messages import Outgoing, Place, Record, decode, encode, next_offsets
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.service import Background
from headrace_runtime.settings import WorkerSettings
from headrace_runtime.telemetry import extract, process_attributes, tracer
from headrace_runtime.topics import topic_of

logger = logging.getLogger(__name__)

POLL_TIMEOUT_S = 0.1


C = TypeVar("C", run_pb2.TrainingRequested, run_pb2.CompressionRequested)


@dataclass(frozen=True, slots=True)
class Job(Generic[C]):
    """What a service knows of its command; the rest is the same for all workers."""

    command: type[C]
    kind: run_pb2.RunKind.ValueType
    module: str
    """The child: run as `python -m <module> <assignment file>`, or without a file when it waits for one."""
    assignment: Callable[[C], dict[str, Any]]
    """Returns what the child must know beside run id, attempt, store and output prefix."""
    fact: Callable[[C, dict[str, Any]], Message]
    """Returns the fact that ends the run, from the child's result."""


class Interrupted(Exception):
    """The run must end here and will go on elsewhere: the worker stops."""


class Moved(Interrupted):
    """The partition was taken away, perhaps for a moment only: what is committed there tells who goes on where."""


class RunWorker(Background, Generic[C]):
    """Executes the commands of one topic, one at a time."""

    def __init__(self, name: str, job: Job[C], settings: WorkerSettings, events: EventProducer) -> None:
        super().__init__(name)
        self._job: Job[C] = job
        self._settings = settings
        self._events = events
        self._store = ObjectStore(settings.store_url)
        self._standby = Standby(self._start_child)

    def run(self) -> None:
        """Work until stopped."""
        producer = TransactionalProducer(self._settings, f"{self.name}.{self._settings.instance}")
        consumer = GroupConsumer(
            self._settings,
            group=self.name,
            topics=[topic_of(self._job.command).name],
            instance=self._settings.instance,
            max_records=1,
        )
        markers = Markers(consumer)
        with closing(producer), closing(consumer), closing(self._standby):
            while not self.stopping.is_set():
                records = consumer.poll(POLL_TIMEOUT_S)
                for record in records:
                    if self._process(record, consumer, producer):
                        markers.committed(next_offsets([record]))
                if not records:
                    _pass(markers, consumer, producer)
                    if self._settings.standby and consumer.assignment():
                        self._standby.prepare()

    def _start_child(self, assignment: Path | None) -> ChildProcess:
        environment = child_environment(self._settings.hold_dir, self.name)
        return ChildProcess(self._job.module, assignment, self.name, environment)

    def _process(self, record: Record, consumer: GroupConsumer, producer: TransactionalProducer) -> bool:
        """Return whether the command ended and its offset is committed."""
        with tracer.start_as_current_span(
            f"{names.SPAN_PROCESS} {record.topic}",
            context=extract(record.headers),
            kind=SpanKind.CONSUMER,
            attributes=process_attributes(record.topic, consumer.group, 1),
        ):
            try:
                facts = self._execute(record, consumer)
                with tracer.start_as_current_span(names.SPAN_TRANSACTION), producer.transaction() as transaction:
                    transaction.send(facts)
                    transaction.commit_offsets(next_offsets([record]), consumer.group_metadata())
            except (Interrupted, MembershipLost) as reason:
                logger.warning("%s: %s is left for another attempt: %s", self.name, record.coordinates, reason)
                if not isinstance(reason, Moved):
                    consumer.rewind([record])
                return False
        return True

    def _execute(self, record: Record, consumer: GroupConsumer) -> list[Outgoing]:
        try:
            command = decode(record, self._job.command)
        except Unprocessable as error:
            logger.error("%s: passed over: %s", self.name, error)  # noqa: TRY400 - the place is in the message
            return []
        # From here on only: it came with the poll that brought the command.
        consumer.arrived()
        with _paused(consumer):
            fact = self._finish(command, _Lease(record.place, consumer))
        return [encode(fact, source=self.name)]

    def _finish(self, command: C, lease: _Lease) -> Message:
        """Return the fact that ends the run: of an earlier attempt, or of as many new ones as it takes."""
        run_id = command.run_id
        trace.get_current_span().set_attributes({names.RUN_ID: run_id, names.PIPELINE: command.pipeline})
        failures = 0
        while (result := self._store.read(result_name(run_id))) is None:
            attempt = self._next_attempt(run_id)
            failure = self._attempt(command, attempt, lease)
            # Attempts that were interrupted are nobody's fault: they count as attempts, and not as failures.
            failures += failure is not None
            if failure is not None and (failure.final or failures >= self._settings.max_failures):
                return run_pb2.RunFailed(
                    run_id=run_id,
                    pipeline=command.pipeline,
                    kind=self._job.kind,
                    reason=failure.reason,
                    attempt=attempt,
                )
        return self._job.fact(command, json.loads(result))

    def _next_attempt(self, run_id: str) -> int:
        """Return the number of a new attempt: one more than the highest that left anything in the store."""
        parts = (name.split("/") for name in self._store.list(f"runs/{run_id}"))
        numbers = [int(part[2].removeprefix("attempt-")) for part in parts if part[2].startswith("attempt-")]
        return max(numbers, default=0) + 1

    def _attempt(self, command: C, attempt: int, lease: _Lease) -> _Failure | None:
        """Run one child to its end. Returns None when it left a result. Raises Interrupted."""
        run_id = command.run_id
        attributes: dict[str, str | int] = {names.RUN_ID: run_id, names.RUN_ATTEMPT: attempt}
        with tracer.start_as_current_span(names.SPAN_RUN, attributes=attributes) as span:
            child = self._standby.take(self._write_assignment(command, attempt))
            try:
                while not child.ended:
                    self._keep(lease)
                    for line in child.lines():
                        self._report(command, attempt, line)
            finally:
                child.stop()
            for line in child.lines():
                self._report(command, attempt, line)
            if child.code == 0:
                return None
            failure = _Failure(child.reason, final=child.code == REFUSED)
            span.set_status(trace.StatusCode.ERROR, failure.reason)
            logger.warning(
                "%s: attempt %s of %s failed with %s: %s", self.name, attempt, run_id, child.code, failure.reason
            )
            return failure

    def _keep(self, lease: _Lease) -> None:
        if self.stopping.is_set():
            raise Interrupted("the worker stops")
        others = lease.consumer.poll(POLL_TIMEOUT_S)
        # A rebalance may have given partitions that are not paused yet: what came from them is read again afterwards.
        lease.consumer.pause()
        lease.consumer.rewind(others)
        if lease.place not in lease.consumer.assignment():
            raise Moved("the partition moved to another worker")
        if lease.place in lease.consumer.arrived():
            raise Moved("the partition was lost for a moment: another worker may have done this")

    def _write_assignment(self, command: C, attempt: int) -> Path:
        run_id = command.run_id
        assignment = {
            **self._job.assignment(command),
            "run_id": run_id,
            "attempt": attempt,
            "store_url": self._settings.store_url,
            "output": output_prefix(run_id, attempt),
        }
        data = json.dumps(assignment, sort_keys=True).encode()
        self._store.write(f"{output_prefix(run_id, attempt)}assignment.json", data)
        path = self._settings.work_dir / self._settings.instance / run_id / f"attempt-{attempt}" / "assignment.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def _report(self, command: C, attempt: int, progress: Progress) -> None:
        trace.get_current_span().add_event(names.EVENT_STEP, {names.STEP: progress.step, **progress.metrics})
        self._events.publish(
            run_pb2.RunProgressed(
                run_id=command.run_id,
                pipeline=command.pipeline,
                kind=self._job.kind,
                attempt=attempt,
                step=progress.step,
                steps=progress.steps,
                metrics=progress.metrics,
                eta_s=progress.eta_s,
            )
        )


@dataclass(frozen=True, slots=True)
class _Lease:
    """The command's partition, and the consumer that holds it."""

    place: Place
    consumer: GroupConsumer


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    final: bool


def _pass(markers: Markers, consumer: GroupConsumer, producer: TransactionalProducer) -> None:
    """Commit what was read past, with nothing in hand; a member that was fenced meanwhile leaves it to the next one."""
    if passed := markers.passed():
        try:
            with producer.transaction() as transaction:
                transaction.commit_offsets(passed, consumer.group_metadata())
        except MembershipLost as reason:
            logger.info("%s: markers are passed later: %s", consumer.group, reason)
            return
        markers.committed(passed)


@contextmanager
def _paused(consumer: GroupConsumer) -> Iterator[None]:
    consumer.pause()
    try:
        yield
    finally:
        consumer.resume()
