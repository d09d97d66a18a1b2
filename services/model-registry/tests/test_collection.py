"""A real store of real datasets: what is needed stays and can be read, and everything else goes, whoever is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from headrace_data.batches import TIME, TIME_TYPE
from headrace_data.dataset import DatasetReader
from headrace_data.folder import FileRef, Folder
from headrace_data.held import Held
from headrace_data.history import History, keep
from headrace_data.manifest import Manifest, Provenance, SegmentManifest
from headrace_data.records import RecordChecker
from headrace_data.retention import retained
from headrace_data.segments import SegmentWriter
from headrace_data.spec import load_pipeline
from headrace_data.windows import Windows
from headrace_model_registry.core import facts
from headrace_model_registry.core.collection import MARKS, Collector, ObjectFate
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.roots import DATASET, HISTORY, RUN, VERSION
from headrace_model_registry.core.roots import SPEC as SPEC_KEEPS
from headrace_model_registry.core.state import State
from headrace_runtime.errors import Corrupt, FailedPrecondition, NotFound
from headrace_runtime.object_store import ObjectStore

DAY_S = 86_400.0
START = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: digits}}
stream:
  topic: digits
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: x, type: {x}, role: feature}}
    - {{name: y, type: int64, role: label}}
prepare: {{window: {{last: 1d}}, transform: {transform}}}
train: {{network: {network}}}
{retain}
"""
NOWHERE = Provenance(cluster_id="c", topic="digits", topic_id="t", sources=(), clean_ranges=(), rejected={})


class Mill:
    """Cuts, trains and releases by hand, in a real store."""

    def __init__(self, ledger, world, folder):
        self.ledger, self.world = ledger, world
        self.folder = folder
        self.store = ObjectStore(str(folder))
        self.state = State()
        self.apply()
        self.history = History(pipeline="digits")
        self.histories = {}

    def apply(self, retain="", network="{kind: mlp}", x="float32", transform="{}"):
        retain = retain and f"retain: {retain}"
        document = SPEC.format(retain=retain, network=network, x=x, transform=transform)
        self.pipeline = load_pipeline(document.encode())
        spec = facts.PipelineSpec(self.pipeline.canonical_json(), self.pipeline.digest)
        self.applied = facts.PipelineApplied("digits", spec, 3)
        self.ledger.learn(self.applied)

    def put(self, data):
        return Artifact(**asdict(self.store.put(data)))

    def rows(self, day):
        values = [json.dumps({"id": day * 100 + n, "x": float(n), "y": n % 2}).encode() for n in range(100)]
        offsets = [day * 100 + n for n in range(100)]
        batch = RecordChecker(self.pipeline.stream).check(values, [0] * 100, offsets).batch
        times = pa.array([START + timedelta(days=day, minutes=n) for n in range(100)], TIME_TYPE)
        return batch.set_column(batch.schema.get_field_index(TIME), pa.field(TIME, TIME_TYPE), times)

    def cut(self, day, held=None):
        """Cut a day, as the freezer does, and return the dataset that is announced."""
        writer = SegmentWriter(self.pipeline, self.store)
        writer.add(self.rows(day))
        entry = keep(writer.finish(NOWHERE), self.pipeline, self.store).model_copy(update={"held": held})
        manifest, history = Windows(self.pipeline, self.store).dataset(self.history.and_cut(entry))
        self.history = retained(history, self.pipeline)
        self.histories = {("digits", 0): self.put(self.history.to_json())}
        frozen = replace(self.world.frozen(self.applied, day), dataset_id=manifest.dataset_id)
        return replace(frozen, manifest=self.put(manifest.to_json()))

    def run(self, request, result):
        self.store.write(f"runs/{request.run_id}/attempt-1/assignment.json", b"{}")
        self.store.write(f"runs/{request.run_id}/attempt-1/checkpoint-0.safetensors", b"tensors")
        self.store.write(f"runs/{request.run_id}/attempt-1/curve.json", b"[]")
        self.store.write(f"runs/{request.run_id}/result.json", json.dumps(asdict(result)).encode())

    def begin(self, day):
        """Cut a day, and return the training run that is asked for, with what it will tell of itself."""
        request = self.ledger.decide(self.cut(day))
        graph, weights = self.put(b"graph %d" % day), self.put(b"weights %d" % day)
        manifest = self.put(json.dumps({"weights": weights.digest, "graph": graph.digest}).encode())
        trained = replace(self.world.trained(request), version_id=manifest.digest, manifest=manifest)
        trained = replace(trained, graph=graph, weights=weights)
        self.run(request, trained)
        return request, trained

    def release(self, day, graph=None):
        """Train and compress; `graph` is that of int8."""
        _, trained = self.begin(day)
        request = self.ledger.decide(trained)
        compressed = self.world.compressed(request)
        small = replace(compressed.variants[1], graph=graph or self.put(b"int8 %d" % day))
        compressed = replace(compressed, variants=(compressed.variants[0], small))
        self.run(request, compressed)
        return self.ledger.decide(compressed)

    def write(self, wish, until_s=None):
        """Be the writer that the collector has."""
        self.ledger.grant(wish)
        self.state.publish(self.ledger.catalogue)
        return []

    def collector(self, grace_s=DAY_S):
        self.state.publish(self.ledger.catalogue)
        return Collector(self.state, self, self.store, lambda: self.histories, grace_s)

    def age(self, days=2.0):
        """Let everything in the store, and every mark, be so old."""
        for path in self.folder.rglob("*"):
            if path.is_file():
                os.utime(path, (time.time() - days * DAY_S,) * 2)
        marks = json.loads(self.store.read(MARKS) or b"{}")
        self.store.write(MARKS, json.dumps({name: since_s - days * DAY_S for name, since_s in marks.items()}).encode())

    def collect(self):
        """Mark, and remove a day later; return what went."""
        self.age()
        self.collector().collect(dry_run=False)
        self.age()
        return fates(self.collector().collect(dry_run=False))[ObjectFate.REMOVED]

    def names(self):
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()} - {MARKS}

    def readable(self, frozen):
        reader = DatasetReader(Manifest.from_json(self.store.get(frozen.manifest)), self.store)
        return sum(len(columns["y"]) for columns in reader.columns_of().values())


def fates(collected):
    """Return the counts by fate and kind; none has none."""
    found: dict[ObjectFate, Counter[str]] = {fate: Counter() for fate in ObjectFate}
    for each in collected.counts:
        found[each.fate][each.kind] += each.objects
    return found


@pytest.fixture
def mill(ledger, world, tmp_path):
    return Mill(ledger, world, tmp_path / "store")


def test_nothing_that_is_needed_goes_and_everything_else_does(mill):
    for day in (1, 2, 3):
        mill.release(day)
    for dropped in (False, True):
        mill.cut(5 + dropped, Held(suspicions=(), dropped=dropped))
    running, told = mill.begin(4)
    needed = mill.names()
    mill.store.put(b"PAR1 of a cut that nobody announced")
    mill.store.put(b'{"entries": []}')
    mill.store.write("runs/train-unknown/attempt-1/assignment.json", b"{}")
    (mill.folder / "sha256/ab").mkdir(exist_ok=True)
    (mill.folder / "sha256/ab/.writing-0123").write_bytes(b"half")
    gone = mill.collect()
    # Of each cut but the last, an older history, and of each run that has ended a checkpoint.
    assert gone == {
        "parts of datasets": 1,
        "documents": 1 + 5,
        "files of runs": 1 + 6,
        "unfinished writes": 1,
    }
    assert mill.names() < needed
    of_runs = {name for name in needed - mill.names() if name.startswith("runs/")}
    assert of_runs == {name for name in needed if "checkpoint" in name and running.run_id not in name}
    datasets = mill.ledger.catalogue.datasets.values()
    assert [mill.readable(each.frozen) for each in datasets] == [100, 101, 101, 101]
    kept = fates(mill.collector().collect(dry_run=True))[ObjectFate.KEPT]
    assert set(kept) == {HISTORY, DATASET, VERSION, RUN}
    assert mill.collect() == {}, "once"
    for entry in mill.history.entries:
        parts = SegmentManifest.from_json(mill.store.get(entry.manifest)).parts
        assert all(mill.store.get(each) for each in (*parts, entry.sketch)), entry.held
    assert mill.ledger.learn(told), "the run goes on to its end"
    assert mill.store.get(told.weights)


def test_a_dry_run_says_the_same_and_changes_nothing(mill):
    for day in (1, 2, 3):
        mill.release(day)
    mill.apply("{versions: 1}")
    mill.cut(4)
    mill.age()
    mill.collector().collect(dry_run=False)
    mill.age()
    mill.apply("{versions: 2, age: 1d}")
    before, log = mill.names(), list(mill.ledger.log)
    told = mill.collector().collect(dry_run=True)
    assert (mill.names(), mill.ledger.log) == (before, log)
    assert told == mill.collector().collect(dry_run=False)


def test_what_is_young_or_marked_a_moment_ago_stays(mill):
    mill.release(1)
    orphan = mill.store.put(b"PAR1 orphan")
    assert fates(mill.collector().collect(dry_run=False))[ObjectFate.YOUNG] == {
        "parts of datasets": 1,
        "files of runs": 2,
    }
    mill.age()
    for _ in range(2):
        assert fates(mill.collector().collect(dry_run=False))[ObjectFate.MARKED]["parts of datasets"] == 1
    assert mill.store.get(orphan)


def test_what_is_put_once_more_after_it_was_marked_stays(mill):
    """As a cut does, whose rows are those of one that was killed."""
    mill.release(1)
    orphan = mill.store.put(b"PAR1 orphan")
    mill.age()
    mill.collector().collect(dry_run=False)
    mill.age()
    mill.store.put(b"PAR1 orphan")
    assert fates(mill.collector().collect(dry_run=False))[ObjectFate.YOUNG] == {"parts of datasets": 1}
    assert mill.store.get(orphan)


def test_what_only_retired_versions_and_dropped_segments_needed_goes(mill):
    releases = [mill.release(day) for day in (1, 2, 3)]
    mill.apply("{versions: 1}")
    releases += [mill.release(day) for day in (20, 21, 22)]
    parts = len(list((mill.folder / "sha256").rglob("*")))
    gone = mill.collect()
    assert gone["parts of datasets"] == 3, "days 1 to 3 are further back than the window reaches, twice"
    assert gone["sketches of segments"] >= 1
    assert gone["graphs and weights"] == 3 * 4, "versions 1 to 4; 5 is served by a rollback"
    assert len(list((mill.folder / "sha256").rglob("*"))) < parts
    datasets = list(mill.ledger.catalogue.datasets.values())
    assert [mill.readable(each.frozen) for each in datasets[-2:]] == [101, 101]
    with pytest.raises(NotFound):
        mill.readable(datasets[0].frozen)
    assert mill.store.get(releases[-2].graph)
    assert Windows(mill.pipeline, mill.store).dataset(mill.history), "the next cut has what it needs"


def test_a_file_that_was_imported_stays_while_a_spec_or_a_version_needs_it(mill):
    files = [mill.put(b"\x08model %d" % number) for number in range(3)]
    networks = [
        f"{{kind: imported, format: onnx, digest: {file.digest}, sizeBytes: {file.size_bytes}}}" for file in files
    ]
    mill.apply("{versions: 1}", networks[0])
    mill.begin(1)
    mill.apply("{versions: 1}", networks[1])
    assert mill.collect()["graphs and weights"] == 1, "nothing names the third"
    assert mill.store.get(files[0]), "a run that has not ended does"
    assert fates(mill.collector().collect(dry_run=True))[ObjectFate.KEPT][SPEC_KEEPS] == 2
    mill.apply("{versions: 1}")
    assert mill.collect()["graphs and weights"] == 1, "no spec in force names the second now"
    with pytest.raises(NotFound):
        mill.store.get(files[1])


def test_weights_beside_a_graph_stay_while_the_graph_does(mill):
    mill.apply("{versions: 1}")
    weights = [mill.put(b"\x08weights %d" % number) for number in range(3)]
    named = b"".join(each.digest.encode() for each in weights[:2])
    graph = replace(mill.put(b"\x08graph beside " + named), beside_bytes=sum(each.size_bytes for each in weights[:2]))
    assert graph.total_bytes == graph.size_bytes + 20
    mill.release(1, graph)
    assert mill.collect()["graphs and weights"] == 1, "nothing names the third"
    assert all(mill.store.get(each) for each in (graph, *weights[:2]))
    for day in (20, 21, 22):
        mill.release(day)
    mill.collect()
    for each in (graph, *weights):
        with pytest.raises(NotFound):
            mill.store.get(each)


@pytest.mark.parametrize("beside", [0, 1], ids=["its size", "another size"])
def test_a_folder_stays_with_its_files_while_a_spec_names_it_whatever_size_that_says(mill, beside):
    mill.apply("{versions: 1}")
    files = [mill.put(b"\x08file %d" % number) for number in range(3)]
    refs = {f"{number}.bin": FileRef(file.digest, file.size_bytes) for number, file in enumerate(files[:2])}
    folder = mill.put(Folder(refs).to_json())
    network = f"{{kind: encoder, digest: {folder.digest}, sizeBytes: {folder.size_bytes + beside}}}"
    mill.apply("{versions: 1}", network, "string", "{x: {encode: text}}")
    assert mill.collect() == {"graphs and weights": 1}, "nothing names the third"
    assert mill.store.get(folder)
    assert all(mill.store.get(file) for file in files[:2])
    mill.apply("{versions: 1}")
    assert mill.collect() == {"graphs and weights": 2, "documents": 1}


def test_a_folder_that_is_not_there_keeps_nothing_else(mill):
    orphan = mill.put(b"\x08orphan")
    network = f"{{kind: encoder, digest: sha256:{'0' * 64}, sizeBytes: 7}}"
    mill.apply("{versions: 1}", network, "string", "{x: {encode: text}}")
    assert mill.collect() == {"graphs and weights": 1}
    with pytest.raises(NotFound):
        mill.store.get(orphan)


def test_a_document_that_cannot_be_read_stops_the_collection(mill):
    mill.release(1)
    mill.store.put(b"PAR1 orphan")
    (dataset,) = mill.ledger.catalogue.datasets.values()
    digest = dataset.frozen.manifest.digest.removeprefix("sha256:")
    (mill.folder / f"sha256/{digest[:2]}/{digest}").write_bytes(b"{}")
    before = mill.names()
    mill.age()
    with pytest.raises(Corrupt):
        mill.collector(0.0).collect(dry_run=False)
    assert mill.names() == before


def test_a_registry_without_pipelines_collects_nothing(mill):
    mill.release(1)
    mill.state.publish(type(mill.ledger.catalogue)())
    empty = Collector(State(), mill, mill.store, dict, 0.0)
    with pytest.raises(FailedPrecondition, match="no pipeline was ever applied here"):
        empty.collect(dry_run=False)


KILLED = """
import json, sys
from headrace_model_registry.core import facts
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.collection import Collector
from headrace_model_registry.core.state import State
from headrace_runtime.object_store import ObjectStore

told = json.loads(sys.argv[2])
artifacts = [Artifact(**each) for each in told["artifacts"]]
spec = facts.PipelineSpec(told["spec"].encode(), "")
catalogue, state = Catalogue(), State()
catalogue.pipelines["digits"] = facts.PipelineApplied("digits", spec, 1)
state.publish(catalogue)
histories = {("digits", 0): artifacts[0]}

class Writer:
    def write(self, wish, until_s=None):
        return []

collector = Collector(state, Writer(), ObjectStore(sys.argv[1]), lambda: histories, 0.0)
print("ready", flush=True)
while True:
    collector.collect(dry_run=False)
"""


def test_a_collection_that_is_killed_anywhere_leaves_what_is_needed(mill):
    for day in (1, 2, 3):
        frozen = mill.cut(day)
    keeps = DatasetReader(Manifest.from_json(mill.store.get(frozen.manifest)), mill.store).columns_of()
    told = json.dumps(
        {
            "artifacts": [asdict(mill.histories["digits", 0])],
            "spec": mill.pipeline.canonical_json().decode(),
        }
    )
    draw = random.Random(7)
    left = []
    for _ in range(6):
        for number in range(400):
            mill.store.write(f"runs/train-{draw.randrange(10**6)}/attempt-1/checkpoint-{number}", b"0" * 100)
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(mill.folder), told], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout.readline() == "ready\n"
            time.sleep(draw.uniform(0.0, 0.4))
            child.send_signal(signal.SIGKILL)
        left.append(len(mill.names()))
    collector = mill.collector(0.0)
    for _ in range(2):
        collector.collect(dry_run=False)
    assert not [name for name in mill.names() if name.startswith("runs/")]
    assert len(History.from_json(mill.store.get(mill.histories["digits", 0])).entries) == 3
    manifest, _ = Windows(mill.pipeline, mill.store).dataset(mill.history)
    again = DatasetReader(manifest, mill.store).columns_of()
    assert all(np.array_equal(again[split]["y"], keeps[split]["y"]) for split in keeps)
    assert len({*left}) > 1, "some were killed midway"
