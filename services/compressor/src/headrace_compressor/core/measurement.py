"""What a variant is measured by, and how versions are compared on equal rows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain

import numpy as np
from headrace_data.spec.feature_rules import EMBEDDING
from headrace_data.tasks import (
    EMBEDDING_COSINE,
    MEMBERSHIP,
    MEMORY,
    NON_FINITE,
    SIZE,
    UNREPEATABLE,
    Answers,
    Classes,
    Differences,
    Groups,
    Mean,
    Slices,
    SliceScores,
)
from headrace_data.tasks.classification import LOGIT_ERROR
from headrace_engines.beside import Graph, is_language, total_bytes
from headrace_engines.model import Tensor, run_in_batches
from headrace_learning import costs, evaluation
from headrace_learning.evaluation import WHOLE, Answerer, Labelled, answerer_of
from headrace_learning.graphs import Array, Columns, task_of_graph
from headrace_learning.language_models.gguf_files import prompt_of

from headrace_compressor.core import texts
from headrace_compressor.core.membership import attack_auc
from headrace_compressor.errors import NothingToMeasure

_BATCHES = (1, 32)


@dataclass(frozen=True)
class Rows:
    """The test split of one dataset, or of several together."""

    dataset_id: str
    """Id of the dataset; empty of several."""
    batches: Labelled
    """Raw features by name, each [rows, *shape of the field], and label values, [rows, *its shape]. Read again
    and again."""
    count: int
    """How many rows there are."""
    positive: int | str | None = None
    """The class that is looked for, where there are classes."""
    slices: Slices = WHOLE
    """Into which variants are measured part by part too."""
    members: Labelled | None = None
    """Rows that the version learned from, where it is measured how well one tells them from these; else None."""

    def __post_init__(self) -> None:
        if self.count == 0:
            raise NothingToMeasure(
                f"dataset {self.dataset_id}: expected rows in the test split to measure on, got none; "
                "raise prepare.split.test or freeze more records"
            )

    @property
    def first(self) -> Columns:
        """The features of the first batch."""
        return next(iter(self.batches))[0]


class _Joined:
    """The rows of several splits, one after the other, as often as they are read."""

    def __init__(self, splits: Sequence[Rows]) -> None:
        self._splits = tuple(splits)  # a copy: the caller may go on with its list

    def __iter__(self) -> Iterator[tuple[Columns, Array]]:
        return chain.from_iterable(rows.batches for rows in self._splits)


def joined(splits: Sequence[Rows]) -> Rows:
    """Return several splits as one, for measures that do not add up."""
    return Rows("", _Joined(splits), sum(rows.count for rows in splits), splits[0].positive)


def measure(graphs: Mapping[str, Graph], rows: Rows) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield each variant's name and measurements, the first being the reference that the others are compared with.

    Measurements: size_bytes, memory_bytes; latency_ms_batch_1 and latency_ms_batch_32, medians of runs in which the
    variants take turns, so that their ratios hold on a busy machine, and latency_p99_ms_batch_1 and _32;
    non_finite_rows and unrepeatable_rows; difference_error, as `Differences` says; accuracy, log_loss,
    calibration_error; and beside the reference agreement (share of equal labels), relative_logit_error and
    kl_divergence (in nats); of graphs that answer embeddings embedding_cosine, the mean over rows; membership_auc where
    rows have `members`. Of another task its
    measures, and what it tells of answers that are alike, in the place of the last six. Of slices their rows, and the
    measures of the task. Models of language are measured by `texts.measure`.
    """
    reference = next(iter(graphs.values()))
    if task_of_graph(reference).answers_texts:
        yield from texts.measure(graphs, rows.batches)
        return
    has_logits = task_of_graph(reference).has_logits
    differences = Differences(task_of_graph(reference))
    for (name, graph), taken in zip(graphs.items(), _costs(list(graphs.values()), rows.first), strict=True):
        scored = _Scored(Answerer(graph, rows.positive), rows.slices)
        beside = _beside(reference, graph, rows, scored) if has_logits else scored.over(rows)
        yield (
            name,
            {
                **taken,
                NON_FINITE: float(scored.non_finite),
                **beside,
                **differences.of(scored.groups),
                **_membership(graph, rows),
                **_embeddings(reference, graph, rows),
            },
        )


def _costs(graphs: Sequence[Graph], first: Columns) -> Iterator[dict[str, float]]:
    """Yield what each graph takes to run, and whether it does the same each time."""
    latencies = {batch: costs.latencies_ms(graphs, first, batch) for batch in _BATCHES}
    for place, graph in enumerate(graphs):
        held = costs.held_bytes(graph, first, max(_BATCHES))
        yield {
            SIZE: float(total_bytes(graph)),
            **({MEMORY: float(held)} if held is not None else {}),
            **{f"latency_ms_batch_{batch}": found[place].median for batch, found in latencies.items()},
            **{f"latency_p99_ms_batch_{batch}": found[place].p99 for batch, found in latencies.items()},
            UNREPEATABLE: float(costs.rows_answered_otherwise(graph, first, max(_BATCHES))),
        }


def _beside(reference: Graph, graph: Graph, rows: Rows, scored: "_Scored") -> dict[str, float]:
    """Return how good a variant's answers are, and how far from those that the reference gives."""
    expected, logits = Answerer(reference), evaluation.LogitError(reference, graph)
    alike: dict[str, Mean] = {}
    for features, truth in rows.batches:
        got = scored.add(features, truth)
        logits.add(features)
        for name, mean in expected.task.alike(expected.answers(features), got).items():
            alike.setdefault(name, Mean()).add(mean, len(truth))
    beside = {name: mean.value for name, mean in alike.items()}
    return {**scored.quality(), **beside, LOGIT_ERROR: logits.relative, **scored.parts()}


def _embeddings(reference: Graph, graph: Graph, rows: Rows) -> dict[str, float]:
    """Return how near a variant's embeddings are to those of the reference, where these are answered."""
    models = [evaluation.open_graph(each) for each in (reference, graph)]
    if EMBEDDING not in [each.name for each in models[0].outputs]:
        return {}
    cosine = Mean()
    for features, truth in rows.batches:
        (expected,), (given,) = (run_in_batches(model, features, [EMBEDDING]) for model in models)
        # Both have a length of 1.
        cosine.add(float((expected.astype(np.float64) * given).sum(axis=1).mean()), len(truth))
    return {EMBEDDING_COSINE: cosine.value}


def _membership(graph: Graph, rows: Rows) -> dict[str, float]:
    """Return how well one tells which rows a variant learned from, where that is asked for and can be."""
    if rows.members is None or not (answerer := Answerer(graph)).task.has_row_losses:
        return {}
    return {MEMBERSHIP: attack_auc(answerer, rows.members, rows.batches)}


def evaluate(graph: Graph, rows: Rows, compared: Classes = ()) -> dict[str, float]:
    """Return the measures of a version's task on the rows; `compared` are the classes of all versions beside it."""
    with closing(answerer_of(graph, rows.positive, compared)) as answerer:
        scores = answerer.scores()
        for features, truth in rows.batches:
            scores.add(answerer.answers(features, truth), truth)
    return scores.quality()


class _Scored:
    """What a graph answers to rows that come batch by batch, measured as a whole and part by part."""

    def __init__(self, answerer: Answerer, slices: Slices) -> None:
        self._answerer = answerer
        self._scores = answerer.scores()
        self._slices = SliceScores(slices, answerer.scores)
        self.groups = Groups(answerer.task, answerer.scores)
        self.non_finite = 0
        """Rows with an answer that is no finite number."""

    def add(self, features: Columns, truth: Array) -> Answers:
        """Add rows, and return what was answered."""
        answers = self._answerer.answers(features)
        self._scores.add(answers, truth)
        self._slices.add(features, answers, truth)
        self.groups.add(answers, truth)
        self.non_finite += _non_finite_rows(answers)
        return answers

    def over(self, rows: Rows) -> dict[str, float]:
        """Add all rows; return the measures of the task, and those of slices."""
        for features, truth in rows.batches:
            self.add(features, truth)
        return {**self.quality(), **self.parts()}

    def quality(self) -> dict[str, float]:
        """Return the measures of the task."""
        return self._scores.quality()

    def parts(self) -> dict[str, float]:
        """Return those of slices."""
        return self._slices.metrics()


def _non_finite_rows(answers: Answers) -> int:
    bad = [~np.isfinite(each).reshape(len(each), -1).all(axis=1) for each in answers.values() if each.dtype.kind == "f"]
    return int(np.logical_or.reduce(bad).sum()) if bad else 0


def reads(graph: Graph, columns: Columns) -> bool:
    """Return whether the columns hold every feature that the graph asks for, in its type and shape."""
    if is_language(graph):
        return (name := prompt_of(graph).feature) in columns or not name
    return all(_fits(each, columns) for each in evaluation.open_graph(graph).inputs)


def _fits(feature: Tensor, columns: Columns) -> bool:
    if feature.name not in columns:
        return False
    column = columns[feature.name]
    # The first dimension is the batch.
    return column.shape[1:] == feature.shape[1:] and bool(column.dtype == feature.dtype)
