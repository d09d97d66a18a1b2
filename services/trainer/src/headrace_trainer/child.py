"""The child process of one training run: assignment in, a version and a result in the object store out.

The protocol is headrace_runtime.runs.child's. Beside what every assignment has, this one holds ``spec`` (the pipeline's
canonical JSON), ``dataset`` (``{"dataset_id", "manifest"}``), ``checkpoint_s`` (seconds between checkpoints, 0 for one
after each epoch), ``packages`` (those that the spec may name a function of), and ``origin`` (``{"version_id",
"weights", "dataset"}``) where it begins from another version, and ``group`` (``{"pods", "processes"}``, these of each)
and ``pipeline`` where it runs in pods of its own; artifacts are ``{"uri", "digest", "size_bytes"}``.
A step is an epoch; the metrics are train_loss, validation_loss (nats, or variances of the label) and
validation_accuracy, or validation_rmse in the label's unit. The result has ``model``,
``version_id``, the artifacts ``manifest``, ``graph`` and ``weights``, ``beside`` (the digests of what lies beside a
large graph, which has ``beside_bytes`` then), ``metrics`` and ``epochs``.

Where the spec asks for several processes this one is torchrun's agent, which starts and watches them, and they train.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.child import Assignment, WorkRefused, run_child

if TYPE_CHECKING:
    from headrace_learning.training.ports import Progress

_IMPORTS = ("torch", "headrace_trainer.transport.assignments", "headrace_trainer.adapters.checkpoints")
"""What training imports, which takes seconds: a child that waits has done it."""


def work(assignment: Assignment, progress: Progress) -> dict[str, Any]:
    """Train the version that the assignment asks for, in as many processes as it asks for, and return the result."""
    # Imported late: the process holds its lease from its first moment.
    from headrace_data.errors import DataError
    from headrace_data.spec import parse_canonical
    from headrace_learning.training.compute import processes_of
    from headrace_runtime.process.cores import available_cores
    from headrace_runtime.settings import load_settings

    from headrace_trainer.settings import Settings

    settings = load_settings(Settings)
    try:
        compute = parse_canonical(assignment["spec"].encode()).train.compute
    except DataError as error:
        raise WorkRefused(str(error)) from error
    if group := assignment.get("group"):
        # The pods know their assignment by its digest, and need no secret.
        nodes, processes, secret = group["pods"], group["processes"], ""
    else:
        asked = 1 if compute is None else compute.processes
        nodes = settings.nodes if asked >= settings.nodes else 1
        processes, secret = min(processes_of(compute, available_cores()), asked // nodes), settings.meeting_secret
    if processes * nodes == 1:
        return alone(assignment, progress)
    return _together(assignment, processes, progress, (nodes, settings.meeting_place, secret) if nodes > 1 else None)


def _together(
    assignment: Assignment, processes: int, progress: Progress, over: tuple[int, tuple[str, int], str] | None = None
) -> dict[str, Any]:
    """Train in so many processes on each machine, over several: how many, where they meet, and their secret."""
    from headrace_runtime.process.usage import Usage
    from headrace_runtime.telemetry.hold import hand_down

    from headrace_trainer.adapters.agent import Machines, run_group

    machines = Machines() if over is None else Machines(*over)
    began = Usage.now()
    hand_down()
    result = run_group(assignment, processes, lambda line: progress.progress(**line), machines)
    # What the group took is known where all of it has ended; each process holds a GPU for as long.
    used = {**Usage.now().since(began)._asdict(), "gpu_s": machines.nodes * processes * result["gpu_s"]}
    return {**result, **used}


def alone(assignment: Assignment, progress: Progress) -> dict[str, Any]:
    """Train in this process: the only one, or the one that leads a group."""
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
