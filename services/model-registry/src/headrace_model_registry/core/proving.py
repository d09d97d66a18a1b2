"""Proves what a prediction comes from, in one document that is checked without a service.

The log is a Merkle tree (`headrace_data.log_chain`), so each entry that the proof names is shown to be in it by a few
hashes. What the entries name by digest is in the document whole: the manifests of version and dataset, and the spec.
The prediction itself is in no log that is kept: the signature over the whole document vouches for it.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from headrace_data.audit import audit_path
from headrace_data.canonical import sha256_digest
from headrace_data.identity import LEAF, MerkleTree
from headrace_data.row_proofs import SegmentProof
from headrace_runtime.errors import InvalidInput, NotFound

from headrace_model_registry.core import prediction_ids, specs
from headrace_model_registry.core.facts import (
    DatasetFrozen,
    Event,
    KeyForgotten,
    LogEntry,
    ModelReleased,
    ModelTrained,
    PipelineApplied,
    TrainingRequested,
)
from headrace_model_registry.core.fate import ProvenRow, RecordPlace
from headrace_model_registry.core.served import PredictionServed
from headrace_model_registry.core.state import State
from headrace_model_registry.ports import LogLines, Objects, Predictions, RowProver, Signing

FORMAT: Final = "headrace.proof.v1"
HEAD_FORMAT: Final = "headrace.log.head.v1"
MOST_ROWS: Final = 1_000
"""Most records that one proof names."""


@dataclass(frozen=True, slots=True)
class LogHead:
    """What the log is up to an entry, when that was told (UTC), and who signed it; `key` is empty where nobody did."""

    size: int
    root: str
    time: str
    key: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Behind:
    """The places in the log of what lies behind a prediction."""

    release: int
    version: int
    dataset: int
    training: int


class Prover:
    """Makes proofs and heads. A proof reads the log from Kafka. Safe for use by several threads."""

    def __init__(
        self,
        state: State,
        log: LogLines,
        predictions: Predictions,
        objects: Objects,
        rows: RowProver,
        signing: Signing,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._state = state
        self._log = log
        self._predictions = predictions
        self._objects = objects
        self._rows = rows
        self._signing = signing
        self._now = now

    def head(self) -> LogHead:
        """Return the head of the log that is committed."""
        return self._head(self._state.tree)

    def lines(self) -> Generator[tuple[int, bytes]]:
        """Yield offset and bytes of each entry."""
        return self._log.lines()

    def prove(self, name: str, places: Sequence[RecordPlace] = ()) -> bytes:
        """Return the proof of a prediction, named by its id or a unique beginning of it, as JSON.

        Raises NotFound when there is no such prediction, or something behind it is gone; InvalidInput when several
        begin so, and when a record is not in the dataset.
        """
        if len(places) > MOST_ROWS:
            raise InvalidInput(f"expected at most {MOST_ROWS} rows in a proof, got {len(places)}")
        served = self._served(name)
        entries = self._state.entries()
        behind = _behind(served, entries)
        events = {key: entries[place].event for key, place in asdict(behind).items()}
        proof: dict[str, Any] = {"format": FORMAT, "prediction": _plain(asdict(served))}
        proof |= self._documents(events)
        proof |= self._of_rows(events["dataset"], entries, places)
        forgotten = _replaced(entries, behind.dataset, events["dataset"].manifest.digest)
        proof |= self._in_log(behind, forgotten)
        return json.dumps(proof | {"seal": self._seal(proof)}, indent=1, ensure_ascii=False).encode()

    def _served(self, name: str) -> PredictionServed:
        beginning = name.strip().lower()
        window = prediction_ids.window_ms(beginning)
        found = self._predictions.starting_with(beginning, *window) if window else {}
        if len(found) > 1:
            raise InvalidInput(f"{len(found)} predictions have an id that begins with {name!r}: give more of it")
        for served in found.values():
            return served
        raise NotFound(
            f"no prediction has an id that begins with {name!r}; predictions are kept for some days only, and of their "
            "ids at least the first eight characters are needed"
        )

    def _documents(self, events: Mapping[str, Any]) -> dict[str, str]:
        """Return what the entries name by digest."""
        return {
            "version": self._objects.get(events["version"].manifest).decode(),
            "dataset": self._objects.get(events["dataset"].manifest).decode(),
            "spec": events["training"].spec.json.decode(),
        }

    def _of_rows(
        self, frozen: DatasetFrozen, entries: Sequence[LogEntry], places: Sequence[RecordPlace]
    ) -> dict[str, Any]:
        if not places:
            return {"rows": [], "segments": []}
        applied = (entry.event for entry in entries)
        parsed = [specs.parse(each.spec) for each in applied if isinstance(each, PipelineApplied)]
        schemas = {each.schema_digest: each.stream.fields for each in parsed}
        rows, segments = self._rows.prove(frozen, places, schemas)
        return {
            "rows": [each for row in rows for each in _of_row(row, segments)],
            "segments": [_of_segment(each) for each in segments],
        }

    def _in_log(self, behind: Behind, forgotten: Sequence[int]) -> dict[str, Any]:
        wanted = {*asdict(behind).values(), *forgotten}
        leaves: list[bytes] = []
        found: dict[int, tuple[int, bytes]] = {}
        for offset, data in self._log.lines():
            if len(leaves) in wanted:
                found[len(leaves)] = (offset, data)
            leaves.append(hashlib.sha256(LEAF + data).digest())
        tree = MerkleTree()
        tree.extend(leaves)
        entries = {
            place: {
                "index": place,
                "offset": offset,
                "bytes": _base64(data),
                "path": [each.hex() for each in audit_path(leaves, place)],
            }
            for place, (offset, data) in found.items()
        }
        return {
            "entries": {key: entries[place] for key, place in asdict(behind).items()},
            "forgotten": [entries[place] for place in forgotten],
            "head": asdict(self._head(tree)),
        }

    def _head(self, tree: MerkleTree) -> LogHead:
        time = self._now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        said = {"size": tree.leaves, "root": tree.root().hex(), "time": time}
        signature = self._signing.sign(f"{HEAD_FORMAT}\n".encode() + canonical(said))
        return LogHead(tree.leaves, tree.root().hex(), time, self._signing.key, signature)

    def _seal(self, proof: Mapping[str, Any]) -> dict[str, str]:
        signature = self._signing.sign(f"{FORMAT}\n".encode() + canonical(proof))
        seal = {"key": self._signing.key, "signature": signature}
        return seal | {"digest": sha256_digest(canonical([proof, seal]))}


def canonical(value: object) -> bytes:
    """Return a value as canonical JSON, as whoever checks a proof with Python alone makes it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _behind(served: PredictionServed, entries: Sequence[LogEntry]) -> Behind:
    """Return where in the log the release that answered is, and what led to it. Raises NotFound."""
    before = len(entries)
    if served.release is None and (moment := prediction_ids.made_at(served.prediction_id)):
        # Of before predictions said which release answered: the last one of the version by then.
        before = next((place for place, entry in enumerate(entries) if entry.occur_time > moment), before)
    release, released = _last(entries, ModelReleased, before, lambda event: _answered(event, served), "release")
    pipeline, version_id, dataset_id = released.pipeline, released.version_id, released.dataset_id
    version, trained = _last(
        entries,
        ModelTrained,
        release,
        lambda event: (event.pipeline, event.version_id) == (pipeline, version_id),
        "training",
    )
    training, _ = _last(entries, TrainingRequested, version, lambda event: event.run_id == trained.run_id, "run")
    dataset, _ = _last(
        entries,
        DatasetFrozen,
        training,
        lambda event: (event.pipeline, event.dataset_id) == (pipeline, dataset_id),
        "dataset",
    )
    return Behind(release, version, dataset, training)


def _replaced(entries: Sequence[LogEntry], after: int, digest: str) -> list[int]:
    """Return where in the log it is told what stands in the place of an object, since keys were forgotten."""
    found = []
    for place in range(after + 1, len(entries)):
        event = entries[place].event
        erased = {each.digest: each.replacement for each in event.erased} if isinstance(event, KeyForgotten) else {}
        if erased.get(digest):
            found.append(place)
            digest = erased[digest]
    return found


def _answered(event: ModelReleased, served: PredictionServed) -> bool:
    if (event.model, event.version_id) != (served.model, served.version_id):
        return False
    return served.release is None or (event.alias, event.epoch) == (served.release.alias, served.release.epoch)


def _last(entries: Sequence[LogEntry], kind: type[Any], before: int, wanted: Callable[[Any], bool], what: str) -> Any:
    """Return place and event of the last entry of a kind before a place. Raises NotFound."""
    for place in range(before - 1, -1, -1):
        event: Event = entries[place].event
        if isinstance(event, kind) and wanted(event):
            return place, event
    raise NotFound(f"the registry's log has no {what} behind this prediction")


def _of_row(row: ProvenRow, segments: Sequence[SegmentProof]) -> list[dict[str, Any]]:
    """Return the rows of a record."""
    return [
        {
            "topic": row.place.topic,
            "partition": row.place.partition,
            "offset": row.place.offset,
            "index": found.index,
            "split": row.held.split,
            "left_out": row.held.left_out,
            "segment": segment.manifest.segment_id,
            "tree": found.partition,
            "leaf": found.leaf,
            "row": None if found.row is None else _base64(found.row),
            "digest": found.digest.hex() if found.row is None else None,
            "path": [each.hex() for each in found.path],
        }
        for segment in segments
        for found in segment.rows
        if (found.partition, found.offset) == (row.partition, row.place.offset)
    ]


def _of_segment(proof: SegmentProof) -> dict[str, Any]:
    manifest = proof.manifest
    return {
        "segment_id": manifest.segment_id,
        "schema": manifest.schema_digest,
        "prepare": manifest.prepare_digest,
        "split": manifest.split_digest,
        "trees": [
            {"partition": each.partition, "rows": each.rows, "root": each.root.hex()} for each in proof.partitions
        ],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return _base64(value)
    return {key: _plain(each) for key, each in value.items()} if isinstance(value, Mapping) else value


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
