"""The intake of a small pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from headrace_data.spec import load_pipeline
from headrace_ingestion.core.intake import Intake

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: meters}
stream:
  topic: meters
  format: json
  key: id
  schema:
    - {name: id, type: string, role: id}
    - {name: level, type: float32, role: feature, range: [0, 10]}
    - {name: state, type: int64, role: label}
prepare: {}
train:
  network: {kind: mlp, hidden: [4]}
  optimizer: {kind: adam, learningRate: 0.01}
  epochs: 1
  batchSize: 8
"""


@pytest.fixture(scope="session")
def new_intake() -> Callable[..., Intake]:
    """Make an intake of meters: an id, a level from 0 to 10 and a state; records of up to 1,000 bytes.

    `stream` is more of the stream's section, and `now_s` what the intake's clock shows.
    """

    def make(batch_bytes: int = 900_000, stream: str = "", now_s: float | None = None) -> Intake:
        told = stream if stream.startswith("format:") else f"format: json\n  {stream}"
        pipeline = load_pipeline(DOCUMENT.replace("  format: json\n", f"  {told}\n"))
        clock = time.time if now_s is None else lambda: now_s
        return Intake(pipeline, batch_bytes, 1_000, clock)

    return make
