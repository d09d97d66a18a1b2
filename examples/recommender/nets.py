"""Two towers as a network of one's own: what a visitor is, what a film is, and how well the two go together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class TwoTowers(nn.Module):
    """One tower makes a vector of a visitor, another one of a film; the score is their dot product."""

    def __init__(self, visitor: int, film: int, hidden: int, width: int) -> None:
        super().__init__()
        self.split = [visitor, film]
        self.visitor, self.film = (
            nn.Sequential(nn.Linear(values, hidden), nn.ReLU(), nn.Linear(hidden, width)) for values in self.split
        )

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Score rows, [batch, visitor + film] float32: [batch, 1]."""
        visitor, film = torch.split(rows, self.split, dim=1)
        scores: torch.Tensor = (self.visitor(visitor) * self.film(film)).sum(dim=1, keepdim=True)
        return scores


def two_towers(shape: Sequence[int], outputs: int, visitor: int, hidden: int = 32, width: int = 16) -> nn.Module:
    """Return towers over features side by side: the first `visitor` values are the visitor's, the others the film's."""
    (values,) = shape
    if outputs != 1:
        raise ValueError(f"expected one output, the score, got {outputs}")
    return TwoTowers(visitor, values - visitor, hidden, width)
