"""A network that hears: convolutions over time, whose channels are the bands of a spectrogram."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def hearing(shape: Sequence[int], outputs: int, channels: int = 64, dropout: float = 0.2) -> nn.Module:
    """Return a network over spectrograms of shape [bands, frames]."""
    bands, _ = shape
    layers: list[nn.Module] = []
    for inputs in (bands, channels, channels):
        layers += [nn.Conv1d(inputs, channels, kernel_size=5, padding=2), nn.BatchNorm1d(channels), nn.SiLU()]
        layers += [nn.MaxPool1d(2)]
    layers += [nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, outputs)]
    return nn.Sequential(*layers)
