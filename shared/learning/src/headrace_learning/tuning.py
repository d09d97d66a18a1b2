"""The search for good settings, by Optuna, which is an extra (`headrace-learning[tune]`) and imported here alone.

What a study suggests is a function of the seed and of the trials before: the sampler, a tree-structured Parzen
estimator (Bergstra, Bardenet, Bengio and Kegl, "Algorithms for Hyper-Parameter Optimization", 2011), is made anew for
each trial with a seed of its own. A study that is told the trials of an earlier attempt therefore goes on as that one
would have. Nothing is stored by Optuna.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from headrace_data.spec import Between, Train
from headrace_data.spec.tune import is_fractional

from headrace_learning.errors import NotLearnable
from headrace_learning.training.randomness import seed_for


class State(StrEnum):
    """Where a trial stands."""

    RUNNING = "running"
    DONE = "done"
    PRUNED = "pruned"
    """Ended early: not as good as others."""
    FAILED = "failed"
    STOPPED = "stopped"
    """Ended early: the budget is used up."""


@dataclass(frozen=True)
class Trial:
    """Settings that were tried, and what came of it."""

    number: int
    """From 0, in the order in which they were tried."""
    values: dict[str, Any]
    """By path below train."""
    state: State
    curve: tuple[dict[str, float], ...] = ()
    """What was measured after each epoch, or round."""
    score: float | None = None
    """The least validation loss; None before the first epoch."""
    reason: str = ""
    """Why it failed."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What the pruner remembers of it."""
    cpu_s: float = field(default=0.0, compare=False)
    """Processor time that it took, in seconds, where the search has a limit."""


class Study:
    """Suggests settings, and tells which trial is not worth going on with."""

    def __init__(self, train: Train) -> None:
        """Search by `train.tune`. Raises NotLearnable without Optuna."""
        if train.tune is None:
            raise ValueError("expected a section with a search, got none")
        self._optuna, self._train, self._tune = _optuna(), train, train.tune
        self._space = {path: self._distribution(path, said) for path, said in train.tune.space.items()}
        self._study = self._optuna.create_study(study_name="headrace", direction="minimize", pruner=self._pruner())
        self._trial: Any = None

    def replay(self, trial: Trial) -> None:
        """Take up a trial that ended in an earlier attempt, in order."""
        states = self._optuna.trial.TrialState
        losses = [measured["validation_loss"] for measured in trial.curve]
        states_of = {
            State.DONE: states.COMPLETE,
            State.PRUNED: states.PRUNED,
            State.FAILED: states.FAIL,
            State.STOPPED: states.FAIL,
        }
        self._study.add_trial(
            self._optuna.trial.create_trial(
                state=states_of[trial.state],
                params={path: self._place(path, value) for path, value in trial.values.items()},
                distributions=self._space,
                value=trial.score if trial.state == State.DONE else losses[-1] if trial.state == State.PRUNED else None,
                intermediate_values=dict(enumerate(losses, start=1)),
                system_attrs=trial.notes,
            )
        )

    def ask(self) -> dict[str, Any]:
        """Return the settings of the next trial, by path, which is under way from here on."""
        seed = seed_for("tune", self._train.seed, len(self._study.trials)) % 2**32
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed)
        self._trial = self._study.ask(self._space)
        return {path: self._value(path, place) for path, place in self._trial.params.items()}

    def report(self, epoch: int, loss: float) -> bool:
        """Take note of the validation loss of the trial under way after an epoch. Returns whether it is to end."""
        self._trial.report(loss, epoch)
        return bool(self._trial.should_prune())

    def tell(self, trial: Trial) -> Trial:
        """Take note of how the trial under way ended. Returns it with what the pruner remembers of it."""
        states = self._optuna.trial.TrialState
        if trial.state == State.DONE:
            self._study.tell(self._trial, trial.score)
        else:
            self._study.tell(self._trial, state=states.PRUNED if trial.state == State.PRUNED else states.FAIL)
        return replace(trial, notes=dict(self._study.trials[-1].system_attrs))

    def _distribution(self, path: str, said: Between | Sequence[Any]) -> Any:
        kinds = self._optuna.distributions
        if not isinstance(said, Between):
            return kinds.CategoricalDistribution(range(len(said)))
        kind = kinds.FloatDistribution if is_fractional(self._train, path, said) else kinds.IntDistribution
        return kind(said.low, said.high, log=said.log)

    def _value(self, path: str, place: Any) -> Any:
        said = self._tune.space[path]
        return place if isinstance(said, Between) else said[place]

    def _place(self, path: str, value: Any) -> Any:
        said = self._tune.space[path]
        return value if isinstance(said, Between) else said.index(value)

    def _pruner(self) -> Any:
        pruners = self._optuna.pruners
        match self._tune.pruner:
            case "hyperband":
                return pruners.HyperbandPruner(max_resource=most_steps(self._train))
            case "none":
                return pruners.NopPruner()
        return pruners.MedianPruner()


def most_steps(train: Train) -> int:
    """Return the epochs, or rounds, of a trial at most: where these are varied too, of the longest."""
    rounds = getattr(train.network, "rounds", None)
    path, fixed = ("epochs", train.epochs) if rounds is None else ("network.rounds", rounds)
    said = train.tune.space.get(path) if train.tune else None
    if said is None:
        return int(fixed)
    return int(said.high if isinstance(said, Between) else max(said))


def _optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise NotLearnable(
            "train.tune: a search needs Optuna, which this trainer does not have: install headrace-learning[tune] "
            f"beside it ({error})"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
