"""The intake of a small pipeline."""

from __future__ import annotations

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
    """Make an intake of meters: an id, a level from 0 to 10 and a state; records of up to 1,000 bytes."""

    def make(batch_bytes: int = 900_000) -> Intake:
        return Intake(load_pipeline(DOCUMENT), batch_bytes, max_record_bytes=1_000)

    return make
