"""The training loop."""

import math
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from headrace_data.spec import Train
from torch import nn

from headrace_learning.errors import Diverged
from headrace_learning.networks import learned_of, load_learned
from headrace_learning.training.augmenting import Mixed, augmented
from headrace_learning.training.budget import Purse
from headrace_learning.training.checkpoint import Checkpoint, Midway
from headrace_learning.training.compute import machine_of
from headrace_learning.training.group import Part, Questions, group_of, require_rows_apart
from headrace_learning.training.measuring import Validation, validate
from headrace_learning.training.objectives import Objective
from headrace_learning.training.optimizers import build_optimizer
from headrace_learning.training.ports import Checkpoints, Progress
from headrace_learning.training.randomness import seed_epoch
from headrace_learning.training.recomputing import recomputed
from headrace_learning.training.rows import Rows, Source
from headrace_learning.training.scaling import LossScale
from headrace_learning.training.schedules import Schedule
from headrace_learning.training.spreading import Placed
from headrace_learning.training.steps import Steps
from headrace_learning.training.transfer import frozen, learned


@dataclass(frozen=True)
class Outcome:
    """How a training ended. The network holds the best epoch's weights."""

    epochs: int
    """Epochs run, those of earlier attempts included."""
    best_epoch: int
    best_loss: float
    """Validation loss after `best_epoch`: in nats, or in variances of the label for a regression."""
    privacy: Mapping[str, Any] | None = None
    """What it tells of a single row at most; None where nothing is promised."""


class Training:
    """Trains a network on one split and keeps the weights that do best on another.

    `subject` names what is trained on what: checkpoints of it are taken up, others are not. In a group of processes
    each runs one, over the same rows, and the one that leads keeps checkpoints and reports.
    """

    keeps_each_epoch = False
    """Whether there is a checkpoint of each epoch, however soon after another."""

    def __init__(
        self,
        network: nn.Module,
        settings: Train,
        objective: Objective,
        train: Source,
        validation: Source,
        subject: str,
        checkpoints: Checkpoints,
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._objective = objective
        self._train = train
        self._validation = validation
        self._subject = subject
        self._checkpoints = checkpoints
        self._progress = progress
        self._machine = machine_of(settings.compute)
        self._group = group_of(settings.compute)
        self._placed = Placed(network.to(self._machine.device), settings.compute, self._group)
        self._network = network = self._placed.learner
        self._rows = self._placed.rows
        """The processes that share the rows of a batch."""
        require_rows_apart(network, self._rows)
        self._optimizer = build_optimizer(learned(network, settings), settings.optimizer, self._placed.hold())
        self._frozen = frozen(network)
        self._scale = LossScale(needed=self._machine.precision == torch.float16)
        self._learner = self._machine.compiled(network)
        """What answers while it learns, with the same parameters."""
        self._schedule = Schedule(settings.optimizer.schedule, settings.epochs)
        self._epoch = 0
        self._best_epoch = 0
        self._best_loss = math.inf
        self._best_weights = learned_of(network)
        self._midway: Midway | None = None
        self._purse = Purse(settings.budget.cpu if settings.budget else None, self._group.sum)
        self._questions = Questions(self._group)
        self._kept = (0, 0)

    def run(self) -> Outcome:
        """Train until the epochs or the budget are used up or the validation loss stands still. Raises Diverged."""
        with recomputed(self._network, wanted=self._machine.recompute):
            return self._run()

    def _run(self) -> Outcome:
        self._take_up_checkpoint()
        started, first = time.monotonic(), self._epoch

        while self._epochs_remain() and not self._stands_still():
            train_loss = self._train_one_epoch()
            self._epoch += 1
            with self._optimizer.averaged():
                validation = self._validate()
                self._keep_if_best(validation)
            # Before the report: an epoch that was told of is not trained again.
            if self.keeps_each_epoch or self._is_due(midway=False):
                self._save_checkpoint()
            seconds = (time.monotonic() - started) / (self._epoch - first)
            self._report(train_loss, validation, seconds)

        # A checkpoint of before the purse ran empty would have another attempt train one epoch more.
        if self._kept != (self._epoch, 0) or self._purse.is_empty():
            self._save_checkpoint()
        self._placed.bring_back(self._best_weights)
        return Outcome(self._epoch, self._best_epoch, self._best_loss)

    def _epochs_remain(self) -> bool:
        return self._epoch < self._settings.epochs and not (self._best_epoch and self._purse.is_empty())

    def _stands_still(self) -> bool:
        stop = self._settings.early_stop
        return stop is not None and self._epoch - self._best_epoch >= stop.patience

    def _is_due(self, *, midway: bool) -> bool:
        """Return whether it is time for a checkpoint: the clock is that of the process that leads."""
        return bool(self._group.leaders(self._group.leads and self._checkpoints.due(midway=midway)))

    def _begin_epoch(self) -> tuple[int, float]:
        """Return the batches of the epoch that are done, and the sum of the losses of this process's rows in them."""
        seed_epoch(self._settings.seed, self._epoch + 1, self._rows.rank)
        midway, self._midway = self._midway, None
        if midway is None:
            return 0, 0.0
        if (state := self._rows.own(midway.generator)) is not None:
            self._machine.restore_generators(state)
        return midway.batches, midway.loss if self._rows.leads else 0.0

    def _train_one_epoch(self) -> float | None:
        """Make one pass over the training split, or what is left of one.

        Returns the mean loss over its rows; None where nobody is to be told.
        """
        epoch, seed = self._epoch + 1, self._settings.seed
        done, total = self._begin_epoch()
        self._network.train()
        for module in self._frozen:
            module.eval()
        count, settings = len(self._train), self._settings
        steps = Steps(count, settings.batch_size, settings.optimizer.accumulate)
        with closing(self._train.batches(settings.batch_size, seed, epoch)) as batches:
            for rows in islice(batches, done, None):
                total += self._learn(rows, steps, done) * len(rows)
                may_rest = steps.ends(done) and not steps.is_last(done)
                done += 1
                if not (may_rest and self._questions.now()):
                    continue
                if self._purse.is_empty():
                    return self._finite(epoch, self._rows.sum(total) / (done * settings.batch_size))
                if self._is_due(midway=True):
                    state = self._rows.stacked(self._machine.generator_state())
                    self._save_checkpoint(Midway(done, self._finite(epoch, self._rows.sum(total)), state))
        return self._finite(epoch, self._rows.sum(total) / count)

    def _learn(self, rows: Rows, steps: Steps, batch: int) -> float:
        """Learn from a batch, and move the weights when it is the last of its step.

        Returns its mean loss: of a group, this process's share of it.
        """
        loss = self._loss(rows, batch)
        if steps.begins(batch):
            self._optimizer.zero_grad()
        part = loss if steps.together == 1 else loss * steps.weight(batch, len(rows))
        if self._placed.gain != 1.0:
            part = part * self._placed.gain
        torch.autograd.backward(self._scale.scaled(part))
        if steps.ends(batch):
            self._optimizer.combine(self._rows.add_up)
            if self._scale.unscale(self._optimizer):
                passed = self._epoch + steps.passed(batch)
                self._optimizer.step(self._schedule.factor(passed, steps.share(batch)))
        return float(loss.detach())

    def _loss(self, rows: Rows, batch: int) -> torch.Tensor:
        settings = self._settings
        machine = self._machine
        if settings.augment is None and self._rows.size == 1:
            moved = machine.moved(rows)
            return self._objective.loss(machine.answers(self._learner, moved.inputs), moved.targets)
        mixed = Mixed(rows.inputs, ((1.0, rows.targets),))
        if settings.augment is not None:
            # Rows are changed on the CPU and all together: neither the device nor who has which row has a say in it.
            mixed = augmented(rows, settings.augment, settings.seed, self._epoch + 1, batch)
        own = self._rows.part(len(rows))
        outputs = machine.answers(self._learner, mixed.inputs[own.rows].to(machine.device))
        return torch.stack([share * self._share_of(outputs, targets, own) for share, targets in mixed.parts]).sum()

    def _share_of(self, outputs: torch.Tensor, targets: torch.Tensor, own: Part) -> torch.Tensor:
        """Return what this process's rows are of the mean loss of a batch with these targets."""
        mine = targets[own.rows]
        loss = self._objective.loss(outputs, mine.to(self._machine.device))
        if self._rows.size == 1:
            return loss
        weight = 0.0 if own.is_empty else self._objective.weight(mine)
        return loss * (weight / self._objective.weight(targets))

    def _validate(self) -> Validation:
        """Measure the network as it is on the validation split."""
        validation = validate(self._network, self._validation, self._objective, self._machine, self._rows)
        self._finite(self._epoch, validation.loss)
        return validation

    def _finite(self, epoch: int, loss: float) -> float:
        if not math.isfinite(loss):
            raise Diverged(epoch, loss, self._settings.optimizer.learning_rate)
        return loss

    def _keep_if_best(self, validation: Validation) -> None:
        stop = self._settings.early_stop
        better = validation.loss < self._best_loss - (stop.min_delta if stop else 0.0)
        self._schedule.saw(better=better)
        if better:
            self._best_epoch, self._best_loss = self._epoch, validation.loss
            self._best_weights = learned_of(self._network)

    def _save_checkpoint(self, midway: Midway | None = None) -> None:
        checkpoint = Checkpoint(
            subject=self._subject,
            epoch=self._epoch,
            weights=learned_of(self._network),
            best_weights=self._best_weights,
            best_epoch=self._best_epoch,
            best_loss=self._best_loss,
            optimizer={**self._optimizer.memory(), **self._schedule.memory(), **self._scale.memory()},
            midway=midway,
            cpu_s=self._purse.spent_s(),
            shard=self._placed.shard,
        )
        if self._group.leads or checkpoint.shard:
            self._checkpoints.save(checkpoint)
        self._kept = checkpoint.place

    def _take_up_checkpoint(self) -> None:
        checkpoint = self._placed.newest(self._checkpoints, self._subject)
        self._group.require_same("checkpoint", checkpoint.place if checkpoint else (0, 0))
        if checkpoint is None:
            return
        load_learned(self._network, checkpoint.weights)
        self._optimizer.restore(checkpoint.optimizer)
        self._schedule.restore(checkpoint.optimizer)
        self._scale.restore(checkpoint.optimizer)
        self._epoch = checkpoint.epoch
        self._best_epoch, self._best_loss = checkpoint.best_epoch, checkpoint.best_loss
        self._best_weights = dict(checkpoint.best_weights)
        self._midway, self._kept = checkpoint.midway, checkpoint.place
        if self._group.leads:
            self._purse.take_up(checkpoint.cpu_s)

    def _report(self, train_loss: float | None, validation: Validation, seconds_per_epoch: float) -> None:
        metrics = {
            **({} if train_loss is None else {"train_loss": train_loss}),
            "validation_loss": validation.loss,
            **{f"validation_{name}": value for name, value in validation.measures.items()},
        }
        remaining = self._settings.epochs - self._epoch
        if self._group.leads:
            self._progress.progress(self._epoch, self._settings.epochs, metrics, seconds_per_epoch * remaining)
