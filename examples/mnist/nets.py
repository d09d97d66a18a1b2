"""A backbone of timm as a network of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
from torch import nn


def backbone(shape: Sequence[int], outputs: int, name: str, **arguments: Any) -> nn.Module:
    """Return timm's model of that name over grey images [height, width], with weights drawn at random."""
    height, _ = shape
    model = timm.create_model(name, pretrained=False, in_chans=1, num_classes=outputs, **arguments)
    return nn.Sequential(nn.Unflatten(1, (1, height)), model)
