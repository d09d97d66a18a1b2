"""Trees: each float32 takes the branch that the float64 threshold says, and what is served is what LightGBM answers."""

import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from headrace_data.spec import Train, TreesModel
from headrace_data.transforms import FittedTransform
from headrace_engines.model import run_in_batches
from headrace_learning.errors import NotLearnable
from headrace_learning.evaluation import open_graph
from headrace_learning.export import export_graph
from headrace_learning.families import trees
from headrace_learning.families.boosted import Boosted, parse_trees, thresholds32
from headrace_learning.families.family import Fitted, Run, Sources
from headrace_learning.families.trees import FAMILY
from headrace_learning.features import Feature
from headrace_learning.graphs import LOGITS, with_logits
from headrace_learning.large import structure_of
from headrace_learning.methods import METHODS
from headrace_learning.methods.calibration import of_columns
from headrace_learning.methods.method import NotApplicable, Source
from headrace_learning.served import ServedClassifier
from headrace_learning.training.checkpoint import Checkpoint
from headrace_learning.training.objectives import Classification, Objective
from headrace_learning.training.rows import Rows
from hypothesis import example, given
from hypothesis import strategies as st

from .variant_sections import SECTIONS

pytestmark = pytest.mark.slow


class Alone:
    """Keeps nothing."""

    def newest(self, _subject: str) -> Checkpoint | None:
        return None

    def due(self, *, midway: bool) -> bool:
        return False

    def save(self, _checkpoint: Checkpoint) -> None:
        pass

    def progress(self, *_told: Any) -> None:
        pass


class Pieces:
    """Rows that come in pieces, as streamed ones do."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, size: int, seed: int, epoch: int) -> Any:
        raise AssertionError("trees take rows in canonical order")

    def chunks(self) -> Iterator[Rows]:
        for start in range(0, len(self.rows), 7):
            yield Rows(self.rows.inputs[start : start + 7], self.rows.targets[start : start + 7])


def grown(rows: Any, outputs: int, objective: Objective | None = None, **section: Any) -> Fitted:
    train = Train.model_validate({"network": {"kind": "trees", **section}})
    return fit(train, Sources(rows, rows), outputs, objective or Classification())


def fit(train: Train, sources: Sources, outputs: int, objective: Objective) -> Fitted:
    assert isinstance(train.network, TreesModel)
    return FAMILY.fit(train.network, sources, objective, Run(train, (3,), outputs, "subject", Alone(), Alone()))


def rows_of(classes: int, rows: int = 400) -> Rows:
    random = np.random.default_rng(7)
    # Neighbours in float32, so that LightGBM's thresholds lie between two values and at them.
    inputs = np.float32(1.0) + random.integers(0, 6, (rows, 3)).astype(np.float32) * np.finfo(np.float32).eps
    inputs[: rows // 2] = random.normal(size=(rows // 2, 3))
    targets = (np.argsort(np.argsort(inputs[:, 0] + 2 * inputs[:, 1])) * classes // rows) % classes
    return Rows(torch.from_numpy(inputs), torch.from_numpy(targets.astype(np.int64)))


@given(st.floats(allow_nan=False), st.floats(width=32, allow_nan=False))
@example(1.0 + 2**-24, 1.0)
@example(-(1.0 + 2**-24), -1.0)
@example(1e-46, 1e-45)
@example(-1e-46, -0.0)
@example(-1e-35, -float(np.float32(1e-35)))
@example(-float(np.float32(1e-35)), -float(np.float32(1e-35)))
@example(float(np.float32(1e-35)), float(np.float32(1e-35)))
@example(float(np.float32(1e-35)), 1.1e-35)
@example(1e300, float("inf"))
@example(-1e300, -3.4028234663852886e38)
@example(3.4028235677973366e38, float("inf"))
@example(-3.4028234663852887e38, -3.4028234663852886e38)
@example(-3.4028235e38, -3.4028234663852886e38)
def test_a_rounded_threshold_parts_float32_as_the_exact_one_does(threshold: float, value: float) -> None:
    rounded = thresholds32(np.array([threshold]))
    assert rounded.dtype == np.float32
    # LightGBM takes what is this near to zero for zero.
    seen = 0.0 if abs(np.float32(value)) <= np.float32(1e-35) else float(np.float32(value))
    assert (np.float32(value) <= rounded[0]) == (seen <= threshold)


@pytest.mark.parametrize("classes", [2, 4])
def test_values_at_every_threshold_are_answered_as_lightgbm_answers_them(classes: int) -> None:
    network = grown(rows_of(classes), classes, rounds=40, min_rows=1).network
    assert isinstance(network, Boosted)
    found = np.unique(np.concatenate([tree.thresholds for tree in network.trees])).astype(np.float32)
    at = np.concatenate([found, np.nextafter(found, np.float32(np.inf)), np.nextafter(found, np.float32(-np.inf))])
    values = np.concatenate([at, np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 3e38, -3e38], dtype=np.float32)])
    random = np.random.default_rng(1)
    inputs = np.stack([values, random.permutation(values), random.permutation(values)], axis=1)
    feature = Feature(FittedTransform("x", "none", np.zeros(3), np.ones(3)), "float32", (3,))
    served = ServedClassifier([feature], (3,), network)

    graph = with_logits(export_graph(served, list(range(classes)), {"x": rows_of(classes).inputs.numpy()}).data)
    (logits,) = run_in_batches(open_graph(graph), {"x": inputs}, [LOGITS])

    # Largest values are cut to LARGEST by the transform in front, which no threshold lies beyond.
    expected = network(served.prepare({"x": inputs})).numpy()
    np.testing.assert_allclose(logits, expected, atol=2e-6, rtol=1e-5)
    assert len(found) > 20


def test_rows_in_pieces_give_the_same_trees() -> None:
    rows = rows_of(3)
    whole, pieces = (grown(source, 3, rounds=5) for source in (rows, Pieces(rows)))
    assert isinstance(whole.network, Boosted)
    assert isinstance(pieces.network, Boosted)
    assert whole.network.text == pieces.network.text


def test_a_label_that_nothing_tells_apart_gives_trees_of_one_leaf() -> None:
    rows = Rows(torch.zeros(40, 3), torch.arange(40) % 2)
    fitted = grown(rows, 2, rounds=3)
    assert isinstance(fitted.network, Boosted)
    assert all(len(tree.leaves) == 1 for tree in fitted.network.trees)
    feature = Feature(FittedTransform("x", "none", np.zeros(3), np.ones(3)), "float32", (3,))
    served = ServedClassifier([feature], (3,), fitted.network)
    assert export_graph(served, [0, 1], {"x": rows.inputs.numpy()}).difference <= 1e-6


def test_only_the_rounds_up_to_the_best_are_kept() -> None:
    rows = rows_of(2)
    noise = Rows(rows.inputs, torch.from_numpy(np.random.default_rng(2).integers(0, 2, len(rows))))
    train = Train.model_validate({"network": {"kind": "trees", "rounds": 60, "min_rows": 1, "learning_rate": 0.5}})
    fitted = fit(train, Sources(rows, noise), 2, Classification())
    assert isinstance(fitted.network, Boosted)
    assert fitted.outcome.best_epoch == len(fitted.network.trees) < fitted.outcome.epochs == 60


def test_a_budget_ends_the_growth_with_the_best_so_far() -> None:
    train = Train.model_validate({"network": {"kind": "trees", "rounds": 10_000}, "budget": {"cpu": "10ms"}})
    rows = rows_of(2)
    fitted = fit(train, Sources(rows, rows), 2, Classification())
    assert isinstance(fitted.network, Boosted)
    assert 1 <= len(fitted.network.trees) == fitted.outcome.best_epoch <= fitted.outcome.epochs < 10_000


def test_growing_ends_before_trees_are_too_many_to_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(3)
    whole = grown(rows, 3, rounds=40, leaves=8).network
    monkeypatch.setattr(trees, "MOST_NODES", 600)

    fitted = grown(rows, 3, rounds=40, leaves=8)
    monkeypatch.setattr(trees, "MOST_NODES", 20)
    with pytest.raises(NotLearnable, match=r"train.network.leaves: expected a first round of at most 20 nodes, got"):
        grown(rows, 3, rounds=40, leaves=8)

    assert isinstance(whole, Boosted)
    assert isinstance(fitted.network, Boosted)
    nodes = sum(len(tree.left) + len(tree.leaves) for tree in fitted.network.trees)
    assert nodes == fitted.parameters
    # A round has three trees of at most 15 nodes: there is no room for one more.
    assert 600 - 3 * 15 < nodes <= 600
    assert fitted.outcome.epochs < 40
    first = whole.trees[: len(fitted.network.trees)]
    assert all(np.array_equal(one.leaves, other.leaves) for one, other in zip(first, fitted.network.trees, strict=True))


def test_methods_for_weights_do_not_apply() -> None:
    feature = Feature(FittedTransform("x", "none", np.zeros(3), np.ones(3)), "float32", (3,))
    rows = rows_of(2)
    served = ServedClassifier([feature], (3,), grown(rows, 2, rounds=5).network)
    graph = export_graph(served, [0, 1], {"x": rows.inputs.numpy()}).data
    assert "TreeEnsembleRegressor" in {node.op_type for node in structure_of(graph).graph.node}
    source = Source(graph, of_columns({"x": rows.inputs.numpy()}))
    for kind, section in SECTIONS.items():
        assert isinstance(METHODS[kind].make(source, section), NotApplicable), kind


def test_a_trainer_without_lightgbm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(NotLearnable, match=r"trees need LightGBM.*install headrace-learning\[trees\]"):
        grown(rows_of(2), 2)


def test_splits_that_are_not_written_are_refused() -> None:
    network = grown(rows_of(2), 2, rounds=2).network
    assert isinstance(network, Boosted)
    categorical = network.text.replace("decision_type=2", "decision_type=1")
    assert categorical != network.text
    with pytest.raises(NotLearnable, match="expected splits of numbers by a threshold, got kinds"):
        parse_trees(categorical)


def test_what_growing_takes_holds_every_row() -> None:
    train = Train.model_validate({"network": {"kind": "trees"}})
    sizes = [FAMILY.least_bytes(train, (100,), 2, (rows, rows // 10), 0) for rows in (10**6, 2 * 10**6, 4 * 10**6)]
    assert sizes[0] > 10**6 * 100 * 4
    assert all(larger == 2 * smaller for smaller, larger in pairwise(sizes))
