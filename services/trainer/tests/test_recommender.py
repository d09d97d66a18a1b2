"""The recommender of examples: two towers, a network of one's own, that rank films for visitors they never saw."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import load_pipeline
from headrace_data.tasks.ranking import SCORE, measures_of
from headrace_data.windows import only_dataset
from headrace_learning.evaluation import Answerer
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.core.run import Plan, run

EXAMPLES = Path(__file__).parents[3] / "examples"
VISITORS = 60


class Nobody:
    """Is told, and keeps nothing."""

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None: ...

    def due(self, *, midway: bool) -> bool:
        return False

    def save(self, checkpoint: object) -> None: ...

    def newest(self, subject: str) -> None: ...


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """What the example's producer sends of some visitors; its folders are on the path as its README has them."""
    monkeypatch.syspath_prepend(EXAMPLES / "recommender")
    monkeypatch.syspath_prepend(EXAMPLES)
    before = set(sys.modules)
    yield [value for _, value in import_module("recommender.produce").records(VISITORS)]
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("recommender", "cinema"):
            del sys.modules[name]


@pytest.mark.slow
def test_two_towers_rank_films_for_visitors_that_they_never_saw(records: list[bytes], tmp_path: Path) -> None:
    pipeline, store = (
        load_pipeline((EXAMPLES / "recommender" / "pipeline.yaml").read_bytes()),
        ObjectStore(str(tmp_path)),
    )
    writer = SegmentWriter(pipeline, store)
    writer.add(RecordChecker(pipeline.stream).check(records, [0] * len(records), range(len(records))).batch)
    told = Provenance(cluster_id="c", topic="visits", topic_id="", sources=(), clean_ranges=(), rejected={})
    manifest = only_dataset(writer.finish(told), pipeline, store)
    reader = DatasetReader(manifest, store, grouped=True)
    trained = run(Plan("r", pipeline, manifest), reader, Nobody(), Nobody(), packages=["recommender"])

    columns = reader.columns("test")
    truth, seen = columns.pop("watched"), reader.columns("train")["watched"]
    assert not set(truth[:, 1]) & set(seen[:, 1])
    by_fame = measures_of(columns["fame"], truth)
    found = measures_of(Answerer(trained.graph).answers(columns)[SCORE], truth)
    assert found["ndcg_at_10"] > by_fame["ndcg_at_10"] > trained.metrics["baseline_ndcg_at_10"] + 0.05
    assert found["recall_at_10"] > by_fame["recall_at_10"]
    # Any number of films in one call, each as it is answered by itself.
    alone = np.concatenate(
        [Answerer(trained.graph).answers({n: v[at : at + 1] for n, v in columns.items()})[SCORE] for at in range(5)]
    )
    together = Answerer(trained.graph).answers({name: values[:5] for name, values in columns.items()})[SCORE]
    assert together == pytest.approx(alone, rel=1e-5, abs=1e-5)
