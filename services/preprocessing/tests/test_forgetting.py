"""Forgetting a key over a store in a folder: what goes, what stands, and that it may be killed anywhere."""

from __future__ import annotations

import copy
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from headrace.events.v1 import dataset_pb2, forget_pb2, pipeline_pb2
from headrace_data.awaiting import (
    READ,
    USED,
    Awaiting,
    WaitingWriter,
    keep_labels,
    kept_labels,
    label_schema,
    waiting_rows,
)
from headrace_data.dataset import DatasetReader
from headrace_data.forgotten import forgotten, secret_id, secrets_folder
from headrace_data.history import RETRAIN, History, keep, prepared_under
from headrace_data.late_labels import LabelJoin
from headrace_data.manifest import Manifest, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.split import SPLITS
from headrace_data.windows import Windows
from headrace_preprocessing.transport import bounds
from headrace_preprocessing.transport.blobs import Blobs
from headrace_preprocessing.transport.converters import leave_out
from headrace_preprocessing.transport.erasure import Erasure, Plan
from headrace_preprocessing.transport.forgetting import Forgetting
from headrace_preprocessing.transport.orders import TakenIn
from headrace_preprocessing.transport.suppressing import suppression_of
from headrace_runtime.object_store import Artifact, ObjectStore, digest_of

SPEC = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: NAME}
stream:
  topic: calls
  schema:
    - {name: caller, type: string, role: id}
    - {name: town, type: string, role: feature}
    - {name: minutes, type: float64, role: feature}
    - {name: kind, type: int64, role: label}
prepare:
  window: all
  transform: {town: {encode: onehot}, minutes: {scale: minmax}}
  split: {train: 0.6, validation: 0.2, test: 0.2}
train: {network: {kind: mlp, hidden: [4]}}
"""
SECRET = b"0123456789abcdef" * 2
ADA = "ada-lovelace-1815"
TRACES = (ADA, "ockham-park", "4321.0625")
ROWS = 40
NOWHERE = Provenance(cluster_id="c", topic="calls", topic_id="t", sources=(), clean_ranges=(), rejected={})
ORDER = "order"


def pipeline_of(name: str = "calls") -> Pipeline:
    return load_pipeline(SPEC.replace("NAME", name))


def record(row: int) -> dict[str, Any]:
    if row % 10 == 3:
        return {"caller": ADA, "town": "ockham-park", "minutes": 4321.0625, "kind": row % 2}
    return {"caller": f"caller-{row}", "town": ("rome", "oslo")[row % 2], "minutes": float(row % 50), "kind": row % 2}


class Home:
    """A store with three segments and the three datasets that grew of them."""

    def __init__(self, folder: Path, pipeline: Pipeline) -> None:
        self.folder, self.pipeline = folder, pipeline
        self.store = ObjectStore(str(folder))
        self.history = History(pipeline=pipeline.name)
        self.specs: tuple[Pipeline, ...] = (pipeline,)
        self.frozen: list[Artifact] = []
        for cut in range(3):
            self.cut(range(cut * ROWS, (cut + 1) * ROWS))
        self.store.write(f"{secrets_folder(pipeline.own_name)}/{secret_id(SECRET)}", SECRET)

    def copied(self, folder: Path) -> Home:
        """Return a copy of it in a folder, whatever was there."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder)
        found = copy.copy(self)
        found.folder, found.store, found.frozen = folder, ObjectStore(str(folder)), list(self.frozen)
        return found

    def cut(self, numbers: range) -> None:
        values = [json.dumps(record(row)).encode() for row in numbers]
        batch = RecordChecker(self.pipeline.stream).check(values, [row % 2 for row in numbers], list(numbers)).batch
        writer = SegmentWriter(self.pipeline, Blobs(self.store))
        writer.add(batch)
        entry = keep(writer.finish(NOWHERE), self.pipeline, Blobs(self.store))
        self.history = self.history.and_cut(entry)
        self.freeze()

    def freeze(self) -> Manifest:
        manifest, self.history = Windows(self.pipeline, Blobs(self.store)).dataset(self.history)
        self.frozen.append(self.store.put(manifest.to_json()))
        self.store.put(self.history.to_json())
        return manifest

    def forget(self, key: str = ADA, beats: int = 10**9, request: str = ORDER, **wanted: Any) -> TakenIn:
        """Forget a key; killed at so many beats."""
        digest = forgotten(key, SECRET)
        specs = [pipeline_pb2.PipelineSpec(json=each.canonical_json(), digest=each.digest) for each in self.specs]
        order = forget_pb2.Forget(
            key=forget_pb2.KeyDigest(secret=digest.secret, digest=digest.digest), specs=specs, **wanted
        )
        asked = dataset_pb2.DatasetRequested(pipeline=self.pipeline.name, request_id=request, forget=order)
        self.beats = 0

        def beat() -> None:
            self.beats += 1
            if self.beats >= beats:
                raise KeyboardInterrupt

        topics = [forget_pb2.ForgettingTopic(topic="calls", holds="records")]
        return Forgetting(self.pipeline, self.store, lambda _, __: topics).take(asked, 1.0, self.history, beat)

    def found(self) -> list[str]:
        """Return the traces that the store has, in bytes and in what Parquet files read as."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        told = [path.read_bytes().decode("latin1") for path in files]
        told += [repr(pq.read_table(path).to_pydict()) for path in files if path.read_bytes()[:4] == b"PAR1"]
        return [trace for trace in TRACES if any(trace in text for text in told)]

    def names(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}

    def dataset(self, frozen: Artifact) -> Manifest:
        return Manifest.from_json(self.store.get(frozen))

    def callers(self, frozen: Artifact) -> list[str]:
        reader = DatasetReader(self.dataset(frozen), Blobs(self.store))
        return sorted(key for split in SPLITS for rows in reader.batches(split) for key in rows["caller"].to_pylist())


def path_of(home: Home, digest: str) -> Path:
    return home.folder / f"sha256/{digest[7:9]}/{digest[7:]}"


def told(taken: TakenIn) -> forget_pb2.KeyForgotten:
    """Return the fact that ends an order, whatever was looked at: that depends on what a killed one had kept."""
    assert isinstance(taken.ended, forget_pb2.KeyForgotten)
    found = forget_pb2.KeyForgotten()
    found.CopyFrom(taken.ended)
    found.ClearField("searched")
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("store"), pipeline_of())


@pytest.fixture
def home(made: Home, tmp_path: Path) -> Home:
    return made.copied(tmp_path / "store")


def test_no_value_of_a_key_is_left_and_every_dataset_that_had_it_reads(home: Home) -> None:
    ids = [home.dataset(frozen).dataset_id for frozen in home.frozen]
    others = [[caller for caller in home.callers(frozen) if caller != ADA] for frozen in home.frozen]
    segments = [entry.segment_id for entry in home.history.entries]
    assert sorted(home.found()) == sorted(TRACES)
    taken = home.forget()
    fact = told(taken)

    assert home.found() == []
    assert [home.dataset(frozen).dataset_id for frozen in home.frozen] == ids
    assert [home.callers(frozen) for frozen in home.frozen] == others
    assert [entry.segment_id for entry in taken.history.entries] == segments
    assert all(entry.sketch for entry in taken.history.entries)
    assert {each.segment_id: each.rows for each in fact.segments} == dict.fromkeys(segments, 4)
    counts = {each.dataset_id: each.train + each.validation + each.test for each in fact.datasets}
    assert counts == {ids[0]: 4, ids[1]: 8, ids[2]: 12}
    assert {each.kind for each in fact.erased} == {"dataset", "part", "segment", "sketch"}
    assert [each.topic for each in fact.topics] == ["calls"]
    assert not fact.left
    assert taken.rows == 12
    assert (taken.manifest, taken.history.prepared) == (None, home.history.prepared)

    home.history = taken.history
    again = home.freeze()
    assert again.dataset_id not in ids
    assert home.callers(home.frozen[-1]) == others[-1]
    suppression = suppression_of(home.store, home.pipeline, home.history)
    values = [json.dumps(record(row)).encode() for row in range(10)]
    left = leave_out(
        RecordChecker(home.pipeline.stream).check(values, [0] * 10, list(range(10))).batch,
        home.pipeline,
        suppression=suppression,
    )
    assert left.rejected == {"forgotten": 1}
    assert len(left.rows) == 9
    assert not any(trace in repr(left.letters) for trace in TRACES)


def test_whoever_is_killed_while_he_forgets_has_done_nothing_or_the_next_one_does_the_rest(
    made: Home, tmp_path: Path
) -> None:
    home = made.copied(tmp_path / "store")
    taken = home.forget()
    taken.done()
    names, last = home.names(), home.beats
    # While it looks around, before the plan is there, behind it, in the midst of removing, and at its end.
    for beats in (2, last // 2, last - 60, last - 40, last - 20, last - 5):
        home = made.copied(tmp_path / "store")
        with pytest.raises(KeyboardInterrupt):
            home.forget(beats=beats)
        again = home.forget()
        again.done()
        assert told(again) == told(taken)
        assert again.history == taken.history
        assert home.names() == names
    # A plan of a request that was answered, by somebody who was killed then, goes with the next one.
    home.forget("nobody", request="before")
    (stale,) = home.names() - names
    assert not told(home.forget("nobody")).segments
    assert stale not in home.names()


def test_a_second_key_leads_on_from_what_the_first_one_left(home: Home) -> None:
    home.history = home.forget(retrain=True).history
    assert home.history.prepared == RETRAIN != prepared_under(home.pipeline)
    taken = home.forget("caller-1", request="second")

    assert [each.rows for each in told(taken).segments] == [1]
    assert [home.callers(frozen).count("caller-1") for frozen in home.frozen] == [0, 0, 0]
    assert len(home.callers(home.frozen[0])) == ROWS - 5
    assert len(taken.history.forgotten) == 2
    successors = home.store.superseded()
    assert not {each.digest for each in successors.values()} & successors.keys()


def test_what_another_pipeline_has_as_well_stays_and_is_named(home: Home) -> None:
    other = Home(home.folder, pipeline_of("others"))
    taken = home.forget()

    assert len(home.callers(home.frozen[2])) == 3 * (ROWS - 4)
    assert len(other.callers(other.frozen[2])) == 3 * ROWS
    assert len(told(taken).left) == len({each for entry in told(taken).left for each in [entry.split(":")[1]]}) > 0
    assert all("another pipeline has the same rows" in reason for reason in told(taken).left)
    other.forget()
    assert home.found() == []


def test_rows_of_a_pipeline_of_the_name_that_called_its_key_otherwise_go_too(home: Home) -> None:
    before, blobs = load_pipeline(SPEC.replace("NAME", "calls").replace("name: caller", "name: who")), Blobs(home.store)
    values = [json.dumps(record(row) | {"who": record(row)["caller"]}).encode() for row in range(ROWS)]
    writer = SegmentWriter(before, blobs)
    writer.add(RecordChecker(before.stream).check(values, [0] * ROWS, list(range(ROWS))).batch)
    entry = keep(writer.finish(NOWHERE), before, blobs)
    home.store.put(History(pipeline="calls").and_cut(entry).to_json())
    home.specs = (home.pipeline, before)
    fact = told(home.forget())

    assert home.found() == []
    assert [each.rows for each in fact.segments] == [4] * 4
    assert not fact.left


def test_what_another_pipeline_is_about_to_name_stays_and_what_nobody_named_goes(home: Home) -> None:
    other = load_pipeline(SPEC.replace("NAME", "others").replace("town", "place"))
    digests = []
    for pipeline in (home.pipeline, other):
        values = [json.dumps(record(row) | {"place": "oslo"}).encode() for row in range(50, 60)]
        writer = SegmentWriter(pipeline, Blobs(home.store))
        writer.add(RecordChecker(pipeline.stream).check(values, [0] * 10, list(range(10))).batch)
        digests += [part.digest for part in writer.finish(NOWHERE).manifest.parts]
    own, others = digests
    left = [f"{others}: a part that is new, and nobody names it yet: forget the key again in an hour"]
    fact = told(home.copied(home.folder.parent / "new").forget())
    assert list(fact.left) == left
    assert own in {each.digest for each in fact.erased}

    os.utime(path_of(home, others), (time.time() - 7_200,) * 2)
    assert not told(home.forget()).left
    assert home.found() == []


def test_without_its_secret_a_key_is_not_forgotten_and_nothing_changes(home: Home) -> None:
    name = f"{secrets_folder(home.pipeline.own_name)}/{secret_id(SECRET)}"
    home.store.remove(name, 2**53)
    before = home.names()
    taken = home.forget()

    assert taken.ended is None
    assert taken.reason == (
        f"the forgetting of a key changed nothing: expected {name} in the object store, by which the records of "
        "forgotten keys are told: restore it"
    )
    assert (taken.history, home.names()) == (home.history, before)


def test_what_waits_for_labels_is_without_the_key_too(home: Home) -> None:
    # Labels call the key otherwise than rows do.
    said = "  labels: {topic: outcomes, key: whose}\n  references: [scans/2026]\n  schema:"
    late = load_pipeline(SPEC.replace("NAME", "calls").replace("  schema:", said))
    home.specs = (home.pipeline, late)
    blobs, values = Blobs(home.store), [json.dumps(record(row)).encode() for row in range(20)]
    rows = RecordChecker(late.stream.incoming).check(values, [0] * 20, list(range(20))).batch
    writer = WaitingWriter(late, blobs)
    writer.add(rows)
    columns = {"whose": [ADA, "caller-1", ADA], "kind": [1, 0, 1], READ: [1, 2, 3], USED: [False] * 3}
    schema = label_schema(late)
    arrays = [pa.array(columns.get(field.name, [0] * 3)).cast(field.type) for field in schema]
    labels = keep_labels(pa.Table.from_arrays(arrays, schema=schema), blobs)
    waits = Awaiting(rows=writer.finish(), labels=labels, label_count=3)
    home.history = home.history.model_copy(update={"awaiting": waits})
    taken = home.forget()

    assert home.found() == []
    waiting = taken.history.awaiting
    assert waiting is not None
    assert (waiting.row_count, waiting.label_count, waits.row_count) == (18, 1, 20)
    found = [row for batch in waiting_rows(waiting, late, blobs) for row in batch["caller"].to_pylist()]
    assert len(found) == 18
    assert ADA not in found
    assert kept_labels(waiting, late, blobs)["whose"].to_pylist() == ["caller-1"]
    assert "waiting" in {each.kind for each in told(taken).erased}
    assert [reason.partition(":")[0] for reason in told(taken).left] == ["payloads/scans/2026"]
    # Neither does what comes later wait.
    bare = [
        json.dumps({name: each for name, each in record(row).items() if name != "kind"}).encode() for row in range(20)
    ]
    times = np.full(20, 10**15, "M8[us]")
    later = RecordChecker(late.stream.incoming).check(bare, [0] * 20, list(range(20)), times=times).batch
    gone = suppression_of(home.store, home.pipeline, taken.history)
    join = LabelJoin(late, blobs, Awaiting(), (), 10**15, suppression=gone)
    assert not list(filter(len, join.rows(lambda: [later])))
    left = join.finish().awaiting
    found = [row for batch in waiting_rows(left, late, blobs) for row in batch["caller"].to_pylist()]
    assert len(found) == 18
    assert ADA not in found


def test_what_a_rival_puts_behind_the_look_stays_and_so_does_a_file_that_waits_for_its_backfill(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pa.Table.from_pylist([record(row) for row in range(200, 210)])
    pq.write_table(rows, file := home.folder.parent / "upload")
    upload = home.store.put_file(file)
    (named,) = {part.digest for part in home.dataset(home.frozen[0]).slices[0].parts if part.partition == 1}
    part, find = path_of(home, named).read_bytes(), Erasure.of

    def raced(erasure: Erasure, *given: Any) -> Plan:
        plan = find(erasure, *given)
        home.store.put(part)
        return plan

    monkeypatch.setattr(Erasure, "of", raced)
    fact = told(home.forget())

    assert sorted(fact.left) == [
        f"{upload.digest}: a file that a backfill may be about to take in: forget the key again in a day",
        f"{named}: it was put again meanwhile: forget the key again",
    ]
    assert path_of(home, named).read_bytes() == part
    assert path_of(home, upload.digest).exists()
    assert fact.erased_count == len(fact.erased) > 0
    assert not {named, upload.digest} & {each.digest for each in fact.erased}
    os.utime(path_of(home, upload.digest), (time.time() - 90_000,) * 2)
    home.forget(request="again")
    assert not path_of(home, upload.digest).exists()


def test_long_lists_are_whole_in_the_store_and_short_in_the_message(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = told(home.copied(home.folder.parent / "whole").forget())
    monkeypatch.setattr(bounds, "MOST_TOLD", 2)
    fact = told(home.copied(home.folder.parent / "bounded").forget())

    assert not whole.HasField("whole")
    kinds = [each.kind for each in fact.erased]
    assert (kinds.count("dataset"), len(kinds), len(fact.segments)) == (3, 5, 2)
    counts = (len(whole.segments), 12, len(whole.erased))
    assert [(each.segment_count, each.rows, each.erased_count) for each in (fact, whole)] == [counts] * 2
    data = (home.folder.parent / "bounded" / secrets_folder("calls") / "whole" / f"{ORDER}.json").read_bytes()
    assert (digest_of(data), len(data)) == (fact.whole.digest, fact.whole.size_bytes)
    lists = json.loads(data)
    assert [len(lists[name]) for name in ("segments", "erased", "left")] == [3, len(whole.erased), 0]
