"""From a pipeline's spec and its dataset's fitted transforms to a model that serves what a family has learned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from headrace_data.spec import Field, Pipeline
from headrace_data.tasks import Classes
from headrace_data.transforms import FittedTransforms
from torch import nn

from headrace_learning.features import Feature
from headrace_learning.served import ServedClassifier, ServedModel, ServedRegressor


@dataclass(frozen=True)
class LabelScale:
    """The label over the training split, in its own unit: a family learns it in deviations from the mean."""

    mean: Any
    """A number; of a label with places [places]."""
    deviation: Any
    """Of the population; above zero. As `mean`."""
    steps: Classes = ()
    """Names of the label's places; none of a single value."""


def features_of(pipeline: Pipeline, transforms: FittedTransforms) -> list[Feature]:
    """Return the raw features with their fitted transforms. Raise `NotLearnable` for one that is none."""
    return [_feature(field, transforms) for field in pipeline.stream.features]


def served(
    pipeline: Pipeline,
    features: Sequence[Feature],
    shape: Sequence[int],
    network: nn.Module,
    answers: int | LabelScale,
) -> ServedModel:
    """Return the model around a network: for so many classes, or for a number of that scale.

    `shape` is that of one prepared row.
    """
    if isinstance(answers, LabelScale):
        answer_type = getattr(torch, pipeline.prediction_type)
        steps = tuple(map(str, answers.steps))
        return ServedRegressor(features, shape, network, answers.mean, answers.deviation, answer_type, steps)
    return ServedClassifier(features, shape, network)


def _feature(field: Field, transforms: FittedTransforms) -> Feature:
    element = "string" if field.type == "string" else field.dtype.name
    return Feature(transforms[field.name], element, field.shape)
