"""What is done to bodies that takes time for each of their bytes: reading JSON, and writing it.

A work takes plain values and bytes and returns such, so that it may be done here or in a process beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from headrace_engines.generator import Message
from headrace_runtime.errors import InvalidInput

from headrace_inference.core.tensors import BYTES, encode_raw
from headrace_inference.transport.other_process import Told
from headrace_inference.transport.rest import asking, reading, writing
from headrace_inference.transport.rest.fields import Fields


def _call(asked: Told, body: bytes) -> tuple[Told, bytes]:
    """Read a call of the Open Inference Protocol; the bytes are a ModelInferRequest."""
    call = reading.read_call(asked["model"], asked["version"], body, asked["json_bytes"])
    return {"binary": dict(call.binary), "all_binary": call.all_binary}, call.request


def _answer(asked: Told, body: bytes) -> tuple[Told, bytes]:
    """Write the answer to one, of a ModelInferResponse."""
    written = writing.write_answer(body, asked["binary"], all_binary=asked["all_binary"])
    return {"json_bytes": written.json_bytes}, written.body


def _chat(_: Told, body: bytes) -> tuple[Told, bytes]:
    return asdict(asking.chat_of(reading.read_json(body))), b""


def _completion(_: Told, body: bytes) -> tuple[Told, bytes]:
    return asdict(asking.completion_of(reading.read_json(body))), b""


def _embeddings(_: Told, body: bytes) -> tuple[Told, bytes]:
    """Read a request for embeddings; the bytes are its texts as raw contents."""
    asked = Fields(reading.read_json(body))
    model, texts = asked.needed_text("model"), _texts(asked)
    encoding = asked.text("encoding_format") or "float"
    if encoding not in {"float", "base64"}:
        asked.refuse("encoding_format", "float or base64", encoding)
    told = {"model": model, "count": len(texts), "encoding": encoding, "dimensions": asked.whole("dimensions")}
    asked.left_out("user")
    asked.end()
    try:
        return told, encode_raw(np.array(texts, object), BYTES)
    except UnicodeEncodeError as error:
        raise InvalidInput(f"input: expected texts that are Unicode: {error.reason}") from error


def _texts(asked: Fields) -> list[str]:
    given = asked.any("input")
    texts = [given] if type(given) is str else given
    if type(texts) is not list or not texts or set(map(type, texts)) != {str}:
        asked.refuse("input", "a text or a list of texts (tokens are this server's own)", given)
    return list(texts)


def asked_of(told: Mapping[str, Any]) -> asking.Asked:
    """Return a request for a text, as a work told of it."""
    return asking.Asked(**{**told, "messages": tuple(Message(**each) for each in told["messages"])})


WORKS: Final[Mapping[str, Callable[[Told, bytes], tuple[Told, bytes]]]] = {
    "call": _call,
    "answer": _answer,
    "chat": _chat,
    "completion": _completion,
    "embeddings": _embeddings,
}
"""Works by their names. They raise InvalidInput."""
