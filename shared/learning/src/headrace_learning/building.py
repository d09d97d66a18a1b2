"""From a pipeline's spec and its dataset's fitted transforms to a model with fresh weights."""

from collections.abc import Sequence

from headrace_data.spec import CnnNetwork, Field, Pipeline
from headrace_data.transforms import FittedTransforms
from torch import nn

from headrace_learning.errors import NotLearnable
from headrace_learning.networks import cnn, mlp
from headrace_learning.served import InputFeature, ServedModel


def build_model(pipeline: Pipeline, transforms: FittedTransforms, classes: int) -> ServedModel:
    """Build the model that the pipeline asks for, for so many classes.

    Weights are drawn from PyTorch's global generator. Raise `NotLearnable` when the pipeline asks for what cannot be.
    """
    features = pipeline.stream.features
    inputs = [_input(field, transforms) for field in features]
    match pipeline.train.network:
        case CnnNetwork() as network:
            shape = _image_shape(features)
            return ServedModel(inputs, shape, cnn(shape, network.channels, network.hidden, classes))
        case network:
            width = sum(field.size for field in features)
            built: nn.Module = mlp(width, network.hidden, classes, network.activation, network.dropout)
            return ServedModel(inputs, (width,), built)


def _input(field: Field, transforms: FittedTransforms) -> InputFeature:
    fitted = transforms[field.name]
    return InputFeature(field.name, field.type, field.shape, fitted.offset, fitted.scale)


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
