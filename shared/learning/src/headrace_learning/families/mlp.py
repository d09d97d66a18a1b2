"""A multi-layer perceptron over all features side by side."""

from collections.abc import Sequence
from itertools import pairwise

from headrace_data.spec import MlpNetwork
from torch import nn

from headrace_learning.errors import NotLearnable
from headrace_learning.families.network import NetworkFamily

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


def mlp(width: int, hidden: Sequence[int], outputs: int, activation: str = "relu", dropout: float = 0.0) -> nn.Module:
    """Build a multi-layer perceptron: [batch, width] -> [batch, outputs].

    Each of the `hidden` layers is linear, then the activation, then dropout with the given probability.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise([width, *hidden]):
        layers += [nn.Linear(before, after), _activation(activation), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear([width, *hidden][-1], outputs))


def _build(section: MlpNetwork, shape: Sequence[int], outputs: int) -> nn.Module:
    return mlp(shape[0], section.hidden, outputs, section.activation, section.dropout)


def _activation(name: str) -> nn.Module:
    if name not in _ACTIVATIONS:
        raise NotLearnable(f"train.network.activation: expected one of {sorted(_ACTIVATIONS)}, got {name!r}")
    return _ACTIVATIONS[name]()


FAMILY = NetworkFamily(_build)
