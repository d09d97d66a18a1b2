"""Gradient-boosted trees, grown by LightGBM: what most tables want, and an honest mark for networks on them.

A step is a round: one tree for each output. Rows are prepared as for every family, so a tree splits what the transforms
make, and the graph has them in front of it. LightGBM is an extra (`headrace-learning[trees]`) and imported here alone.
"""

import importlib
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from headrace_data.spec import Train, TreesModel

from headrace_learning.errors import NotLearnable
from headrace_learning.families.boosted import Boosted
from headrace_learning.families.family import Family, Fitted, Run, Sources
from headrace_learning.families.network import flat_shape
from headrace_learning.features import Feature
from headrace_learning.graphs import Array
from headrace_learning.heads.count import Poisson
from headrace_learning.served import Served
from headrace_learning.training.budget import Purse
from headrace_learning.training.checkpoint import Checkpoint
from headrace_learning.training.loop import Outcome
from headrace_learning.training.objectives import Classification, Objective, Regression
from headrace_learning.training.rows import Rows, Source, joined

_TEXT = "trees"
"""Name of the model's text among the tensors of a checkpoint, [bytes] uint8."""
_END = "end of trees\n"
_SMALLEST = 1e-300
"""Where the logarithm of a probability is cut off."""
MOST_NODES = 4_000_000
"""Most nodes of a version, about: a node takes 60 bytes of the graph, and nearly 500 while that is written."""
_LEAVES = re.compile(r"^num_leaves=([0-9]+)$", re.MULTILINE)
_FLOAT, _DOUBLE = 4, 8
_OBJECTIVES: Mapping[type, dict[str, Any]] = {
    Classification: {"objective": "binary"},
    Regression: {"objective": "regression"},
    Poisson: {"objective": "poisson"},
}
"""What LightGBM calls what is learned; more than two classes are `multiclass`."""


@dataclass(frozen=True)
class FittedTrees(Fitted):
    """Trees, kept as LightGBM's own text."""

    text: str = ""
    """What LightGBM and others read."""

    def weights(self, _model: Served) -> bytes:
        """Return the text."""
        return self.text.encode()


class _Growth:
    """One run: what LightGBM calls after each round."""

    def __init__(self, section: TreesModel, objective: Objective, run: Run, validation: Rows) -> None:
        self._objective, self._run, self._validation = objective, run, validation
        self._rounds = section.rounds
        self.text = ""
        self.epoch = self.best_epoch = 0
        self.best_loss = math.inf
        self._purse = Purse(run.train.budget.cpu if run.train.budget else None)
        self._started_s, self._first = time.monotonic(), 0
        if checkpoint := run.checkpoints.newest(run.subject):
            self.text = checkpoint.weights[_TEXT].numpy().tobytes().decode()
            self.epoch = self._first = checkpoint.epoch
            self.best_epoch, self.best_loss = checkpoint.best_epoch, checkpoint.best_loss
            self._purse.take_up(checkpoint.cpu_s)
        self._measured: dict[str, float] = {}
        self._round_most = FAMILY.parameters(section, run.shape, run.outputs) // section.rounds
        self._nodes = _nodes(self.text)

    @property
    def rounds_left(self) -> int:
        """Rounds that are to be grown, 0 when one of the ends is reached that come before the last round.

        These are a used up budget, a validation loss that stands still, and no room for the nodes of one more round.
        """
        stop = self._run.train.early_stop
        stands_still = stop is not None and self.epoch - self.best_epoch >= stop.patience
        full = self._nodes + self._round_most > MOST_NODES
        ended = stands_still or (self.best_epoch and (full or self._purse.is_empty()))
        return 0 if ended else self._rounds - self.epoch

    def evaluate(self, predictions: Array, _dataset: Any) -> tuple[str, float, bool]:
        """Measure the validation split by what LightGBM predicts of it: probabilities, or numbers."""
        outputs = torch.from_numpy(_logits(self._objective, predictions))
        targets = self._validation.targets
        loss = float(self._objective.loss(outputs, targets))
        told = self._objective.told(self._objective.measure(outputs, targets))
        self._measured = {"validation_loss": loss, **{f"validation_{name}": value for name, value in told.items()}}
        return "validation_loss", loss, False

    def after(self, env: Any) -> None:
        """Take note of a round, and end the growth by LightGBM's own exception."""
        self.epoch += 1
        if self._rounds * self._round_most > MOST_NODES:
            self._nodes += _nodes(env.model.model_to_string(num_iteration=1, start_iteration=self.epoch - 1))
        loss, stop = self._measured["validation_loss"], self._run.train.early_stop
        if not math.isfinite(loss):
            raise NotLearnable(
                f"training diverged in round {self.epoch}: expected a finite loss, got {loss}; try a lower "
                "train.network.learningRate"
            )
        if loss < self.best_loss - (stop.min_delta if stop else 0.0):
            self.best_epoch, self.best_loss = self.epoch, loss
        ended = not self.rounds_left
        each_s = (time.monotonic() - self._started_s) / (self.epoch - self._first)
        self._run.progress.progress(self.epoch, self._rounds, self._measured, each_s * (self._rounds - self.epoch))
        if ended or self._run.checkpoints.due(midway=False):
            self._save(env.model)
        if ended:
            raise importlib.import_module("lightgbm.callback").EarlyStopException(self.epoch - self._first - 1, [])

    def _save(self, booster: Any) -> None:
        self.text = _text(booster, -1)
        tensor = torch.frombuffer(bytearray(self.text.encode()), dtype=torch.uint8)
        # The best rounds are the first ones of these.
        checkpoint = Checkpoint(
            subject=self._run.subject,
            epoch=self.epoch,
            weights={_TEXT: tensor},
            best_weights={},
            best_epoch=self.best_epoch,
            best_loss=self.best_loss,
            optimizer={},
            cpu_s=self._purse.spent_s(),
        )
        self._run.checkpoints.save(checkpoint)


class Trees(Family):
    """Grows trees until the rounds are used up or the validation loss stands still."""

    def input_shape(self, features: Sequence[Feature]) -> tuple[int, ...]:
        """Return the shape of all features side by side."""
        return flat_shape(features)

    def parameters(self, section: TreesModel, shape: Sequence[int], outputs: int) -> int:
        """Return how many numbers are learned at most: the leaves' values, and thresholds between them."""
        return section.rounds * (outputs if outputs > 2 else 1) * (2 * section.leaves - 1)

    def least_bytes(
        self, train: Train, shape: Sequence[int], outputs: int, rows: tuple[int, int], held_bytes: int
    ) -> int:
        """Return the memory that growing takes at least.

        Counted are the prepared rows, all of which are there while they are sorted into bins of one byte each, and for
        each row and output a score, a gradient and its derivative.
        """
        width = math.prod(shape)
        return max(held_bytes, sum(rows) * (width * (_FLOAT + 1) + outputs * (_DOUBLE + 2 * _FLOAT)))

    def fit(self, section: TreesModel, rows: Sources, objective: Objective, run: Run) -> Fitted:
        """Grow trees from the newest checkpoint's, or from none."""
        if type(objective) not in _OBJECTIVES:
            raise NotLearnable(f"trees learn classes, or one number, not by {type(objective).__name__}")
        if run.origin is not None:
            raise NotLearnable("train.from: expected a network, got trees, which are grown anew")
        if isinstance(objective, Poisson) and not any(chunk.targets.any() for chunk in rows.train.chunks()):
            raise NotLearnable("label: expected a count above 0 in the training split, which trees need, got none")
        lightgbm = _lightgbm()
        validation = _whole(rows.validation)
        growth = _Growth(section, objective, run, validation)
        if growth.rounds_left > 0:
            parameters = _parameters(section, objective, run)
            train = _dataset(lightgbm, _whole(rows.train), objective, parameters)
            lightgbm.train(
                parameters,
                train,
                num_boost_round=growth.rounds_left,
                valid_sets=[train.create_valid(validation.inputs.numpy(), validation.targets.numpy())],
                feval=growth.evaluate,
                init_model=lightgbm.Booster(model_str=growth.text) if growth.text else None,
                callbacks=[growth.after],
            )
        best = _text(lightgbm.Booster(model_str=growth.text), growth.best_epoch)
        if (nodes := _nodes(best)) > MOST_NODES:
            raise NotLearnable(
                f"train.network.leaves: expected a first round of at most {MOST_NODES:,} nodes, got {nodes:,}; make "
                "leaves fewer"
            )
        network = Boosted(best, run.shape[0], run.outputs)
        outcome = Outcome(growth.epoch, growth.best_epoch, growth.best_loss)
        return FittedTrees(network, outcome, nodes, ("lightgbm",), text=best)


def _lightgbm() -> Any:
    try:
        return importlib.import_module("lightgbm")
    except (ImportError, OSError) as error:  # OSError where it is there, and libgomp is not
        raise NotLearnable(
            "train.network.kind: trees need LightGBM, which this trainer does not have: install "
            f"headrace-learning[trees] beside it ({error})"
        ) from error


def _whole(source: Source) -> Rows:
    """Return all rows at once, in canonical order: bins are made of the whole split."""
    parts = list(source.chunks())
    return parts[0] if len(parts) == 1 else joined(parts)


def _dataset(lightgbm: Any, rows: Rows, objective: Objective, parameters: dict[str, Any]) -> Any:
    weights = objective.weights if isinstance(objective, Classification) else None
    weight = None if weights is None else weights[rows.targets].numpy()
    return lightgbm.Dataset(rows.inputs.numpy(), rows.targets.numpy(), weight=weight, params=parameters)


def _parameters(section: TreesModel, objective: Objective, run: Run) -> dict[str, Any]:
    """Return LightGBM's parameters: one thread and no random numbers, so that equal rows give equal trees."""
    several = isinstance(objective, Classification) and run.outputs > 2
    task = {"objective": "multiclass", "num_class": run.outputs} if several else _OBJECTIVES[type(objective)]
    return task | {
        "metric": "None",
        "num_leaves": section.leaves,
        "learning_rate": section.learning_rate,
        "min_data_in_leaf": section.min_rows,
        "lambda_l2": section.l2,
        "seed": run.train.seed,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def _logits(objective: Objective, predictions: Array) -> Array:
    """Return outputs as the objective takes them.

    They are the logarithms of probabilities, which have the same softmax, and of what is expected of counts.
    """
    if isinstance(objective, Poisson):
        predictions = np.log(np.maximum(predictions, _SMALLEST))
    if not isinstance(objective, Classification):
        return predictions.astype(np.float32)[:, np.newaxis]
    shares = predictions if predictions.ndim > 1 else np.stack([1 - predictions, predictions], axis=1)
    return np.log(np.maximum(shares, _SMALLEST)).astype(np.float32)


def _text(booster: Any, rounds: int) -> str:
    """Return LightGBM's text of the first rounds, of all for -1, without what differs in a run that was resumed."""
    text: str = booster.model_to_string(num_iteration=rounds)
    return text[: text.index(_END) + len(_END)]


def _nodes(text: str) -> int:
    """Return how many splits and leaves there are in LightGBM's text."""
    return sum(2 * int(leaves) - 1 for leaves in _LEAVES.findall(text))


FAMILY = Trees()
