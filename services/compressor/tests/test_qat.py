"""Quantisation-aware training: what is learned is what is written, and no worse than rounding alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from headrace_data.errors import SpecInvalid
from headrace_data.spec import AwareVariant, load_pipeline
from headrace_learning.evaluation import logits_of
from headrace_learning.large import structure_of, whole
from headrace_learning.methods import METHODS, qat
from headrace_learning.methods.calibration import of_dataset
from headrace_learning.methods.int8_static import ranges_of
from headrace_learning.methods.lessons import lesson_of, one_thread
from headrace_learning.methods.method import Made, NotApplicable, Source
from headrace_learning.methods.observing import Fidelity
from headrace_learning.methods.qdq import layers_of, quantised

from .test_distilled import PIPELINE
from .test_pruned import version_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["mlp", "residual"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A version that has learned some digits, with rows to calibrate on."""
    version = version_of(tmp_path_factory.mktemp("version"), request.param)
    assert version.training is not None
    return replace(version, calibration=of_dataset(version.training.reader, 3))


def aware(source: Source, **said: Any) -> Made | NotApplicable:
    return METHODS["qat"].make(source, AwareVariant.model_validate({"kind": "qat", "epochs": 3, **said}))


def test_it_learns_with_the_numbers_that_are_written(source: Source) -> None:
    assert source.training is not None
    with one_thread(), torch.no_grad():
        lesson = lesson_of(source.training, source.training.pipeline.train.network.kind)
        network = qat._folded(lesson.version().eval())
        graph, rows = lesson.exported(network), source.calibration.rows(200)
        layers = layers_of(graph)
        ranges = ranges_of(graph, layers, rows, Fidelity(graph, rows), "minmax", quantised).ranges
        network.eval()  # it was trained, for all that an export knows
        plain = network(lesson.rows.inputs).numpy()
        rounding = [qat._round(network, layer, ranges) for layer in layers]
        learned = network(lesson.rows.inputs).numpy()
        for each in rounding:
            each.end()
        again = network(lesson.rows.inputs).numpy()
    written = logits_of(quantised(graph, layers, ranges), lesson.columns)
    assert (again == plain).all()
    rounded = np.linalg.norm(written - plain)
    assert rounded > 0
    # A number between two steps may go to either side of it, in sums of another order: few do.
    assert np.linalg.norm(written - learned) < 0.02 * rounded


def test_a_version_learns_on_in_eight_bits_and_the_same_each_time(source: Source) -> None:
    made = aware(source, rate=0.3)
    assert isinstance(made, Made), made
    assert aware(source, rate=0.3) == made
    held = {each.name: each for each in structure_of(made.graph).graph.initializer}
    assert sum(name.endswith("/int8") for name in held) == int(made.told["quantised"].split()[0])
    assert made.told["learned"].endswith(" on the validation split")
    assert len(whole(made.graph)) < 0.8 * len(whole(source.graph))


def test_what_is_worse_than_rounding_alone_is_refused_with_both_figures(source: Source) -> None:
    found = aware(source, rate=10.0, epochs=1)
    assert isinstance(found, NotApplicable)
    assert "no worse than those of int8-static, which has accuracy 0." in found.reason
    assert "rows of the validation split; got accuracy 0." in found.reason


def test_what_cannot_learn_on_is_told(source: Source) -> None:
    assert source.training is not None
    for given, reason in (
        (replace(source, training=None), "weights and training rows can be read, got its graph"),
        (replace(source, training=replace(source.training, weights=None)), "weights and training rows can be read"),
        (
            replace(source, calibration=Source(b"").calibration),
            "to which int8-static applies, got int8-static",
        ),
    ):
        found = aware(given)
        assert isinstance(found, NotApplicable)
        assert found.reason.startswith("qat: expected")
        assert reason in found.reason


@pytest.mark.parametrize("steps", ["[{kind: qat}, {kind: weight-only-int8}]", "[{kind: low-rank}, {kind: qat}]"])
def test_it_is_no_step_of_a_chain(steps: str) -> None:
    said = f"compress: {{variants: [{{kind: chain, name: small, steps: {steps}}}]}}"
    with pytest.raises(SpecInvalid, match=r"compress\.variants\[0\]\.steps\[[01]\]\.kind: expected .*, got .?qat"):
        load_pipeline(PIPELINE + said)
