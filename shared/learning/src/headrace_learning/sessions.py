"""The one way in which Headrace runs an ONNX graph to measure it: on the CPU, with one thread."""

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from headrace_learning.graphs import Array, Columns

_ERRORS_ONLY = 3


def cpu_session(graph: bytes) -> ort.InferenceSession:
    """Return a session for the graph: one thread, which runs in the caller and never spins while it waits.

    One thread beats two on small models, and a spinning pool would steal the core from whoever shares the machine, so
    that latencies measured beside other work would mean nothing.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.use_deterministic_compute = True
    options.log_severity_level = _ERRORS_ONLY
    return ort.InferenceSession(graph, sess_options=options, providers=["CPUExecutionProvider"])


def run_in_batches(
    session: ort.InferenceSession, columns: Columns, outputs: Sequence[str], batch_size: int = 256
) -> list[Array]:
    """Run every row of `columns` through the session and return the named outputs, each for all rows.

    Columns that the graph does not ask for are left out. Raise ValueError when it asks for one that is not there, or
    when there are no rows.
    """
    missing = [each.name for each in session.get_inputs() if each.name not in columns]
    if missing:
        raise ValueError(f"columns: the graph asks for {missing}, got {sorted(columns)}")
    feeds = {each.name: columns[each.name] for each in session.get_inputs()}
    rows = len(next(iter(feeds.values())))
    if rows == 0:
        raise ValueError("rows: expected at least one to run, got none")
    parts = [
        session.run(list(outputs), {name: column[start : start + batch_size] for name, column in feeds.items()})
        for start in range(0, rows, batch_size)
    ]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]
