"""A run that searches: trials one after the other, each recorded, and the best one's settings in the end.

A trial is a training like any other, by the section that its values make. So the version has the weights, to the bit,
of a pipeline whose spec says these values. After a kill the trials that ended are replayed into the study, and the one
under way goes on from its own checkpoint.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from headrace_data.canonical import canonical, sha256_digest
from headrace_data.spec import Train, with_values
from headrace_learning.errors import LearningError, NotLearnable
from headrace_learning.families.family import Fitted
from headrace_learning.training.budget import Purse
from headrace_learning.training.checkpoint import Checkpoint
from headrace_learning.training.ports import Checkpoints, Progress
from headrace_learning.tuning import State, Study, Trial

from headrace_trainer.errors import TrainingError
from headrace_trainer.ports import Trials

Fit = Callable[[Train, str, Checkpoints, Progress], Fitted]
"""Trains by a section; the subject, checkpoints and progress are those of a trial."""


@dataclass(frozen=True)
class Tuned:
    """What a search found."""

    train: Train
    """The section that the best trial was trained by."""
    fitted: Fitted
    trials: Sequence[Trial]
    """In the order in which they were tried."""
    best: Trial


class Search:
    """One run's search. Everything that is random is a function of the seed and the trials before."""

    def __init__(
        self, train: Train, subject: str, fit: Fit, checkpoints: Checkpoints, trials: Trials, progress: Progress
    ) -> None:
        """`subject` names what is trained on what: trials of it are taken up, others are not."""
        self._train, self._subject, self._fit = train, subject, fit
        self._checkpoints, self._trials, self._progress = checkpoints, trials, progress
        self._study = Study(train)
        self._most = train.tune.trials if train.tune else 0

    def run(self) -> Tuned:
        """Try settings until the trials or the budget are used up. Raises NotLearnable where every trial failed."""
        ended = list(self._trials.ended(self._subject))[: self._most]
        for trial in ended:
            self._study.replay(trial)
        purse = Purse(self._train.tune.budget if self._train.tune else None)
        purse.take_up(sum(trial.cpu_s for trial in ended))
        while len(ended) < self._most and not (best_of(ended) and purse.is_empty()):
            ended.append(self._try(ended, purse))
        best = best_of(ended)
        if best is None:
            raise NotLearnable(f"train.tune: each of {len(ended)} trials failed; the last: {ended[-1].reason}")
        for epoch, measured in enumerate(best.curve, start=1):
            self._progress.progress(epoch, len(best.curve), measured, 0.0)
        return Tuned(with_values(self._train, best.values), self._fitted(best), ended, best)

    def _try(self, before: Sequence[Trial], purse: Purse) -> Trial:
        trial = Trial(len(before), self._study.ask(), State.RUNNING)
        watch = _Watch(self, trial, before, purse)
        state: State = State.DONE
        reason = ""
        score = None
        try:
            score = self._fitted(trial, watch).outcome.best_loss
        except _Ended as end:
            state = end.state
        except (LearningError, TrainingError) as error:
            state, reason = State.FAILED, str(error)
        tried = replace(watch.trial, state=state, reason=reason)
        tried = tried if score is None else replace(tried, score=score)
        tried = self._study.tell(tried)
        best = best_of(before)
        kept = self._checkpoints.newest(watch.subject)
        if state == State.DONE and kept and (best is None or _score(tried) < _score(best)):
            self._trials.keep(kept)
        self._trials.write(self._subject, tried)
        return tried

    def _fitted(self, trial: Trial, watch: "_Watch | None" = None) -> Fitted:
        """Train by a trial's values; of one that ended, its last checkpoint has all there is to do."""
        train = with_values(self._train, trial.values)
        silent = watch or _Silent(self._checkpoints)
        return self._fit(train, self._subject_of(trial), silent, silent)

    def _subject_of(self, trial: Trial) -> str:
        return sha256_digest(canonical([self._subject, trial.number, trial.values]))

    def under_way(self, number: int) -> Trial | None:
        """Return what an earlier attempt noted of a trial that did not end; None when nothing is."""
        return self._trials.under_way(self._subject, number)

    def noted(self, trial: Trial) -> None:
        """Keep what is known of the trial under way."""
        self._trials.write(self._subject, trial)

    def told(self, trial: Trial, before: Sequence[Trial], measured: Mapping[str, float]) -> bool:
        """Tell of an epoch of the trial under way. Returns whether the trial is to end."""
        best = best_of(before)
        told = {**measured, "trial": trial.number + 1, "epoch": len(trial.curve)}
        told |= {} if best is None else {"best_validation_loss": _score(best)}
        self._trials.tell(len(before), self._most, told)
        return self._study.report(len(trial.curve), measured["validation_loss"])

    @property
    def checkpoints(self) -> Checkpoints:
        """Where the trial under way keeps its state."""
        return self._checkpoints


class _Ended(Exception):
    """A trial that ends before its last epoch."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.state = state


@dataclass
class _Watch:
    """Checkpoints and progress of a trial under way: what each epoch gave is noted before it is a checkpoint."""

    search: Search
    trial: Trial
    before: Sequence[Trial]
    purse: Purse
    subject: str = ""
    """That of its checkpoints, as the family asks for them: a family may tell more of what is trained on what."""
    _start_s: float = field(init=False)
    _waiting: Checkpoint | None = None
    """One of an epoch of which nothing was told yet."""
    _goes_on: bool = False
    """Whether what an earlier attempt measured is known, so that its checkpoint is of use."""

    def __post_init__(self) -> None:
        self._start_s = self.purse.spent_s()

    def newest(self, subject: str) -> Checkpoint | None:
        checkpoint = self.search.checkpoints.newest(subject)
        if subject != self.subject:
            self.subject = subject
            self._take_up(self.search.under_way(self.trial.number), checkpoint)
        return checkpoint if self._goes_on else None

    def _take_up(self, begun: Trial | None, checkpoint: Checkpoint | None) -> None:
        """Take up what an earlier attempt did, as far as there is a checkpoint of it."""
        self._goes_on = begun is not None and checkpoint is not None and len(begun.curve) >= checkpoint.epoch
        if begun is None or checkpoint is None or not self._goes_on:
            return
        self.purse.take_up(begun.cpu_s)
        for measured in begun.curve[: checkpoint.epoch]:
            self._note(measured)
            if self.search.told(self.trial, self.before, measured):
                # The attempt was killed before it could say so.
                raise _Ended(State.PRUNED)

    def due(self, *, midway: bool) -> bool:
        return self.search.checkpoints.due(midway=midway)

    def save(self, checkpoint: Checkpoint) -> None:
        if checkpoint.midway is None and checkpoint.epoch > len(self.trial.curve):
            self._waiting = checkpoint
            return
        self.search.noted(self.trial)
        self.search.checkpoints.save(checkpoint)

    def progress(self, _step: int, _steps: int, metrics: Mapping[str, float], _eta_s: float) -> None:
        self._note(metrics)
        # Before anybody is told: an epoch that was told of is not trained again.
        if self._waiting is not None:
            checkpoint, self._waiting = self._waiting, None
            self.save(checkpoint)
        if self.search.told(self.trial, self.before, metrics):
            raise _Ended(State.PRUNED)
        if best_of(self.before) and self.purse.is_empty():
            raise _Ended(State.STOPPED)

    def _note(self, measured: Mapping[str, float]) -> None:
        curve = (*self.trial.curve, dict(measured))
        loss = measured["validation_loss"]
        score = loss if self.trial.score is None else min(self.trial.score, loss)
        self.trial = replace(self.trial, curve=curve, score=score, cpu_s=self.purse.spent_s() - self._start_s)


@dataclass(frozen=True)
class _Silent:
    """Checkpoints of a trial that ended; nobody is told of it again."""

    checkpoints: Checkpoints

    def newest(self, subject: str) -> Checkpoint | None:
        return self.checkpoints.newest(subject)

    def due(self, *, midway: bool) -> bool:
        return self.checkpoints.due(midway=midway)

    def save(self, checkpoint: Checkpoint) -> None:
        self.checkpoints.save(checkpoint)

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        pass


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial with the least loss among those that ran to their end, the first of several; None without."""
    return min((trial for trial in trials if trial.state == State.DONE), key=_score, default=None)


def _score(trial: Trial) -> float:
    return float("inf") if trial.score is None else trial.score
