"""Training rows that are changed a little in each epoch, so that a network learns less of each one by heart.

What becomes of a row is a function of the seed, the epoch and its place in it, which follows from these two: nothing
is stored, and a run that goes on from a checkpoint sees what one would have seen that was never stopped.
"""

from dataclasses import dataclass

import numpy as np
import torch
from headrace_data.spec import Augment

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
    """Return the rows of an epoch's batch as they are learned from: mixed with one another, then with noise.

    Mixup of Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018: one share
    for a batch, from the distribution Beta(mixup, mixup).
    """
    start = seed_for(f"augment {batch}", seed, epoch)
    generator = torch.Generator().manual_seed(start)
    inputs = rows.inputs
    parts: tuple[tuple[float, torch.Tensor], ...] = ((1.0, rows.targets),)
    if augment.mixup > 0 and len(rows) > 1:
        share = float(np.random.default_rng(start).beta(augment.mixup, augment.mixup))
        others = torch.randperm(len(rows), generator=generator)
        inputs = share * inputs + (1 - share) * inputs[others]
        parts = ((share, rows.targets), (1 - share, rows.targets[others]))
    if augment.noise > 0:
        inputs = inputs + augment.noise * torch.randn(inputs.shape, generator=generator)
    return Mixed(inputs, parts)
