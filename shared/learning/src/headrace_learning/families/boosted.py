"""Trees as LightGBM writes them down: as a module that asks LightGBM, and as one operator of ONNX.

LightGBM compares with thresholds in float64, the operator in float32. A row's values are float32 in both, so each
threshold is rounded down to the next float32: no float32 lies between the two, and each value takes the same branch.
LightGBM takes values within 1e-35 of zero for zero, so a threshold in there is moved to where that span ends.
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from headrace_learning.errors import NotLearnable
from headrace_learning.graphs import Array
from headrace_learning.transform_graphs import ML_DOMAIN
from headrace_learning.writer import Writer

_CATEGORICAL, _DEFAULT_LEFT, _MISSING_SHIFT = 1, 2, 2
_MISSING_NONE, _MISSING_NAN = 0, 2
_ZERO = np.float32(1e-35)
"""LightGBM's kZeroThreshold."""


@dataclass(frozen=True)
class Tree:
    """One tree. A child below zero is leaf -child - 1, others are splits; a tree of one leaf has no splits."""

    features: Array
    """[splits], place of the value that is compared."""
    thresholds: Array
    """[splits] float64: values up to it go left."""
    kinds: Array
    """[splits], LightGBM's bits: categorical, gaps go left, what a gap is."""
    left: Array
    right: Array
    leaves: Array
    """[leaves] float64, what each adds to the answer."""


def parse_trees(text: str) -> list[Tree]:
    """Return the trees of LightGBM's text. Raise `NotLearnable` for a kind of split that is not written here."""
    return [_tree(dict(_fields(part))) for part in text.split("\nTree=")[1:]]


def _fields(part: str) -> Iterator[tuple[str, str]]:
    for line in part.splitlines()[1:]:
        name, found, value = line.partition("=")
        if found:
            yield name, value


def _tree(fields: dict[str, str]) -> Tree:
    def numbers(name: str, kind: type) -> Array:
        return np.array([kind(value) for value in fields.get(name, "").split()], dtype=kind)

    kinds = numbers("decision_type", int)
    missing = kinds >> _MISSING_SHIFT
    if (kinds & _CATEGORICAL).any() or not np.isin(missing, (_MISSING_NONE, _MISSING_NAN)).all():
        raise NotLearnable(f"trees: expected splits of numbers by a threshold, got kinds {sorted(set(kinds.tolist()))}")
    return Tree(
        numbers("split_feature", int),
        numbers("threshold", float),
        kinds,
        numbers("left_child", int),
        numbers("right_child", int),
        numbers("leaf_value", float),
    )


def thresholds32(thresholds: Array) -> Array:
    """Return the float32 threshold that parts float32 values as LightGBM does with each float64 one."""
    with np.errstate(over="ignore", under="ignore"):
        near = thresholds.astype(np.float32)
        below = np.nextafter(near, np.float32(-np.inf))
    rounded = np.where(near.astype(np.float64) > thresholds, below, near)
    end = np.where(thresholds < 0, np.nextafter(-_ZERO, np.float32(-np.inf)), _ZERO)
    return np.where(np.abs(thresholds) <= float(_ZERO), end, rounded)


class Boosted(nn.Module):
    """Boosted trees: prepared rows [batch, width] float32 -> [batch, outputs] float32, as LightGBM answers them.

    Of two classes there is one row of trees: the logits are zero and what they say.
    """

    def __init__(self, text: str, width: int, outputs: int) -> None:
        super().__init__()
        self.text = text
        self.width = width
        self.outputs = outputs
        self.trees = parse_trees(text)

    @cached_property
    def _booster(self) -> Any:
        return importlib.import_module("lightgbm").Booster(model_str=self.text)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Answer prepared rows."""
        raw = self._booster.predict(inputs.numpy(), raw_score=True, num_threads=1)
        answers = torch.from_numpy(np.asarray(raw).reshape(len(inputs), -1).astype(np.float32))
        if answers.shape[1] == self.outputs:
            return answers
        return torch.cat([torch.zeros_like(answers), answers], dim=1)

    def write(self, writer: Writer, value: str) -> str:
        """Write the trees as one operator, and return the name of the answers."""
        first = self.outputs - 1 if self.outputs == 2 else 0
        rows_of_trees = 1 if self.outputs <= 2 else self.outputs
        columns = [_columns(place, tree, first + place % rows_of_trees) for place, tree in enumerate(self.trees)]
        attributes = {name: np.concatenate([each[name] for each in columns]).tolist() for name in columns[0]}
        modes = ["BRANCH_LEQ" if branch else "LEAF" for branch in attributes.pop("branches")]
        return writer.node(
            "TreeEnsembleRegressor",
            value,
            domain=ML_DOMAIN,
            n_targets=self.outputs,
            nodes_modes=modes,
            aggregate_function="SUM",
            post_transform="NONE",
            **attributes,
        )


def _columns(place: int, tree: Tree, target: int) -> dict[str, Array]:
    """Return the operator's columns for one tree: splits first, under their numbers, then leaves."""
    splits, leaves = len(tree.left), len(tree.leaves)

    def of_splits(values: Array, kind: type = np.int64) -> Array:
        return np.concatenate([values, np.zeros(leaves)]).astype(kind)

    def children(values: Array) -> Array:
        return of_splits(np.where(values < 0, splits - values - 1, values))

    # A gap counts as zero where the training rows had none.
    as_zero = (tree.kinds >> _MISSING_SHIFT) == _MISSING_NONE
    gaps_left = np.where(as_zero, tree.thresholds >= 0, (tree.kinds & _DEFAULT_LEFT) > 0)
    return {
        "branches": np.arange(splits + leaves) < splits,
        "nodes_treeids": np.full(splits + leaves, place),
        "nodes_nodeids": np.arange(splits + leaves),
        "nodes_featureids": of_splits(tree.features),
        "nodes_values": of_splits(thresholds32(tree.thresholds), np.float32),
        "nodes_truenodeids": children(tree.left),
        "nodes_falsenodeids": children(tree.right),
        "nodes_missing_value_tracks_true": of_splits(gaps_left),
        "target_treeids": np.full(leaves, place),
        "target_nodeids": np.arange(splits, splits + leaves),
        "target_ids": np.full(leaves, target),
        "target_weights": tree.leaves.astype(np.float32),
    }
