"""The values that paths find in records, and their texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, Final, Protocol

import orjson
import pyarrow as pa
from headrace_data.select.tree import MESSAGE, Leaf, Part, Path

_TEXTS: Final = {str, NoneType}
_NUMBERS: Final = {int, float, NoneType}


class Message(Protocol):
    """What a record came in: a message of Kafka."""

    @property
    def key(self) -> bytes | None:
        """Its key."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Its headers, in order."""

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since 1970; 0 or less where it has none."""


class Found:
    """The values that paths find in some records. What several paths have in common is looked up once."""

    def __init__(self, records: Sequence[Mapping[str, Any]], messages: Sequence[Message] | None) -> None:
        """Take the messages of the records; None where they came in none."""
        self._records = records
        self._messages = messages
        self._known: dict[Path, list[Any]] = {}
        self._of_messages: dict[Path, list[Any]] = {}

    def values(self, leaf: Leaf) -> list[Any]:
        """Return what each record has there; None where it has nothing."""
        if leaf.of_message:
            if leaf.path not in self._of_messages:
                self._of_messages[leaf.path] = self._message_values(leaf.path)
            return self._of_messages[leaf.path]
        return self._at(leaf.path)

    def texts(self, leaf: Leaf) -> pa.Array:
        """Return the text of what each record has there: of an object or a list it is JSON; null where it has none."""
        values = self.values(leaf)
        kinds = set(map(type, values))
        if kinds <= _NUMBERS:
            values = [None if value is None else repr(value) for value in values]
        elif not kinds <= _TEXTS:
            values = [value if type(value) is str else text_of(value) for value in values]
        return pa.array(values, pa.string())

    def _at(self, path: Path) -> list[Any]:
        found = self._known.get(path)
        if found is None:
            *outer, part = path
            # What is there of the records themselves has keys alone: a path begins with one.
            found = _step(self._at(tuple(outer)), part) if outer else _step(self._records, part)
            self._known[path] = found
        return found

    def _message_values(self, path: Path) -> list[Any]:
        messages = self._messages
        if messages is None:
            return [None] * len(self._records)
        if path[0] == MESSAGE["key"]:
            return [_decoded(message.key) for message in messages]
        if path[0] == MESSAGE["timestamp"]:
            return [message.timestamp_ms if message.timestamp_ms > 0 else None for message in messages]
        # Of a header that stands there twice the last one counts, as it does for Kafka's own clients.
        return [_decoded(dict(message.headers).get(str(path[1]))) for message in messages]


def _step(held: Sequence[Any], part: Part) -> list[Any]:
    if isinstance(part, str):
        return [each.get(part) if type(each) is dict else None for each in held]
    at = part - 1 if part > 0 else part
    return [each[at] if type(each) is list and -len(each) <= at < len(each) else None for each in held]


def _decoded(value: bytes | None) -> str | None:
    """Return the text of bytes; None where they are none in UTF-8."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def text_of(value: Any) -> str | None:
    """Return the text of a JSON value: a text as it is, of anything else how JSON writes it; None of null."""
    if value is None or isinstance(value, str):
        return value
    if type(value) is float:
        return repr(value)
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # a number of more than 64 bits, or nested deeper than it goes
        return "".join(_written(value))


def _written(value: Any) -> Iterator[str]:
    """Yield the pieces of a value's JSON, however deep it is."""
    waiting: list[tuple[Any, str | None]] = [(value, None)]
    while waiting:
        part, text = waiting.pop()
        if text is not None:
            yield text
        elif isinstance(part, dict) and part:
            items = [((None, f"{json.dumps(key, ensure_ascii=False)}:"), (each, None)) for key, each in part.items()]
            waiting += [(None, "}"), *_divided(items), (None, "{")]
        elif isinstance(part, list) and part:
            waiting += [(None, "]"), *_divided([((each, None),) for each in part]), (None, "[")]
        else:
            yield json.dumps(part, ensure_ascii=False, default=str)


def _divided(items: Sequence[Sequence[tuple[Any, str | None]]]) -> Iterator[tuple[Any, str | None]]:
    """Yield items with commas between them, the last one first."""
    for at, item in enumerate(reversed(items)):
        if at:
            yield None, ","
        yield from reversed(item)
