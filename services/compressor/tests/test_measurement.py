"""Measurements against numbers worked out by hand, and comparisons of versions on equal rows."""

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import onnx
import pytest
import torch
from headrace_compressor.core.compression import Version, compare, make_variants, measure_variants
from headrace_compressor.core.measurement import Rows, measure, reads
from headrace_compressor.errors import NothingToMeasure
from headrace_data.spec import Variant
from headrace_data.spec.feature_rules import EMBEDDING
from headrace_data.tasks.classification import kl_divergence
from headrace_data.transforms import FittedTransform
from headrace_learning.export import export_graph
from headrace_learning.features import Feature
from headrace_learning.graphs import LOGITS
from headrace_learning.large import whole
from headrace_learning.methods.method import Source
from headrace_learning.served import ServedClassifier
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import recall_score

FOUND = ("precision", "recall", "f1", "roc_auc", "pr_auc")
_METRICS = {
    "size_bytes",
    "memory_bytes",
    "latency_ms_batch_1",
    "latency_ms_batch_32",
    "latency_p99_ms_batch_1",
    "latency_p99_ms_batch_32",
    "non_finite_rows",
    "unrepeatable_rows",
    "difference_error",
    "accuracy",
    "log_loss",
    *FOUND,
    "calibration_error",
    "agreement",
    "relative_logit_error",
    "kl_divergence",
}

INT8 = [Variant(kind="int8-dynamic")]


@pytest.mark.slow
def test_every_variant_is_measured_and_reported_the_reference_first(digits_mlp: Version, rows: Rows) -> None:
    reports: list[tuple[int, int, Mapping[str, float], float]] = []

    variants = measure_variants(
        make_variants(Source(whole(digits_mlp.graph)), INT8)[0], rows, lambda *report: reports.append(report)
    )

    fp32, int8 = variants
    assert [fp32.name, int8.name] == ["fp32", "int8"]
    assert fp32.graph == whole(digits_mlp.graph)
    assert [report[:2] for report in reports] == [(1, 2), (2, 2)]
    assert [report[2] for report in reports] == [fp32.metrics, int8.metrics]
    assert reports[0][3] > reports[1][3] == 0.0
    for variant in variants:
        assert variant.metrics.keys() == _METRICS
        assert variant.metrics["size_bytes"] == len(whole(variant.graph))
        assert 0 < variant.metrics["latency_ms_batch_1"] < variant.metrics["latency_ms_batch_32"]
    assert fp32.metrics["agreement"] == 1.0
    assert fp32.metrics["relative_logit_error"] == fp32.metrics["kl_divergence"] == 0.0
    assert int8.metrics["relative_logit_error"] > 0.0


@pytest.mark.slow
def test_embeddings_are_compared_with_those_of_the_reference(digits_mlp: Version, rows: Rows) -> None:
    graphs = {"fp32": embedding(whole(digits_mlp.graph), 1.0), "turned": embedding(whole(digits_mlp.graph), -1.0)}
    found = [metrics["embedding_cosine"] for _, metrics in measure(graphs, rows)]
    assert found == pytest.approx([1.0, -1.0], abs=1e-6)


def embedding(graph: bytes, sign: float) -> bytes:
    """Return a graph that answers its logits with a length of 1, or of -1, as embeddings too."""
    model = onnx.load_from_string(graph)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "embedding/axis"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(sign, np.float32), "embedding/sign"))
    for operator, inputs, output in (
        ("ReduceL2", [LOGITS, "embedding/axis"], "embedding/length"),
        ("Div", [LOGITS, "embedding/length"], "embedding/one"),
        ("Mul", ["embedding/one", "embedding/sign"], EMBEDDING),
    ):
        model.graph.node.append(onnx.helper.make_node(operator, inputs, [output], f"{operator}/embedding"))
    model.graph.output.append(onnx.helper.make_tensor_value_info(EMBEDDING, onnx.TensorProto.FLOAT, ["batch", 10]))
    return bytes(model.SerializeToString())


@pytest.mark.slow
def test_a_version_without_variants_is_still_measured(digits_mlp: Version, rows: Rows) -> None:
    (only,) = measure_variants(make_variants(Source(whole(digits_mlp.graph)), [])[0], rows, lambda *_: None)

    assert only.name == "fp32"


@pytest.mark.slow
def test_both_versions_are_evaluated_on_both_splits(digits_mlp: Version, digits_cnn: Version, rows: Rows) -> None:
    ((features, truth),) = rows.batches
    older = Rows("sha256:older", [({"pixels": features["pixels"][:100]}, truth[:100])], 100)

    found = list(compare([digits_mlp, digits_cnn], [rows, older]))

    assert [(each.version_id, each.dataset_id, each.rows) for each in found] == [
        ("sha256:mlp", "sha256:digits", 597),
        ("sha256:cnn", "sha256:digits", 597),
        ("sha256:mlp", "sha256:older", 100),
        ("sha256:cnn", "sha256:older", 100),
    ]
    for each in found:
        assert each.metrics.keys() == {"accuracy", "log_loss", *FOUND, "calibration_error"}
        assert each.metrics["accuracy"] > 0.9


@pytest.mark.slow
def test_rows_that_come_in_batches_measure_the_same(digits_mlp: Version, rows: Rows) -> None:
    ((features, truth),) = rows.batches
    # Of 256 rows each, as a graph is run: an int8 graph's scales are those of the rows that it sees at once.
    cut = [0, 256, 512, 597]
    batches = [({"pixels": features["pixels"][a:b]}, truth[a:b]) for a, b in pairwise(cut)]
    graphs = {name: each.graph for name, each in make_variants(Source(whole(digits_mlp.graph)), INT8)[0].items()}
    measured = {
        "batches": dict(measure(graphs, Rows("sha256:digits", batches, 597))),
        "once": dict(measure(graphs, rows)),
    }

    for name in graphs:
        once, found = (
            {
                metric: value
                for metric, value in each[name].items()
                if "latency" not in metric and metric != "memory_bytes"
            }
            for each in (measured["once"], measured["batches"])
        )
        assert found == pytest.approx(once, rel=1e-6, abs=1e-12)


@pytest.mark.slow
def test_a_version_is_not_evaluated_on_features_that_it_cannot_read(digits_mlp: Version, rows: Rows) -> None:
    wider = Rows("sha256:wider", [({"pixels": np.zeros((3, 16, 16), dtype=np.float32)}, np.arange(3))], 3)

    found = list(compare([digits_mlp], [rows, wider]))

    assert [each.dataset_id for each in found] == ["sha256:digits"]


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "expected"),
    [
        ("pixels", (8, 8), np.float32, True),
        ("image", (8, 8), np.float32, False),
        ("pixels", (64,), np.float32, False),
        ("pixels", (8, 8), np.float64, False),
    ],
)
def test_reading_needs_name_shape_and_type(
    digits_mlp: Version, name: str, shape: tuple[int, ...], dtype: type[np.generic], expected: bool
) -> None:
    assert reads(whole(digits_mlp.graph), {name: np.zeros((2, *shape), dtype=dtype)}) is expected


def test_an_empty_test_split_is_refused_with_its_cure() -> None:
    with pytest.raises(NothingToMeasure, match=r"dataset sha256:1: .*raise prepare\.split\.test"):
        Rows("sha256:1", [({"pixels": np.zeros((0, 8, 8))}, np.zeros(0))], 0)


def test_divergence_of_two_coins() -> None:
    expected = np.array([[0.5, 0.5], [1.0, 0.0]], dtype=np.float32)
    given_ = np.array([[0.25, 0.75], [0.5, 0.5]], dtype=np.float32)

    first = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    second = math.log(1.0 / 0.5)
    assert kl_divergence(expected, given_) == pytest.approx((first + second) / 2)


_LOGITS = arrays(np.float64, (4, 3), elements=st.floats(-50, 50))


@given(_LOGITS, _LOGITS)
def test_divergence_is_never_negative_and_nothing_between_equals(left: np.ndarray, right: np.ndarray) -> None:
    p, q = (np.exp(each) / np.exp(each).sum(axis=1, keepdims=True) for each in (left, right))

    assert kl_divergence(p, p) == 0.0
    assert kl_divergence(p, q) >= 0.0
    assert math.isfinite(kl_divergence(p, q))


def _of_classes(classes: int) -> Version:
    """A version that answers by one number: its class is the nearest place below."""
    feature = Feature(FittedTransform("x", "none", np.zeros(()), np.ones(())), "float32", ())
    layer = torch.nn.Linear(1, classes)
    with torch.no_grad():
        places = torch.arange(classes, dtype=torch.float32)
        layer.weight.copy_(places[:, None])
        layer.bias.copy_(-places * places / 2)
    model = ServedClassifier([feature], (1,), torch.nn.Sequential(layer))
    graph = export_graph(model, list(range(classes)), {"x": np.zeros(2, np.float32)}).data
    return Version(f"sha256:of{classes}", "sha256:d", graph)


def test_versions_that_know_other_classes_are_measured_by_the_same_thing() -> None:
    """A champion of two classes beside a candidate of three: one class's recall is not the mean over three."""
    x = np.array([0.0, 0.1, 0.9, 1.1, 0.2, 1.2, 0.8, 0.7], np.float32)
    truth = np.array([0, 0, 1, 1, 1, 1, 0, 0])
    old = Rows("sha256:old", [({"x": x}, truth)], 8)
    champion, candidate = _of_classes(2), _of_classes(3)

    (alone,) = compare([champion], [old])
    own, other = compare([champion, candidate], [old])

    assert alone.metrics["recall"] == 0.75, "one of two is looked for where nothing is said"
    given_ = (x > 0.5).astype(int)
    assert (
        own.metrics["recall"] == other.metrics["recall"] == pytest.approx(recall_score(truth, given_, average="macro"))
    )
    named = Rows("sha256:old", old.batches, 8, positive=1)
    assert [each.metrics["recall"] for each in compare([champion, candidate], [named])] == [0.75, 0.75]
