"""The prepare section: cleaning, scaling, splitting and freezing."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import pydantic

from headrace_data.spec.scalars import Duration, FieldName, Fraction, PositiveInt
from headrace_data.spec.section import Section

Policy = Literal["drop", "keep"]
"""What happens to the rows that a cleaning rule hits."""
MAX_TRANSFORMS: Final = 1024
"""Most features that may be scaled: as many as a schema may have fields."""


class Clean(Section):
    """Which rows are dropped before they reach a dataset. Cleaning never changes a value."""

    missing: Policy = pydantic.Field(default="drop", description="Rows in which a nullable field is null.")
    duplicates: Policy = pydantic.Field(
        default="drop", description="Rows whose key was seen among the last duplicateWindow accepted keys."
    )
    out_of_range: Policy = pydantic.Field(default="drop", description="Rows with a value outside its field's range.")
    duplicate_window: Annotated[int, pydantic.Field(ge=1, le=10_000_000)] = pydantic.Field(
        default=100_000, description="How many accepted keys are remembered, per partition."
    )


class Transform(Section):
    """How one feature is scaled. Fitted on the training split, stored in the model's graph."""

    scale: Literal["standard", "minmax", "none"] = pydantic.Field(
        description="standard: mean 0 and deviation 1. minmax: 0 to 1. none: as it comes."
    )


class Split(Section):
    """Which part of the rows goes where. A row never changes sides."""

    train: Fraction = pydantic.Field(default=0.7, description="Part of the rows to learn from.")
    validation: Fraction = pydantic.Field(default=0.15, description="Part of the rows to stop early by.")
    test: Fraction = pydantic.Field(default=0.15, description="Part of the rows to measure on. The three sum to 1.")
    salt: str = pydantic.Field(default="headrace", description="Another salt gives another division.", max_length=256)
    group: FieldName | None = pydantic.Field(
        default=None,
        description="Field whose value decides the side. Default: the field with role group, then that with role id.",
    )


class Freeze(Section):
    """When a dataset is cut. With neither condition, only on command."""

    after_records: PositiveInt | None = pydantic.Field(default=None, description="Cut when this many clean rows wait.")
    after_idle: Duration | None = pydantic.Field(default=None, description="Cut when no record came for this long.")


class Prepare(Section):
    """From records to datasets."""

    clean: Clean = pydantic.Field(default_factory=Clean, description="Which rows are dropped.")
    transform: Annotated[dict[str, Transform], pydantic.Field(max_length=MAX_TRANSFORMS)] = pydantic.Field(
        default_factory=dict, description="Scaling per feature; a feature that is not named is taken as it comes."
    )
    split: Split = pydantic.Field(default_factory=Split, description="Training, validation and test rows.")
    freeze: Freeze = pydantic.Field(default_factory=Freeze, description="When a dataset is cut.")
