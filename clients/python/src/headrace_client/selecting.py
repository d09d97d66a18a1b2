"""Records as producers send them, made into a model's inputs by the SELECT of its pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from headrace_client.errors import InputInvalid, RowProblem, RowsInvalid
from headrace_client.registry import RegistryClient

if TYPE_CHECKING:
    from headrace_data.spec import Stream

FILES: Final = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"fLaC")
"""What pictures and sounds begin with; JSON begins with none of it."""
_KINDS: Final = ("image", "sound")
_AT_ONCE: Final = 1_000


def selecting_stream(registry: RegistryClient, model: str) -> Stream | None:
    """Return the stream of the pipeline that serves a model, where its records become rows by a SELECT; else None.

    Raises as the registry's client does.
    """
    return _stream(registry, model, lambda told: bool(told.get("select")))


def stream_of_files(registry: RegistryClient, model: str) -> Stream:
    """Return the stream of the pipeline that serves a model, whose records are pictures or sounds.

    Raises InputInvalid when they are others, and as the registry's client does.
    """
    stream = _stream(registry, model, lambda told: _kind(told) in _KINDS)
    if stream is None:
        raise InputInvalid(f"expected JSON rows: no pipeline of model '{model}' has pictures or sounds as records")
    return stream


def file_record(stream: Stream, data: bytes) -> dict[str, Any]:
    """Return the record that a picture or a sound is in a stream of these. Raises InputInvalid."""
    from headrace_data.decoders import decoder_of
    from headrace_data.formats.file_fields import FILES as FIELDS
    from headrace_data.rejections import Rejection
    from headrace_data.select.needs import whole_fields

    rejected: list[Rejection] = []
    try:
        records, _ = decoder_of(stream).decode([data], 0, rejected)
    except ImportError as error:
        raise InputInvalid(str(error)) from error
    if rejected:
        raise InputInvalid(rejected[0].reason)
    key = FIELDS[stream.format_kind].key
    # Calls have tensors of their shape, where producers may send flat lists.
    return {**records[0], key: np.reshape(records[0][key], whole_fields(stream)[key].shape).tolist()}


def _stream(registry: RegistryClient, model: str, is_wanted: Callable[[dict[str, Any]], bool]) -> Stream | None:
    for applied in registry.pipelines():
        told = json.loads(applied.spec.json)
        name = told.get("train", {}).get("model") or told.get("metadata", {}).get("name")
        if name == model and is_wanted(told.get("stream", {})):
            # Imported here: a model without a SELECT needs no spec.
            from headrace_data.spec import parse_canonical

            return parse_canonical(applied.spec.json).stream
    return None


def _kind(told: dict[str, Any]) -> object:
    stands = told.get("format")
    return stands.get("kind") if isinstance(stands, dict) else stands


def selected_rows(stream: Stream, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the features that a stream's SELECT makes of records.

    Raises RowsInvalid with every record that it cannot be computed of.
    """
    from headrace_data.select.projecting import Projection

    names = [field.name for field in stream.features]
    projection = Projection(stream, names)
    rows: list[dict[str, Any]] = []
    problems: list[RowProblem] = []
    for start in range(0, len(records), _AT_ONCE):
        gathered = projection.gather()
        some = [dict(record) for record in records[start : start + _AT_ONCE]]
        gathered.add(some, range(start, start + len(some)))
        made = gathered.computed()
        problems += [
            RowProblem(fault.position + 1, fault.name, fault.reason.removeprefix(f"{fault.name}: "))
            for fault in made.faults
        ]
        columns = [made.columns[name] for name in names]
        rows += [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    if problems:
        raise RowsInvalid(problems)
    return rows
