"""Stands for a native decoder with a fault: with this folder on PYTHONPATH, a process dies of certain records."""

import os
import signal
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from headrace_data import cleaning, records

KILLS, FAILS = 666_666, 777_777
"""Keys of rows that kill, or raise, where rows are cleaned."""

_check, _clean_all = records.RecordChecker.check, cleaning.clean_all


def check(self: records.RecordChecker, values: Sequence[bytes | None], *places: Any) -> records.Checked:
    if any(b"KILLS" in (value or b"") for value in values):
        os.kill(os.getpid(), signal.SIGKILL)
    if any(b"FAILS" in (value or b"") for value in values):
        raise RuntimeError("a bug that this record meets")
    return _check(self, values, *places)


def clean_all(batches: Sequence[pa.RecordBatch], *rest: Any) -> list[cleaning.Cleaned]:
    keys = {key for batch in batches if "key" in batch.schema.names for key in batch.column("key").to_pylist()}
    if KILLS in keys:
        os.kill(os.getpid(), signal.SIGKILL)
    if FAILS in keys:
        raise RuntimeError("a bug that this row meets")
    return _clean_all(batches, *rest)


records.RecordChecker.check = check  # type: ignore[method-assign, assignment]
cleaning.clean_all = clean_all  # type: ignore[assignment]
