"""Layers that are no part of PyTorch."""

import torch
from torch import nn


class Residual(nn.Module):
    """Adds what comes in to what some layers make of it, and rectifies: relu(inner(x) + shortcut(x)).

    He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.
    """

    def __init__(self, inner: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.shortcut = shortcut

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the shape that `inner` and `shortcut` give."""
        return torch.relu(self.inner(inputs) + self.shortcut(inputs))


class SpatialMean(nn.Module):
    """The mean over height and width: [batch, channels, height, width] -> [batch, channels]."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the means."""
        return inputs.mean(dim=(2, 3))
