"""Ranking: what is measured of an order, whatever pieces groups come in, and what a spec must say for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from headrace_data.chunks import Chunks
from headrace_data.dataset import DatasetReader
from headrace_data.errors import DatasetInvalid, DatasetUnusable, SpecInvalid
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import load_pipeline, parse_canonical
from headrace_data.split import digests
from headrace_data.tasks import TASKS
from headrace_data.tasks.ranking import SCORE, RankingScores, Relevances, measures_of
from headrace_data.windows import only_dataset
from headrace_runtime.object_store import ObjectStore
from sklearn.metrics import ndcg_score

Array = np.ndarray[Any, Any]
Numbers = Sequence[float] | Array
DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: shop}
stream:
  topic: shop
  schema:
    - {name: id, type: string, role: id}
    - {name: user, type: string, role: group}
    - {name: price, type: float32, role: feature}
    - {name: bought, type: float32, role: label}
train: {network: {kind: mlp, hidden: [4]}, task: ranking}
"""


def truth_of(relevance: Numbers, groups: Numbers) -> Array:
    return np.array([relevance, groups], dtype=np.float64).T


def scored(scores: Array, truth: Array, pieces: int = 1, most: int = 2**21) -> RankingScores:
    made = RankingScores(most)
    for rows in np.array_split(np.arange(len(scores)), pieces):
        made.add({SCORE: scores[rows]}, truth[rows])
    return made


def test_the_measures_of_two_users_by_hand() -> None:
    """The first finds the one row that counts at place 2; the second's best row, of 2, is behind its row of 1."""
    scores = np.array([0.9, 0.5, 0.1, 3.0, 2.0], np.float32)
    measured = measures_of(scores, truth_of([0, 1, 0, 1, 2], [7, 7, 7, 8, 8]))

    second = 1 / np.log2(3)
    assert measured["ndcg_at_10"] == pytest.approx((second + (1 + 2 * second) / (2 + second)) / 2)
    assert measured["mrr"] == pytest.approx((1 / 2 + 1) / 2)
    assert measured["recall_at_10"] == measured["recall_at_50"] == 1.0
    softmax = np.exp(scores[:3]) / np.exp(scores[:3]).sum(), np.exp(scores[3:]) / np.exp(scores[3:]).sum()
    losses = -np.log(softmax[0][1]), -(np.log(softmax[1][0]) + 2 * np.log(softmax[1][1])) / 3
    assert measured["list_loss"] == pytest.approx(np.mean(losses), rel=1e-6)


def test_equal_scores_count_as_the_mean_over_all_orders() -> None:
    generator = np.random.default_rng(1)
    for _ in range(40):
        rows = int(generator.integers(2, 7))
        scores, relevance = generator.integers(0, 3, (2, rows)).astype(np.float64)
        if (relevance == relevance[0]).all():
            continue
        orders = [
            relevance[list(order)] for order in permutations(range(rows)) if (np.diff(scores[list(order)]) <= 0).all()
        ]
        discounts = 1 / np.log2(np.arange(rows) + 2)
        best = np.sort(relevance)[::-1] @ discounts
        measured = measures_of(scores, truth_of(relevance, [3.0] * rows))
        assert measured["ndcg_at_10"] == pytest.approx(np.mean([order @ discounts / best for order in orders]))
        assert measured["mrr"] == pytest.approx(np.mean([1 / (np.flatnonzero(order)[0] + 1) for order in orders]))


def test_ndcg_is_that_of_scikit_learn_and_recall_that_of_counting() -> None:
    generator = np.random.default_rng(2)
    groups, relevance = generator.integers(0, 60, 3_000), generator.integers(0, 4, 3_000)
    scores = generator.normal(size=3_000).round(1).astype(np.float32)
    measured = measures_of(scores, truth_of(relevance, groups))

    each = [(relevance[groups == group], scores[groups == group]) for group in range(60)]
    assert measured["ndcg_at_10"] == pytest.approx(np.mean([ndcg_score([one], [given], k=10) for one, given in each]))
    exact = scores + np.linspace(0, 0.01, 3_000)
    each = [(relevance[groups == group], exact[groups == group]) for group in range(60)]
    found = [(one[np.argsort(-given)[:10]] > 0).sum() / (one > 0).sum() for one, given in each]
    assert measures_of(exact, truth_of(relevance, groups))["recall_at_10"] == pytest.approx(np.mean(found))


def test_groups_that_are_cut_across_batches_are_measured_whole() -> None:
    generator = np.random.default_rng(3)
    groups = generator.integers(0, 2**40, 200)[generator.integers(0, 200, 5_000)]
    truth = truth_of(generator.integers(0, 3, 5_000), groups)
    scores = generator.normal(size=5_000).astype(np.float32)
    whole = scored(scores, truth).metrics()

    assert scored(scores, truth, pieces=313).metrics() == whole
    # Of too many rows every second group is kept, or every fourth: the same of any version, and whole.
    few = scored(scores, truth, pieces=50, most=1_500)
    kept = truth[:, 1] % few._step == 0
    assert kept.sum() <= 1_500 < (truth[:, 1] % (few._step / 2) == 0).sum()
    assert few.metrics() == measures_of(scores[kept], truth[kept])
    assert scored(scores, truth, most=1_500).metrics() == few.metrics()


def test_the_last_groups_are_kept_however_large_they_are() -> None:
    generator = np.random.default_rng(4)
    truth = truth_of(generator.integers(0, 2, 900), 1 + 2 * generator.integers(0, 2, 900))
    scores = generator.normal(size=900).astype(np.float32)
    made = scored(scores, truth, pieces=900, most=100)
    assert len(made._held) > 1, "a batch does not copy all rows that came before it"
    assert made.metrics() == measures_of(scores, truth)


def test_groups_without_an_order_say_nothing() -> None:
    scores = np.arange(5, dtype=np.float32)
    assert scored(scores, truth_of([1, 1, 0, 0, 2], [1, 1, 2, 2, 3])).metrics() == {}
    told = scored(scores, truth_of([1, 1, 0, 5, 2], [1, 1, 2, 2, 3])).metrics()
    assert told["ndcg_at_10"] == told["mrr"] == 1.0, "the one group that has an order"


def test_the_baseline_is_a_random_order() -> None:
    seen, truth = Relevances(), truth_of([0, 0, 1], [1, 1, 1])
    seen.add(truth)
    assert seen.has_order
    baseline = seen.baseline()
    baseline.add(truth)
    metrics = baseline.metrics()
    assert metrics["baseline_ndcg_at_10"] == pytest.approx(np.mean([1, 1 / np.log2(3), 1 / 2]))
    assert metrics["baseline_mrr"] == pytest.approx(np.mean([1, 1 / 2, 1 / 3]))
    task = TASKS["ranking"]
    found = task.baseline({**metrics, "ndcg_at_10": 0.6}, task.headline)
    assert found is not None
    assert found.worse == "ndcg_at_10 0.6000, and 0.7103 by a random order"


def test_relevances_are_none_below_zero() -> None:
    seen, found = Relevances(), list[bool]()
    for batch in (([0, 0], [1, 2]), ([0, 1], [3, 4]), ([1], [1])):
        seen.add(truth_of(*batch))
        found.append(seen.has_order)
    assert found == [False, False, True], "the rows of a group may come in several batches"
    with pytest.raises(DatasetUnusable, match=r"expected relevances of 0 and more.*got -1"):
        seen.add(truth_of([2, -1], [1, 2]))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ("role: group", "role: feature"),
            "expected a field with role group, such as a user or a query, whose rows a ranking puts",
        ),
        (("role: group", "role: group, nullable: true"), "stream.schema.1..nullable: expected false for role group"),
        (
            ("float32, role: label", "string, role: label"),
            "or generation for a label of type string",
        ),
        (("name: price", "name: {a: 1}"), "schema.*name: expected"),
        (("name: price", "name: score"), "'score' belongs to the answers of a ranking"),
        (("task: ranking", "task: ranking, augment: {mixup: 0.2}"), "train.augment.mixup: expected none for a ranking"),
        (
            ("task: ranking", "task: ranking, tune: {space: {augment.mixup: {low: 0, high: 0.2}}}"),
            "train.tune.space.augment.mixup.high: expected none for a ranking",
        ),
        (("task: ranking", "task: ranking, classWeights: balanced"), "train.classWeights: expected none for a ranking"),
        (
            ("task: ranking}", "task: ranking}\ncompress: {gates: {errorRise: 0.1}}"),
            "expected gates of a ranking .ndcgD",
        ),
        (("task: ranking}", "task: ranking}\ncompress: {gates: {measure: rmse}}"), "measures of a ranking, got 'rmse'"),
    ],
)
def test_what_cannot_be_ranked_is_told_by_validate(change: tuple[str, str], expected: str) -> None:
    with pytest.raises(SpecInvalid, match=expected):
        load_pipeline(DOCUMENT.replace(*change))


def test_a_spec_of_before_has_the_digest_that_it_had() -> None:
    pipeline = load_pipeline(DOCUMENT)
    assert b"ndcgDrop" not in pipeline.canonical_json()
    strict = load_pipeline(DOCUMENT + "compress: {gates: {ndcgDrop: 0.002}}\n")
    assert parse_canonical(strict.canonical_json()).compress.gates.ndcg_drop == 0.002


@pytest.mark.parametrize("kind", ["string", "int64"])
def test_a_reader_gives_each_label_the_number_of_its_group(kind: str, tmp_path: object) -> None:
    pipeline = load_pipeline(DOCUMENT.replace("user, type: string", f"user, type: {kind}"))
    generator, store = np.random.default_rng(5), ObjectStore(str(tmp_path))
    users = [int(user) if kind == "int64" else f"u{user}" for user in generator.integers(0, 40, 600)]
    rows = [{"id": f"r{at}", "user": user, "price": at / 7, "bought": at % 3} for at, user in enumerate(users)]
    records = [json.dumps(row).encode() for row in rows]
    writer = SegmentWriter(pipeline, store)
    writer.add(RecordChecker(pipeline.stream).check(records, [0] * len(records), range(len(records))).batch)
    told = Provenance(cluster_id="c", topic="shop", topic_id="", sources=(), clean_ranges=(), rejected={})
    manifest = only_dataset(writer.finish(told), pipeline, store)

    reader = DatasetReader(manifest, store, grouped=True)
    numbers = dict(zip(users, (digests(pa.array(users), "group") >> np.uint64(12)).astype(np.float64), strict=True))
    by_price = {np.float32(at / 7): [float(at % 3), numbers[user]] for at, user in enumerate(users)}
    plain, seen = DatasetReader(manifest, store), set[float]()
    for split in ("train", "validation", "test"):
        columns = reader.columns(split)
        assert set(columns) == {"price", "bought"}
        assert columns["bought"].tolist() == [by_price[price] for price in columns["price"]]
        assert (columns["bought"][:, 0] == plain.columns(split)["bought"]).all()
        groups = set(columns["bought"][:, 1])
        assert not groups & seen, "a group is on one side of the split"
        seen |= groups
        pieces = list(Chunks(reader, split, most_bytes=20 * reader.row_bytes))
        assert len(pieces) > 1
        assert np.concatenate([labels for _, labels in pieces]).tolist() == columns["bought"].tolist()
    assert len(seen) == len(numbers) == 40, "no two groups have one number"
    fields = tuple(field for field in manifest.fields if field.role != "group")
    without = manifest.model_copy(update={"fields": fields})
    with pytest.raises(DatasetInvalid, match="expected a field with role group, got none"):
        DatasetReader(without, store, grouped=True)
