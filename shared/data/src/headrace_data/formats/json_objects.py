"""JSON: one object for each message, and no object in it has a key twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import orjson

from headrace_data.describing import describe
from headrace_data.formats.decoding import Decoded
from headrace_data.json_keys import KeyRepeated, repeated_keys
from headrace_data.rejections import Rejection

RULE: Final = "json"


class JsonDecoder:
    """Reads JSON objects."""

    def __init__(self, names: Collection[str]) -> None:
        """`names` are the keys that a rejection may name as a field."""
        self._names = names

    def decode(self, values: Sequence[bytes | None], start: int, rejected: list[Rejection]) -> Decoded:
        """Return the JSON objects among some values: see `Decoder`."""
        texts, records, positions = _objects(values, start, rejected)
        repeated = repeated_keys(texts, records)
        if repeated:
            for at, key in repeated.items():
                deep = "expected each key of an object once, got objects nested too deep to look"
                reason = deep if key is None else str(KeyRepeated(key))
                rejected.append(
                    Rejection(positions[at], RULE, key if key is not None and key in self._names else "", reason)
                )
            kept = [at for at in range(len(records)) if at not in repeated]
            records, positions = [records[at] for at in kept], [positions[at] for at in kept]
        return records, positions


def _objects(
    values: Sequence[bytes | None], start: int, rejected: list[Rejection]
) -> tuple[Sequence[bytes], list[dict[str, Any]], Sequence[int]]:
    """Return the texts among some values that are JSON objects, decoded, with their positions.

    The others are added to `rejected`.
    """
    try:
        records = [orjson.loads(value or b"") for value in values]
    except orjson.JSONDecodeError:
        records = []
    if set(map(type, records)) == {dict}:
        return [value for value in values if value], records, range(start, start + len(values))
    texts: list[bytes] = []
    records, positions = [], []
    for position, value in enumerate(values, start):
        record = _decode_one(value)
        if value and isinstance(record, dict):
            texts.append(value)
            records.append(record)
            positions.append(position)
        else:
            rejected.append(Rejection(position, RULE, "", f"expected a JSON object, got {record}"))
    return texts, records, positions


def _decode_one(value: bytes | None) -> dict[str, Any] | str:
    """Return the JSON object of a value, or what came instead."""
    if value is None:
        return "no value"
    if not value:
        return "an empty value"
    try:
        record = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return f"bytes that are no JSON: {error}"
    return record if isinstance(record, dict) else describe(record)
