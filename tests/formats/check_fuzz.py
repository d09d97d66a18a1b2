"""A hundred thousand mutated messages for each format: each is a row or a rejection, whatever the bytes are."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import pytest
from headrace_data.records import RecordChecker
from headrace_data.spec import load_pipeline

sys.path.insert(0, str(Path(__file__).parents[2] / "shared" / "data" / "tests"))

from format_samples import DOCUMENT, ROWS, SAMPLES, mutated  # type: ignore[import-not-found]

MESSAGES = 100_000
CHUNK = 1_000


@pytest.mark.parametrize("kind", SAMPLES)
def test_mutated_messages(kind: str) -> None:
    sample, chance = SAMPLES[kind], random.Random(20261130)
    checker = RecordChecker(load_pipeline(DOCUMENT.format(format=sample.format)).stream, schemas=sample.schemas)
    good = [sample.write(row) for row in ROWS]
    rejected = accepted = 0
    started_s = time.perf_counter()
    for _ in range(MESSAGES // CHUNK):
        values = [mutated(chance.choice(good), chance) for _ in range(CHUNK)]
        checked = checker.check([*good, *values], [0] * (CHUNK + 3), range(CHUNK + 3))
        offsets = checked.batch.column("_offset").to_pylist()
        assert kind == "text" or offsets[:3] == [0, 1, 2], "what came before garbage is there"
        assert sorted([*offsets, *(each.position for each in checked.rejected)]) == list(range(CHUNK + 3))
        json.dumps([each.reason for each in checked.rejected])
        accepted += len(offsets) - (0 if kind == "text" else 3)
        rejected += len(checked.rejected)
    print(f"\n{kind}: {accepted} rows, {rejected} rejected, {time.perf_counter() - started_s:.0f} s")
    assert rejected > MESSAGES // 10
