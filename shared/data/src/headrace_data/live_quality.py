"""How good answers were: joins those that were given to labels that come later, and measures them by the task.

An answered row is measured by the first label of its key that is read, when the times of the two are at most `within`
apart. Measures are those that versions are measured by before their release, and of the same rows they are the same.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa

from headrace_data.batches import NO_TIME, elements, times_of
from headrace_data.bounds import Bounded, BoundedScores
from headrace_data.spec import Field, Pipeline
from headrace_data.tasks import TASKS
from headrace_data.tasks.measure import Array
from headrace_data.tasks.task import Classes, Scores, Task

MOST_CANARIES: Final = 8
"""Versions in canaries, two in each, whose answers are measured by themselves: those of the latest."""
Key = int | str
_WORDS: Final = {"false": "0", "true": "1"}


@dataclass
class _Found:
    """Rows that have their label since the last look."""

    answers: dict[str, list[Array]] = field(default_factory=lambda: defaultdict(list))
    truth: list[Array] = field(default_factory=list)


@dataclass
class Measured:
    """What is known of one version's answers, or of those to the calls of one canary."""

    scores: Scores
    since_us: int
    """When the first of its answers was given, in microseconds since the epoch."""
    rows: int = 0
    """Answered rows with their label."""
    awaiting: int = 0
    """Answered rows that wait for theirs."""
    unlabelled: int = 0
    """Answered rows that had none in time."""
    unmeasured: int = 0
    """Answered rows that cannot be measured."""
    compared: BoundedScores | None = None
    """The measure by which versions are compared, of the calls of a canary; None of all answers."""
    found: _Found = field(default_factory=_Found)

    @property
    def metrics(self) -> dict[str, float]:
        """The measures by name; none without a row."""
        return self.scores.metrics() if self.rows else {}

    @property
    def bounded(self) -> Bounded | None:
        """The measure by which versions are compared, with its interval; None without a row, and of all answers."""
        return self.compared.bounded() if self.compared else None

    def look(self) -> None:
        """Measure what was found since the last time."""
        if self.found.truth:
            answers = {name: np.concatenate(each) for name, each in self.found.answers.items()}
            truth, self.found = np.concatenate(self.found.truth), _Found()
            self.scores.add(answers, truth)
            self.rows += len(truth)
            if self.compared is not None:
                self.compared.add(answers, truth)


@dataclass
class _Waiting:
    """Rows of one call, whose answers are kept as long as one of them waits."""

    of: Sequence[Measured]
    time_us: int
    answers: Mapping[str, Array]


class LiveQuality:
    """The answers of one pipeline's versions. Holds answers and labels for `within`."""

    def __init__(self, pipeline: Pipeline) -> None:
        """`pipeline` has labels that come later. Raises ValueError without."""
        stream = pipeline.stream
        if stream.labels is None:
            raise ValueError(f"pipeline {pipeline.name!r}: expected labels that come later, got none")
        self._pipeline, self._within = pipeline, round(stream.labels.within * 1_000_000)
        self._key, self._label = stream.of_labels.fields
        self._task: Task = TASKS[pipeline.task]
        self.within_s = stream.labels.within
        """How far an answer and its label may be apart, in seconds."""
        self.versions: dict[str, Measured] = {}
        """What is known of each version."""
        self.canaries: dict[tuple[str, str], Measured] = {}
        """What is known of each version's answers to the calls of a canary, by that and the candidate's version."""
        self._labels: dict[Key, tuple[int, Array]] = {}
        self._label_ages: deque[tuple[int, Key]] = deque()
        self._waiting: dict[Key, list[tuple[_Waiting, int]]] = defaultdict(list)
        self._ages: deque[tuple[int, Key]] = deque()
        self._clock = NO_TIME

    def answered(
        self,
        version: str,
        places: Sequence[str],
        time_us: int,
        keys: Sequence[str],
        answers: Mapping[str, Array],
        rows: int,
        tried: str = "",
    ) -> None:
        """Take in one answered call of so many rows; `answers` are by output, each [rows, ...].

        `places` say what the places of an answer stand for, and `tried` is the version of the candidate in whose canary
        the call was.
        """
        own = self._known(version, tried, places, time_us)
        self._clock = max(self._clock, time_us)
        read = [self._key_of(key) for key in keys]
        complete = len(read) == rows and all(
            name in answers and len(answers[name]) == rows for name in self._task.outputs
        )
        call = _Waiting(own, time_us, answers)
        for row in range(rows):
            key = read[row] if complete else None
            if key is None:
                for known in own:
                    known.unmeasured += 1
            elif (label := self._labels.get(key)) is not None and abs(label[0] - time_us) <= self._within:
                self._find(call, row, label[1])
            else:
                for known in own:
                    known.awaiting += 1
                self._waiting[key].append((call, row))
                self._ages.append((time_us, key))

    def labelled(self, batch: pa.RecordBatch, now_us: int) -> None:
        """Take in labels, rows of `Stream.of_labels`; those without a time are of `now_us`."""
        times = np.where((times := times_of(batch)) == NO_TIME, now_us, times).tolist()
        truth = _values(batch, self._label)
        for at, key in enumerate(batch.column(self._key.name).to_pylist()):
            self._clock = max(self._clock, times[at])
            known = self._labels.get(key)
            if known is not None and abs(known[0] - times[at]) <= self._within:
                continue
            self._labels[key] = (times[at], truth[at : at + 1])
            self._label_ages.append((times[at], key))
            kept = []
            for call, row in self._waiting.pop(key, ()):
                if abs(times[at] - call.time_us) <= self._within:
                    for each in call.of:
                        each.awaiting -= 1
                    self._find(call, row, truth[at : at + 1])
                else:
                    kept.append((call, row))
            if kept:
                self._waiting[key] = kept

    def look(self) -> None:
        """Measure what was found since the last time: it takes no room then."""
        for known in (*self.versions.values(), *self.canaries.values()):
            known.look()

    def measured(self) -> dict[str, Measured]:
        """Measure what was found since the last time, give up what is too old, and return what is known of versions.

        What is known of canaries is in `canaries` then.
        """
        self.look()
        oldest = self._clock - self._within
        while self._label_ages and self._label_ages[0][0] < oldest:
            time_us, key = self._label_ages.popleft()
            if (label := self._labels.get(key)) is not None and label[0] == time_us:
                del self._labels[key]
        while self._ages and self._ages[0][0] < oldest:
            _, key = self._ages.popleft()
            self._give_up(key, oldest)
        return self.versions

    def _give_up(self, key: Key, oldest: int) -> None:
        kept = []
        for call, row in self._waiting.pop(key, ()):
            if call.time_us < oldest:
                for each in call.of:
                    each.awaiting -= 1
                    each.unlabelled += 1
            else:
                kept.append((call, row))
        if kept:
            self._waiting[key] = kept

    def _find(self, call: _Waiting, row: int, truth: Array) -> None:
        for each in call.of:
            for name in self._task.outputs:
                each.found.answers[name].append(call.answers[name][row : row + 1])
            each.found.truth.append(truth)

    def _known(self, version: str, tried: str, places: Sequence[str], time_us: int) -> list[Measured]:
        """Return all that an answer of a version at a time counts for."""
        if version not in self.versions:
            self.versions[version] = Measured(self._scores(places), time_us)
        own = [self.versions[version]]
        if tried:
            if (version, tried) not in self.canaries:
                measure = self._task.measure(self._pipeline.compress.gates.measure)
                compared = BoundedScores(measure, lambda: self._scores(places))
                self.canaries[version, tried] = Measured(self._scores(places), time_us, compared=compared)
                if len(self.canaries) > MOST_CANARIES:
                    del self.canaries[min(self.canaries, key=lambda each: self.canaries[each].since_us)]
            if (version, tried) in self.canaries:
                own.append(self.canaries[version, tried])
        for each in own:
            each.since_us = min(each.since_us, time_us)
        return own

    def _scores(self, places: Sequence[str]) -> Scores:
        label = self._pipeline.stream.label
        classes: Classes = tuple(places)
        if self._task.counts_labels and label.type != "string":
            classes = tuple(int(_WORDS.get(place, place)) for place in places)
        steps = label.place_names if self._task.answers_numbers else ()
        return self._task.scores(classes, self._pipeline.positive, (), steps)

    def _key_of(self, key: str) -> Key | None:
        if self._key.type == "string":
            return key
        return int(key) if key.removeprefix("-").isdecimal() and len(key) < 20 else None


def _values(batch: pa.RecordBatch, label: Field) -> Array:
    """Return labels as measures take them, [rows, *shape of the label]."""
    if label.type == "string":
        texts: Array = np.array(batch.column(label.name).to_pylist(), object)
        return texts
    numbers: Array = elements(batch, label).reshape(len(batch), *label.shape)
    return numbers
