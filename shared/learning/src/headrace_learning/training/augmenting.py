"""Training rows that are changed a little in each epoch, so that a network learns less of each one by heart.

What becomes of a row is a function of the seed, the epoch and its place in it, which follows from these two: nothing
is stored, and a run that goes on from a checkpoint sees what one would have seen that was never stopped.
"""

from dataclasses import dataclass

import numpy as np
import torch
from headrace_data.spec import Augment
from torch.nn import functional

from headrace_learning.training.randomness import seed_for
from headrace_learning.training.rows import Rows


@dataclass(frozen=True)
class Mixed:
    """Rows that may each be a part of one and a part of another."""

    inputs: torch.Tensor
    """[rows, *input shape of the network] float32."""
    parts: tuple[tuple[float, torch.Tensor], ...]
    """Targets, [rows], with the share of the loss that each has; the shares sum to 1."""


def augmented(rows: Rows, augment: Augment, seed: int, epoch: int, batch: int) -> Mixed:
    """Return the rows of an epoch's batch as they are learned from: images changed, amplified, mixed, then noise.

    Mixup of Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018: one share
    for a batch, from the distribution Beta(mixup, mixup).
    """
    start = seed_for(f"augment {batch}", seed, epoch)
    generator = torch.Generator().manual_seed(start)
    inputs = rows.inputs
    if inputs.dim() == 3:
        inputs = _images(_later(inputs, augment.time_shift, generator)[:, None], augment, generator)[:, 0]
    else:
        inputs = _images(inputs, augment, generator)
    if augment.gain > 0:
        some = torch.rand(len(rows), *(1,) * (inputs.dim() - 1), generator=generator)
        inputs = inputs * (1 + augment.gain * (2 * some - 1))
    parts: tuple[tuple[float, torch.Tensor], ...] = ((1.0, rows.targets),)
    if augment.mixup > 0 and len(rows) > 1:
        share = float(np.random.default_rng(start).beta(augment.mixup, augment.mixup))
        others = torch.randperm(len(rows), generator=generator)
        inputs = share * inputs + (1 - share) * inputs[others]
        parts = ((share, rows.targets), (1 - share, rows.targets[others]))
    if augment.noise > 0:
        inputs = inputs + augment.noise * torch.randn(inputs.shape, generator=generator)
    return Mixed(inputs, parts)


def _images(images: torch.Tensor, augment: Augment, generator: torch.Generator) -> torch.Tensor:
    """Return images, [rows, channels, height, width], each mirrored, turned, moved and with holes, or not.

    Bands as in SpecAugment of Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech
    Recognition", Interspeech 2019, one of each kind.
    """
    if augment.flip:
        mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
        images = torch.where(mirrored, images.flip(-1), images)
    if augment.rotate > 0:
        images = _turned(images, augment.rotate, generator)
    if augment.shift > 0:
        images = _shifted(images, augment.shift, generator)
    if augment.erase > 0:
        down, across = (_span(len(images), size, augment.erase, generator) for size in images.shape[-2:])
        images = images.masked_fill((down[:, :, None] & across[:, None, :])[:, None], 0.0)
    if augment.mask > 0:
        down, across = (_span(len(images), size, augment.mask, generator) for size in images.shape[-2:])
        images = images.masked_fill((down[:, :, None] | across[:, None, :])[:, None], 0.0)
    return images


def _later(sequences: torch.Tensor, most: int, generator: torch.Generator) -> torch.Tensor:
    """Return sequences, [rows, steps, values], each moved by up to so many steps, later or earlier."""
    if most == 0:
        return sequences
    rows, steps, _ = sequences.shape
    places = torch.arange(steps) - torch.randint(-most, most + 1, (rows, 1), generator=generator)
    moved = sequences[torch.arange(rows)[:, None], places.clamp(0, steps - 1)]
    return moved.masked_fill(((places < 0) | (places >= steps))[:, :, None], 0.0)


def _turned(images: torch.Tensor, most: float, generator: torch.Generator) -> torch.Tensor:
    """Return images turned about their centres, pixels of their neighbours' weighted mean."""
    height, width = images.shape[-2:]
    angles = torch.deg2rad(most * (2 * torch.rand(len(images), generator=generator) - 1))
    cosines, sines, zeros = torch.cos(angles), torch.sin(angles), torch.zeros(len(images))
    # A grid's coordinates are shares of height and width: what is turned are pixels.
    across = torch.stack([cosines, -sines * height / width, zeros], dim=1)
    down = torch.stack([sines * width / height, cosines, zeros], dim=1)
    grid = functional.affine_grid(torch.stack([across, down], dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def _shifted(images: torch.Tensor, most: int, generator: torch.Generator) -> torch.Tensor:
    rows, _, height, width = images.shape
    starts = torch.randint(0, 2 * most + 1, (2, rows, 1), generator=generator) - most
    down, across = starts[0] + torch.arange(height), starts[1] + torch.arange(width)
    # Rows and columns that come in from outside are taken from the border, then blanked: nothing grows with the shift.
    places = down.clamp(0, height - 1)[:, :, None], across.clamp(0, width - 1)[:, None, :]
    moved = images[torch.arange(rows)[:, None, None], :, *places].permute(0, 3, 1, 2).contiguous()
    outside = ((down < 0) | (down >= height))[:, :, None] | ((across < 0) | (across >= width))[:, None, :]
    return moved.masked_fill_(outside[:, None], 0.0)


def _span(rows: int, size: int, share: float, generator: torch.Generator) -> torch.Tensor:
    """Return which places of each row lie in a span of at most this share of them, [rows, size] bool."""
    length, start = torch.rand(2, rows, 1, generator=generator)
    length = (length * share * size).round()
    first = (start * (size - length + 1)).floor()
    places = torch.arange(size)
    inside: torch.Tensor = (places >= first) & (places < first + length)
    return inside
