"""Networks with fewer units: smaller, right, the same each time, and of the version's own weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from headrace_data.errors import SpecInvalid
from headrace_data.spec import MlpNetwork, PrunedVariant, load_pipeline
from headrace_learning.evaluation import predict
from headrace_learning.families.family import Sources
from headrace_learning.large import structure_of
from headrace_learning.methods import METHODS
from headrace_learning.methods.calibration import NO_ROWS
from headrace_learning.methods.lessons import lesson_of, one_thread
from headrace_learning.methods.method import Made, NotApplicable, Source, Training
from headrace_learning.training.checkpoint import tensors_to_bytes

from .test_distilled import PIPELINE, training_of

pytestmark = pytest.mark.slow

NETWORKS = {
    "mlp": "{kind: mlp, hidden: [48, 24], dropout: 0.1}",
    "cnn": "{kind: cnn, channels: [8, 12], hidden: [24]}",
    "residual": "{kind: residual, channels: [8, 12], blocks: 1}",
}


def version_of(folder: Path, kind: str) -> Source:
    """Return a version that has learned some digits, with its weights."""
    document = PIPELINE.replace("{kind: mlp}", NETWORKS[kind]).replace("validation: 0.5", "validation: 0.2")
    training = training_of(folder, load_pipeline(document.replace("train: 0.4", "train: 0.7")))
    with one_thread():
        lesson = lesson_of(training, kind)
        train = lesson.settings(training.pipeline.train.network, 15, 60.0)
        sources, run = Sources(lesson.rows, lesson.validation), lesson.run(train, "version")
        fitted = lesson.family.fit(train.network, sources, lesson.learned.objective, run)
        weights = fitted.weights(lesson.serve(fitted.network))
        graph = lesson.exported(fitted.network)
    return Source(graph, NO_ROWS, Training(training.pipeline, training.reader, lambda: weights))


def pruned(source: Source, **said: Any) -> Made | NotApplicable:
    section = {"kind": "pruned", "ratio": 0.5, "steps": 2, "epochs": 10}
    return METHODS["pruned"].make(source, PrunedVariant.model_validate(section | said))


@pytest.mark.parametrize("kind", NETWORKS)
def test_half_of_the_channels_go_and_most_answers_stay(kind: str, tmp_path: Path) -> None:
    source = version_of(tmp_path, kind)
    made = pruned(source)
    assert isinstance(made, Made), made
    numbers = [
        sum(int(np.prod(each.dims)) for each in structure_of(graph).graph.initializer)
        for graph in (source.graph, made.graph)
    ]
    assert numbers[1] < 0.6 * numbers[0]
    assert source.training is not None
    test = source.training.reader.columns("test")
    before, after = (np.mean(predict(graph, test).labels == test["digit"]) for graph in (source.graph, made.graph))
    assert before > 0.7
    # How much is lost differs from one kind of processor to another; guessing would lose 0.6 and more.
    assert after > before - 0.25
    plan = json.loads(made.told["plan"])
    assert [step["step"] for step in plan["steps"]] == [1, 2]
    assert plan["steps"][0]["numbers"] > plan["steps"][1]["numbers"]
    assert {type(place) for each in plan["removed"] for place in each["removed"]} == {int}
    if kind == "mlp":
        assert pruned(source) == made


def test_a_ratio_at_which_nothing_goes_is_told(tmp_path: Path) -> None:
    found = pruned(version_of(tmp_path, "mlp"), ratio=0.99, steps=1, epochs=1)
    assert isinstance(found, NotApplicable)
    assert "at which units of some layer go and others stay, got 0.99: none go" in found.reason


def test_what_has_no_weights_of_the_spec_is_told(tmp_path: Path) -> None:
    source = version_of(tmp_path, "mlp")
    training = source.training
    assert training is not None
    assert training.weights is not None
    other = training.pipeline.train.model_copy(update={"network": MlpNetwork(kind="mlp", hidden=(9,))})
    another = replace(training, pipeline=training.pipeline.model_copy(update={"train": other}))
    some = tensors_to_bytes({"network.0.weight": safetensors.torch.load(training.weights())["network.0.weight"]})
    for given, reason in (
        (None, "a version whose weights and training rows can be read, got its graph"),
        (replace(training, weights=None), "a version whose weights and training rows can be read, got its graph"),
        (another, "weights of the spec's network are expected, got others"),
        (replace(training, weights=lambda: some), "weights of the spec's network are expected, got others"),
    ):
        found = pruned(replace(source, training=given))
        assert isinstance(found, NotApplicable)
        assert found.reason.startswith("pruned: expected")
        assert reason in found.reason


def test_a_chain_prunes_first() -> None:
    said = "compress: {variants: [{kind: chain, name: small, steps: [{kind: int8-static}, {kind: pruned}]}]}"
    with pytest.raises(SpecInvalid, match="expected pruned as the first step"):
        load_pipeline(PIPELINE + said)
