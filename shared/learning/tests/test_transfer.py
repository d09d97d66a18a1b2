"""Beginning from another version: which layers come from it, which are learned, and how fast."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from headrace_data.spec import Train
from headrace_data.transforms import FittedCategory, FittedTransform, FittedTransforms
from headrace_learning.errors import NotLearnable
from headrace_learning.families import FAMILIES
from headrace_learning.families.family import Fitted, Run, Sources
from headrace_learning.families.mlp import mlp
from headrace_learning.networks import weights_of
from headrace_learning.training.checkpoint import Checkpoint, from_bytes, to_bytes
from headrace_learning.training.objectives import Classification
from headrace_learning.training.rows import Rows
from headrace_learning.training.transfer import Names, Origin, begin, frozen, input_names, learned

COLOURS = ("blue", "red")
CLASSES = [("a",), ("b",), ("c",)]


def _inputs(colours: Sequence[str], rare: bool = False) -> FittedTransforms:
    return FittedTransforms(
        (
            FittedTransform("pair", "standard", np.zeros(2), np.ones(2)),
            FittedCategory("colour", "onehot", tuple(colours), rare=rare),
        )
    )


def _origin(network: torch.nn.Module, colours: Sequence[str] = COLOURS, classes: Any = CLASSES, **now: Any) -> Origin:
    inputs = Names(input_names(_inputs(COLOURS)), input_names(_inputs(colours, **now)))
    return Origin(weights_of(network), inputs, Names(CLASSES, classes))


def _train(**said: Any) -> Train:
    return Train.model_validate({"network": {"kind": "mlp", "hidden": [5]}, "from": "champion", **said}, strict=False)


def test_a_network_of_the_same_shape_begins_where_the_other_ended() -> None:
    before, now = mlp(4, (5,), 3), mlp(4, (5,), 3)
    begun = begin(now, _origin(before), _train())
    assert (begun.taken, begun.partly, begun.seeded) == (("0", "3"), (), ())
    assert all(torch.equal(tensor, weights_of(now)[name]) for name, tensor in weights_of(before).items())


def test_inputs_and_answers_that_both_have_keep_what_was_learned_for_them() -> None:
    before, now = mlp(4, (5,), 3), mlp(6, (5,), 3)
    seeded = weights_of(now)
    origin = _origin(before, ["blue", "green", "red"], [("b",), ("c",), ("d",)], rare=True)
    begun = begin(now, origin, _train())
    assert (begun.taken, begun.partly, begun.seeded) == ((), ("0", "3"), ())
    old, new = weights_of(before), weights_of(now)
    # Columns: two numbers, then blue, green, red and the others.
    assert torch.equal(new["0.weight"][:, [0, 1, 2, 4]], old["0.weight"])
    assert torch.equal(new["0.weight"][:, [3, 5]], seeded["0.weight"][:, [3, 5]])
    assert torch.equal(new["0.bias"], old["0.bias"])
    assert torch.equal(new["3.weight"][:2], old["3.weight"][1:])
    assert torch.equal(new["3.bias"][:2], old["3.bias"][1:])
    assert torch.equal(new["3.weight"][2], seeded["3.weight"][2])


def test_categories_that_are_others_of_the_same_number_are_not_mistaken_for_them() -> None:
    before, now = mlp(4, (5,), 3), mlp(4, (5,), 3)
    seeded = weights_of(now)
    begun = begin(now, _origin(before, ["amber", "blue"]), _train())
    assert begun.partly == ("0",)
    assert torch.equal(weights_of(now)["0.weight"][:, 3], weights_of(before)["0.weight"][:, 2])
    assert torch.equal(weights_of(now)["0.weight"][:, 2], seeded["0.weight"][:, 2])


def test_a_number_that_is_answered_means_the_same_in_the_labels_new_scale() -> None:
    before, now = mlp(4, (5,), 1), mlp(4, (5,), 1)
    names = Names(input_names(_inputs(COLOURS)), input_names(_inputs(COLOURS)))
    begun = begin(now, Origin(weights_of(before), names, Names([], []), (2.0 / 8.0, (100.0 - 60.0) / 8.0)), _train())
    assert begun.taken == ("0", "3")
    rows = torch.randn(7, 4)
    torch.testing.assert_close(before(rows) * 2.0 + 100.0, now(rows) * 8.0 + 60.0)


def test_a_layer_of_another_size_is_the_seeds_and_the_rest_is_taken() -> None:
    before, now = mlp(4, (5, 5), 3), mlp(4, (5, 7), 3)
    seeded = weights_of(now)
    begun = begin(now, _origin(before), _train())
    assert (begun.taken, begun.seeded) == (("0",), ("3", "6"))
    assert all(torch.equal(weights_of(now)[name], seeded[name]) for name in seeded if not name.startswith("0"))


@pytest.mark.parametrize(
    ("network", "said", "expected"),
    [
        (mlp(4, (7,), 3), {}, "train.from: expected a version with a layer like one of 0, 3, got 0.bias"),
        (mlp(4, (5, 9), 3), {"freeze": ["3"]}, "train.freeze: expected layers that are those of train.from, got '3'"),
        (mlp(4, (5,), 3), {"freeze": ["1"]}, "train.freeze: expected layers among 0, 3, got '1'"),
        (mlp(4, (5,), 3), {"rates": {"out": 0.5}}, "train.rates: expected layers among 0, 3, got 'out'"),
    ],
)
def test_what_cannot_be_begun_is_told(network: torch.nn.Module, said: dict[str, Any], expected: str) -> None:
    with pytest.raises(NotLearnable, match=expected):
        begin(network, _origin(mlp(4, (5,), 3)), _train(**said))


def test_a_network_with_nothing_to_learn_is_told() -> None:
    with pytest.raises(NotLearnable, match="expected a layer that is left to learn"):
        learned(mlp(4, (5,), 3), _train(freeze=["0", "3"]))


def test_what_frozen_layers_count_stands_still_too() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2))
    learned(network, _train(freeze=["0", "1"]))
    assert frozen(network) == [network[0], network[1]]


class _Notebook:
    """Keeps checkpoints in memory."""

    def __init__(self, checkpoints: Sequence[Checkpoint] = ()) -> None:
        self.checkpoints = [from_bytes(*to_bytes(each)) for each in checkpoints]

    def newest(self, subject: str) -> Checkpoint | None:
        return next((each for each in reversed(self.checkpoints) if each.subject == subject), None)

    def due(self, *, midway: bool) -> bool:
        return not midway

    def save(self, checkpoint: Checkpoint) -> None:
        self.checkpoints.append(checkpoint)

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        pass


def _fit(train: Train, origin: Origin | None, notebook: _Notebook | None = None) -> Fitted:
    inputs = torch.randn(120, 4, generator=torch.Generator().manual_seed(1))
    rows = Rows(inputs, inputs[:, :3].argmax(dim=1))
    sources = Sources(Rows(rows.inputs[:80], rows.targets[:80]), Rows(rows.inputs[80:], rows.targets[80:]))
    notebook = notebook or _Notebook()
    run = Run(train, (4,), 3, "subject", notebook, notebook, origin=origin)
    return FAMILIES["mlp"].fit(train.network, sources, Classification(), run)


@pytest.mark.parametrize("kind", ["sgd", "momentum", "adam", "adamw"])
def test_frozen_layers_stay_rates_count_and_a_resumed_run_ends_the_same(kind: str) -> None:
    origin = _origin(_fit(_train(epochs=3), None).network)
    said: dict[str, Any] = {"freeze": ["0"], "rates": {"3": 0.5}, "epochs": 4}
    said["optimizer"] = {"kind": kind, "learning_rate": 0.02, "average": 0.5}
    notebook = _Notebook()
    straight = weights_of(_fit(_train(**said), origin, notebook).network)
    assert all(torch.equal(straight[name], origin.weights[name]) for name in ("0.weight", "0.bias"))
    assert not torch.equal(straight["3.weight"], origin.weights["3.weight"])
    for kept in range(1, len(notebook.checkpoints)):
        resumed = weights_of(_fit(_train(**said), origin, _Notebook(notebook.checkpoints[:kept])).network)
        assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    # A rate for every layer is another learning rate, to the last bit.
    each = _fit(_train(**(said | {"freeze": [], "rates": {"0": 0.5, "3": 0.5}})), origin)
    half = _fit(
        _train(**(said | {"freeze": [], "rates": {}, "optimizer": said["optimizer"] | {"learning_rate": 0.01}})), origin
    )
    assert all(torch.equal(weights_of(each.network)[name], tensor) for name, tensor in weights_of(half.network).items())


def test_two_rates_move_each_layer_by_its_own() -> None:
    origin = _origin(_fit(_train(epochs=1), None).network)
    said = {"epochs": 1, "batch_size": 1024, "optimizer": {"kind": "sgd", "learning_rate": 0.1}}
    moved = [weights_of(_fit(_train(**said, rates=rates), origin).network) for rates in ({}, {"0": 0.5})]
    steps = [{name: held[name] - origin.weights[name] for name in held} for held in moved]
    torch.testing.assert_close(steps[1]["0.weight"], steps[0]["0.weight"] / 2)
    assert torch.equal(steps[1]["3.weight"], steps[0]["3.weight"])


def test_what_is_said_of_layers_is_not_heeded_without_a_version_to_begin_from() -> None:
    plain, said = _fit(_train(epochs=2), None), _fit(_train(epochs=2, freeze=["0"], rates={"3": 2.0}), None)
    assert said.begun is None
    assert all(torch.equal(weights_of(said.network)[name], each) for name, each in weights_of(plain.network).items())


def test_trees_begin_from_nothing() -> None:
    train = Train.model_validate({"network": {"kind": "trees"}, "from": "champion"}, strict=False)
    run = Run(train, (4,), 3, "s", _Notebook(), _Notebook(), origin=_origin(mlp(4, (5,), 3)))
    rows = Rows(torch.zeros(4, 4), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(NotLearnable, match=r"train\.from: expected a network, got trees"):
        FAMILIES["trees"].fit(train.network, Sources(rows, rows), Classification(), run)
