"""How much a version may tell of a single row that it learned from: `train.privacy`.

The unit is one row of the training split. What its budget counts, and what it does not, is said in ADR 0070.
"""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from headrace_data.spec.section import Section


class Privacy(Section):
    """Trains by DP-SGD: the gradient of each row is clipped, and secret noise is added to their sum.

    The unit is one row of the training split, whoever it is of: with epsilon and delta, whether it was there changes
    the odds of any version by a factor of e^epsilon at most, but for delta. A subject with ten rows has ten times that.
    """

    epsilon: Annotated[float, pydantic.Field(gt=0, le=1000)] = pydantic.Field(
        description="What a run may spend, all trials of a search together: the smaller, the more private. 1 is "
        "strong, 8 is common, above 10 little is promised."
    )
    delta: Annotated[float, pydantic.Field(gt=0, lt=0.1)] = pydantic.Field(
        description="The chance with which that may not hold: less than one over the rows of the training split."
    )
    clip: Annotated[float, pydantic.Field(gt=0, le=1e6)] = pydantic.Field(
        default=1.0, description="Greatest norm of a row's gradient; a greater one is scaled down to it."
    )
    total: Annotated[float, pydantic.Field(gt=0)] | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Epsilon that all runs on the producers' topic may spend together, of this and other pipelines, "
        "deleted ones too, as the registry's ledger adds it up before a run begins. One that would go beyond is "
        "refused. Raising it trains nothing again. Left out: any; it is counted all the same.",
    )
    fits: Literal["refused", "exact"] = pydantic.Field(
        default="refused",
        exclude_if=lambda value: value == "refused",
        description="What is fitted on the training split without noise, and served: scales, categories, what fills "
        "gaps, the mean of a label of numbers. refused: a pipeline with such is. exact: it is fitted as always and "
        "not covered by epsilon; the version names each.",
    )
