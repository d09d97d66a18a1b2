"""The training loop."""

import math
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import torch
from headrace_data.spec import Train
from headrace_data.tasks import Mean
from torch import nn

from headrace_learning.errors import Diverged
from headrace_learning.networks import learned_of, load_learned
from headrace_learning.training.augmenting import augmented
from headrace_learning.training.budget import Purse
from headrace_learning.training.checkpoint import Checkpoint, Midway
from headrace_learning.training.compute import CPU, machine_of
from headrace_learning.training.objectives import Objective
from headrace_learning.training.optimizers import build_optimizer
from headrace_learning.training.ports import Checkpoints, Progress
from headrace_learning.training.randomness import seed_epoch
from headrace_learning.training.recomputing import recomputed
from headrace_learning.training.rows import MEASURED_AT_ONCE, Rows, Source
from headrace_learning.training.scaling import LossScale
from headrace_learning.training.schedules import Schedule
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


@dataclass(frozen=True)
class _Validation:
    loss: float
    measures: Mapping[str, float]


class Training:
    """Trains a network on one split and keeps the weights that do best on another.

    `subject` names what is trained on what: checkpoints of it are taken up, others are not.
    """

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
        self._network = network
        self._settings = settings
        self._objective = objective
        self._train = train
        self._validation = validation
        self._subject = subject
        self._checkpoints = checkpoints
        self._progress = progress
        self._machine = machine_of(settings.compute)
        network.to(self._machine.device)
        self._optimizer = build_optimizer(learned(network, settings), settings.optimizer)
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
        self._purse = Purse(settings.budget.cpu if settings.budget else None)
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
            if self._checkpoints.due(midway=False):
                self._save_checkpoint()
            seconds = (time.monotonic() - started) / (self._epoch - first)
            self._report(train_loss, validation, seconds)

        # A checkpoint of before the purse ran empty would have another attempt train one epoch more.
        if self._kept != (self._epoch, 0) or self._purse.is_empty():
            self._save_checkpoint()
        load_learned(self._network.to(CPU), self._best_weights)
        self._network.eval()
        return Outcome(self._epoch, self._best_epoch, self._best_loss)

    def _epochs_remain(self) -> bool:
        return self._epoch < self._settings.epochs and not (self._best_epoch and self._purse.is_empty())

    def _stands_still(self) -> bool:
        stop = self._settings.early_stop
        return stop is not None and self._epoch - self._best_epoch >= stop.patience

    def _train_one_epoch(self) -> float:
        """Make one pass over the training split, or what is left of one. Returns the mean loss over its rows."""
        epoch, seed = self._epoch + 1, self._settings.seed
        seed_epoch(seed, epoch)
        done, total = 0, 0.0
        if self._midway:
            done, total = self._midway.batches, self._midway.loss
            self._machine.restore_generators(self._midway.generator)
            self._midway = None
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
                if may_rest and self._purse.is_empty():
                    return self._finite(epoch, total / (done * settings.batch_size))
                if may_rest and self._checkpoints.due(midway=True):
                    self._save_checkpoint(Midway(done, self._finite(epoch, total), self._machine.generator_state()))
        return self._finite(epoch, total / count)

    def _learn(self, rows: Rows, steps: Steps, batch: int) -> float:
        """Learn from a batch, and move the weights when it is the last of its step. Returns its mean loss."""
        loss = self._loss(rows, batch)
        if steps.begins(batch):
            self._optimizer.zero_grad()
        part = loss if steps.together == 1 else loss * steps.weight(batch, len(rows))
        torch.autograd.backward(self._scale.scaled(part))
        if steps.ends(batch) and self._scale.unscale(self._optimizer):
            passed = self._epoch + steps.passed(batch)
            self._optimizer.step(self._schedule.factor(passed, steps.share(batch)))
        return float(loss.detach())

    def _loss(self, rows: Rows, batch: int) -> torch.Tensor:
        settings = self._settings
        machine = self._machine
        if settings.augment is None:
            moved = machine.moved(rows)
            return self._objective.loss(machine.answers(self._learner, moved.inputs), moved.targets)
        # Rows are changed on the CPU, so that the device has no say in what becomes of them.
        mixed = augmented(rows, settings.augment, settings.seed, self._epoch + 1, batch)
        outputs = machine.answers(self._learner, mixed.inputs.to(machine.device))
        losses = [share * self._objective.loss(outputs, to.to(machine.device)) for share, to in mixed.parts]
        return torch.stack(losses).sum()

    @torch.no_grad()
    def _validate(self) -> _Validation:
        """Measure the network as it is on the validation split."""
        self._network.eval()
        loss, measures = Mean(), defaultdict[str, Mean](Mean)
        for rows in self._validation.chunks():
            moved = self._machine.moved(rows)
            outputs = torch.cat([self._network(part) for part in torch.split(moved.inputs, MEASURED_AT_ONCE)])
            loss.add(float(self._objective.loss(outputs, moved.targets)), self._objective.weight(rows.targets))
            for name, value in self._objective.measure(outputs, moved.targets).items():
                measures[name].add(value, len(rows))
        return _Validation(
            loss=self._finite(self._epoch, loss.value),
            measures=self._objective.told({name: mean.value for name, mean in measures.items()}),
        )

    def _finite(self, epoch: int, loss: float) -> float:
        if not math.isfinite(loss):
            raise Diverged(epoch, loss, self._settings.optimizer.learning_rate)
        return loss

    def _keep_if_best(self, validation: _Validation) -> None:
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
        )
        self._checkpoints.save(checkpoint)
        self._kept = checkpoint.place

    def _take_up_checkpoint(self) -> None:
        checkpoint = self._checkpoints.newest(self._subject)
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
        self._purse.take_up(checkpoint.cpu_s)

    def _report(self, train_loss: float, validation: _Validation, seconds_per_epoch: float) -> None:
        metrics = {
            "train_loss": train_loss,
            "validation_loss": validation.loss,
            **{f"validation_{name}": value for name, value in validation.measures.items()},
        }
        remaining = self._settings.epochs - self._epoch
        self._progress.progress(self._epoch, self._settings.epochs, metrics, seconds_per_epoch * remaining)
