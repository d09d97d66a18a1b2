"""Raw rows to clean ones in polars, all of them in memory at once: ranges, missing values, the first row of each key.

Runs in the environment `streams` of benchmarks/peers. Started as `python -m benchmarks.streaming.bare_cleaning FOLDER
SHAPE`; nothing is read, written or serialised while it is measured. Prints its figures as JSON.
"""

import json
import sys
import time
from pathlib import Path

import polars as pl

from benchmarks.streaming.shapes import SHAPES, Field


def main(folder: str, shape: str) -> None:
    """Clean what lies in the folder."""
    raw = pl.read_ipc(Path(folder) / "raw.arrow").rechunk()
    conditions = [condition for field in SHAPES[shape].fields for condition in _conditions(field)]
    started = time.process_time()
    clean = raw.filter(*conditions).unique(subset=["_partition", "id"], keep="first", maintain_order=True)
    cpu_s = time.process_time() - started
    print(json.dumps({"rows": len(raw), "kept": len(clean), "cpu_s": cpu_s}))


def _conditions(field: Field) -> list[pl.Expr]:
    column = pl.col(field.name)
    if field.type == "string":
        return [column.is_not_null()]
    if field.size:
        return [column.arr.min() >= field.low, column.arr.max() <= field.high]
    return [column.is_between(field.low, field.high)]


if __name__ == "__main__":
    main(*sys.argv[1:])
