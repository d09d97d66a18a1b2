import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.transforms import FittedTransform, FittedTransforms
from headrace_engines.model import run_in_batches
from headrace_engines.properties import LABELS
from headrace_learning.building import features_of, served
from headrace_learning.errors import ExportMismatch, NotLearnable
from headrace_learning.evaluation import logits_of, open_graph, predict
from headrace_learning.export import LARGEST_DIFFERENCE, Exported, export_graph
from headrace_learning.families import FAMILIES
from headrace_learning.families.mlp import mlp
from headrace_learning.families.network import NetworkFamily
from headrace_learning.features import Feature
from headrace_learning.graphs import class_values
from headrace_learning.large import structure_of, whole
from headrace_learning.served import ServedClassifier, ServedModel
from headrace_learning.writer import OPSET

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: things}}
stream:
  topic: things
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: kind, type: string, role: label}}
{features}
train: {{network: {network}}}
"""
MIXED = [
    "{name: image.pixels, type: uint8, shape: [4, 5], role: feature}",
    "{name: val_1, type: float64, role: feature}",
    "{name: network-0, type: int64, shape: [3], role: feature}",
    "{name: count, type: uint16, role: feature}",
    "{name: wide, type: uint32, role: feature}",
    "{name: input, type: float32, role: feature}",
    "{name: depth, type: int8, role: feature}",
]
CLASSES = ["ant", "bee", "käfer"]

Export = tuple[Exported, dict[str, np.ndarray], Pipeline]


def _pipeline(features: Sequence[str], network: str) -> Pipeline:
    lines = "\n".join(f"    - {feature}" for feature in features)
    return load_pipeline(DOCUMENT.format(features=lines, network=network))


def _rows(pipeline: Pipeline, rows: int = 40) -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    return {
        # Large whole numbers, which float32 cannot tell apart.
        field.name: (
            random.integers(0, 100, (rows, *field.shape)) + (2**31 if field.type in ("int64", "uint32") else 0)
        ).astype(field.dtype)
        for field in pipeline.stream.features
    }


def _fitted(pipeline: Pipeline, rows: dict[str, np.ndarray]) -> FittedTransforms:
    def fit(name: str, column: np.ndarray) -> FittedTransform:
        values = column.astype(np.float64)
        return FittedTransform(name, "standard", values.mean(axis=0), values.std(axis=0))

    return FittedTransforms(tuple(fit(field.name, rows[field.name]) for field in pipeline.stream.features))


def _model(pipeline: Pipeline, transforms: FittedTransforms) -> ServedModel:
    """A model with fresh weights, for three classes."""
    family, section = FAMILIES[pipeline.train.network.kind], pipeline.train.network
    assert isinstance(family, NetworkFamily)
    features = features_of(pipeline, transforms)
    shape = family.input_shape(features)
    return served(pipeline, features, shape, family.build(section, shape, 3), 3)


def _export(features: Sequence[str], network: str) -> Export:
    pipeline = _pipeline(features, network)
    rows = _rows(pipeline)
    torch.manual_seed(1)
    return export_graph(_model(pipeline, _fitted(pipeline, rows)), CLASSES, rows), rows, pipeline


@pytest.fixture(scope="module")
def mixed() -> Export:
    return _export(MIXED, "{kind: mlp, hidden: [16, 8], activation: gelu, dropout: 0.5}")


def test_raw_features_go_in_by_name_and_the_class_comes_out(mixed: Export) -> None:
    exported, rows, _ = mixed
    session = open_graph(exported.data)

    assert {each.name: (each.dtype.name, each.shape) for each in session.inputs} == {
        "image.pixels": ("uint8", ("batch", 4, 5)),
        "val_1": ("float64", ("batch",)),
        "network-0": ("int64", ("batch", 3)),
        "count": ("uint16", ("batch",)),
        "wide": ("uint32", ("batch",)),
        "input": ("float32", ("batch",)),
        "depth": ("int8", ("batch",)),
    }
    assert [(each.name, each.dtype.name, each.shape) for each in session.outputs] == [
        ("probabilities", "float32", ("batch", 3)),
        ("label", "object", ("batch",)),
    ]
    predictions = predict(exported.data, rows)
    assert class_values(exported.data) == CLASSES
    assert predictions.labels.tolist() == [CLASSES[place] for place in predictions.probabilities.argmax(axis=1)]
    assert exported.rows == 40
    assert exported.difference <= 1e-5


def test_any_number_of_rows_gives_the_same_answers(mixed: Export) -> None:
    exported, rows, _ = mixed
    session = open_graph(exported.data)

    (whole,) = run_in_batches(session, rows, ["probabilities"])
    (single,) = run_in_batches(session, rows, ["probabilities"], batch_size=1)

    np.testing.assert_allclose(single, whole, atol=1e-6)


def test_the_transforms_in_the_graph_are_those_of_the_dataset(mixed: Export) -> None:
    exported, rows, pipeline = mixed
    fitted = _fitted(pipeline, rows)

    # A graph whose network takes the features as they come, fed with what the reference made of them, must agree.
    torch.manual_seed(1)
    network = _model(pipeline, fitted).network.eval()
    prepared = np.concatenate([fitted[name].apply(rows[name]).reshape(40, -1) for name in rows], axis=1)
    with torch.no_grad():
        expected = network(torch.from_numpy(prepared)).numpy()

    np.testing.assert_allclose(logits_of(exported.data, rows), expected, atol=1e-4)
    assert np.abs(prepared).max() > 1.5


def test_the_file_is_whole_and_says_nothing_of_its_making(mixed: Export) -> None:
    model = structure_of(mixed[0].data)

    assert [each.version for each in model.opset_import] == [OPSET]
    assert not any(each.external_data for each in model.graph.initializer)
    assert (model.producer_name, model.doc_string) == ("", "")
    assert [(each.key, json.loads(each.value)) for each in model.metadata_props] == [
        (LABELS, {"probabilities": CLASSES})
    ]
    parts: list[Any] = [*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output]
    for part in parts:
        assert not part.doc_string
        assert not part.metadata_props
    assert b"headrace_learning" not in whole(mixed[0].data)


@pytest.mark.parametrize("shape", ["[6, 7]", "[2, 8, 8]"])
def test_images_go_through_convolutions(shape: str) -> None:
    feature = f"{{name: image, type: float32, shape: {shape}, role: feature}}"

    exported, rows, _ = _export([feature], "{kind: cnn, channels: [4, 8, 8], hidden: [6]}")

    assert "Conv" in {node.op_type for node in structure_of(exported.data).graph.node}
    assert predict(exported.data, rows).probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_whole_number_classes_answer_as_int64() -> None:
    feature = Feature(FittedTransform("x", "none", np.zeros(2), np.ones(2)), "float32", (2,))
    model = ServedClassifier([feature], (2,), torch.nn.Linear(2, 2))

    exported = export_graph(model, [-5, 2**40], {"x": np.ones((3, 2), dtype=np.float32)})

    assert set(predict(exported.data, {"x": np.ones((3, 2), np.float32)}).labels.tolist()) <= {-5, 2**40}
    with pytest.raises(NotLearnable, match="whole numbers or strings"):
        export_graph(model, [0.5, 1.5], {"x": np.ones((3, 2), np.float32)})  # type: ignore[list-item]


class _Fickle(torch.nn.Linear):
    """Does something else than the linear layer that it is written down as."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + torch.tensor([0.1, 0.0])


def test_a_graph_that_answers_otherwise_than_the_model_is_refused() -> None:
    feature = Feature(FittedTransform("x", "none", np.zeros(2), np.ones(2)), "float32", (2,))

    fickle = _Fickle(2, 2, bias=False)
    torch.nn.init.eye_(fickle.weight)

    with pytest.raises(ExportMismatch, match=r"differ from PyTorch's by up to 0\.02") as caught:
        export_graph(ServedClassifier([feature], (2,), fickle), [0, 1], {"x": np.ones((3, 2), np.float32)})

    assert caught.value.labels_differ == 0


def test_what_float32_rounds_is_no_difference() -> None:
    """Sums of thousands of large numbers differ by their order, and so from one kind of processor to another."""
    random = np.random.default_rng(3)
    network = torch.nn.Linear(4096, 3, bias=False)
    network.weight.data = torch.from_numpy(random.normal(size=(3, 4096)).astype(np.float32)) * 1e3
    rows = {"x": random.normal(size=(200, 4096)).astype(np.float32)}
    feature = Feature(FittedTransform("x", "none", np.zeros(4096), np.ones(4096)), "float32", (4096,))
    # Near enough to each other for the rounding of logits to be seen in probabilities.
    network.weight.data[1:] = network.weight.data[0] + network.weight.data[1:] / 1e5
    model = ServedClassifier([feature], (4096,), network)

    exported = export_graph(model, CLASSES, rows)

    assert np.abs(predict(exported.data, rows).probabilities - model.answered(rows)).max() > LARGEST_DIFFERENCE
    assert exported.difference <= LARGEST_DIFFERENCE


def test_a_layer_that_cannot_be_written_is_named() -> None:
    feature = Feature(FittedTransform("x", "none", np.zeros(2), np.ones(2)), "float32", (2,))

    with pytest.raises(NotLearnable, match="layers that can be written as ONNX, got PReLU"):
        export_graph(ServedClassifier([feature], (2,), torch.nn.PReLU()), [0, 1], {"x": np.ones((3, 2), np.float32)})


_WRITTEN = """
import sys
import numpy, torch
from headrace_data.spec import Optimizer
from headrace_data.transforms import FittedTransform
from headrace_learning.export import export_graph
from headrace_learning.families.mlp import mlp
from headrace_learning.training.optimizers import build_optimizer
from headrace_learning.features import Feature
from headrace_learning.served import ServedClassifier

network = mlp(3, [5], 3)
choice = Optimizer(kind="adam", learning_rate=0.1)
optimizer = build_optimizer([(network.parameters(), 1.0)], choice)
torch.nn.functional.cross_entropy(network(torch.ones(2, 3)), torch.tensor([0, 1])).backward()
optimizer.step()
feature = Feature(FittedTransform("x", "none", numpy.ones(3), numpy.ones(3)), "float32", (3,))
model = ServedClassifier([feature], (3,), network)
export_graph(model, ["a", "b", "c"], {"x": numpy.ones((4, 3), dtype=numpy.float32)})
print(*(name for name in ("torch._dynamo", "torch.onnx._internal.exporter", "onnxscript") if name in sys.modules))
"""


@pytest.mark.slow
def test_a_run_imports_no_compiler() -> None:
    """It would take seconds of every run, and more memory than everything else."""
    run = subprocess.run([sys.executable, "-c", _WRITTEN], capture_output=True, text=True, check=True)

    assert run.stdout.split() == []


def test_what_cannot_be_built_says_what_was_expected() -> None:
    with pytest.raises(NotLearnable, match="another name"):
        Feature(FittedTransform("label", "none", np.zeros(()), np.ones(())), "float32")
    with pytest.raises(NotLearnable, match="numbers to learn from, got type string"):
        Feature(FittedTransform("text", "none", np.zeros(()), np.ones(())), "string")
    with pytest.raises(ValueError, match="expected 3 values in each row, got 2"):
        ServedClassifier(
            [Feature(FittedTransform("x", "none", np.zeros(2), np.ones(2)), "float32", (2,))],
            (3,),
            torch.nn.Linear(3, 2),
        )


_EXPORT = """
import hashlib, numpy, torch
from headrace_data.transforms import FittedTransform
from headrace_learning.export import export_graph
from headrace_learning.families.mlp import mlp
from headrace_learning.features import Feature
from headrace_learning.served import ServedClassifier

torch.manual_seed(4)
features = [
    Feature(FittedTransform(name, "standard", numpy.ones(3), numpy.full(3, 2.0)), "float32", (3,))
    for name in ("one", "two")
]
model = ServedClassifier(features, (6,), mlp(6, [5], 3))
rows = {name: numpy.ones((4, 3), dtype=numpy.float32) for name in ("one", "two")}
print(hashlib.sha256(export_graph(model, ["a", "b", "c"], rows).data).hexdigest())
"""


@pytest.mark.slow
def test_the_same_weights_give_the_same_bytes_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "12345")
    elsewhere = subprocess.run([sys.executable, "-c", _EXPORT], capture_output=True, text=True, check=True)

    torch.manual_seed(4)
    features = [
        Feature(FittedTransform(name, "standard", np.ones(3), np.full(3, 2.0)), "float32", (3,))
        for name in ("one", "two")
    ]
    model = ServedClassifier(features, (6,), mlp(6, [5], 3))
    rows = {name: np.ones((4, 3), dtype=np.float32) for name in ("one", "two")}
    here = export_graph(model, ["a", "b", "c"], rows).data

    assert elsewhere.stdout.split() == [hashlib.sha256(whole(here)).hexdigest()]
