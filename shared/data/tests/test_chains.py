"""Chains of variants: what order of steps makes sense, and what is told of one that does not."""

import pytest
from headrace_data.errors import SpecInvalid
from headrace_data.spec import load_pipeline

TEXT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: chained}
stream:
  topic: chained
  schema:
    - {name: id, type: string, role: id}
    - {name: x, type: float32, role: feature}
    - {name: y, type: int64, role: label}
train: {network: {kind: mlp}}
compress:
  variants: [{kind: chain, name: c, steps: [STEPS]}]
"""
STUDENT = "{kind: distilled, network: {kind: mlp}}"


@pytest.mark.parametrize(
    ("steps", "place", "told"),
    [
        ("{kind: int8-static}, {kind: low-rank}", 1, "low-rank before what rounds weights"),
        (f"{{kind: low-rank}}, {STUDENT}", 1, "distilled as the first step, or behind pruned"),
        (f"{STUDENT}, {{kind: pruned}}", 1, "pruned as the first step"),
        ("{kind: float16-weights}, {kind: int8-dynamic}", 0, "float16-weights as the last step"),
        ("{kind: int8-per-channel}, {kind: float16-weights}", 0, "int8-per-channel as the last step"),
    ],
)
def test_a_step_that_could_make_nothing_is_told(steps: str, place: int, told: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        load_pipeline(TEXT.replace("STEPS", steps))
    (found,) = [str(problem) for problem in caught.value.problems]
    assert f"compress.variants[0].steps[{place}]: expected {told}" in found


def test_each_step_may_leave_something_to_the_next() -> None:
    rounding = "{kind: weight-only-int4}, {kind: int8-static}, {kind: float16-weights}"
    load_pipeline(TEXT.replace("STEPS", f"{{kind: pruned}}, {STUDENT}, {{kind: low-rank}}, {rounding}"))
