"""Proofs of predictions: made of a log and a store, and checked by the script that people have."""

import copy
import json
import random
import runpy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from headrace_data.batches import arrow_schema
from headrace_data.history import History, keep
from headrace_data.identity import MerkleTree
from headrace_data.manifest import Provenance
from headrace_data.segments import SegmentWriter
from headrace_data.spec import load_pipeline
from headrace_data.windows import Windows, only_dataset
from headrace_model_registry.adapters.datasets import StoredDatasets
from headrace_model_registry.adapters.row_proofs import StoredRows
from headrace_model_registry.adapters.signing import Signer
from headrace_model_registry.core import specs
from headrace_model_registry.core.facts import DatasetFrozen, KeyForgotten, LogEntry, PipelineSpec
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.facts.forgotten import ErasedObject, KeyDigest
from headrace_model_registry.core.fate import RecordPlace
from headrace_model_registry.core.proving import Prover, canonical
from headrace_model_registry.core.served import AnsweredRelease, PredictionServed
from headrace_model_registry.core.state import State
from headrace_model_registry.transport.outgoing import outgoing_of
from headrace_runtime.errors import InvalidInput, NotFound
from headrace_runtime.object_store import ObjectStore, digest_of

CHECKER = runpy.run_path(str(Path(__file__).parents[3] / "clients" / "python" / "check_proof.py"))
Bad, check = CHECKER["Bad"], CHECKER["check"]
PREDICTION = "019b7615-8800-7abc-8def-0123456789ab"
ROWS = 300


class Log:
    """The bytes of a ledger's log, as the writer makes them; the first entries may be of before it was chained."""

    def __init__(self, entries, unchained=0):
        tree, self.kept = MerkleTree(), []
        for place, entry in enumerate(entries):
            logged, *_ = outgoing_of(entry, "test", tree.copy() if place >= unchained else MerkleTree())
            data = logged.value or b""
            tree.append(data)
            self.kept.append((3 * place, data))
        self.tree = tree

    def lines(self):
        yield from self.kept


class Served:
    """Predictions by id."""

    def __init__(self, *predictions):
        self.predictions = predictions

    def starting_with(self, beginning, _first_ms, _last_ms):
        return {each.prediction_id: each for each in self.predictions if each.prediction_id.startswith(beginning)}


def pem(key):
    """Return the public key of a private one."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


@pytest.fixture(scope="module")
def key():
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def key_file(key, tmp_path_factory):
    file = tmp_path_factory.mktemp("key") / "private.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(key.private_bytes(*form))
    return file


@pytest.fixture
def store(tmp_path):
    return ObjectStore(str(tmp_path / "store"))


def put(store, data):
    kept = store.put(data)
    return Artifact(kept.uri, kept.digest, kept.size_bytes)


def cut(pipeline, store, first=0, count=ROWS):
    """Return a segment of rows in two partitions, in parts of a few."""
    numbers, schema = range(first, first + count), arrow_schema(pipeline.stream.fields)
    columns = {
        "id": pa.array([f"é{number}" for number in numbers]),
        "pixels": pa.array([[float(number)] * 64 for number in numbers], schema.field("pixels").type),
        "digit": pa.array([number % 3 for number in numbers], pa.int64()),
        "_partition": pa.array([number % 2 for number in numbers], pa.int32()),
        "_offset": pa.array(numbers, pa.int64()),
        "_index": pa.array([0] * count, pa.int32()),
        "_time": pa.array([None] * count, schema.field("_time").type),
    }
    writer = SegmentWriter(pipeline, store, part_rows=64)
    writer.add(pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema))
    place = Provenance(cluster_id="c", topic="digits", topic_id="", sources=(), clean_ranges=(), rejected={})
    return writer.finish(place)


def release(world, story, store, dataset):
    """Take a story from a dataset to its release, with a version in the store; return the release."""
    frozen = replace(world.frozen(story.applied), dataset_id=dataset.dataset_id, manifest=put(store, dataset.to_json()))
    request = story.ledger.decide(frozen)
    trained = world.trained(request)
    artifacts = {name: {"digest": getattr(trained, name).digest} for name in ("graph", "weights")}
    told = {"run_id": request.run_id, "dataset_id": dataset.dataset_id, "spec_digest": request.spec.digest, **artifacts}
    manifest = json.dumps(told).encode()
    trained = replace(trained, version_id=digest_of(manifest), manifest=put(store, manifest))
    return story.ledger.decide(world.compressed(story.ledger.decide(trained)))


@pytest.fixture
def released(world, story, store):
    pipeline = specs.parse(story.applied.spec)
    return release(world, story, store, only_dataset(cut(pipeline, store), pipeline, store))


@pytest.fixture
def prover(story, store, key_file):
    def made(*predictions, key=key_file, unchained=0, histories=dict):
        state, log = State(), Log(story.ledger.log, unchained)
        state.publish(story.ledger.catalogue, story.ledger.log, log.tree)
        rows = StoredRows(store, StoredDatasets(store), histories)
        return Prover(state, log, Served(*predictions), store, rows, Signer(key))

    return made


def prediction_of(released, **changes):
    return PredictionServed(
        **{
            "prediction_id": PREDICTION,
            "model": released.model,
            "version_id": released.version_id,
            "variant": released.variant,
            "request": b"\x0a\x06digits",
            "response": b"\x0a\x06digits",
            "release": AnsweredRelease(released.alias, released.epoch),
        }
        | changes
    )


PLACES = [RecordPlace("digits", at % 2, at) for at in (0, 17, ROWS - 1)]


@pytest.fixture
def proof(prover, released):
    return json.loads(prover(prediction_of(released)).prove(PREDICTION[:12], PLACES))


def test_a_proof_holds_with_the_key_and_without(proof, key, capsys):
    check(proof, pem(key))
    said = capsys.readouterr().out
    assert f"prediction: {PREDICTION} of digits by int8, graph sha256:" in said
    assert "row: digits:1:17 in " in said
    assert "pixels=17.0, 17.0, 17.0, 17.0, 17.0, 17.0, 17.0 digit=2 id=é17" in said
    check(proof)
    assert "not checked who made it" in capsys.readouterr().out
    with pytest.raises(Bad, match="the key of the seal"):
        check(proof, pem(Ed25519PrivateKey.generate()))


def scalars(value, path=()):
    """Yield the path of each text and number of a document."""
    if isinstance(value, dict | list):
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from scalars(each, (*path, name))
    elif value is not None:
        yield path


def changed(document, path):
    """Return a document with one text or number changed a little: its middle character, or its lowest bit."""
    document = copy.deepcopy(document)
    *outer, last = path
    home = document
    for name in outer:
        home = home[name]
    value = home[last]
    if isinstance(value, str):
        at = len(value) // 2
        home[last] = value[:at] + ("1" if value[at : at + 1] == "0" else "0") + value[at + 1 :]
    else:
        home[last] = value ^ 1
    return document


SUM = ("seal", "digest")
"""What is made anew where a document is sealed again."""


def resealed(document):
    """Return a document with the digest that it should have, as somebody without the key can make it."""
    rest = {name: value for name, value in document.items() if name != "seal"}
    signer = {name: value for name, value in document["seal"].items() if name != "digest"}
    return rest | {"seal": signer | {"digest": digest_of(canonical([rest, signer]))}}


def test_whatever_is_changed_is_found(proof, key):
    for path in scalars(proof):
        with pytest.raises(Bad):
            check(changed(proof, path))
        if path != SUM:
            with pytest.raises(Bad):
                check(resealed(changed(proof, path)), pem(key))


VOUCHED = {
    *(("prediction", name) for name in ("prediction_id", "request", "response", "rows", "cached", "duration_us")),
    ("prediction", "traceparent"),
    *(("entries", "offset"), ("head", "time")),
    *((home, name) for home in ("head", "seal") for name in ("key", "signature")),
    *(("rows", name) for name in ("topic", "partition", "offset", "index", "split", "left_out")),
}
"""What the signature alone vouches for, as docs/proofs.md says: nothing else in the file follows from it."""


def test_what_no_signature_has_to_vouch_for_is_found_without_one(proof):
    passed = set()
    for path in set(scalars(proof)) - {SUM}:
        try:
            check(resealed(changed(proof, path)))
        except Bad:
            continue
        names = [name for name in path if isinstance(name, str)]
        passed.add((names[0], names[-1]))
    assert passed <= VOUCHED


def test_a_flipped_bit_of_the_file_is_found_or_means_nothing(proof):
    kept, chance = json.dumps(proof, indent=1, ensure_ascii=False).encode(), random.Random(7)
    for _ in range(100):
        file = bytearray(kept)
        file[chance.randrange(len(file))] ^= 1 << chance.randrange(8)
        try:
            read = json.loads(bytes(file))
        except ValueError:
            continue
        if read != proof:
            with pytest.raises(Bad):
                check(read)


def test_the_release_that_answered_is_proved_also_after_a_rollback(world, story, store, prover, released):
    first = prediction_of(released)
    again = replace(first, prediction_id=PREDICTION.replace("abc", "def"), release=AnsweredRelease("champion", 2))
    repeated = replace(released, epoch=2, reason="rolled back")
    story.ledger.write(repeated)
    made = prover(first, again)
    entries = [json.loads(made.prove(each.prediction_id))["entries"]["release"] for each in (first, again)]
    assert [each["index"] for each in entries] == [len(story.ledger.log) - 2, len(story.ledger.log) - 1]


def test_a_prediction_of_before_it_told_its_release_is_of_the_latest_by_then(story, prover, released):
    moment = story.ledger.log[-1].occur_time
    story.ledger.write(replace(released, epoch=2, reason="rolled back"))
    ids = [f"{int(at.timestamp() * 1000):012x}" for at in (moment, story.ledger.log[-1].occur_time)]
    served = [
        prediction_of(released, prediction_id=f"{each[:8]}-{each[8:]}-7abc-8def-0123456789ab", release=None)
        for each in ids
    ]
    made = prover(*served)
    proofs = [json.loads(made.prove(each.prediction_id)) for each in served]
    assert [each["entries"]["release"]["index"] for each in proofs] == [
        len(story.ledger.log) - 2,
        len(story.ledger.log) - 1,
    ]
    for each in proofs:
        check(each)


def test_a_log_that_was_chained_late_and_a_registry_without_a_key_prove_all_the_same(prover, released, capsys):
    check(json.loads(prover(prediction_of(released), key=None, unchained=3).prove(PREDICTION, PLACES)))
    assert "nobody signed" in capsys.readouterr().out


def test_rows_of_a_window_are_proved_in_segments_of_another_schema_too(world, story, store, prover, capsys):
    before = specs.parse(story.applied.spec)
    document = world.document(highest=1000).replace(b"prepare: {", b"prepare: {window: {rows: 400}, ")
    pipeline = load_pipeline(document)
    applied = replace(story.applied, spec=PipelineSpec(pipeline.canonical_json(), pipeline.digest))
    story.ledger.learn(applied)
    history = History(pipeline="digits")
    for spec, first in ((before, 0), (pipeline, ROWS)):
        history = history.and_cut(keep(cut(spec, store, first), spec, store))
    dataset, history = Windows(pipeline, store).dataset(history)
    released = release(world, replace(story, applied=applied), store, dataset)
    kept = {("digits", 0): put(store, history.to_json())}
    made = prover(prediction_of(released), histories=lambda: kept)
    # The window takes the newest 400 rows by partition and offset: of the first segment the newest of partition 1.
    proof = json.loads(made.prove(PREDICTION, [RecordPlace("digits", 1, 299), RecordPlace("digits", 0, 300)]))
    check(proof)
    said = capsys.readouterr().out
    assert "rows of 2 segments" in said
    assert "row: digits:1:299 in " in said
    assert [each["schema"] for each in proof["segments"]] == [before.schema_digest, pipeline.schema_digest]
    with pytest.raises(InvalidInput, match="no row of record digits:0:0"):
        made.prove(PREDICTION, [RecordPlace("digits", 0, 0)])
    with pytest.raises(NotFound, match="the history of pipeline digits is gone"):
        prover(prediction_of(released)).prove(PREDICTION, [RecordPlace("digits", 1, 299)])
    for one, other in (("since", {"time": 0}), ("segment_id", f"sha256:{0:064}")):
        forged = copy.deepcopy(proof)
        manifest = json.loads(forged["dataset"])
        manifest["slices"][0][one] = other
        forged["dataset"] = json.dumps(manifest)
        with pytest.raises(Bad):
            check(resealed(forged))


def _forgotten(before, digest, replacement):
    event = KeyForgotten(
        "digits", "request", KeyDigest("s", "k"), erased=(ErasedObject("manifest", digest, replacement),)
    )
    return LogEntry(before.occur_time, event)


def test_a_dataset_that_lost_rows_is_proved_by_the_entries_that_tell_of_it(story, store, prover, released, capsys):
    served, log = prediction_of(released), story.ledger.log
    (place,) = [place for place, entry in enumerate(log) if isinstance(entry.event, DatasetFrozen)]
    digests = [log[place].event.manifest.digest]
    for number in range(2):
        manifest = json.loads(store.get(log[place].event.manifest))
        manifest["provenance"]["rejected"] = {"forgotten": number + 1}
        after = put(store, canonical(manifest))
        digests.append(after.digest)
    log += [_forgotten(log[-1], *pair) for pair in pairwise(digests)]
    made, objects = prover(served), Superseding(store, digests[0], after)
    made._objects = objects
    made._rows = None
    proof = json.loads(made.prove(PREDICTION))
    check(proof)
    assert [each["index"] for each in proof["forgotten"]] == [len(log) - 2, len(log) - 1]
    assert json.loads(proof["dataset"])["provenance"]["rejected"] == {"forgotten": 2}
    del proof["forgotten"][0]
    with pytest.raises(Bad, match="the digest of the dataset's manifest"):
        check(resealed(proof))


class Superseding:
    """A store that answers to a digest with another object."""

    def __init__(self, store, digest, successor):
        self.store, self.digest, self.successor = store, digest, successor

    def get(self, artifact):
        return self.store.get(self.successor if artifact.digest == self.digest else artifact)


def test_what_cannot_be_proved_is_said(prover, released):
    made = prover(prediction_of(released), prediction_of(released, prediction_id=PREDICTION[:-1] + "c"))
    with pytest.raises(InvalidInput, match="2 predictions have an id"):
        made.prove(PREDICTION[:-1])
    with pytest.raises(NotFound, match="no prediction has an id"):
        made.prove("nothing")
    with pytest.raises(InvalidInput, match="has no row of record digits:0:1: `headrace where digits:0:1`"):
        made.prove(PREDICTION, [RecordPlace("digits", 0, 1)])
    with pytest.raises(InvalidInput, match="at most 1000 rows"):
        made.prove(PREDICTION, [RecordPlace("digits", 0, 0)] * 1001)
    with pytest.raises(NotFound, match="no release behind"):
        prover(prediction_of(released, release=AnsweredRelease("champion", 9))).prove(PREDICTION)
