"""Until when records and answers of before lie somewhere."""

from headrace_data.spec import load_pipeline
from headrace_preprocessing.adapters.retentions import hot

SPEC = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: calls}
stream:
  topic: calls
  schema:
    - {name: caller, type: string, role: id}
    - {name: minutes, type: float64, role: feature}
    - {name: kind, type: int64, role: label}
train: {network: {kind: mlp, hidden: [4]}}
"""


def test_answers_may_be_hot_as_long_as_any_spec_of_the_pipeline_said() -> None:
    serve = ("{cache: off}", "{cacheTtl: 2d}", "{cacheTtl: 5m}")
    off, days, minutes = (load_pipeline(f"{SPEC}serve: {each}\n") for each in serve)
    assert not hot(1_000.0, [off])
    (answers,) = hot(1_000.0, [off, days, minutes])
    assert answers.end_time.seconds == 1_000 + 2 * 86_400
