"""The keys of a call's rows, by which labels find the answers later: its parameter `key`."""

from __future__ import annotations

import json

from headrace import open_inference as oip
from headrace_runtime.errors import InvalidInput

KEY = "key"
"""The parameter of a call that tells the keys of its rows."""


def keys_of(request: bytes, rows: int) -> tuple[str, ...]:
    """Return the keys of a serialised ModelInferRequest of so many rows; none where it tells none.

    That of one row is a text or a whole number, those of several are a JSON list of such. Raises InvalidInput for
    anything else.
    """
    parameters = oip.ModelInferRequest.FromString(request).parameters
    if KEY not in parameters:
        return ()
    choice = parameters[KEY].WhichOneof("parameter_choice")
    told = getattr(parameters[KEY], choice) if choice in {"string_param", "int64_param", "uint64_param"} else None
    if told is not None and rows == 1:
        return (str(told),)
    try:
        found = json.loads(told) if isinstance(told, str) else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or len(found) != rows or not all(type(key) in (int, str) for key in found):
        one = "a text or a whole number" if rows == 1 else f"a JSON list of {rows} texts or whole numbers"
        raise InvalidInput(f"parameter {KEY!r}: expected {one}, got something else")
    return tuple(map(str, found))
