"""What the trainer does with its command."""

from headrace.events.v1 import run_pb2
from headrace_runtime.run_worker import Job

from headrace_trainer.transport.converters import to_assignment, to_fact

TRAINING: Job[run_pb2.TrainingRequested] = Job(
    command=run_pb2.TrainingRequested,
    kind=run_pb2.RUN_KIND_TRAINING,
    module="headrace_trainer.child",
    assignment=to_assignment,
    fact=to_fact,
)
"""Training of one version in a child process: ends in ModelTrained or RunFailed."""
