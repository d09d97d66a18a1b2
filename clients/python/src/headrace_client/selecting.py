"""Records as producers send them, made into a model's inputs by the SELECT of its pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from headrace_client.errors import InputInvalid, RowProblem, RowsInvalid
from headrace_client.registry import RegistryClient

if TYPE_CHECKING:
    from headrace_data.spec import Stream

FILES: Final = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"fLaC")
"""What pictures and sounds begin with; JSON begins with none of it."""
_IN_NO_TEXT: Final = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_KINDS: Final = ("image", "sound")


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
    return require_files(stream, model)


def require_files(stream: Stream | None, model: str) -> Stream:
    """Return a stream of a model whose records are pictures or sounds. Raises InputInvalid for any other."""
    if stream is None or stream.format_kind not in _KINDS:
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


def is_one_record(data: bytes) -> bool:
    """Return whether bytes are one record: a picture, a sound, or what is neither JSON nor a text, such as Avro.

    Neither Avro nor Protobuf begins as JSON does, but for what nobody writes; a broken line makes no record of all.
    """
    if data.startswith(FILES):
        return True
    if data.lstrip()[:1] in (b"{", b"["):
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return len(data.translate(None, _IN_NO_TEXT)) < len(data)


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


def selected_rows(stream: Stream, records: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return the features that a stream makes of records, read as ingestion reads them.

    Raises RowsInvalid with every record that it would reject, and InputInvalid where none can be read.
    """
    from headrace_data.errors import DataError
    from headrace_data.reading import RecordReader, plain_rows

    try:
        reader = RecordReader(stream)
        read = reader.read(records)
    except (DataError, ImportError) as error:
        raise InputInvalid(str(error)) from error
    if read.rejected:
        raise RowsInvalid(
            [
                RowProblem(place.record + 1, fault.field, fault.reason.removeprefix(f"{fault.field}: "))
                for place, fault in read.rejected
            ]
        )
    return plain_rows(read, reader.stream.features)
