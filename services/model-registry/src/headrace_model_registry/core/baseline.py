"""A version beside an answer that looks at no feature: always the training split's commonest class, or its mean.

The trainer measures both on the version's own test split. Where every class counts alike (`classWeights: balanced`) a
version may rightly miss the commonest class more often: there the mean of the classes' accuracies is compared, which
always the same answer brings to one in as many classes as have test rows. With one class alone nothing is told by it.
"""

from collections.abc import Mapping
from statistics import fmean

_ACCURACY = "accuracy/"
_BASELINE_ACCURACY = "baseline_accuracy/"
_ROUNDING = 1e-9
"""Measurements that differ by less, as a share of them, are equal: sums in another order do."""


def why_below_baseline(metrics: Mapping[str, float], *, balanced: bool) -> str:
    """Return why a version answers worse than its baseline, empty when it does not or when no baseline was measured.

    `metrics` are those of its training run; `balanced` tells whether each class counted alike in it.
    """
    if "rmse" in metrics:
        return _worse_number(metrics["rmse"], metrics.get("baseline_rmse"))
    if "accuracy" not in metrics:
        return ""
    classes = [value for name, value in metrics.items() if name.startswith(_ACCURACY)]
    if balanced and len(classes) == 1:
        return ""
    if balanced and classes:
        own, chance = fmean(classes), 1.0 / len(classes)
        told = f"the mean of the classes' accuracies is {own:.4f}, and {chance:.4f} with always the same answer"
        return _below(told) if own < chance * (1.0 - _ROUNDING) else ""
    for name, value in metrics.items():
        if name.startswith(_BASELINE_ACCURACY) and metrics["accuracy"] < value * (1.0 - _ROUNDING):
            commonest = name.removeprefix(_BASELINE_ACCURACY)
            return _below(f"accuracy {metrics['accuracy']:.4f}, and {value:.4f} by always answering '{commonest}'")
    return ""


def _worse_number(rmse: float, baseline: float | None) -> str:
    if baseline is None or rmse <= baseline * (1.0 + _ROUNDING):
        return ""
    return _below(f"rmse {rmse:.6g}, and {baseline:.6g} by always answering the mean")


def _below(measured: str) -> str:
    return (
        f"worse than an answer that looks at no feature: {measured}, both on the test split. More rows, other features "
        "or longer training may help; compress.gates.baseline: ignored releases it all the same"
    )
