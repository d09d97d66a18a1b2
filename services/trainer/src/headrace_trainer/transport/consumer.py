"""What the trainer does with its command."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from headrace.events.v1 import run_pb2
from headrace_runtime.runs.child_process import Child
from headrace_runtime.runs.worker import Job

from headrace_trainer.core.cost import Prices
from headrace_trainer.core.pods import Spread
from headrace_trainer.transport.converters import to_assignment, to_fact


def training(
    checkpoint_s: float,
    packages: Sequence[str] = (),
    prices: Prices | None = None,
    spread: Spread | None = None,
    elsewhere: Callable[[Path], Child | None] = lambda _: None,
) -> Job[run_pb2.TrainingRequested]:
    """Return the training of one version in a child process, which ends in ModelTrained or RunFailed.

    `checkpoint_s` are the seconds between checkpoints, 0 for one after each epoch; of `packages` a spec may name
    functions. `prices` say what a version cost. `spread` says which runs get pods of their own, and `elsewhere` makes
    these, of an assignment's file.
    """
    return Job(
        command=run_pb2.TrainingRequested,
        kind=run_pb2.RUN_KIND_TRAINING,
        module="headrace_trainer.child",
        assignment=partial(to_assignment, checkpoint_s=checkpoint_s, packages=packages, spread=spread),
        fact=partial(to_fact, prices=prices or Prices()),
        elsewhere=elsewhere,
    )
