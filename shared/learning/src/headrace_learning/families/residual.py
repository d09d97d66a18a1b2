"""A residual network over one feature that is an image."""

from collections.abc import Sequence

from headrace_data.spec import ResidualNetwork
from headrace_data.spec.network_size import Block, residual_blocks
from torch import nn

from headrace_learning.errors import NotLearnable
from headrace_learning.families.network import NetworkFamily, image_shape
from headrace_learning.features import Feature
from headrace_learning.layers import Residual, SpatialMean


def _normalised(before: int, after: int, side: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, kernel_size=side, stride=stride, padding=side // 2, bias=False)
    return [convolution, nn.BatchNorm2d(after)]


def _residual(block: Block) -> nn.Module:
    first = _normalised(block.before, block.after, 3, block.stride)
    second = _normalised(block.after, block.after, 3)
    # At first a block passes on what it is given, so that many of them learn as well as few.
    nn.init.zeros_(second[1].weight)  # type: ignore[arg-type]
    skips = [] if block.keeps_shape else _normalised(block.before, block.after, 1, block.stride)
    return Residual(nn.Sequential(*first, nn.ReLU(), *second), nn.Sequential(*skips) if skips else nn.Identity())


def _build(section: ResidualNetwork, shape: Sequence[int], outputs: int) -> nn.Module:
    return nn.Sequential(
        *_normalised(shape[0], section.channels[0], 3),
        nn.ReLU(),
        *(_residual(block) for block in residual_blocks(section, shape)),
        SpatialMean(),
        nn.Linear(section.channels[-1], outputs),
    )


def _shape(features: Sequence[Feature]) -> tuple[int, int, int]:
    channels, height, width = image_shape(features)
    if height * width == 1:
        raise NotLearnable("train.network: residual expects images of more than one point, got [1, 1]")
    return channels, height, width


FAMILY = NetworkFamily(_build, _shape)
