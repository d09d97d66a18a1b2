"""What `train.compute` says, and what is refused beside which network."""

import pytest
from headrace_data.errors import SpecInvalid
from headrace_data.spec import load_pipeline

TEXT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: computed}
stream:
  topic: computed
  schema:
    - {name: id, type: string, role: id}
    - {name: x, type: float32, role: feature}
    - {name: y, type: int64, role: label}
train:
  network: NETWORK
COMPUTE
"""


def document(compute: str, network: str = "{kind: mlp}") -> str:
    return TEXT.replace("NETWORK", network).replace("COMPUTE", f"  compute: {compute}" if compute else "")


def test_what_is_left_out_is_no_part_of_the_digest() -> None:
    plain = load_pipeline(document("{device: cpu}"))
    assert plain.digest == load_pipeline(document("{device: cpu, compile: false, recompute: false}")).digest
    assert b"ompile" not in plain.canonical_json()
    assert plain.digest != load_pipeline(document("{device: cpu, compile: true}")).digest


@pytest.mark.parametrize(
    ("compute", "network", "expected"),
    [
        ("{precision: fp8}", "{kind: mlp}", "train.compute.precision: expected 'fp32', 'bf16' or 'fp16', got"),
        ("{recompute: true}", "{kind: mlp}", "train.compute.recompute: expected a network of kind encoder or python"),
        ("{compile: true}", "{kind: trees}", "train.compute: expected none for trees"),
    ],
)
def test_what_no_run_could_compute_with_is_refused(compute: str, network: str, expected: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        load_pipeline(document(compute, network))
    (problem,) = refused.value.problems
    assert expected in str(problem)
