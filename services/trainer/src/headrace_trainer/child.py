"""The child process of one training run: assignment in, a version and a result in the object store out.

The protocol is headrace_runtime.runs.child's. Beside what every assignment has, this one holds ``spec`` (the pipeline's
canonical JSON), ``dataset`` (``{"dataset_id", "manifest"}``), ``checkpoint_s`` (seconds between checkpoints, 0 for one
after each epoch), ``packages`` (those that the spec may name a function of), and ``origin`` (``{"version_id",
"weights", "dataset"}``) where it begins from another version; artifacts are ``{"uri", "digest", "size_bytes"}``.
A step is an epoch; the metrics are train_loss, validation_loss (nats, or variances of the label) and
validation_accuracy, or validation_rmse in the label's unit. The result has ``model``,
``version_id``, the artifacts ``manifest``, ``graph`` and ``weights``, ``metrics`` and ``epochs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.child import Assignment, run_child

if TYPE_CHECKING:
    from headrace_learning.training.ports import Progress

_IMPORTS = ("torch", "headrace_trainer.transport.assignments", "headrace_trainer.adapters.checkpoints")
"""What training imports, which takes seconds: a child that waits has done it."""


def work(assignment: Assignment, progress: Progress) -> dict[str, Any]:
    """Train the version that the assignment asks for, and return the result."""
    # Imported late: the process holds its lease from its first moment.
    from headrace_trainer.adapters.artifacts import StoredArtifacts
    from headrace_trainer.adapters.checkpoints import StoredCheckpoints
    from headrace_trainer.adapters.curve import StoredCurve
    from headrace_trainer.adapters.trials import StoredTrials
    from headrace_trainer.transport.assignments import train

    store, output = ObjectStore(assignment["store_url"]), assignment["output"]
    checkpoints = StoredCheckpoints(store, assignment["run_id"], output, assignment["checkpoint_s"])
    trials = StoredTrials(progress, checkpoints.keep, store, assignment["run_id"], output)
    curve = StoredCurve(progress, store, output)
    return train(assignment, store, checkpoints, curve, StoredArtifacts(store), trials)


if __name__ == "__main__":
    raise SystemExit(run_child(work, imports=_IMPORTS))
