"""Keys that stand twice in one JSON object.

A decoder keeps the last of two values and says nothing, and nobody knows which was meant. Looking at every key would
cost more than decoding. So the keys of many objects are counted at once: the text of an object with a repeated key has
more of them than the decoded object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import orjson

_BLANKS: Final = b" \t\n\r"
_SHOWN: Final = 60


class KeyRepeated(ValueError):
    """A JSON object has a key twice."""

    def __init__(self, key: str) -> None:
        self.key = key
        shown = json.dumps(key, ensure_ascii=False)
        super().__init__(f"expected each key of an object once, got {shown[:_SHOWN]} more than once")


def repeated_keys(texts: Sequence[bytes], objects: Sequence[Mapping[str, Any]]) -> dict[int, str | None]:
    """Return a repeated key of each object that has one, at any depth, by the object's position.

    None stands for the key where an object is nested too deep to be looked through. `objects` are what the texts, each
    one JSON object in UTF-8, were decoded to. Raises ValueError when their numbers differ.
    """
    if _none_lost(b"".join(texts), objects):
        return {}
    found: dict[int, str | None] = {}
    for position, (text, value) in enumerate(zip(texts, objects, strict=True)):
        if _none_lost(text, [value]):
            continue
        try:
            key = repeated_key(text)
        except RecursionError:
            found[position] = None
        else:
            if key is not None:
                found[position] = key
    return found


def repeated_key(text: bytes | str) -> str | None:
    """Return the first key that a JSON text has twice in one object, at any depth; None when there is none.

    Raises ValueError when the text is no JSON, and RecursionError when it is nested too deep.
    """
    try:
        # Numbers are left as texts: they are not looked at, and converting a long one takes its time.
        json.loads(text, object_pairs_hook=unique_object, parse_int=str, parse_float=str)
    except KeyRepeated as found:
        return found.key
    return None


def unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's pairs as a dictionary: a hook for `json.loads`. Raises KeyRepeated for a key twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise KeyRepeated(next(key for place, key in enumerate(keys) if key in keys[:place]))
    return found


def _none_lost(text: bytes, objects: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether decoding a text to these objects surely lost no key; False where a closer look is needed.

    A colon stands behind each key of the text, which has at least as many keys as the objects: as many colons as those
    have keys mean that none was lost. Colons in values, such as times, only make them more. They are told apart by the
    quotation mark before them, which the end of a key is and which inside a text has a backslash before it.
    """
    keys = sum(map(len, objects))
    if text.count(b":") == keys:
        return True
    dense = text.translate(None, _BLANKS)
    colons = dense.count(b'":')
    if colons == keys:
        return True
    # Written again, the objects have as many colons behind quotation marks, in texts too, where no key was lost. An
    # escaped quotation mark is one more that way, and blanks in texts, which are gone here, are never fewer.
    with suppress(orjson.JSONEncodeError):  # objects that are nested too deep for it
        if b"\\u" not in text and colons == orjson.dumps(objects).count(b'":'):
            return True
    keys = sum(map(_keys_in, objects))
    return colons == keys or dense.replace(rb"\\", b"").replace(rb"\"", b"").count(b'":') == keys


def _keys_in(value: Any) -> int:
    """Return how many keys a value has, those of inner objects included."""
    count, waiting = 0, [value]
    while waiting:
        part = waiting.pop()
        if type(part) is dict:
            count += len(part)
            part = part.values()
        waiting += [inner for inner in part if type(inner) in (dict, list)]
    return count
