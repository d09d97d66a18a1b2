"""The base of every section of a pipeline document, and canonical JSON."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
import pydantic
from pydantic.alias_generators import to_camel


def sha256_digest(data: bytes) -> str:
    """Return ``sha256:`` and 64 lower-case hexadecimal digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def canonical(value: object) -> bytes:
    """Return a value as canonical JSON: sorted keys, no white space, UTF-8."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


class Section(pydantic.BaseModel):
    """Base of every section: frozen, strict, camelCase in the document, unknown keys refused."""

    model_config = pydantic.ConfigDict(
        alias_generator=to_camel,
        allow_inf_nan=False,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        strict=True,
    )

    def plain(self) -> dict[str, Any]:
        """Return the section as plain values with the document's keys; what is unset is left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
