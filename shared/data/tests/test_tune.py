"""What a document may say of a search for good settings."""

from __future__ import annotations

import pytest
from headrace_data.spec import Between, SpecInvalid, load_pipeline, parse_canonical, with_values
from headrace_data.spec.tune import is_fractional

DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: claims}}
stream:
  topic: claims
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, role: feature}}
    - {{name: y, type: string, role: label}}
train: {{network: {{kind: {kind}}}{more}, tune: {tune}}}
"""


def document(tune: str, kind: str = "mlp", more: str = "") -> str:
    return DOCUMENT.format(kind=kind, tune=tune, more=more)


def test_a_search_comes_back_and_a_trial_is_a_section_without_it() -> None:
    said = "{trials: 3, budget: 1h, space: {optimizer.learningRate: {low: 0.001, high: 0.1, log: true}, "
    said += "network.hidden: [[64], [128, 64]], earlyStop.patience: [2, 3]}}"
    pipeline = load_pipeline(document(said))
    assert parse_canonical(pipeline.canonical_json()) == pipeline
    tune = pipeline.train.tune
    assert tune is not None
    assert (tune.trials, tune.budget, tune.pruner) == (3, 3600, "median")
    assert tune.space["network.hidden"] == ([64], [128, 64])
    values = {"optimizer.learningRate": 0.02, "network.hidden": [64], "earlyStop.patience": 3}
    chosen = with_values(pipeline.train, values)
    assert chosen.optimizer.learning_rate == 0.02
    assert chosen.network.plain()["hidden"] == [64]
    assert chosen.tune is None
    assert chosen.early_stop is not None
    assert chosen.early_stop.patience == 3
    by_hand = document("null", more=", optimizer: {learningRate: 0.02}, earlyStop: {patience: 3}")
    by_hand = by_hand.replace("{kind: mlp}", "{kind: mlp, hidden: [64]}")
    assert load_pipeline(by_hand).train == chosen
    assert "tune" not in load_pipeline(by_hand).train.plain()


@pytest.mark.parametrize(
    ("path", "low", "high", "expected"),
    [
        ("optimizer.learningRate", 1, 2, True),
        ("batchSize", 16, 128, False),
        ("network.dropout", 0, 0.5, True),
        ("epochs", 1, 2, False),
    ],
)
def test_bounds_that_are_whole_take_fractions_where_the_setting_does(
    path: str, low: float, high: float, expected: bool
) -> None:
    train = load_pipeline(document("null")).train
    assert is_fractional(train, path, Between(low=low, high=high)) == expected


@pytest.mark.parametrize(
    ("kind", "space", "expected"),
    [
        ("mlp", "optimizer.learnRate: [1, 2]", ".optimizer.learnRate: expected a setting under train, which it is not"),
        ("mlp", "network.rounds: [1, 2]", ".network.rounds: expected a setting under train, which it is not beside"),
        ("mlp", "network.kind: [mlp, cnn]", ".network.kind: cannot be varied"),
        ("mlp", "seed: [1, 2]", ".seed: cannot be varied; expected one of network, optimizer, epochs"),
        ("mlp", "from: [champion, 3]", ".from: cannot be varied"),
        ("mlp", "network.dropout: {low: 0, high: 2}", ".network.dropout.high: expected less than 1, got 2"),
        ("mlp", "network.hidden: [[64], [0]]", ".network.hidden[1]: expected greater than or equal to 1, got [0]"),
        ("mlp", "epochs: [2.5, 3]", ".epochs[0]: expected a valid integer, got 2.5"),
        ("mlp", "batchSize: {low: 64, high: 32}", ".batchSize: expected low below high, got 64 and 32"),
        ("mlp", "network.dropout: {low: 0, high: 0.5, log: true}", ".low: expected above 0 beside log: true, got 0"),
        ("mlp", "optimizer.schedule.warmup: [1, 2]", ".optimizer.schedule.warmup[0]: expected a kind beside it"),
        ("mlp", "epochs: [3]", ".epochs: Tuple should have at least 2 items"),
        ("mlp", "epochs: {low: 3}", ".epochs.high: required, but not there"),
        ("trees", "optimizer.learningRate: [0.1, 0.2]", "expected none for trees, which do not heed it"),
    ],
)
def test_what_cannot_be_searched_is_refused(kind: str, space: str, expected: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        load_pipeline(document(f"{{space: {{{space}}}}}", kind))
    assert expected in str(refused.value.problems[0])


ENCODER = f"encoder, digest: 'sha256:{'0' * 64}', sizeBytes: 9"


@pytest.mark.parametrize(
    ("kind", "space", "expected"),
    [
        (ENCODER, "network.length: [16, 32]", ".network.length: cannot be varied for encoder: it is read before"),
        (ENCODER.replace("encoder", "imported, format: keras"), "network.sizeBytes: [8, 9]", "cannot be varied for"),
        (ENCODER.replace("encoder", "imported, format: onnx"), "epochs: [1, 2]", "train.tune: expected none for an"),
        ("mlp", "optimizer: [{}, {clip: 1.0}], optimizer.learningRate: [0.1, 0.2]", "expected no path below another"),
        ("mlp", "augment.flip: [false, true]", ".augment.flip[1]: expected a network of kind cnn or residual or"),
        (
            "mlp, hidden: [4]}, task: classification, classWeights: balanced, augment: {noise: 0.1",
            "augment.oversample: {low: 0, high: 1}",
            ".augment.oversample.high: expected classWeights none beside it",
        ),
        ("mlp", "augment: [null, {shift: 2}]", ".augment[1]: expected a network of kind cnn or residual or python"),
        (
            "mlp}, classWeights: balanced, budget: {cpu: 1h",
            "augment.oversample: [0, 1]",
            "[1]: expected classWeights none beside it",
        ),
        (
            "mlp}, task: regression, budget: {cpu: 1h",
            "augment.oversample: [0, 1]",
            "[1]: expected none for a regression",
        ),
        ("mlp}, task: ranking, budget: {cpu: 1h", "augment.mixup: [0, 0.2]", ".mixup[1]: expected none for a ranking"),
        (
            f"{ENCODER}}}, compute: {{recompute: true",
            "network.tune: [lora, frozen]",
            "[1]: expected tune: lora or full",
        ),
        (
            "mlp",
            "network.hidden: [[9], [90000, 90000]]",
            ".network.hidden[1]: expected at most 2,000,000,000 parameters",
        ),
    ],
)
def test_what_no_trial_could_do_is_refused_of_documents_alone(kind: str, space: str, expected: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        load_pipeline(document(f"{{space: {{{space}}}}}", kind))
    assert any(expected in str(problem) for problem in refused.value.problems)


def test_every_problem_of_a_search_is_told_at_once() -> None:
    with pytest.raises(SpecInvalid) as refused:
        load_pipeline(document("{space: {seed: [1, 2], network.dropout: [0.1, 2], epochs: {low: 9, high: 3}}}"))
    assert len(refused.value.problems) == 3
