"""A network over sequences that asks what comes in them, wherever it comes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn


class Steps(nn.Module):
    """Convolutions over the steps of a sequence, and the mean over all steps.

    The fully convolutional network of Wang, Yan and Oates, "Time Series Classification from Scratch with Deep Neural
    Networks: A Strong Baseline", IJCNN 2017.
    """

    def __init__(self, values: int, outputs: int, channels: int) -> None:
        super().__init__()
        widths = (values, channels, 2 * channels, channels)
        self.layers = nn.Sequential(
            *(
                layer
                for (inputs, width), size in zip(pairwise(widths), (9, 5, 3), strict=True)
                for layer in (nn.Conv1d(inputs, width, size, padding=size // 2), nn.BatchNorm1d(width), nn.ReLU())
            )
        )
        self.answers = nn.Linear(channels, outputs)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return [batch, outputs] of [batch, steps, values]."""
        answers: torch.Tensor = self.answers(self.layers(rows.transpose(1, 2)).mean(dim=2))
        return answers


def convolutional(shape: Sequence[int], outputs: int, channels: int = 64) -> nn.Module:
    """Return a network over sequences of shape [steps, values]."""
    _, values = shape
    return Steps(values, outputs, channels)
