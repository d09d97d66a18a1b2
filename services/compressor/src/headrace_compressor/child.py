"""The child process of one compression or evaluation: assignment in, variants and a result in the object store out.

The protocol is headrace_runtime.runs.child's. Beside what every assignment has, this one holds ``spec`` (the pipeline's
canonical JSON), ``cpu_class`` (what measurements are of), ``candidate`` and ``champion`` (null when nothing is served),
each ``{"version_id", "graph", "dataset": {"dataset_id", "manifest"}, "weights"}``, where weights are null when the
command does not name them; artifacts are ``{"uri", "digest", "size_bytes"}``, and ``beside_bytes`` of a graph with
weights beside it. The result has ``cpu_class``, ``variants``, ``not_applicable`` and ``evaluations``.

The assignment of an evaluation has ``segment`` beside ``spec``, ``{"segment_id", "manifest", "sketch"}``, the last of
which may be null, and one ``version``. Its result has ``task``, ``certainty``, ``before`` and ``now``, each ``{"rows",
"measures", "metrics"}``, ``inputs`` and ``answers``.

With ``canary``, ``{"history", "last_s"}``, both are held against each other on rows of the past, and nothing is made:
the result is what `transport.canaries` says.
"""

from typing import Any

from headrace_runtime.runs.child import Assignment, Reporter, run_child

_IMPORTS = ("headrace_compressor.transport.assignments", "headrace_compressor.transport.evaluations")
"""What measuring imports, which takes a while: a child that waits has done it."""


def work(assignment: Assignment, reporter: Reporter) -> dict[str, Any]:
    """Compress and measure the candidate, compare it with the champion, and return the result; or evaluate."""
    # Imported late: the process holds its lease from its first moment.
    if "segment" in assignment:
        from headrace_compressor.transport.evaluations import evaluate

        return evaluate(assignment, reporter)
    if "canary" in assignment:
        from headrace_compressor.transport.canaries import judge

        return judge(assignment)
    from headrace_compressor.transport.assignments import measure

    return measure(assignment, reporter)


if __name__ == "__main__":
    raise SystemExit(run_child(work, imports=_IMPORTS))
