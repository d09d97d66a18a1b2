"""The part of the train section that says how training rows are changed."""

from __future__ import annotations

from typing import Annotated

import pydantic

from headrace_data.spec.section import Section


class Augment(Section):
    """Training rows are changed a little in each epoch, as a function of the seed; others never are."""

    noise: Annotated[float, pydantic.Field(ge=0, le=10)] = pydantic.Field(
        default=0.0,
        description="Deviation of what is added to each input of the network, after the transforms: 0.1 is little for "
        "numbers of scale standard.",
    )
    mixup: Annotated[float, pydantic.Field(ge=0, le=10)] = pydantic.Field(
        default=0.0,
        description="Above 0, two rows are mixed to one, and their labels in the same shares, which come from the "
        "distribution Beta(mixup, mixup): 0.2 leaves most rows nearly as they are.",
    )
