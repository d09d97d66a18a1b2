"""Records in, answers out: read in a process beside this one, and asked of the plane as any call is."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import cache, partial
from importlib.util import find_spec
from typing import Final

from google.protobuf.message import DecodeError
from headrace.inference.v1.record_service_pb2 import PredictRecordsRequest
from headrace_runtime.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidInput,
    NotSupported,
    Overloaded,
    Unavailable,
)
from headrace_runtime.priorities import FIRST, LAST, NORMAL
from headrace_runtime.rpc.admission import Admission, Capacity, Reason
from headrace_runtime.schema_registry import RegistryAccess
from headrace_runtime.telemetry import names
from headrace_runtime.telemetry.traces import child_span

from headrace_inference.core import metrics
from headrace_inference.core.shelf import LoadedVersion, Shelf
from headrace_inference.core.specs import Spec, Specs
from headrace_inference.ports import CallContext
from headrace_inference.transport import wire
from headrace_inference.transport.other_process import Ended, OtherProcess, Told, Words
from headrace_inference.transport.records.answers import write_answer
from headrace_inference.transport.records.around import read_around
from headrace_inference.transport.records.asked import AskedRecords, Form
from headrace_inference.transport.records.payloads import Beginning, PayloadDesk

_CHILD: Final = "headrace_inference.transport.records.child"
_WORDS: Final = Words(
    "calls with records wait already to be read",
    "the process that reads records ended, or took too long; send fewer records in a call",
)
_EXTRA: Final = ("headrace_data", "duckdb")
"""Packages that stand for those of the extra."""
MOST_WAITING: Final = 256
"""Calls whose records may wait to be read; others are Overloaded."""
BEGIN_S: Final = 0.001
BYTE_S: Final = 1e-7
"""What reading a call is taken to last, and each byte of it, until it is learnt."""
MOST_WRITTEN_HERE: Final = 64
MOST_BYTES_HERE: Final = 16 * 1024
"""Answers to so many records, of outputs of so many bytes, are written in this process: within a few milliseconds."""
MOST_BESIDE: Final = 2.0
"""So many times what reading may take is waited for, before its process is ended: it stops by itself."""

Infer = Callable[[bytes, CallContext], Awaitable[bytes]]


class RecordDesk:
    """Answers calls about records. Used in one event loop."""

    def __init__(
        self,
        shelf: Shelf,
        specs: Specs,
        infer: Infer,
        access: RegistryAccess,
        capacity: Capacity,
        limit_s: float,
        payloads: Beginning,
    ) -> None:
        """`infer` answers ModelInfer; reading the records of one call may take `limit_s` seconds.

        `payloads` returns the first bytes of a file of the object store, for records that refer to some.
        """
        self._shelf = shelf
        self._specs = specs
        self._infer = infer
        self._limit_s = limit_s
        self._told: Told = {"registry_hosts": sorted(access.hosts), "registry_keys": str(access.keys_dir or "")}
        self._process = OtherProcess(_CHILD, _WORDS)
        self._admission = Admission(capacity)
        self._payloads = PayloadDesk(payloads)

    def close(self) -> None:
        """End the process that reads, and begin to fetch nothing more."""
        self._payloads.close()
        self._process.close()

    async def predict(self, request: bytes, context: CallContext) -> bytes:
        """Answer a serialised PredictRecordsRequest. Raises errors of headrace_runtime.errors."""
        head = _parsed(wire.head_of(request, PredictRecordsRequest.RECORDS_FIELD_NUMBER))
        named = head if head.model else _parsed(request)
        asked = AskedRecords(Form.MESSAGE, request, named.model, named.version, named.priority)
        return await self.answer(asked, context)

    async def answer(self, asked: AskedRecords, context: CallContext) -> bytes:
        """Answer each record of a call: with a PredictRecordsResponse where a message asks, else in JSON.

        Raises errors of headrace_runtime.errors.
        """
        return (await self._answered(asked, context))[0]

    async def score(self, asked: AskedRecords, context: CallContext) -> tuple[list[bytes], int]:
        """Answer records that came on a topic: with JSON for each, in order. Return how many were rejected, too.

        Raises errors of headrace_runtime.errors.
        """
        lines, rejected = await self._answered(asked, context)
        return lines.split(b"\n"), rejected

    def most_rows(self, model: str) -> int:
        """Return how many rows a call of a model may have. Raises NotFound, Unavailable as `Shelf.resolve` does."""
        signature = self._shelf.resolve(model, "").model.signature
        return signature.max_rows if signature.batched else 1

    async def _answered(self, asked: AskedRecords, context: CallContext) -> tuple[bytes, int]:
        """Return the answer, and how many records were rejected."""
        if not 0 <= asked.priority <= LAST:
            raise InvalidInput(f"priority: expected 1 (first) to {LAST} (last), or 0, got {asked.priority}")
        if not asked.body:
            raise InvalidInput("records: expected at least one, got none")
        version = self._shelf.resolve(asked.model, asked.version)
        spec = self._spec(version, asked.pipeline or version.release.pipeline)
        with child_span(names.SPAN_READ):
            read, call = await self._read(asked, version, spec, context)
        release = version.release
        for *_, rule, _, _ in read["rejected"]:
            metrics.RECORDS.labels(release.model, rule).inc()
        metrics.RECORDS.labels(release.model, "").inc(len(read["rows"]))
        sent = await self._infer(call, context) if call else b""
        asked_of = {"version": str(release.ordinal), "version_id": release.version_id, "variant": release.variant}
        asked_of |= {"model": release.model, "spec_digest": spec.digest}
        told = {"work": "write", "json": asked.form is not Form.MESSAGE, "asked": asked_of, "places": asked.places}
        told |= read
        rejected = len(read["rejected"])
        if len(read["rows"]) + rejected <= MOST_WRITTEN_HERE and len(sent) <= MOST_BYTES_HERE:
            return write_answer(told, sent), rejected
        return (await self._ask(told, sent))[1], rejected

    def _spec(self, version: LoadedVersion, pipeline: str) -> Spec:
        """Return the spec of a pipeline, by which records are read for a version."""
        release = version.release
        if version.language is not None:
            raise NotSupported(f"model {release.model!r}: a model of language is asked with texts, not with records")
        if missing_packages(_EXTRA):
            raise NotSupported(lacking())
        if (spec := self._specs.of(pipeline)) is not None:
            return spec
        if not self._specs.complete:
            trouble = self._specs.trouble and f": {self._specs.trouble}"
            raise Unavailable(f"the specs of pipelines are still being read{trouble}")
        raise FailedPrecondition(f"model {release.model!r}: its pipeline {pipeline!r} is not applied any more")

    async def _read(
        self, asked: AskedRecords, version: LoadedVersion, spec: Spec, context: CallContext
    ) -> tuple[Told, bytes]:
        """Return what became of the records, and the call with those that are rows."""
        size, priority = len(asked.body), asked.priority or NORMAL
        work_s, now_s, left_s = BEGIN_S + size * BYTE_S, time.monotonic(), context.time_remaining()
        self._admit(work_s, size, left_s, now_s, priority)
        told = self._told_of(asked, version, spec, self._limit_s if left_s is None else min(left_s, self._limit_s))
        self._admission.begin(work_s, size, now_s, priority)
        try:
            found, call = await self._read_there(told, spec, asked.body)
            self._admission.learn(work_s, found["took_s"])
        finally:
            self._admission.end(work_s, size, priority)
        return found, call

    async def _read_there(self, told: Told, spec: Spec, body: bytes) -> tuple[Told, bytes]:
        """Return what the process makes of a body; a spec is told where it is not known, as after a death."""
        whole = {**told, "spec": spec.json.decode()}
        try:
            found, call = await self._ask(told, body)
            if "unknown" in found:
                found, call = await self._ask(whole, body)
        except Ended:
            found, call = await read_around(partial(self._ask, body=body), whole)
        if "needs" not in found:
            return found, call
        # Asked of the spec: whoever reads hostile bytes is not trusted with the names of all that the store holds.
        folders = json.loads(spec.json)["stream"]["references"]
        async with self._payloads.fetched(found["needs"], folders, told["limit_s"]) as (held, payloads):
            return await self._read_there({**told, "payloads": held}, spec, body + payloads)

    def _admit(self, work_s: float, size: int, left_s: float | None, now_s: float, priority: int) -> None:
        reason = self._admission.refusal(work_s, size, left_s, now_s, priority)
        if reason is Reason.LATE:
            raise DeadlineExceeded("the deadline passed before the records were read")
        if reason is not None:
            wait_s = self._admission.wait_of(priority)
            raise Overloaded(f"{self._admission.calls} {_WORDS.full}, one more would for {wait_s:.2f} s", wait_s)

    def _told_of(self, asked: AskedRecords, version: LoadedVersion, spec: Spec, limit_s: float) -> Told:
        signature = version.model.signature
        batched = signature.batched
        return {
            **self._told,
            "work": "read",
            "form": asked.form.value,
            "model": asked.model,
            "version": asked.version,
            "priority": asked.priority,
            "records": version.release.records,
            "digest": spec.digest,
            "limit_s": limit_s,
            "most": signature.max_rows if batched else 1,
            "inputs": [
                [each.name, each.datatype.name, list(each.sizes[1:] if batched else each.sizes), each.optional]
                for each in signature.inputs
            ],
        }

    async def _ask(self, told: Told, body: bytes) -> tuple[Told, bytes]:
        # What is answered already has only to be written.
        priority = FIRST if told["work"] == "write" else told["priority"] or NORMAL
        return await self._process.ask(told, body, MOST_WAITING, MOST_BESIDE * self._limit_s, priority)


@cache
def missing_packages(packages: Sequence[str] = _EXTRA) -> list[str]:
    """Return which packages are not installed, of those that stand for the extra."""
    return [each for each in packages if find_spec(each) is None]


def lacking() -> str:
    """Say which packages are missing to read records, and what has them."""
    return f"reading records needs {', '.join(missing_packages())}: install the extra headrace-inference[records]"


def _parsed(request: bytes) -> PredictRecordsRequest:
    try:
        return PredictRecordsRequest.FromString(request)
    except DecodeError as error:
        raise InvalidInput(f"expected a headrace.inference.v1.PredictRecordsRequest: {error}") from error
