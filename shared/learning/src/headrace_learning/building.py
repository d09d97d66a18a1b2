"""From a pipeline's spec and its dataset's fitted transforms to a model with fresh weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from headrace_data.spec import CnnNetwork, Field, Pipeline
from headrace_data.transforms import FittedTransforms
from torch import nn

from headrace_learning.errors import NotLearnable
from headrace_learning.features import Feature
from headrace_learning.networks import cnn, mlp
from headrace_learning.served import ServedClassifier, ServedModel, ServedRegressor


@dataclass(frozen=True)
class LabelScale:
    """The label over the training split, in its own unit: a network learns it in deviations from the mean."""

    mean: float
    deviation: float
    """Of the population; above zero."""


def build_model(pipeline: Pipeline, transforms: FittedTransforms, answers: int | LabelScale) -> ServedModel:
    """Build the model that the pipeline asks for: for so many classes, or for a number of that scale.

    Weights are drawn from PyTorch's global generator. Raise `NotLearnable` when the pipeline asks for what cannot be.
    """
    inputs = [_input(field, transforms) for field in pipeline.stream.features]
    shape = input_shape(pipeline, transforms)
    outputs = answers if isinstance(answers, int) else 1
    network: nn.Module
    match pipeline.train.network:
        case CnnNetwork() as chosen:
            network = cnn(shape, chosen.channels, chosen.hidden, outputs)
        case chosen:
            network = mlp(shape[0], chosen.hidden, outputs, chosen.activation, chosen.dropout)
    if isinstance(answers, LabelScale):
        answer_type = getattr(torch, pipeline.prediction_type)
        return ServedRegressor(inputs, shape, network, answers.mean, answers.deviation, answer_type)
    return ServedClassifier(inputs, shape, network)


def input_shape(pipeline: Pipeline, transforms: FittedTransforms) -> tuple[int, ...]:
    """Return the shape of one row as the network takes it. Raise `NotLearnable` when the pipeline has none for it."""
    features = pipeline.stream.features
    if isinstance(pipeline.train.network, CnnNetwork):
        return _image_shape(features)
    return (sum(transforms[field.name].width for field in features),)


def _input(field: Field, transforms: FittedTransforms) -> Feature:
    element = "string" if field.type == "string" else field.dtype.name
    return Feature(transforms[field.name], element, field.shape)


def _image_shape(features: Sequence[Field]) -> tuple[int, int, int]:
    """Return channels, height and width of the one feature that a convolutional network looks at."""
    shapes = [list(field.shape) for field in features]
    match shapes:
        case [[height, width]]:
            return (1, height, width)
        case [[channels, height, width]]:
            return (channels, height, width)
    raise NotLearnable(
        "train.network: cnn expects exactly one feature, of shape [height, width] or [channels, height, width]; "
        f"got shapes {shapes}"
    )
