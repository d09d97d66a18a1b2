from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pytest
from headrace_data.awaiting import NOTHING_WAITS, Awaiting, kept_labels, waiting_keys
from headrace_data.batches import INDEX, LINEAGE, OFFSET, PARTITION, TIME, TIME_TYPE, arrow_schema
from headrace_data.errors import SpecInvalid
from headrace_data.late_labels import Joined, LabelJoin
from headrace_data.spec import Pipeline, load_pipeline, parse_canonical
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import MemoryStore

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: loans}}
stream:
  topic: loans
  labels: {{topic: outcomes{more}}}
  schema:
    - {{name: loan, type: int64, role: id}}
    - {{name: amount, type: float32, role: feature}}
    - {{name: repaid, type: string, role: label}}
train:
  network: {{kind: mlp, hidden: [4]}}
"""
WITHIN_S = 10
NOW_US = 10**15


def pipeline(more: str = f", within: {WITHIN_S}s") -> Pipeline:
    return load_pipeline(DOCUMENT.format(more=more))


LOANS = pipeline()


@dataclass(frozen=True)
class Row:
    key: int
    partition: int
    offset: int
    time_s: float | None
    label: str | None = None


@dataclass(frozen=True)
class Label:
    key: int
    value: str
    time_s: float


def times(of: Sequence[float | None]) -> pa.Array:
    return pa.array([None if each is None else round(each * 1_000_000) for each in of], pa.int64()).cast(TIME_TYPE)


def batch(rows: Sequence[Row]) -> pa.RecordBatch:
    columns = {
        "loan": [row.key for row in rows],
        "amount": [row.key / 2 for row in rows],
        "repaid": [row.label for row in rows],
        PARTITION: [row.partition for row in rows],
        OFFSET: [row.offset for row in rows],
        INDEX: [0] * len(rows),
    }
    schema = arrow_schema(LOANS.stream.incoming.fields)
    arrays = [
        times([row.time_s for row in rows]) if f.name == TIME else pa.array(columns[f.name], f.type) for f in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def labels_of(labels: Sequence[Label]) -> pa.RecordBatch:
    schema = arrow_schema(LOANS.stream.of_labels.fields)
    columns = {"loan": [each.key for each in labels], "repaid": [each.value for each in labels]}
    columns |= {name: list(range(len(labels))) for name in LINEAGE if name != TIME}
    arrays = [
        times([each.time_s for each in labels]) if f.name == TIME else pa.array(columns[f.name], f.type) for f in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


@dataclass
class Cuts:
    """A pipeline that is cut now and then."""

    store: MemoryStore = field(default_factory=MemoryStore)
    awaiting: Awaiting = NOTHING_WAITS
    taken: list[tuple[int, str]] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    unlabelled: int = 0
    last: Joined | None = None

    def cut(
        self,
        rows: Sequence[Row],
        labels: Sequence[Label],
        *,
        topic_id: str = "",
        killed: bool = False,
        now_us: int = NOW_US,
    ) -> None:
        """Cut what came since the last time. Whoever is killed leaves the state as it was."""
        arrived = [labels_of(labels)] if labels else []
        join = LabelJoin(LOANS, self.store, self.awaiting, arrived, now_us, topic_id)

        def read() -> Iterator[pa.RecordBatch]:
            yield from (batch(rows[at : at + 3]) for at in range(0, len(rows), 3))

        found = list(join.rows(read))
        if killed:
            return
        again = list(join.rows(read))
        assert found == again
        self.last = join.finish()
        assert join.fresh == len(rows)
        self.awaiting = Awaiting.model_validate_json(self.last.awaiting.model_dump_json(), strict=False)
        self.unlabelled += self.last.unlabelled
        for each in found:
            assert each.column("repaid").null_count == 0
            assert each.column("amount").to_pylist() == [key / 2 for key in each.column("loan").to_pylist()]
            self.taken += zip(each.column("loan").to_pylist(), each.column("repaid").to_pylist(), strict=True)
            self.places += zip(each.column(PARTITION).to_pylist(), each.column(OFFSET).to_pylist(), strict=True)

    def keep(self, labels: Sequence[Label], now_us: int = NOW_US, *, uncut: bool = False) -> None:
        """Keep the labels that came, and read on; `uncut` where rows came, too."""
        self.last = LabelJoin(LOANS, self.store, self.awaiting, [labels_of(labels)], now_us).labels_alone(uncut=uncut)
        self.awaiting = self.last.awaiting


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_interleaving_of_rows_labels_cuts_and_kills_gives_the_same_rows_once(data: st.DataObject) -> None:
    """Rows and labels all within the time of each other: what is taken depends on nothing else."""
    count = data.draw(st.integers(1, 5))
    labelled = data.draw(st.sets(st.integers(0, count - 1)))
    events: list[Row | Label] = [Row(key, key % 2, key, 100 + key * WITHIN_S / 6) for key in range(count)]
    events += [Label(key, f"v{key}", 100 + key * WITHIN_S / 6) for key in labelled]
    order = data.draw(st.permutations(events))
    cuts, rows, labels = Cuts(), list[Row](), list[Label]()
    offsets = {0: 0, 1: 0}
    for event in order:
        if isinstance(event, Row):
            rows.append(replace(event, offset=offsets[event.partition]))
            offsets[event.partition] += 1
        else:
            labels.append(event)
        done = data.draw(st.sampled_from(["read on", "killed", "cut", "labels kept"]))
        if done in ("killed", "cut"):
            cuts.cut(rows, labels, killed=done == "killed")
        if done == "cut":
            rows, labels = [], []
        if done == "labels kept":
            cuts.keep(labels)
            labels = []
    cuts.cut(rows, labels)
    assert sorted(cuts.taken) == sorted((key, f"v{key}") for key in labelled)
    assert cuts.awaiting.row_count == count - len(labelled)
    waits = np.concatenate([*waiting_keys(cuts.awaiting, LOANS, cuts.store), np.empty((0, 2), np.uint64)])
    assert len(waits) == count - len(labelled)
    assert cuts.unlabelled == 0


def test_a_label_whose_row_is_uncut_is_kept_however_long_that_takes() -> None:
    cuts, later = Cuts(), 100.0 + 9 * WITHIN_S
    cuts.keep([Label(1, "yes", 101.0)], uncut=True)
    cuts.keep([Label(2, "no", later)], now_us=NOW_US + 9 * WITHIN_S * 1_000_000, uncut=True)
    cuts.cut([Row(1, 0, 0, 100.0), Row(2, 0, 1, later)], [])
    assert (cuts.taken, cuts.unlabelled) == ([(1, "yes"), (2, "no")], 0)


def test_rows_that_waited_are_given_before_those_behind_them() -> None:
    cuts = Cuts()
    cuts.cut([Row(1, 0, 0, 100.0), Row(2, 0, 1, 100.0), Row(3, 1, 0, 100.0)], [])
    assert cuts.taken == []
    cuts.cut([Row(4, 0, 2, 101.0)], [Label(key, "yes", 101.0) for key in (4, 2, 3)])
    assert cuts.places == [(0, 1), (1, 0), (0, 2)]


def test_the_last_label_within_the_time_is_taken_and_one_beyond_is_none() -> None:
    cuts = Cuts()
    several = [Label(1, "last", 105.0), Label(1, "first", 95.0), Label(1, "late", 111.0), Label(2, "early", 89.0)]
    cuts.cut(
        [Row(1, 0, 0, 100.0), Row(2, 0, 1, 100.0)], [*several, Label(3, "same", 100.0), Label(3, "later read", 100.0)]
    )
    assert cuts.taken == [(1, "last")]
    cuts.cut([Row(3, 0, 2, 100.0)], [])
    assert cuts.taken[1:] == [(3, "later read")]


def test_a_label_labels_each_row_of_its_key_and_one_that_comes_after_the_cut_is_counted() -> None:
    cuts = Cuts()
    cuts.cut([Row(1, 0, 0, 100.0)], [Label(1, "yes", 100.0)])
    cuts.cut([Row(1, 0, 1, 101.0)], [Label(1, "no", 99.0)])
    assert cuts.taken == [(1, "yes"), (1, "yes")]
    assert cuts.last is not None
    assert cuts.last.repeated == 1


def test_a_row_without_a_label_in_time_is_given_up_and_counted_once() -> None:
    cuts = Cuts()
    cuts.cut([Row(1, 0, 0, 100.0), Row(2, 0, 1, None)], [])
    assert (cuts.unlabelled, cuts.awaiting.row_count) == (1, 1)  # nobody knows how old a row without a time is
    cuts.cut([Row(3, 0, 2, 110.5)], [])
    cuts.cut([], [Label(1, "yes", 100.0)])
    # The clock of the cut before is what the row was given up by: a label that came by then would have been taken.
    assert (cuts.unlabelled, cuts.taken) == (1, [(1, "yes")])
    cuts.cut([Row(4, 0, 3, 150.0)], [])
    cuts.cut([], [])
    assert (cuts.unlabelled, cuts.awaiting.row_count) == (2, 1)
    cuts.cut([], [])
    assert cuts.unlabelled == 2


def test_a_label_is_kept_as_long_as_its_row_may_come_and_then_counted() -> None:
    cuts = Cuts()
    cuts.cut([Row(9, 0, 0, 500.0)], [Label(1, "history", 100.0)])
    # It was read a moment ago: its row may be in what is not read yet.
    cuts.cut([Row(1, 1, 0, 100.0)], [])
    assert cuts.taken == [(1, "history")]
    cuts.cut([], [Label(2, "nobody's", 100.0)])
    assert cuts.awaiting.label_count == 2
    cuts.cut([], [], now_us=NOW_US + 11_000_000)
    assert cuts.awaiting.label_count == 0
    assert cuts.last is not None
    assert cuts.last.unmatched == 1
    assert len(kept_labels(cuts.awaiting, LOANS, cuts.store)) == 0


def test_labels_that_no_row_comes_for_are_kept_without_a_cut_and_given_up_in_time() -> None:
    cuts = Cuts(awaiting=Awaiting(rejected={"type": 3}))
    cuts.keep([Label(key, "soon", 100.0) for key in range(5)])
    cuts.keep([Label(5, "later", 120.0)], now_us=NOW_US + 11_000_000)
    assert (cuts.awaiting.label_count, cuts.awaiting.rejected) == (1, {"type": 3})
    assert cuts.last is not None
    assert cuts.last.unmatched == 5
    assert len(cuts.last.label_keys) == 1


def test_a_row_that_has_its_label_does_not_wait() -> None:
    cuts = Cuts()
    cuts.cut([Row(1, 0, 0, 100.0, "own"), Row(2, 0, 1, 100.0)], [Label(1, "other", 100.0), Label(2, "yes", 100.0)])
    assert cuts.taken == [(1, "own"), (2, "yes")]


def test_rows_of_a_topic_that_is_gone_are_given_up() -> None:
    cuts = Cuts()
    cuts.cut([Row(1, 0, 5, 100.0), Row(2, -1, 7, 100.0)], [], topic_id="one")
    cuts.cut([Row(3, 0, 0, 100.0)], [Label(key, "yes", 100.0) for key in (1, 2, 3)], topic_id="other")
    assert (cuts.taken, cuts.unlabelled) == ([(2, "yes"), (3, "yes")], 1)


def test_labels_have_the_names_and_the_treatment_that_the_document_says() -> None:
    stream = pipeline(", key: id, label: outcome, time: at, format: csv").stream.of_labels
    assert [(each.name, each.type, each.role) for each in stream.fields] == [
        ("id", "int64", "id"),
        ("outcome", "string", "label"),
    ]
    assert (stream.topic, stream.format, stream.time) == ("outcomes", "csv", "at")
    assert LOANS.stream.labels is not None
    assert pipeline("").stream.labels == replace_within(LOANS, 7 * 24 * 3600.0)
    assert parse_canonical(LOANS.canonical_json()) == LOANS


def replace_within(of: Pipeline, seconds: float) -> object:
    assert of.stream.labels is not None
    return of.stream.labels.model_copy(update={"within": seconds})


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (", key: repaid", "stream.labels.label: expected another key than the one of the row's key, got 'repaid'"),
        (", within: 0s", "stream.labels.within"),
        (", topics: x", "stream.labels.topics"),
    ],
)
def test_a_wrong_section_is_told(more: str, problem: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        pipeline(more)
    assert problem in str(caught.value)


def test_labels_need_a_key_and_a_topic_of_their_own() -> None:
    document = DOCUMENT.format(more="").replace("topic: outcomes", "topic: loans").replace("role: id", "role: group")
    with pytest.raises(SpecInvalid) as caught:
        load_pipeline(document)
    assert "stream.labels: expected stream.key or a field with role id" in str(caught.value)
    assert "stream.labels.topic: expected another topic than stream.topic, got 'loans' for both" in str(caught.value)
