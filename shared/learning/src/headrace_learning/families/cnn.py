"""A small convolutional network over one feature that is an image."""

from collections.abc import Sequence
from itertools import pairwise

from headrace_data.spec import CnnNetwork
from headrace_data.spec.network_size import SMALLEST_POOLED_SIDE
from torch import nn

from headrace_learning.families.mlp import mlp
from headrace_learning.families.network import NetworkFamily, image_shape


def cnn(shape: Sequence[int], channels: Sequence[int], hidden: Sequence[int], outputs: int) -> nn.Module:
    """Build a small convolutional network: [batch, *shape] -> [batch, outputs].

    `shape` is [channels, height, width] of one row. Each of the `channels` adds a 3 x 3 convolution, a ReLU, and a
    pooling that halves height and width while both are at least 4. A multi-layer perceptron with the `hidden` layers
    follows.
    """
    depth, height, width = shape
    layers: list[nn.Module] = []
    for before, after in pairwise([depth, *channels]):
        layers += [nn.Conv2d(before, after, kernel_size=3, padding=1), nn.ReLU()]
        if min(height, width) >= SMALLEST_POOLED_SIDE:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    flat = [depth, *channels][-1] * height * width
    return nn.Sequential(*layers, nn.Flatten(), mlp(flat, hidden, outputs))


def _build(section: CnnNetwork, shape: Sequence[int], outputs: int) -> nn.Module:
    return cnn(shape, section.channels, section.hidden, outputs)


FAMILY = NetworkFamily(_build, image_shape)
