"""Regression: one number, or one for each place of the label, learned in deviations from the mean."""

from collections.abc import Callable

import numpy as np
import torch
from headrace_data.spec import Pipeline
from headrace_data.tasks import Classes
from headrace_data.tasks.regression import PREDICTION, Moments
from torch.nn import functional

from headrace_learning.building import LabelScale, served
from headrace_learning.graphs import Array
from headrace_learning.heads.head import Held, Learned, Teaching
from headrace_learning.training.objectives import Objective, Regression, RegressionOfSteps
from headrace_learning.training.transfer import Scales


def learn(pipeline: Pipeline, _places: Classes, labels: Moments) -> Learned:
    """Return what is learned: the scale of the training split is put back by the served model."""
    scale = LabelScale(labels.mean, labels.deviation, labels.steps)
    objective: Objective = (
        RegressionOfSteps(np.asarray(labels.deviation))
        if labels.steps
        else Regression(float(labels.deviation), float(labels.mean))
    )
    return Learned(
        len(labels.steps) or 1,
        objective,
        standardised(labels),
        lambda features, shape, network: served(pipeline, features, shape, network, scale),
        rescaled=lambda held: _rescaled(held, labels),
        teaching=Teaching(PREDICTION, answered(labels), _squares),
    )


def _squares(outputs: torch.Tensor, taught: torch.Tensor, _temperature: float) -> torch.Tensor:
    """Return the mean square of the difference, in variances of the label: a number has no temperature."""
    return functional.mse_loss(outputs, taught)


def answered(labels: Moments) -> Callable[[Array], torch.Tensor]:
    """Return what makes deviations of numbers that a graph answers, [rows, steps] or of one number [rows, 1]."""
    made = standardised(labels)
    return lambda values: made(values).reshape(len(values), -1)


def _rescaled(held: Held, labels: Moments) -> Scales | None:
    """Return what puts deviations from another mean into those of these labels; None where they are the same."""
    if not {"mean", "deviation"} <= held.keys() or held["mean"].shape != np.shape(labels.mean):
        return None  # of another horizon
    mean, deviation = (held[name].numpy() if labels.steps else float(held[name]) for name in ("mean", "deviation"))
    if np.array_equal(mean, labels.mean) and np.array_equal(deviation, labels.deviation):
        return None
    return deviation / labels.deviation, (mean - labels.mean) / labels.deviation


def standardised(labels: Moments) -> Callable[[Array], torch.Tensor]:
    """Return what makes deviations from the mean of labels, [rows, *shape of the label] float32."""
    mean, deviation = labels.mean, labels.deviation

    def made(values: Array) -> torch.Tensor:
        return torch.from_numpy(((values.astype(np.float64) - mean) / deviation).astype(np.float32))

    return made
