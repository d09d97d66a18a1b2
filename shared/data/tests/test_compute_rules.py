"""`train.compute` beside networks that do and do not heed it."""

from __future__ import annotations

import pytest
from headrace_data.errors import SpecInvalid
from headrace_data.spec import load_pipeline

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: held}}
stream:
  topic: held
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, role: feature}}
    - {{name: y, type: string, role: label}}
prepare:
  freeze: {{afterRecords: 100}}
train:
  network: {{kind: imported, format: {format}, digest: "sha256:{digest}", sizeBytes: 9}}
  compute: {{threads: 2}}
"""


def test_a_file_that_is_trained_on_heeds_it_and_one_that_answers_as_it_came_does_not() -> None:
    digest = "0" * 64
    given = load_pipeline(DOCUMENT.format(format="keras", digest=digest)).train.compute
    assert given is not None
    assert given.threads == 2
    with pytest.raises(SpecInvalid) as refused:
        load_pipeline(DOCUMENT.format(format="onnx", digest=digest))
    (problem,) = refused.value.problems
    assert "train.compute: expected none for imported onnx, which do not heed it" in str(problem)
