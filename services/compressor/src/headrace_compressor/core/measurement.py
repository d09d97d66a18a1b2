"""What a variant is measured by, and how versions are compared on equal rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
from headrace_data.spec.feature_rules import EMBEDDING
from headrace_data.tasks import EMBEDDING_COSINE, Classes, Mean, Slices, SliceScores
from headrace_data.tasks.classification import LOGIT_ERROR
from headrace_engines.model import Tensor, run_in_batches
from headrace_learning import evaluation
from headrace_learning.evaluation import WHOLE, Answerer, Labelled
from headrace_learning.graphs import Array, Columns, task_of_graph

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


def measure(graphs: Mapping[str, bytes], rows: Rows) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield each variant's name and measurements, the first being the reference that the others are compared with.

    Measurements: size_bytes; latency_ms_batch_1 and latency_ms_batch_32, medians of runs in which the variants take
    turns, so that their ratios hold on a busy machine; accuracy, log_loss, calibration_error; and beside the reference
    agreement (share of equal labels), relative_logit_error and kl_divergence (in nats); of graphs that answer
    embeddings embedding_cosine, the mean over rows. Of another task its
    measures, and what it tells of answers that are alike, in the place of the last six. Of slices their rows, and the
    measures of the task.
    """
    first = rows.first
    latencies = {
        f"latency_ms_batch_{batch}": evaluation.median_latencies_ms(list(graphs.values()), first, batch)
        for batch in _BATCHES
    }
    reference = next(iter(graphs.values()))
    scores = partial(_beside, reference) if task_of_graph(reference).has_logits else _alone
    for place, (name, graph) in enumerate(graphs.items()):
        yield (
            name,
            {
                "size_bytes": float(len(graph)),
                **{metric: values[place] for metric, values in latencies.items()},
                **scores(graph, rows),
                **_embeddings(reference, graph, rows),
            },
        )


def _beside(reference: bytes, graph: bytes, rows: Rows) -> dict[str, float]:
    """Return how good a variant's answers are, and how far from those that the reference gives."""
    expected, given = Answerer(reference), Answerer(graph, rows.positive)
    scores, logits = given.scores(), evaluation.LogitError(reference, graph)
    parts = SliceScores(rows.slices, given.scores)
    alike: dict[str, Mean] = {}
    for features, truth in rows.batches:
        got = given.answers(features)
        scores.add(got, truth)
        parts.add(features, got, truth)
        logits.add(features)
        for name, mean in given.task.alike(expected.answers(features), got).items():
            alike.setdefault(name, Mean()).add(mean, len(truth))
    beside = {name: mean.value for name, mean in alike.items()}
    return {**scores.quality(), **beside, LOGIT_ERROR: logits.relative, **parts.metrics()}


def _embeddings(reference: bytes, graph: bytes, rows: Rows) -> dict[str, float]:
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


def evaluate(graph: bytes, rows: Rows, compared: Classes = ()) -> dict[str, float]:
    """Return the measures of a version's task on the rows; `compared` are the classes of all versions beside it."""
    return _scored(Answerer(graph, rows.positive, compared), rows, WHOLE)


def _alone(graph: bytes, rows: Rows) -> dict[str, float]:
    """Return the measures of a variant's task on the rows, and on slices of them."""
    return _scored(Answerer(graph, rows.positive), rows, rows.slices)


def _scored(answerer: Answerer, rows: Rows, slices: Slices) -> dict[str, float]:
    scores, parts = answerer.scores(), SliceScores(slices, answerer.scores)
    for features, truth in rows.batches:
        answers = answerer.answers(features)
        scores.add(answers, truth)
        parts.add(features, answers, truth)
    return scores.quality() | parts.metrics()


def reads(graph: bytes, columns: Columns) -> bool:
    """Return whether the columns hold every feature that the graph asks for, in its type and shape."""
    return all(_fits(each, columns) for each in evaluation.open_graph(graph).inputs)


def _fits(feature: Tensor, columns: Columns) -> bool:
    if feature.name not in columns:
        return False
    column = columns[feature.name]
    # The first dimension is the batch.
    return column.shape[1:] == feature.shape[1:] and bool(column.dtype == feature.dtype)
