"""Generation: what its measures are by hand, what is guessed without a model, and what a document may say of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from headrace_data.errors import DatasetUnusable
from headrace_data.spec import SpecInvalid, load_pipeline
from headrace_data.tasks import TASKS
from headrace_data.tasks.generation import EXACT, NATS, TOKENS, Bytes, TextScores

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: answers}}
stream:
  topic: answers
  schema:
    - {{name: id, type: string, role: id}}
    {features}
    - {{name: answer, type: {label}, role: label}}
prepare: {{transform: {{{transform}}}}}
train: {{network: {{{network}}}, task: {task}{train}}}
compress: {{variants: [{variants}], gates: {{{gates}}}}}
"""
NETWORK = f"kind: causal-lm, digest: 'sha256:{'0' * 64}', sizeBytes: 10"


def document(**changes: str) -> str:
    given = {"features": "- {name: prompt, type: string, role: feature}", "label": "string", "network": NETWORK}
    given |= {"transform": "prompt: {encode: text}", "task": "generation", "train": "", "variants": "", "gates": ""}
    return DOCUMENT.format(**{**given, **changes})


def texts(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


def answered(nats: list[float], tokens: list[int], exact: list[float] | None = None) -> dict[str, np.ndarray]:
    found = {NATS: np.array(nats), TOKENS: np.array(tokens)}
    return found if exact is None else found | {EXACT: np.array(exact)}


def test_measures_by_hand() -> None:
    scores = TextScores()
    scores.add(answered([2.0, 1.0], [4, 2], [1.0, math.nan]), texts("four", "ü"))
    scores.add(answered([3.0], [4], [0.0]), texts("five"))
    found = scores.quality()
    assert found["nats_per_token"] == pytest.approx(0.6)
    assert found["perplexity"] == pytest.approx(math.exp(0.6))
    assert found["bits_per_byte"] == pytest.approx(6.0 / math.log(2) / 10)
    assert found["exact_answers"] == 0.5
    assert set(found) <= set(TASKS["generation"].measures)


def test_what_was_not_tried_is_not_told() -> None:
    scores = TextScores()
    scores.add(answered([1.0], [1]), texts("a"))
    assert "exact_answers" not in scores.quality()
    assert TextScores().quality() == {}


def test_a_byte_is_guessed_by_the_one_before() -> None:
    labels = Bytes()
    labels.add(texts("abababab", "abab"))
    known, strange = (_guessed(labels, text) for text in ("abab", "zzzz"))
    assert known < 1.5 < 8 < strange


def test_the_guess_is_a_distribution() -> None:
    labels = Bytes()
    labels.add(texts("the quick brown fox"))
    bits = labels.baseline()._bits  # type: ignore[attr-defined]
    assert np.exp2(-bits).sum(axis=1) == pytest.approx(np.ones(257))


def _guessed(labels: Bytes, *values: str) -> float:
    guessed = labels.baseline()
    guessed.add(texts(*values))
    return guessed.metrics()["baseline_bits_per_byte"]


def test_no_text_is_no_baseline() -> None:
    with pytest.raises(DatasetUnusable, match="expected answers"):
        Bytes().baseline()


def test_versions_are_judged_by_bits_per_byte() -> None:
    task = TASKS["generation"]
    metrics = {"bits_per_byte": 3.0, "perplexity": 2.0, "baseline_bits_per_byte": 2.5}
    assert "bits_per_byte 3.0000" in task.why_useless(metrics, task.headline, balanced=False)
    assert not task.why_useless({**metrics, "bits_per_byte": 1.0}, task.headline, balanced=False)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"variants": "{kind: gguf-q8}, {kind: gguf-q4}", "gates": "perplexityRise: 0.2, greedyAgreement: 0.5"},
        {"features": "", "transform": ""},
        {"network": "kind: new-causal-lm, layers: 2, width: 64, heads: 2"},
        {"gates": "measure: bits_per_byte, limits: {perplexity: 20}"},
    ],
)
def test_documents_of_generation(changes: dict[str, str]) -> None:
    pipeline = load_pipeline(document(**changes))
    assert pipeline.task == "generation"


@pytest.mark.parametrize(
    ("changes", "place", "told"),
    [
        ({"label": "int32"}, "train.task", "generation"),
        ({"network": "kind: mlp"}, "train.network.kind", "expected generation of a network that learns it, got mlp"),
        ({"task": "classification"}, "train.network.kind", "got causal-lm, which learns generation"),
        (
            {"variants": "{kind: int8-dynamic}"},
            "compress.variants[0].kind",
            "lora-adapter for a generation",
        ),
        ({"network": "kind: new-causal-lm, width: 96, heads: 5"}, "train.network.heads", "share width 96 in equal"),
        ({"network": "kind: new-causal-lm, width: 50"}, "train.network.width", "32"),
        ({"gates": "agreement: 0.9"}, "compress.gates.agreement", "expected gates of a generation (perplexityRise"),
        ({"gates": "accuracyDrop: 0.9"}, "compress.gates.accuracyDrop", "got one of a classification"),
        ({"gates": "membershipAuc: 0.6"}, "compress.gates.membershipAuc", "expected none for a generation"),
        ({"gates": "measure: accuracy"}, "compress.gates.measure", "measures of a generation"),
        (
            {"features": "- {name: x, type: float32, role: feature}", "transform": ""},
            "train.network.kind",
            "causal-lm expects one feature, or none",
        ),
        (
            {
                "features": "- {name: text_output, type: string, role: feature}",
                "transform": "text_output: {encode: text}",
            },
            "stream.schema[1].name",
            "belongs to the answers",
        ),
    ],
)
def test_what_does_not_go_with_generation(changes: dict[str, str], place: str, told: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        load_pipeline(document(**changes))
    assert any(place in str(each) and told in str(each) for each in caught.value.problems), caught.value


def test_other_tasks_have_none_of_its_gates_and_variants() -> None:
    changes = {"task": "classification", "network": "kind: mlp", "transform": "prompt: {encode: onehot}"}
    for given, place in (
        ({"gates": "perplexityRise: 0.1"}, "perplexityRise"),
        ({"variants": "{kind: gguf-q4}"}, "variants"),
    ):
        with pytest.raises(SpecInvalid, match=place):
            load_pipeline(document(**changes, **given))
