"""The child process of one training run: assignment in, a version and a result in the object store out.

The protocol is headrace_runtime.runs.child's. Beside what every assignment has, this one holds ``spec`` (the pipeline's
canonical JSON), ``dataset`` (``{"dataset_id", "manifest"}``) and ``checkpoint_s`` (seconds between checkpoints, 0 for
one after each epoch); artifacts are ``{"uri", "digest", "size_bytes"}``.
A step is an epoch; the metrics are train_loss, validation_loss (nats, or variances of the label) and
validation_accuracy, or validation_rmse in the label's unit. The result has ``model``,
``version_id``, the artifacts ``manifest``, ``graph`` and ``weights``, ``metrics`` and ``epochs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace_runtime.runs.child import Assignment, run_child

if TYPE_CHECKING:
    from headrace_trainer.ports import Progress

_IMPORTS = ("torch", "headrace_trainer.transport.assignments")
"""What training imports, which takes seconds: a child that waits has done it."""


def work(assignment: Assignment, progress: Progress) -> dict[str, Any]:
    """Train the version that the assignment asks for, and return the result."""
    # Imported late: the process holds its lease from its first moment.
    from headrace_trainer.transport.assignments import train

    return train(assignment, progress)


if __name__ == "__main__":
    raise SystemExit(run_child(work, imports=_IMPORTS))
