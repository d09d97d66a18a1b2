"""When a new dataset is trained on: `train.when`."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

import pydantic

from headrace_data.spec.scalars import Duration, PositiveInt
from headrace_data.spec.section import Section

ALWAYS: Final = "always"
"""Every dataset is trained on."""


class Triggers(Section):
    """What makes a dataset one to be trained on, once a version is served: any of these."""

    worse: Annotated[float, pydantic.Field(gt=0, le=10)] | None = pydantic.Field(
        default=None,
        description="The version served has lost more than this share, such as 0.02, of what it scored on the test "
        "split of its own dataset, by the measure that versions are compared by: also at the better end of what may be "
        "true of so many rows.",
    )
    drift: Annotated[float, pydantic.Field(gt=0, le=100)] | None = pydantic.Field(
        default=None,
        description="A field, the label or the answers moved this far, such as 0.2, by the population stability index "
        "without what chance gives for so many rows, and further than chance ever moves them.",
    )
    age: Duration | None = pydantic.Field(
        default=None, description="The dataset of the version served is older than this, such as 7d."
    )
    rows: PositiveInt | None = pydantic.Field(
        default=None, description="So many rows were cut since the dataset of the version served."
    )

    @pydantic.model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.worse is None and self.drift is None and self.age is None and self.rows is None:
            raise ValueError(
                "expected worse, drift, age, rows or several of them, got none; always trains on each dataset"
            )
        return self


def _form(value: object) -> str | None:
    if isinstance(value, Triggers | dict):
        return "triggers"
    return "a word" if value == ALWAYS else None


# Told apart by form, as a window is.
When = Annotated[
    Annotated[Literal["always"], pydantic.Tag("a word")] | Annotated[Triggers, pydantic.Tag("triggers")],
    pydantic.Discriminator(
        _form,
        custom_error_type="when",
        custom_error_message="expected always, or some of {worse: 0.02, drift: 0.2, age: 7d, rows: 10000}",
    ),
]
"""Which datasets are trained on."""
