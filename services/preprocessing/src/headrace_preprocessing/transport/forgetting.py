"""Takes the rows of a key out of all that a pipeline keeps, as a request asks.

What is to be done is found first, and the new parts and manifests are kept; then a plan of it is written. Only behind
the plan anything is taken away, and the fact that tells of it ends the order. Whoever is killed before the plan is
there has changed nothing; behind it the next instance does the rest of the same plan, and tells the same.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from headrace.events.v1 import dataset_pb2, forget_pb2
from headrace_data.erased_waiting import awaiting_without
from headrace_data.errors import DataError, ManifestInvalid
from headrace_data.forgotten import Forgotten, known, secrets_folder, secrets_of
from headrace_data.history import RETRAIN, History, renewed_entry
from headrace_data.manifest import SegmentManifest
from headrace_data.parts import Blob
from headrace_data.spec import Pipeline, parse_canonical
from headrace_data.windows import Windows
from headrace_runtime.errors import Corrupt, InvalidInput, NotFound
from headrace_runtime.object_store import Artifact, ObjectStore

from headrace_preprocessing.ports import Retentions
from headrace_preprocessing.transport.blobs import Blobs
from headrace_preprocessing.transport.bounds import bound, tell_of_rivals
from headrace_preprocessing.transport.erasure import Erasure, Plan
from headrace_preprocessing.transport.orders import TakenIn, nothing_of
from headrace_preprocessing.transport.store_search import look_through, name_of

logger = logging.getLogger(__name__)

_NEVER = (DataError, NotFound, Corrupt, InvalidInput)
"""What no later attempt does better."""


@dataclass(frozen=True)
class Forgetting:
    """Forgets keys of one pipeline."""

    pipeline: Pipeline
    store: ObjectStore
    retentions: Retentions

    def take(
        self, request: dataset_pb2.DatasetRequested, asked_s: float, history: History, beat: Callable[[], None]
    ) -> TakenIn:
        """Forget the key that a request of this time names; all of it or nothing."""
        key = Forgotten(secret=request.forget.key.secret, digest=request.forget.key.digest)
        self._forget_plans(request.request_id)
        try:
            plan = self._kept(request.request_id) or self._found(request, key, asked_s, history, beat)
        except _NEVER as error:
            return nothing_of("forget", history, str(error))
        self._carry_out(plan, beat)
        history = self._renewed(history, key, beat, retrain=request.forget.retrain)
        rows = sum(each.rows for each in plan.told.segments)
        return TakenIn(history, None, rows=rows, ended=plan.told, done=self._forget_plans)

    def _found(
        self,
        request: dataset_pb2.DatasetRequested,
        key: Forgotten,
        asked_s: float,
        history: History,
        beat: Callable[[], None],
    ) -> Plan:
        """Find what is to be done, keep what is new, and write the plan."""
        specs = [parse_canonical(spec.json) for spec in request.forget.specs]
        secret = secrets_of(self.pipeline, self.store.read)(key.secret)
        stored = look_through(self.store, self.pipeline.name, beat)
        erasure = Erasure(self.pipeline, [*specs, self.pipeline], Blobs(self.store), stored, beat)
        told = forget_pb2.KeyForgotten(
            pipeline=self.pipeline.name,
            request_id=request.request_id,
            incarnation=self.pipeline.incarnation,
            key=request.forget.key,
            topics=self.retentions(asked_s, specs),
            retrain=request.forget.retrain,
        )
        plan = erasure.of(key, secret, history, told)
        bound(plan.told, self.store, f"{secrets_folder(self.pipeline.own_name)}/whole/{request.request_id}.json")
        self.store.write(self._plan_name(request.request_id), _to_bytes(plan))
        return plan

    def _kept(self, request_id: str) -> Plan | None:
        """Return the plan of a request that was begun before; None when it is to be made."""
        data = self.store.read(self._plan_name(request_id))
        return None if data is None else _from_bytes(data)

    def _carry_out(self, plan: Plan, beat: Callable[[], None]) -> None:
        self._supersede(plan.superseded, beat)
        stays = []
        for digest, seen_s in plan.gone.items():
            if not self.store.remove(name_of(digest), math.nextafter(seen_s, math.inf)):
                stays.append(digest)
            beat()
        tell_of_rivals(plan.told, stays)

    def _supersede(self, successors: Mapping[str, Blob], beat: Callable[[], None]) -> None:
        for digest, successor in successors.items():
            self.store.supersede(digest, successor)
            beat()
        for digest, successor in self.store.superseded().items():
            # So that whoever asks for one of before is led on once, however often it was superseded.
            if successor.digest in successors:
                self.store.supersede(digest, successors[successor.digest])

    def _renewed(self, history: History, key: Forgotten, beat: Callable[[], None], *, retrain: bool) -> History:
        """Return the history with the segments that are there now, and the key among those that are forgotten."""
        entries, before = [], history
        for entry in history.entries:
            if (successor := self.store.successor(entry.manifest.digest)) is None:
                entries.append(entry)
                continue
            manifest = SegmentManifest.from_json(self.store.get(successor))
            entries.append(renewed_entry(entry, manifest, successor))
        update: dict[str, object] = {"entries": tuple(entries), "forgotten": known(history.forgotten, key)}
        if history.awaiting is not None:
            update["awaiting"] = awaiting_without(history.awaiting, self.store.successor, Blobs(self.store))
        if retrain and history.prepared:
            update["prepared"] = RETRAIN
        history = history.model_copy(update=update)
        try:
            renewed = Windows(self.pipeline, Blobs(self.store), beat).sketched(history)
        except DataError as error:
            # Whoever needs the sketches makes them, or says what is wrong.
            logger.warning("segments of pipeline %s cannot be sketched: %s", self.pipeline.name, error)
            return history
        # Of those that are gone, where both know the same of rows.
        pairs = zip(before.entries, renewed.entries, strict=True)
        changed = [(old.sketch, new.sketch) for old, new in pairs if old.sketched == new.sketched]
        self._supersede({old.digest: new for old, new in changed if old and new and old.digest != new.digest}, beat)
        return renewed

    def _forget_plans(self, but: str = "") -> None:
        """Take away the plans of requests that were answered."""
        for name in self.store.list(self._plans):
            if name != self._plan_name(but):
                self.store.remove(name, math.inf)

    @property
    def _plans(self) -> str:
        return f"{secrets_folder(self.pipeline.own_name)}/plans"

    def _plan_name(self, request_id: str) -> str:
        return f"{self._plans}/{request_id}.json"


def _to_bytes(plan: Plan) -> bytes:
    superseded: Mapping[str, Mapping[str, object]] = {
        digest: {"uri": each.uri, "digest": each.digest, "size_bytes": each.size_bytes}
        for digest, each in plan.superseded.items()
    }
    told = MessageToDict(plan.told, preserving_proto_field_name=True)
    return json.dumps(
        {"told": told, "gone": list(plan.gone.items()), "superseded": superseded}, sort_keys=True
    ).encode()


def _from_bytes(data: bytes) -> Plan:
    try:
        found = json.loads(data)
        told = ParseDict(found["told"], forget_pb2.KeyForgotten())
        superseded = {name: Artifact(**each) for name, each in found["superseded"].items()}
        return Plan(told, superseded, dict(found["gone"]))
    except (ValueError, KeyError, TypeError, ParseError) as error:
        raise ManifestInvalid(f"expected the plan of a request to forget: {error!r}") from error
