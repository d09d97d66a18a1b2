"""What every family promises: the same bytes again, from a checkpoint too, and a graph that answers as it does."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from headrace_data.spec import Pipeline, Train, load_pipeline
from headrace_data.transforms import FittedCategory, FittedTransform, FittedTransforms
from headrace_learning import large
from headrace_learning.building import LabelScale, features_of, served
from headrace_learning.errors import NotLearnable
from headrace_learning.export import export_graph
from headrace_learning.families import FAMILIES
from headrace_learning.families.family import Family, Fitted, Run, Sources
from headrace_learning.served import ServedModel
from headrace_learning.training.checkpoint import Checkpoint, from_bytes, to_bytes
from headrace_learning.training.objectives import Classification, Objective, Regression
from headrace_learning.training.randomness import make_deterministic
from headrace_learning.training.rows import Rows

pytestmark = pytest.mark.slow

SMALL: Mapping[str, dict[str, Any]] = {
    "mlp": {"hidden": (8,), "dropout": 0.2},
    "cnn": {"channels": (3,), "hidden": (6,)},
    "residual": {"channels": (3, 4), "blocks": 1},
    "factorization": {"factors": 4},
    "trees": {"rounds": 6, "leaves": 5},
    "python": {"factory": "acme.nets:gated", "arguments": {"width": 8}},
}
"""A small network of each kind that is begun from nothing; what is imported has tests of its own."""
IMAGES = {"cnn", "residual"}
"""The kinds that look at one image. The others take tables."""
NETS = """
import torch
from torch import nn


class Gated(nn.Module):
    def __init__(self, inputs, width, outputs):
        super().__init__()
        self.value, self.gate = nn.Linear(inputs, width), nn.Linear(inputs, width)
        self.answer = nn.Sequential(nn.BatchNorm1d(width), nn.Dropout(0.2), nn.Linear(width, outputs))

    def forward(self, rows):
        return self.answer(torch.tanh(self.value(rows)) * torch.sigmoid(self.gate(rows)))


def gated(shape, outputs, width=16):
    return Gated(*shape, width, outputs)
"""
TABLE = """
    - {name: far, type: float32, role: feature, nullable: true}
    - {name: wide, type: float64, role: feature, nullable: true}
    - {name: pair, type: float32, shape: [2], role: feature}
    - {name: colour, type: string, role: feature, nullable: true}
    - {name: sort, type: string, role: feature}
"""
IMAGE = """
    - {name: pixels, type: float32, shape: [6, 5], role: feature}
"""
PREPARE = """
  clean: {missing: keep}
  transform:
    far: {impute: {constant: 1.5}}
    wide: {impute: {constant: 1e6}}
    colour: {impute: {constant: red}, encode: onehot}
    sort: {encode: ordinal}
"""
TABLE_TRANSFORMS = FittedTransforms(
    (
        FittedTransform("far", "standard", np.array(3.0), np.array(2.0), np.array(1.5)),
        FittedTransform("wide", "standard", np.array(1e6), np.array(50.0), np.array(1e6)),
        FittedTransform("pair", "none", np.zeros(2), np.ones(2)),
        FittedCategory("colour", "onehot", ("blue", "red"), "red"),
        FittedCategory("sort", "ordinal", ("a", "b", "c")),
    )
)
IMAGE_TRANSFORMS = FittedTransforms((FittedTransform("pixels", "standard", np.zeros((6, 5)), np.ones((6, 5))),))
SCALE = LabelScale(4200.0, 800.0)
TASKS: list[tuple[int | LabelScale, Objective]] = [
    (2, Classification()),
    (3, Classification(torch.tensor([0.5, 1.0, 3.0]))),
    (SCALE, Regression(SCALE.deviation)),
]


@dataclass
class Notebook:
    """Keeps a checkpoint of every epoch, as bytes."""

    kept: list[tuple[bytes, bytes]] = field(default_factory=list)
    steps: list[tuple[int, int, dict[str, float]]] = field(default_factory=list)

    def newest(self, subject: str) -> Checkpoint | None:
        read = [from_bytes(*each) for each in self.kept]
        return next((each for each in reversed(read) if each.subject == subject), None)

    def due(self, *, midway: bool) -> bool:
        return not midway

    def save(self, checkpoint: Checkpoint) -> None:
        self.kept.append(to_bytes(checkpoint))

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        self.steps.append((step, steps, dict(metrics)))


def pipeline_of(kind: str) -> Pipeline:
    fields, prepare = (IMAGE, "{}") if kind in IMAGES else (TABLE, PREPARE)
    network = {"kind": kind, **({"factory": "acme.nets:gated"} if kind == "python" else {})}
    return load_pipeline(
        "apiVersion: headrace/v1\nkind: Pipeline\nmetadata: {name: table}\nstream:\n  topic: table\n  schema:\n"
        f"    - {{name: id, type: int64, role: id}}{fields}    - {{name: y, type: int64, role: label}}\n"
        f"prepare: {prepare}\ntrain: {{network: {json.dumps(network)}}}"
    )


def columns_of(kind: str, rows: int, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(seed)
    if kind in IMAGES:
        return {"pixels": random.normal(size=(rows, 6, 5)).astype(np.float32)}
    far, wide = random.normal(3, 2, rows).astype(np.float32), random.normal(1e6, 50, rows)
    far[::7], wide[::5] = np.nan, np.nan
    return {
        "far": far,
        "wide": wide,
        "pair": random.normal(size=(rows, 2)).astype(np.float32),
        "colour": random.choice(np.array(["red", "blue", ""], dtype=object), rows),
        "sort": random.choice(np.array(["a", "b", "c"], dtype=object), rows),
    }


def hostile(kind: str) -> dict[str, np.ndarray[Any, Any]]:
    """Rows that no training row is like: extremes, gaps, zeros of both signs, what no category is."""
    least = np.finfo(np.float32)
    values = np.array(
        [0.0, -0.0, np.nan, 3e38, -3e38, 1e30, -1e30, least.tiny, -least.smallest_subnormal, 1.5], "float32"
    )
    if kind in IMAGES:
        return {"pixels": np.resize(np.nan_to_num(values, nan=1.0), (10, 6, 5)).astype(np.float32)}
    return {
        "far": values,
        "wide": np.array([0.0, -0.0, np.nan, 1e308, -1e308, 1e6, 1e6 + 1e-9, 5e-324, -1e-300, 2**53]),
        "pair": np.stack([np.nan_to_num(values, nan=0.25), np.nan_to_num(values[::-1], nan=-1.0)], axis=1),
        "colour": np.array(["red", "", "green", " ", "RED", "\u0000", "😀", "blue", "bluee", "null"], dtype=object),
        "sort": np.array(["a", "b", "c", "d", "", "A", "aa", "\ufeffa", "c ", "b"], dtype=object),
    }


def model_of(kind: str, answers: int | LabelScale, network: torch.nn.Module) -> ServedModel:
    transforms = IMAGE_TRANSFORMS if kind in IMAGES else TABLE_TRANSFORMS
    features = features_of(pipeline_of(kind), transforms)
    return served(pipeline_of(kind), features, FAMILIES[kind].input_shape(features), network, answers)


def rows_of(kind: str, answers: int | LabelScale, rows: int, seed: int) -> Rows:
    """Rows with something to learn in them."""
    model = model_of(kind, answers, torch.nn.Identity())
    with torch.no_grad():
        inputs = model.prepare(columns_of(kind, rows, seed))
    score = inputs.flatten(1)[:, 0] + 0.5 * inputs.flatten(1)[:, 2]
    if isinstance(answers, LabelScale):
        return Rows(inputs, score + 0.1 * inputs.flatten(1)[:, 1])
    return Rows(inputs, torch.clamp((score + 1).long(), 0, answers - 1))


def train_of(kind: str, **changes: Any) -> Train:
    plain = {"network": {"kind": kind, **SMALL[kind]}, "epochs": 6, "batch_size": 16, "seed": 5, **changes}
    return Train.model_validate(plain)


def family_of(kind: str) -> Family:
    return FAMILIES[kind].allowing(["acme"])


def fitted(kind: str, task: tuple[int | LabelScale, Objective], notebook: Notebook, **changes: Any) -> Fitted:
    answers, objective = task
    train, validation = rows_of(kind, answers, 200, 1), rows_of(kind, answers, 60, 2)
    settings = train_of(kind, **changes)
    outputs = answers if isinstance(answers, int) else 1
    run = Run(settings, tuple(train.inputs.shape[1:]), outputs, "what on what", notebook, notebook)
    return family_of(kind).fit(settings.network, Sources(train, validation), objective, run)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    make_deterministic()
    yield
    torch.set_deterministic_debug_mode("default")
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A package of somebody's own, on the path."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "acme").mkdir()
    (folder / "acme" / "__init__.py").touch()
    (folder / "acme" / "nets.py").write_text(NETS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
        del sys.modules[name]


@pytest.fixture(params=SMALL)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=TASKS, ids=["two classes", "weighted classes", "numbers"])
def task(request: pytest.FixtureRequest) -> tuple[int | LabelScale, Objective]:
    chosen: tuple[int | LabelScale, Objective] = request.param
    return chosen


def test_a_family_learns_the_same_bytes_again_and_from_any_checkpoint(
    kind: str, task: tuple[int | LabelScale, Objective]
) -> None:
    straight = Notebook()
    first = fitted(kind, task, straight)
    weights = first.weights(model_of(kind, task[0], first.network))
    assert first.parameters > 0
    assert [step for step, _, _ in straight.steps] == list(range(1, first.outcome.epochs + 1))

    for done in (0, 2, len(straight.kept)):
        torch.manual_seed(done)
        notebook = Notebook(straight.kept[:done])
        again = fitted(kind, task, notebook)
        assert again.weights(model_of(kind, task[0], again.network)) == weights, done
        assert again.outcome == first.outcome
        assert notebook.steps == straight.steps[done:]


def test_a_graph_answers_as_the_family_does_whatever_comes(
    kind: str, task: tuple[int | LabelScale, Objective], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, _ = task
    model = model_of(kind, answers, fitted(kind, task, Notebook()).network)
    classes = [] if isinstance(answers, LabelScale) else list(range(answers))
    rows, strange = columns_of(kind, 300, 9), hostile(kind)
    rows = {name: np.concatenate([column, strange[name]]) for name, column in rows.items()}
    # Compares each answer to 1e-5, and raises where one differs.
    assert export_graph(model, classes, rows).rows == 310
    monkeypatch.setattr(large, "LARGEST_BYTES", 0)
    monkeypatch.setattr(large, "LEAST_BYTES", 64)
    if kind not in {"trees", "python"}:  # the first has no weights; the second's are written as those of others are
        assert isinstance(export_graph(model, classes, rows, folder=tmp_path).data, Path)


def test_a_family_learns_something(kind: str, task: tuple[int | LabelScale, Objective]) -> None:
    notebook = Notebook()
    more = {"network": {"kind": kind, **SMALL[kind], "rounds": 15}} if kind == "trees" else {"epochs": 15}
    outcome = fitted(kind, task, notebook, **more).outcome
    losses = [metrics["validation_loss"] for _, _, metrics in notebook.steps]
    assert outcome.best_loss == min(losses) < losses[0]
    assert losses[outcome.best_epoch - 1] == outcome.best_loss
    assert ("validation_accuracy" in notebook.steps[-1][2]) == isinstance(task[0], int)


def test_training_ends_where_the_validation_loss_stands_still(kind: str) -> None:
    stop = {"patience": 2, "min_delta": 1000.0}
    outcome = fitted(kind, TASKS[1], Notebook(), early_stop=stop).outcome
    # The first epoch is better than none; no other is better by so much.
    assert (outcome.epochs, outcome.best_epoch) == (3, 1)


def test_what_it_takes_grows_with_rows(kind: str) -> None:
    train = train_of(kind)
    shape = (1, 6, 5) if kind in IMAGES else (9,)
    few, many = (family_of(kind).least_bytes(train, shape, 3, (rows, 10), 0) for rows in (1, 10_000_000))
    assert 0 < few <= many
    assert family_of(kind).parameters(train.network, shape, 3) > 0


@pytest.mark.parametrize("kind", sorted(IMAGES))
def test_one_that_looks_at_images_refuses_tables_by_their_shapes(kind: str) -> None:
    with pytest.raises(NotLearnable, match=r"exactly one feature, of shape \[height, width\]"):
        FAMILIES[kind].input_shape(features_of(pipeline_of("mlp"), TABLE_TRANSFORMS))
