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
    assert (
        plain.digest
        == load_pipeline(
            document("{device: cpu, compile: false, recompute: false, processes: 1, strategy: ddp}")
        ).digest
    )
    assert not any(key in plain.canonical_json() for key in (b"ompile", b"processes", b"strategy"))
    assert plain.digest != load_pipeline(document("{device: cpu, compile: true}")).digest


@pytest.mark.parametrize(
    ("compute", "network", "expected"),
    [
        ("{precision: fp8}", "{kind: mlp}", "train.compute.precision: expected 'fp32', 'bf16' or 'fp16', got"),
        ("{recompute: true}", "{kind: mlp}", "train.compute.recompute: expected a network of kind encoder or python"),
        ("{compile: true}", "{kind: trees}", "train.compute: expected none for trees"),
        ("{processes: 0}", "{kind: mlp}", "train.compute.processes: expected"),
        ("{processes: 2}", "{kind: trees}", "train.compute: expected none for trees"),
        ("{strategy: fsdp}", "{kind: mlp}", "train.compute.strategy: fsdp expects processes of at least 2 beside it"),
        (
            "{processes: 2, strategy: tensor}",
            "{kind: factorization}",
            "strategy: tensor expects a network of kind mlp, encoder",
        ),
        ("{processes: 2, strategy: fsdp, compile: true}", "{kind: mlp}", "compile: expected strategy: ddp"),
        ("{processes: 2}", "{kind: mlp}\n  tune: {space: {epochs: [1, 2]}}", "processes: expected 1 beside train.tune"),
    ],
)
def test_what_no_run_could_compute_with_is_refused(compute: str, network: str, expected: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        load_pipeline(document(compute, network))
    (problem,) = refused.value.problems
    assert expected in str(problem)


@pytest.mark.parametrize(
    ("network", "what"),
    [
        ("{kind: residual}", "a network of kind residual"),
        ("{kind: imported}", "a network of kind imported"),
        ("{kind: mlp}\n  task: ranking", "task ranking"),
    ],
)
def test_what_needs_whole_batches_is_one_process_s(network: str, what: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        load_pipeline(document("{processes: 2}", network))
    problems = [str(problem) for problem in refused.value.problems]
    assert any(f"train.compute.processes: expected 1 for {what}" in each for each in problems)
