"""A worker: takes a command, runs it in a child process however long that takes, and reports one fact.

The lease is the partition, the progress is the checkpoint, the queue is the topic: the worker pauses its partitions and
keeps polling while the child works. The fact and the command's offset are written in one transaction, so each command
ends in exactly one fact: `run.failed` with the reason when it cannot be carried out, its result is none, or its worker
dies of it again and again. Losing the partition for good, or stopping, closes the child's standard input: it ends, and
whoever gets the command next starts a new attempt, which finds the checkpoints of the earlier ones.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from google.protobuf.message import Message
from headrace.events.v1 import evaluation_pb2, run_pb2
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from prometheus_client import Counter

from headrace_runtime.errors import Corrupt, Unavailable, Unprocessable
from headrace_runtime.kafka.consumers import GroupConsumer
from headrace_runtime.kafka.envelopes import LARGEST_BYTES, decode, encode, fits
from headrace_runtime.kafka.events import EventProducer
from headrace_runtime.kafka.markers import Markers
from headrace_runtime.kafka.producers import MembershipLost, TransactionalProducer
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.poison.trials import is_transient, reason_of
from headrace_runtime.process.service import Background
from headrace_runtime.records import Outgoing, Record, next_offsets
from headrace_runtime.runs.child import REFUSED, Progress
from headrace_runtime.runs.child_process import Child, ChildProcess, Standby
from headrace_runtime.runs.folder import ASSIGNMENT, RunFolder, output_prefix
from headrace_runtime.runs.lease import Interrupted, Lease, Moved
from headrace_runtime.settings import WorkerSettings
from headrace_runtime.telemetry import names
from headrace_runtime.telemetry.hold import child_environment
from headrace_runtime.telemetry.traces import extract, process_attributes, tracer
from headrace_runtime.topics import topic_of

logger = logging.getLogger(__name__)

IDLE_POLL_TIMEOUT_S = 5.0
"""Longest wait for a command (seconds). A command ends it, and so does a stop."""
LONGEST_REASON = 2_000
"""Characters of a reason that a fact holds, at most."""

COMMANDS_PASSED_OVER = Counter(
    "headrace_commands_passed_over", "Commands that could not be read at all, and so ended in no fact.", ["topic"]
)

C = TypeVar("C", run_pb2.TrainingRequested, run_pb2.CompressionRequested, evaluation_pb2.EvaluationRequested)


Command: TypeAlias = run_pb2.TrainingRequested | run_pb2.CompressionRequested | evaluation_pb2.EvaluationRequested
"""What a worker is told to do."""


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
    elsewhere: Callable[[Path], Child | None] = lambda _assignment: None
    """Returns who does the assignment in a file where that is no process of this machine; None where it is."""
    takes: Callable[[C], bool] = lambda _: True
    """Tells whether a command is this worker's; one of another group's is passed over."""


class RunWorker(Background):
    """Executes the commands of one topic, or of several, one at a time."""

    def __init__(
        self, name: str, job: Job[Any], settings: WorkerSettings, events: EventProducer, *more: Job[Any]
    ) -> None:
        """`more` are jobs whose child is that of the first: one that waits does whichever comes next."""
        super().__init__(name)
        self._jobs: dict[str, Job[Any]] = {topic_of(each.command).name: each for each in (job, *more)}
        self._job = job
        """That of the command in hand."""
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
            topics=list(self._jobs),
            instance=self._settings.instance,
            max_records=1,
        )
        markers = Markers(consumer)
        with closing(producer), closing(consumer), closing(self._standby):
            self.wake = consumer.wake
            while not self.stopping.is_set():
                records = consumer.poll(IDLE_POLL_TIMEOUT_S, self.stopping.is_set)
                for record in records:
                    if self._process(record, consumer, producer):
                        markers.committed(next_offsets([record]))
                if not records:
                    _pass(markers, consumer, producer)
                # One of several jobs may follow another at once: its child must not wait for an idle moment.
                is_time = not records or len(self._jobs) > 1
                if is_time and self._settings.standby and consumer.assignment():
                    self._standby.prepare()

    def _start_child(self, assignment: Path | None) -> ChildProcess:
        environment = child_environment(self._settings.hold_dir, self.name)
        return ChildProcess(self._job.module, assignment, self.name, environment)

    def _process(self, record: Record, consumer: GroupConsumer, producer: TransactionalProducer) -> bool:
        """Return whether the command ended and its offset is committed."""
        lease = Lease(record, consumer)
        self._job = self._jobs[record.topic]
        with tracer.start_as_current_span(
            f"{names.SPAN_PROCESS} {record.topic}",
            context=extract(record.headers),
            kind=SpanKind.CONSUMER,
            attributes=process_attributes(record.topic, consumer.group, 1),
        ):
            try:
                facts, run_id = self._execute(record, consumer, lease)
                with tracer.start_as_current_span(names.SPAN_TRANSACTION), producer.transaction() as transaction:
                    transaction.send(facts)
                    transaction.commit_offsets(next_offsets([record]), consumer.membership())
            except (Interrupted, MembershipLost) as reason:
                logger.warning("%s: %s is left for another attempt: %s", self.name, record.coordinates, reason)
                if not isinstance(reason, Moved):
                    consumer.rewind([record])
                return False
        lease.committed()
        self._clear(run_id)
        return True

    def _clear(self, run_id: str) -> None:
        """Remove what an ended run needs no more. What is left by who dies before that is collected later."""
        try:
            RunFolder(self._store, run_id).clear()
        except Unprocessable:
            return  # No run has such an id, or nobody can remove what lies there.
        except Unavailable as error:
            logger.warning("%s: checkpoints of %s are left: %s", self.name, run_id, error)

    def _execute(self, record: Record, consumer: GroupConsumer, lease: Lease) -> tuple[list[Outgoing], str]:
        """Return the fact that ends a run, and the run's id; nothing when the command cannot be read."""
        try:
            command = decode(record, self._job.command)
        except Unprocessable as error:
            logger.error("%s: passed over: %s", self.name, error)  # noqa: TRY400 - the place is in the message
            COMMANDS_PASSED_OVER.labels(record.topic).inc()
            return [], ""
        if not self._job.takes(command):
            logger.debug("%s: run %s is for workers of another kind", self.name, command.run_id)
            return [], ""
        with _paused(consumer):
            try:
                return [self._finish(command, lease)], command.run_id
            except Unprocessable as end:
                logger.warning("%s: run %.80r failed: %s", self.name, command.run_id, end)
                failed = run_pb2.RunFailed(
                    run_id=command.run_id,
                    pipeline=command.pipeline,
                    kind=self._job.kind,
                    reason=str(end)[:LONGEST_REASON],
                    attempt=end.attempt if isinstance(end, _GivenUp) else 0,
                )
        return [encode(failed, source=self.name)], command.run_id

    def _finish(self, command: Command, lease: Lease) -> Outgoing:
        """Return the fact that ends the run: of an earlier attempt, or of as many new ones as it takes.

        Raises Unprocessable when there is no such fact, and none to be had.
        """
        with _blamed_on_the_command():
            folder = RunFolder(self._store, command.run_id)
        trace.get_current_span().set_attributes({names.RUN_ID: command.run_id, names.PIPELINE: command.pipeline})
        unusable = ""
        while True:
            try:
                if (fact := self._fact(command, folder)) is not None:
                    return fact
            except Corrupt as error:
                logger.warning("%s: a result is discarded, and the run is done again: %s", self.name, error)
                unusable = f": {error}"
            past = folder.past(lease.command)
            # Attempts that were interrupted are nobody's fault: they count as attempts, and not as failures.
            if past.failures >= self._settings.max_failures:
                raise _GivenUp(past.reason, past.latest)
            if past.deaths >= self._settings.max_deaths:
                raise _GivenUp(
                    f"{past.deaths} attempts came to no end and no newer checkpoint: their worker died with them, out "
                    f"of memory or stopped without notice, or they left no result{unusable}",
                    past.latest,
                )
            self._attempt(command, folder, past.latest + 1, lease)

    def _fact(self, command: Command, folder: RunFolder) -> Outgoing | None:
        """Return the fact that the run's result makes, None without a result.

        Raises Corrupt when it makes none, and _GivenUp when it makes one that Kafka does not take.
        """
        result = folder.result()
        if result is None:
            return None
        try:
            fact = encode(self._job.fact(command, result), source=self.name)
        except Exception as error:
            raise Corrupt(f"the result of {command.run_id} makes no fact: {reason_of(error)}") from error
        if fact.value is not None and not fits(fact.value):
            raise _GivenUp(
                f"the result makes an event of {len(fact.value)} bytes, and Kafka takes {LARGEST_BYTES} after "
                "compression: have labels of fewer classes or shorter texts"
            )
        return fact

    def _attempt(self, command: Command, folder: RunFolder, attempt: int, lease: Lease) -> None:
        """Run one child to its end. Raises Interrupted, and _GivenUp when no further attempt can succeed."""
        run_id = command.run_id
        attributes: dict[str, str | int] = {names.RUN_ID: run_id, names.RUN_ATTEMPT: attempt}
        with tracer.start_as_current_span(names.SPAN_RUN, attributes=attributes) as span:
            with _blamed_on_the_command(attempt):
                path = self._write_assignment(command, folder, attempt, lease)
            child = self._job.elsewhere(path) or self._standby.take(path)
            try:
                self._follow(child, command, attempt, lease)
            except BaseException:
                # Whatever ends it here, it is not the run's fault.
                _note_interruption(folder, attempt)
                raise
            finally:
                self._standby.give_back(child)
                shutil.rmtree(path.parent.parent, ignore_errors=True)
            if child.code == 0:
                return
            span.set_status(trace.StatusCode.ERROR, child.reason)
            logger.warning(
                "%s: attempt %s of %s failed with %s: %s", self.name, attempt, run_id, child.code, child.reason
            )
            folder.end(attempt, "failed", child.reason)
            if child.code == REFUSED:
                raise _GivenUp(child.reason, attempt)

    def _follow(self, child: Child, command: Command, attempt: int, lease: Lease) -> None:
        """Report a child's steps until it has ended and the lease is ours. Raises Interrupted."""
        try:
            while not (self._keep(lease) and child.ended):
                for line in child.lines():
                    self._report(command, attempt, line)
        finally:
            child.stop()
        for line in child.lines():
            self._report(command, attempt, line)

    def _keep(self, lease: Lease) -> bool:
        if self.stopping.is_set():
            raise Interrupted("the worker stops")
        return lease.keep()

    def _write_assignment(self, command: Command, folder: RunFolder, attempt: int, lease: Lease) -> Path:
        run_id = command.run_id
        assignment = {
            **self._job.assignment(command),
            "command": lease.command,
            "run_id": run_id,
            "attempt": attempt,
            "store_url": self._settings.store_url,
            "output": output_prefix(run_id, attempt),
        }
        data = json.dumps(assignment, sort_keys=True).encode()
        folder.begin(attempt, data)
        path = self._settings.work_dir / self._settings.instance / run_id / f"attempt-{attempt}" / ASSIGNMENT
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def _report(self, command: Command, attempt: int, progress: Progress) -> None:
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


class _GivenUp(Unprocessable):
    """The run ends in `run.failed`; the message is the reason, and `attempt` the one that failed last."""

    def __init__(self, reason: str, attempt: int = 0) -> None:
        super().__init__(reason)
        self.attempt = attempt


@contextmanager
def _blamed_on_the_command(attempt: int = 0) -> Iterator[None]:
    """Raise _GivenUp for every error but those of the store and the disk, which pass."""
    try:
        yield
    except Exception as error:
        if is_transient(error):
            raise
        reason = str(error) if isinstance(error, Unprocessable) else f"command: cannot be read: {reason_of(error)}"
        raise _GivenUp(reason, attempt) from error


def _note_interruption(folder: RunFolder, attempt: int) -> None:
    try:
        folder.end(attempt, "interrupted", "")
    except Unavailable as error:
        logger.warning("cannot note that attempt %s was interrupted: %s", attempt, error)


def _pass(markers: Markers, consumer: GroupConsumer, producer: TransactionalProducer) -> None:
    """Commit what was read past, with nothing in hand; a member that was fenced meanwhile leaves it to the next one."""
    if passed := markers.passed():
        try:
            with producer.transaction() as transaction:
                transaction.commit_offsets(passed, consumer.membership())
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
