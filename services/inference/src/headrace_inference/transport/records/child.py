"""The process that reads records: `python -m headrace_inference.transport.records.child FD`. See `desk`.

It is apart because reading takes time for each byte, in which calls would wait, and because of what reads formats that
hostile bytes are made for: what it dies of ends no call but its own.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from headrace import open_inference as oip
from headrace_data.batches import blank
from headrace_data.decoders import schemas_of
from headrace_data.errors import DataError, FilesTooSlow, SelectTooSlow
from headrace_data.formats import SchemaInvalid
from headrace_data.reading import Place, Read, RecordReader, array_of
from headrace_data.references import Payloads, References
from headrace_data.rejections import Rejection
from headrace_data.select.projecting import Patience
from headrace_data.spec import Field, Stream, parse_canonical
from headrace_runtime.errors import DeadlineExceeded, FailedPrecondition, InvalidInput, TooLarge, Unprocessable
from headrace_runtime.schema_registry import RegistryAccess

from headrace_inference.core.tensors import BYTES, DATATYPES, Datatype, encode_raw
from headrace_inference.transport.converters import PRIORITY
from headrace_inference.transport.other_process import Told, run
from headrace_inference.transport.records.answers import write_answer
from headrace_inference.transport.records.asked import Form
from headrace_inference.transport.records.bodies import Sent, sent_in
from headrace_inference.transport.row_keys import KEY

MOST_READERS: Final = 32
"""Pipelines whose readers are kept; of more, the one that was asked for longest ago goes."""
REGISTRY_S: Final = 1.0
"""Seconds that a registry of schemas has to connect, and then to answer: whoever asks about other records waits."""
STEPS: Final = 8
"""In how many steps of the time of a call a SELECT that is too slow for a record is narrowed down to it."""


class Reading:
    """Reads records by the specs that it was told. Used in one thread."""

    def __init__(self) -> None:
        self._readers: OrderedDict[str, RecordReader] = OrderedDict()
        self._payloads = _Handed()

    def work(self, told: Told, body: bytes) -> tuple[Told, bytes]:
        """Read records, count them, or write the answer to them."""
        if "payloads" in told:
            body, self._payloads.held = _apart(told["payloads"], body)
        if told["work"] == "read":
            return self.read(told, body)
        if told["work"] == "count":
            return {"count": len(sent_in(Form(told["form"]), body))}, b""
        return {}, write_answer(told, body)

    def read(self, told: Told, body: bytes) -> tuple[Told, bytes]:
        """Return what becomes of each record in a body, and the ModelInferRequest of those that are rows.

        Where the spec of the digest is not known, and is not told, that is all that is answered; and so is what the
        records refer to, where it is not handed over behind the body. Raises InvalidInput, TooLarge, DeadlineExceeded,
        and FailedPrecondition where records do not make what the model reads.
        """
        began = time.perf_counter()
        if (reader := self._reader(told)) is None:
            return {"unknown": True}, b""
        _require_features(told, {each.name: each for each in reader.stream.features})
        kept, sent = _sent(told, body)
        if "payloads" not in told and (needed := self._needed(reader.stream, sent)):
            return {"needs": needed}, b""
        patience = Patience(limit_s=told["limit_s"] / STEPS, most_s=told["limit_s"])
        try:
            read = reader.read([each.value for each in sent], sent, time.time(), patience)
        except (SelectTooSlow, FilesTooSlow) as error:
            raise DeadlineExceeded(str(error)) from error
        read = _whole(told, read)
        if len(read.places) > told["most"]:
            raise TooLarge(f"records: expected at most {told['most']} rows in a call, got {len(read.places)}")
        call = _call(told, reader, read)
        return {
            "rows": [[kept[place.record], place.line] for place in read.places],
            "rejected": [
                [kept[place.record], place.line, fault.rule, fault.field, fault.reason]
                for place, fault in read.rejected
            ],
            "took_s": time.perf_counter() - began,
        }, call

    def _reader(self, told: Told) -> RecordReader | None:
        digest = told["digest"]
        if digest not in self._readers:
            if "spec" not in told:
                return None
            self._readers[digest] = _opened(told, self._payloads)
            if len(self._readers) > MOST_READERS:
                self._readers.popitem(last=False)
        self._readers.move_to_end(digest)
        return self._readers[digest]

    def _needed(self, stream: Stream, sent: Sequence[Sent]) -> list[str]:
        """Return the names of what records refer to, one for each that does."""
        self._payloads.held, self._payloads.wanted = {}, []
        if stream.references:
            References(stream.references, self._payloads).fetched([each.value for each in sent], sent, 0)
        return self._payloads.wanted


class _Handed:
    """What records refer to, as it was handed over: this process has no key of the store."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.wanted: list[str] = []
        """Names of what was asked for."""

    def beginning(self, name: str, count: int) -> bytes:
        """Return the first bytes of what was handed over by a name, none where nothing was."""
        self.wanted.append(name)
        return self.held.get(name, b"")[:count]


def _apart(payloads: Sequence[tuple[str, int]], body: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Return a body, and what was handed over behind it, by name."""
    at = end = len(body) - sum(size for _, size in payloads)
    held = {}
    for name, size in payloads:
        held[name] = body[at : at + size]
        at += size
    return body[:end], held


def _sent(told: Told, body: bytes) -> tuple[list[int], list[Sent]]:
    """Return the records in a body that are wanted, and which of all these are. Raises InvalidInput, TooLarge."""
    sent = sent_in(Form(told["form"]), body)
    if not sent:
        raise InvalidInput("records: expected at least one, got none")
    if len(sent) > told["most"]:
        raise TooLarge(f"records: expected at most {told['most']} in a call, got {len(sent)}")
    wanted = np.ones(len(sent), np.bool_)
    for start, end in told.get("without", ()):
        wanted[start:end] = False
    kept: list[int] = np.flatnonzero(wanted).tolist()
    return kept, [sent[at] for at in kept]


def _opened(told: Told, payloads: Payloads) -> RecordReader:
    keys = told["registry_keys"]
    access = RegistryAccess(frozenset(told["registry_hosts"]), Path(keys) if keys else None, REGISTRY_S)
    try:
        stream = parse_canonical(told["spec"].encode()).stream
        return RecordReader(stream, schemas_of(stream, access), payloads)
    except (DataError, SchemaInvalid, Unprocessable, ImportError) as error:
        raise FailedPrecondition(f"records of this pipeline cannot be read here: {error}") from error


def _whole(told: Told, read: Read) -> Read:
    """Return rows without those that lack what the model needs, though the schema as it is now allows it."""
    lacking = {name: _gaps(read, name) for name, _, _, optional in told["inputs"] if not optional}
    kept = np.ones(len(read.places), np.bool_)
    faults: list[tuple[Place, Rejection]] = []
    for name, gaps in lacking.items():
        for at in np.flatnonzero(gaps & kept).tolist():
            reason = f"{name}: expected a value, as the version that is served learned from no row without it, got none"
            faults.append((read.places[at], Rejection(at, "missing", name, reason)))
        kept &= ~gaps
    if not faults:
        return read
    rejected = sorted([*read.rejected, *faults], key=itemgetter(0))
    places = [place for place, stays in zip(read.places, kept.tolist(), strict=True) if stays]
    return Read(read.rows.filter(pa.array(kept)), places, rejected)


def _gaps(read: Read, name: str) -> npt.NDArray[np.bool_]:
    column = read.rows.column(name)
    missing = column.is_null()
    if pa.types.is_string(column.type):
        missing = pc.or_(missing, pc.fill_null(blank(column), True))
    found: npt.NDArray[np.bool_] = missing.to_numpy(zero_copy_only=False)
    return found


def _require_features(told: Told, features: Mapping[str, Field]) -> None:
    """Raise FailedPrecondition where the pipeline's schema has not got, as it is now, what the model reads."""
    for name, datatype, sizes, _ in told["inputs"]:
        of = features.get(name)
        if of is None or not _fits(of, DATATYPES[datatype], sizes):
            got = "none of that name" if of is None else f"{of.type} {list(of.shape)}"
            raise FailedPrecondition(
                f"model {told['model']!r}: expected a feature {name!r} for {datatype} {sizes} in the pipeline's schema "
                f"as it is now, got {got}: the version that is asked learned from another"
            )


def _fits(of: Field, datatype: Datatype, sizes: Sequence[int]) -> bool:
    if len(of.shape) != len(sizes) or any(size not in (-1, own) for size, own in zip(sizes, of.shape, strict=True)):
        return False
    if of.type == "string" or datatype is BYTES:
        return of.type == "string" and datatype is BYTES
    # Whole numbers that may be missing are served as FP64.
    may_be_missing = datatype.dtype == np.float64 and of.dtype.kind != "f"
    return of.type == "bool" or may_be_missing or np.can_cast(of.dtype, datatype.dtype)


def _call(told: Told, reader: RecordReader, read: Read) -> bytes:
    """Return the call with the features of all rows; nothing without a row."""
    if not read.places:
        return b""
    call = oip.ModelInferRequest(model_name=told["model"], model_version=told["version"])
    if told["priority"]:
        call.parameters[PRIORITY].int64_param = told["priority"]
    if told["records"] and (key := reader.stream.key_field) is not None:
        # By which labels find the answers later; of a record without one the empty text, which no label has.
        keys = ["" if each is None else str(each) for each in read.rows.column(key.name).to_pylist()]
        call.parameters[KEY].string_param = keys[0] if len(keys) == 1 else json.dumps(keys)
    features = {each.name: each for each in reader.stream.features}
    for name, datatype, _, _ in told["inputs"]:
        array = array_of(read, features[name], DATATYPES[datatype].dtype)
        call.inputs.add(name=name, datatype=datatype, shape=array.shape)
        call.raw_input_contents.append(encode_raw(array, DATATYPES[datatype]))
    return bytes(call.SerializeToString())


if __name__ == "__main__":
    run(Reading().work)
