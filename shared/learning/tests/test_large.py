"""Graphs whose weights lie beside them answer as those that hold them, and are made of the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from headrace_data.transforms import FittedTransform
from headrace_engines import beside
from headrace_learning import large
from headrace_learning.costs import held_bytes
from headrace_learning.evaluation import evaluate, logits_of, predict
from headrace_learning.export import export_graph
from headrace_learning.families.mlp import mlp
from headrace_learning.features import Feature
from headrace_learning.graphs import CLASSES, class_values, task_of_graph, with_logits
from headrace_learning.methods import METHODS
from headrace_learning.methods.calibration import of_columns
from headrace_learning.methods.method import Made, NotApplicable, Source
from headrace_learning.served import ServedClassifier

from .variant_sections import SECTIONS, section

ROWS = {"x": np.random.default_rng(3).normal(size=(50, 40)).astype(np.float32)}
LARGE = sorted(kind for kind in SECTIONS if METHODS[kind].large and kind not in ("distilled", "chain"))


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ServedClassifier:
    """A small network, which counts as large."""
    monkeypatch.setattr(large, "LARGEST_BYTES", 2_000)
    monkeypatch.setattr(large, "LEAST_BYTES", 512)
    torch.manual_seed(1)
    feature = Feature(FittedTransform("x", "none", np.zeros(40), np.ones(40)), "float32", (40,))
    return ServedClassifier([feature], (40,), mlp(40, [64, 64], 3))


def in_one(model: ServedClassifier) -> beside.Graph:
    return export_graph(model, ["a", "b", "c"], ROWS).data


def in_parts(model: ServedClassifier, folder: Path) -> Path:
    graph = export_graph(model, ["a", "b", "c"], ROWS, folder=folder).data
    assert isinstance(graph, Path)
    return graph


def test_a_graph_answers_with_weights_beside_it(model: ServedClassifier, tmp_path: Path) -> None:
    one, parts = in_one(model), in_parts(model, tmp_path)
    weights = beside.weights_beside(parts.read_bytes())
    assert [each.size_bytes for each in weights] == [4 * 40 * 64, 4 * 64 * 64, 4 * 64 * 3]
    assert isinstance(one, bytes)
    assert parts.stat().st_size < 0.2 * len(one)
    assert (task_of_graph(parts), class_values(parts)) == (task_of_graph(one), ["a", "b", "c"])
    np.testing.assert_array_equal(predict(parts, ROWS).probabilities, predict(one, ROWS).probabilities)
    np.testing.assert_array_equal(logits_of(parts, ROWS), logits_of(one, ROWS))
    held, of_one = (held_bytes(graph, ROWS, 32) for graph in (parts, one))
    assert held is None or of_one is None or held < 1.2 * of_one, "mapped weights count, and there is no copy of them"
    assert held is None or held > sum(each.size_bytes for each in weights)
    truth = predict(one, ROWS).labels
    assert evaluate(parts, ROWS, truth) == evaluate(one, ROWS, truth)


def test_many_classes_are_known_where_they_lie_beside_a_variant(model: ServedClassifier, tmp_path: Path) -> None:
    classes = list(range(80))
    graph = export_graph(
        ServedClassifier(model.features, (40,), mlp(40, [64], 80)), classes, ROWS, folder=tmp_path
    ).data
    made = METHODS["float16-weights"].make(Source(graph), SECTIONS["float16-weights"])
    assert isinstance(made, Made)
    (held,) = (each for each in large.structure_of(made.graph).graph.initializer if each.name == CLASSES)
    assert held.external_data
    assert class_values(made.graph) == classes
    assert evaluate(made.graph, ROWS, predict(graph, ROWS).labels)["accuracy"] > 0.9


def test_the_same_model_has_the_same_name_and_weights_again(model: ServedClassifier, tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    first.mkdir()
    again.mkdir()
    assert in_parts(model, first).name == in_parts(model, again).name
    assert sorted(each.name for each in first.iterdir()) == sorted(each.name for each in again.iterdir())


def test_a_graph_below_the_limit_is_one_file_as_ever(
    model: ServedClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "LARGEST_BYTES", 10**6)
    assert export_graph(model, ["a", "b", "c"], ROWS, folder=tmp_path).data == in_one(model)
    assert not list(tmp_path.iterdir())


def test_a_decision_shares_the_weights(model: ServedClassifier, tmp_path: Path) -> None:
    in_parts(model, tmp_path)
    files = {each.name for each in tmp_path.glob("sha256:*")}
    decision = np.array([1, 5, 1], np.float32)
    decided = export_graph(model, ["a", "b", "c"], ROWS, decision, tmp_path).data
    assert isinstance(decided, Path)
    assert with_logits(decided) != decided
    assert {each.name for each in tmp_path.glob("sha256:*")} == files


@pytest.mark.parametrize("kind", LARGE)
def test_methods_make_of_it_what_they_make_of_one_file(kind: str, model: ServedClassifier, tmp_path: Path) -> None:
    sources = [Source(graph, of_columns(ROWS)) for graph in (in_one(model), in_parts(model, tmp_path))]
    one, parts = (METHODS[kind].make(each, SECTIONS[kind]) for each in sources)
    assert isinstance(one, Made)
    assert isinstance(parts, Made)
    assert isinstance(parts.graph, Path)
    assert large.LARGEST_BYTES < beside.total_bytes(parts.graph) < 0.9 * beside.total_bytes(sources[1].graph)
    np.testing.assert_array_equal(predict(parts.graph, ROWS).probabilities, predict(one.graph, ROWS).probabilities)
    assert parts.told == one.told


def test_a_variant_that_fits_is_one_file_again(
    model: ServedClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = in_parts(model, tmp_path)
    expected = METHODS["weight-only-int8"].make(Source(in_one(model)), SECTIONS["weight-only-int8"])
    monkeypatch.setattr(large, "LARGEST_BYTES", 20_000)
    assert METHODS["weight-only-int8"].make(Source(parts), SECTIONS["weight-only-int8"]) == expected


def test_the_others_say_why_they_do_not_apply(model: ServedClassifier, tmp_path: Path) -> None:
    source = Source(in_parts(model, tmp_path), of_columns(ROWS))
    others = [kind for kind, method in METHODS.items() if not method.large]
    assert others
    for kind in others:
        made = METHODS[kind].make(source, SECTIONS[kind])
        assert isinstance(made, NotApplicable)
        assert made.reason.startswith(f"{kind}: expected a graph in one file, up to ")
    chain = METHODS["chain"].make(
        source, section("chain", steps=({"kind": "int8-dynamic"}, {"kind": "float16-weights"}))
    )
    assert isinstance(chain, NotApplicable)
