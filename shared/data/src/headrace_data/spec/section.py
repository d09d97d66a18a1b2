"""The base of every section of a pipeline document."""

from __future__ import annotations

from typing import Any

import pydantic
from pydantic.alias_generators import to_camel


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
