"""The records in a body, each with the bytes that came: a record that is none must not spoil the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError
from headrace.inference.v1.record_service_pb2 import PredictRecordsRequest, SentRecord
from headrace_data.json_texts import lines_in, texts_in
from headrace_runtime.errors import InvalidInput

from headrace_inference.transport.records.asked import Form


class Sent(NamedTuple):
    """What a record came in, as a message of Kafka would tell it."""

    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int = 0


def sent_in(form: Form, body: bytes) -> list[Sent]:
    """Return the records of a body. Raises InvalidInput where they cannot be told apart."""
    return _FORMS[form](body)


def _of_message(body: bytes) -> list[Sent]:
    try:
        asked = PredictRecordsRequest.FromString(body)
    except DecodeError as error:
        raise InvalidInput(f"expected a headrace.inference.v1.PredictRecordsRequest: {error}") from error
    try:
        return [_sent(each) for each in asked.records]
    except ValueError as error:
        raise InvalidInput(f"send_time: expected a moment of the years 1 to 9999: {error}") from error


def _sent(record: SentRecord) -> Sent:
    return Sent(
        record.value if record.HasField("value") else None,
        record.key if record.HasField("key") else None,
        [(header.name, header.value) for header in record.headers],
        record.send_time.ToMilliseconds() if record.HasField("send_time") else 0,
    )


def _of_json(body: bytes) -> list[Sent]:
    try:
        return [Sent(text) for text in texts_in(body)]
    except ValueError as error:
        raise InvalidInput(f"expected a JSON array of records: {error}") from error


def _of_lines(body: bytes) -> list[Sent]:
    return [Sent(line) for line in lines_in(body)]


_FORMS: Final[Mapping[Form, Callable[[bytes], list[Sent]]]] = {
    Form.MESSAGE: _of_message,
    Form.JSON: _of_json,
    Form.LINES: _of_lines,
    Form.VALUE: lambda body: [Sent(body)],
}
"""What takes the records out of a body."""
