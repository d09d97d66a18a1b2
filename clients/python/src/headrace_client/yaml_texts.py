"""Plain values as YAML: within a line, and a pipeline's document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_WORDS: Final = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")


def scalar(text: str) -> str:
    """Return a text as YAML: as it is where it can only be read as that text, else in quotes."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    # JSON writes a letter beyond 16 bits as two halves, which YAML does not put together.
    return '"' + "".join(json.dumps(one)[1:-1] if ord(one) < 2**16 else f"\\U{ord(one):08X}" for one in text) + '"'


def flow(value: object) -> str:
    """Return a plain value as YAML within a line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{scalar(key)}: {flow(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(flow, value))}]"
    return scalar(value) if isinstance(value, str) else json.dumps(value)


_DEEP: Final = 2
_SECTIONS: Final = ("apiVersion", "kind", "metadata", "stream", "prepare", "train", "compress", "serve")


def document(spec: Mapping[str, Any]) -> str:
    """Return a pipeline's document of its plain values."""
    sections = sorted(spec, key=lambda name: _SECTIONS.index(name) if name in _SECTIONS else len(_SECTIONS))
    return "".join(f"{line}\n" for name in sections for line in _block(name, spec[name], 0))


def _block(name: str, value: object, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if isinstance(value, str) and "\n" in value and value.replace("\n", "").isprintable() and value.strip() == value:
        yield f"{indent}{scalar(name)}: |-"
        yield from (f"{indent}  {line}" for line in value.split("\n"))
    elif isinstance(value, dict) and value and depth < _DEEP:
        yield f"{indent}{scalar(name)}:"
        for key, inner in value.items():
            yield from _block(key, inner, depth + 1)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield f"{indent}{name}:"
        yield from (f"{indent}  - {flow(each)}" for each in value)
    else:
        yield f"{indent}{scalar(name)}: {flow(value)}"
