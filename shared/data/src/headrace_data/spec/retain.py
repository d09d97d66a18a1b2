"""The retain section: how much of the past is kept."""

from __future__ import annotations

from typing import Self

import pydantic

from headrace_data.spec.scalars import Duration, PositiveInt
from headrace_data.spec.section import Section


class Retain(Section):
    """How much of the past is kept: what one of the keys keeps. What is served, and what came before it, stays."""

    versions: PositiveInt | None = pydantic.Field(
        default=None,
        description="The newest so many versions of the pipeline are kept, each with its dataset.",
    )
    age: Duration | None = pydantic.Field(
        default=None,
        description="Versions trained at most this long ago are kept, each with its dataset; and rows whose event time "
        "is at most this long before the newest row's.",
    )

    @pydantic.model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.versions is None and self.age is None:
            raise ValueError("expected versions, age or both, got neither; leave retain out to keep everything")
        return self
