"""What always the same answer scores: learned from the training split, measured on the test split, both in batches."""

from __future__ import annotations

import numpy as np
import pytest
from headrace_data.spec import Field, MlpNetwork, Train
from headrace_data.tasks import TASKS
from headrace_trainer.core.summary import Summary

LABEL = Field(name="y", type="float64", role="label")
TRAIN = Train(network=MlpNetwork(kind="mlp"))


def baseline(learned, truth, *, regression: bool = False) -> dict[str, float]:
    labels = TASKS["regression" if regression else "classification"].labels(TRAIN)
    summary = Summary([], LABEL, labels, whole=regression)
    for batch in np.array_split(learned, 2):
        summary.add({"y": batch}, lambda _: np.empty(0))
    found = labels.baseline()
    for batch in np.array_split(truth, 2) if len(truth) > 1 else [truth]:
        found.add(batch)
    return {
        name: value for name, value in found.metrics().items() if name.startswith(("baseline_acc", "baseline_rmse"))
    }


@pytest.mark.parametrize(
    ("learned", "truth", "wanted"),
    [
        (np.array(["a", "b", "b"], dtype=object), np.array(["a", "b"], dtype=object), {"baseline_accuracy/b": 0.5}),
        # The commonest class of the training split is answered, whichever is the commonest of the test split.
        (np.array([3, 3, 7]), np.array([7, 7, 7, 3]), {"baseline_accuracy/3": 0.25}),
        (np.array([5, 2]), np.array([2]), {"baseline_accuracy/2": 1.0}),
        (np.array([5, 5]), np.array([2]), {"baseline_accuracy/5": 0.0}),
    ],
)
def test_of_classes_the_commonest_is_answered(learned, truth, wanted) -> None:
    assert baseline(learned, truth) == wanted


def test_of_amounts_the_mean_is_answered() -> None:
    scored = baseline(np.array([1, 3]), np.array([2.0, 6.0]), regression=True)
    assert scored == {"baseline_rmse": pytest.approx(8**0.5)}
