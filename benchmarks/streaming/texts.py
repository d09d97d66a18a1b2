"""Texts of 500 letters, as preprocessing looks at them: personal data masked, near copies found. On one core each."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from headrace_data.near import NearRows
from headrace_data.personal import masked
from headrace_data.spec import NearDuplicates, Personal
from headrace_data.spec.texts import KINDS
from headrace_local.launcher import Platform

from benchmarks import figures

LETTERS = 500
AT_ONCE = 2_048
FEW, MANY = 10_000, 40_000
PRIVATE = ("a.b@example.org", "+44 20 7946 0958", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "10.1.2.3")
NEITHER = ("in 2024", "at 12:30:45", "for 1,234.50", "no. 123456")


def run(_platform: Platform, _folder: Path, rounds: int) -> figures.Measured:
    """Return the table: twice the rows have to take twice the time."""
    texts = _texts(MANY)
    works: dict[str, Callable[[pa.RecordBatch], object]] = {
        "all kinds masked, one text of ten with personal data": _mask,
        "near copies found, one row of ten is one": _compare,
    }
    rows = []
    raw = {}
    for name, work in works.items():
        few, many = ([_rows_per_cpu_s(work, texts.slice(0, count)) for _ in range(rounds)] for count in (FEW, MANY))
        raw[name] = {"few": few, "many": many}
        rows.append([name, figures.spread(few), figures.spread(many), figures.share(many, few)])
    head = [
        f"texts of {LETTERS} letters",
        f"per CPU second, {FEW:,} rows",
        f"per CPU second, {MANY:,} rows",
        "of those",
    ]
    return figures.Measured(figures.table(head, rows), raw)


def _rows_per_cpu_s(work: Callable[[pa.RecordBatch], object], texts: pa.RecordBatch) -> float:
    began = time.process_time()
    work(texts)
    return len(texts) / (time.process_time() - began)


def _mask(texts: pa.RecordBatch) -> None:
    policy = Personal.model_validate({"fields": ("text",), **dict.fromkeys(KINDS, "mask")})
    for start in range(0, len(texts), AT_ONCE):
        masked(texts.slice(start, AT_ONCE), policy)


def _compare(texts: pa.RecordBatch) -> None:
    rows = NearRows(NearDuplicates(fields=("text",)))
    for start in range(0, len(texts), AT_ONCE):
        some = texts.slice(start, AT_ONCE)
        rows.add(some, np.arange(len(some)) % 5 == 0)
    rows.left_out()


def _texts(count: int) -> pa.RecordBatch:
    dice = random.Random(1)
    words = ["".join(dice.choices("aeioubcdfglmnprstvz", k=dice.randint(2, 10))) for _ in range(5_000)]
    texts: list[str] = []
    for place in range(count):
        chosen = dice.choices(words, k=LETTERS // 7)
        if place % 10 == 1:
            chosen = texts[-1].split(" ")[:-1] + chosen[:1]  # the text before it, but for a word
        chosen[dice.randrange(len(chosen))] = dice.choice(PRIVATE if place % 10 == 2 else NEITHER)
        texts.append(" ".join(chosen))
    return pa.record_batch({"text": pa.array(texts)})
