"""The networks that a pipeline can ask for, built from plain numbers.

Weights are drawn from PyTorch's global generator: seed it first for the same network again.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from headrace_data.spec.network_size import SMALLEST_POOLED_SIDE
from torch import nn

from headrace_learning.errors import NotLearnable

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


def mlp(width: int, hidden: Sequence[int], outputs: int, activation: str = "relu", dropout: float = 0.0) -> nn.Module:
    """Build a multi-layer perceptron: [batch, width] -> [batch, outputs].

    Each of the `hidden` layers is linear, then the activation, then dropout with the given probability.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise([width, *hidden]):
        layers += [nn.Linear(before, after), _activation(activation), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear([width, *hidden][-1], outputs))


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


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers the module learns."""
    return sum(parameter.numel() for parameter in module.parameters())


def weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of everything that the module has learnt or been given, by name, contiguous and on the CPU."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}


def _activation(name: str) -> nn.Module:
    if name not in _ACTIVATIONS:
        raise NotLearnable(f"train.network.activation: expected one of {sorted(_ACTIVATIONS)}, got {name!r}")
    return _ACTIVATIONS[name]()
