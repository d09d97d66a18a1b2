"""Training that tells little of any single row: DP-SGD.

Abadi et al., "Deep Learning with Differential Privacy" (CCS 2016), algorithm 1. A step takes each row with the chance
`batch_size` over rows, clips the gradient of each row that it took, and adds Gaussian noise to their sum. What that
spends is counted by Opacus' accountant of Renyi differential privacy (Mironov, Talwar and Zhang, 2019); the neighbour
of a dataset has one row of the training split more or less.

Which rows a step takes, the units that dropout silences, what augmenting makes of a row and the noise are drawn from
the operating system's randomness, never from the run's seed: who knows them could take them off again. So such a
run never repeats itself. An epoch that anybody was told of is in a checkpoint, and is not run again: noise drawn twice
for one step would be spent twice.
"""

import math
import secrets
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from headrace_data.spec import Privacy, Train
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from headrace_learning.errors import NotLearnable
from headrace_learning.training.augmenting import augmented
from headrace_learning.training.checkpoint import Midway
from headrace_learning.training.loop import Outcome, Training
from headrace_learning.training.objectives import Objective
from headrace_learning.training.rows import Rows

ACCOUNTANT: Final = "rdp"
_GRADIENT_BYTES: Final = 2**28
"""What the gradients of the rows that are taken at once take, at most; those of one row always are."""
_SEED_BITS: Final = 63


@dataclass(frozen=True)
class Spending:
    """The noise of a run, and what it spends when all of its steps are done."""

    rate: float
    """The chance with which a step takes a row."""
    steps: int
    """In all epochs."""
    noise: float
    """Deviation of the noise, as a multiple of the clip."""
    epsilon: float
    """Spent with delta: what was asked for, or a little less."""

    @property
    def steps_of_epoch(self) -> int:
        """How many steps take about as many rows as there are."""
        return math.ceil(1 / self.rate)


def require_small_delta(privacy: Privacy, rows: int) -> None:
    """Raise `NotLearnable` for a promise that who publishes one of so many rows would keep."""
    if privacy.delta >= 1 / rows:
        raise NotLearnable(
            f"train.privacy.delta: expected less than one over the {rows:,} rows of the training split, or a version "
            f"that publishes one of them would do, got {privacy.delta:g}"
        )


def spending(privacy: Privacy, rows: int, batch_size: int, epochs: int) -> Spending:
    """Return the least noise by which a run of so many rows and epochs spends what it may. Raise `NotLearnable`."""
    require_small_delta(privacy, rows)
    rate = min(1.0, batch_size / rows)
    steps = epochs * math.ceil(1 / rate)
    try:
        from opacus.accountants import create_accountant
        from opacus.accountants.utils import get_noise_multiplier
    except ImportError as error:
        raise NotLearnable(
            "train.privacy: privacy needs Opacus, which this trainer does not have: install headrace-learning[privacy] "
            f"({error})"
        ) from error
    asked = {"target_epsilon": privacy.epsilon, "target_delta": privacy.delta, "sample_rate": rate, "steps": steps}
    with warnings.catch_warnings():
        # It says that another order might show a little less: the bound holds all the same.
        warnings.simplefilter("ignore", UserWarning)
        try:
            noise = get_noise_multiplier(**asked, accountant=ACCOUNTANT)
        except ValueError as error:
            raise NotLearnable(
                "train.privacy.epsilon: expected more, as no noise can be shown to spend as little in "
                f"{steps:,} steps with delta {privacy.delta:g}, got {privacy.epsilon:g}"
            ) from error
        accountant = create_accountant(ACCOUNTANT)
        accountant.history = [(noise, rate, steps)]
        return Spending(rate, steps, float(noise), float(accountant.get_epsilon(privacy.delta)))


class PrivateTraining(Training):
    """A training whose steps are noisy sums of clipped gradients, one of each row."""

    keeps_each_epoch = True

    def run(self) -> Outcome:
        """Train as `Training.run` does. Raise `NotLearnable` for a network that rows cannot be learned by alone."""
        if type(self._train) is not Rows:
            raise NotLearnable(
                "train.privacy: expected a training split that fits into memory, so that each step can take any row, "
                f"got one of {len(self._train):,} rows that is streamed; freeze fewer, or give the trainer more memory"
            )
        _require_row_by_row(self._network)
        self._gradients = RowGradients(self._network, self._objective, self._privacy.clip)
        self._gradients.require_possible(self._machine.moved(_first(self._train)))
        self._spending = spending(self._privacy, len(self._train), self._settings.batch_size, self._settings.epochs)
        self._secret = torch.Generator().manual_seed(secrets.randbits(_SEED_BITS))
        return replace(super().run(), privacy=self._told())

    @property
    def _privacy(self) -> Privacy:
        asked = self._settings.privacy
        if asked is None:
            raise ValueError("expected train.privacy, got none")
        return asked

    def _told(self) -> Mapping[str, Any]:
        """Return what the version says of its privacy; all steps are counted, also those that were not needed."""
        privacy, spent = self._privacy, self._spending
        return {
            "unit": "one row of the training split",
            "epsilon": spent.epsilon,
            "delta": privacy.delta,
            "clip": privacy.clip,
            "noise_multiplier": spent.noise,
            "sample_rate": spent.rate,
            "steps": spent.steps,
            "accountant": ACCOUNTANT,
        }

    def _train_one_epoch(self) -> None:
        """Make the steps of an epoch, or what is left of them. Nobody is told the loss of the rows themselves."""
        done, _ = self._begin_epoch()
        torch.manual_seed(secrets.randbits(_SEED_BITS))
        self._network.train()
        steps = self._spending.steps_of_epoch
        for step in range(done, steps):
            self._step(step / steps, 1 / steps)
            if step + 1 < steps and self._purse.is_empty():
                return
            if step + 1 < steps and self._is_due(midway=True):
                self._save_checkpoint(Midway(step + 1, 0.0, torch.get_rng_state()))

    def _step(self, passed: float, share: float) -> None:
        """Take rows by chance, and move the weights by the noisy sum of their clipped gradients."""
        taken = torch.rand(len(self._train), generator=self._secret, dtype=torch.float64) < self._spending.rate
        sums = self._gradients.summed(self._changed(_chosen(self._train, taken)))
        deviation = self._spending.noise * self._privacy.clip
        # Over the rows that are expected and not those that came: how many these are is not to be told.
        expected = self._spending.rate * len(self._train)
        for name, parameter in self._gradients.learned.items():
            noise = torch.randn(parameter.shape, generator=self._secret).to(parameter.device)
            if parameter.grad is None:
                raise ValueError(f"expected the optimiser's gradient of {name}, got none")
            parameter.grad.copy_((sums[name] + deviation * noise) / expected)
        self._optimizer.step(self._schedule.factor(self._epoch + passed, share))

    def _changed(self, rows: Rows) -> Rows:
        """Return rows as they are learned from, on the device."""
        augment = self._settings.augment
        if augment is not None and len(rows):
            rows = Rows(augmented(rows, augment, secrets.randbits(_SEED_BITS), 0, 0).inputs, rows.targets)
        return self._machine.moved(rows)


class RowGradients:
    """Gradients of a network's loss, of each row by itself, clipped."""

    def __init__(self, network: nn.Module, objective: Objective, clip: float) -> None:
        self.learned = {name: each for name, each in network.named_parameters() if each.requires_grad}
        """The parameters that learn, by name."""
        self._held: dict[str, torch.Tensor] = dict(network.named_buffers())
        self._held |= {name: each for name, each in network.named_parameters() if not each.requires_grad}
        self._network, self._objective, self._clip = network, objective, clip
        size = sum(each.numel() for each in self.learned.values())
        self._at_once = max(_GRADIENT_BYTES // (4 * size), 1)
        one: Callable[..., Any] = grad(self._loss)
        self._each: Callable[..., Any] = vmap(one, in_dims=(None, 0, 0), randomness="different")

    def _loss(self, learned: Mapping[str, torch.Tensor], inputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        outputs = functional_call(self._network, {**self._held, **learned}, (inputs[None],))
        return self._objective.loss(outputs, target[None])

    def summed(self, rows: Rows) -> dict[str, torch.Tensor]:
        """Return the sum of the rows' gradients, each of a norm of at most the clip, by parameter."""
        sums = {name: torch.zeros_like(each) for name, each in self.learned.items()}
        held = {name: each.detach() for name, each in self.learned.items()}
        parts = zip(torch.split(rows.inputs, self._at_once), torch.split(rows.targets, self._at_once), strict=True)
        for inputs, targets in parts if len(rows) else ():
            gradients = self._each(held, inputs, targets)
            norms = torch.stack([each.flatten(1).norm(dim=1) for each in gradients.values()]).norm(dim=0)
            # One that is no number would take the place of all others: such a row counts as none.
            shares = torch.where(norms.isfinite(), (self._clip / norms.clamp(min=1e-12)).clamp(max=1.0), 0.0)
            for name, each in gradients.items():
                sums[name] += torch.einsum("r,r...->...", shares, each.nan_to_num(0.0, 0.0, 0.0))
        return sums

    def require_possible(self, rows: Rows) -> None:
        """Raise `NotLearnable` where rows have no gradients of their own."""
        try:
            self.summed(rows)
        except (RuntimeError, ValueError, TypeError) as error:
            raise NotLearnable(
                "train.privacy: expected a network whose gradient can be taken row by row (torch.func.vmap), got "
                f"{type(error).__name__}: {error}".partition("\n")[0]
            ) from error


def gradient_bytes(train: Train, parameters: int) -> int:
    """Return the memory of the gradients that are taken row by row; none where they are not."""
    if train.privacy is None:
        return 0
    return max(min(4 * parameters * train.batch_size, _GRADIENT_BYTES), 4 * parameters)


def training_of(train: Train) -> type[Training]:
    """Return what trains as a section says."""
    return Training if train.privacy is None else PrivateTraining


def _require_row_by_row(network: nn.Module) -> None:
    """Raise `NotLearnable` for layers that mix the rows of a batch, with their names."""
    found = [
        f"{name} ({type(each).__name__})" for name, each in network.named_modules() if isinstance(each, _BatchNorm)
    ]
    if found:
        raise NotLearnable(
            "train.privacy: expected layers that take each row by itself, such as GroupNorm or LayerNorm, got "
            f"{', '.join(found)}"
        )


def _first(rows: Any) -> Rows:
    return Rows(rows.inputs[:1], rows.targets[:1])


def _chosen(rows: Any, taken: torch.Tensor) -> Rows:
    places = taken.nonzero()[:, 0]
    return Rows(rows.inputs.index_select(0, places), rows.targets.index_select(0, places))
