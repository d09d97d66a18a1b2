"""Regression: one number, learned in deviations of the label from its mean."""

from collections.abc import Callable

import numpy as np
import torch
from headrace_data.spec import Pipeline
from headrace_data.tasks import Classes
from headrace_data.tasks.regression import Moments

from headrace_learning.building import LabelScale, served
from headrace_learning.graphs import Array
from headrace_learning.heads.head import Learned
from headrace_learning.training.objectives import Regression


def learn(pipeline: Pipeline, _places: Classes, labels: Moments) -> Learned:
    """Return what is learned: the scale of the training split is put back by the served model."""
    scale = LabelScale(labels.mean, labels.deviation)
    return Learned(
        1,
        Regression(scale.deviation, scale.mean),
        standardised(labels),
        lambda features, shape, network: served(pipeline, features, shape, network, scale),
    )


def standardised(labels: Moments) -> Callable[[Array], torch.Tensor]:
    """Return what makes deviations from the mean of labels, [rows] float32."""
    mean, deviation = labels.mean, labels.deviation

    def made(values: Array) -> torch.Tensor:
        return torch.from_numpy(((values.astype(np.float64) - mean) / deviation).astype(np.float32))

    return made
