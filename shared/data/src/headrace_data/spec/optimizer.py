"""How weights are moved: `train.optimizer`."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from headrace_data.spec.scalars import PositiveInt
from headrace_data.spec.section import Section

Share = Annotated[float, pydantic.Field(ge=0, le=1)]


class Schedule(Section):
    """The learning rate over the epochs."""

    warmup: Annotated[float, pydantic.Field(ge=0, le=10_000)] = pydantic.Field(
        default=0.0, description="Epochs in which the rate rises from zero, also parts of one: 0.5."
    )


class ConstantSchedule(Schedule):
    """One rate, after the warm-up."""

    kind: Literal["constant"] = pydantic.Field(description="The rate stays as it is.")


class CosineSchedule(Schedule):
    """Half a cosine from the rate to `floor` of it at the last epoch."""

    kind: Literal["cosine"] = pydantic.Field(description="The rate falls along half a cosine until the last epoch.")
    floor: Share = pydantic.Field(default=0.0, description="Share of the rate that is left at the end.")


class StepSchedule(Schedule):
    """The rate times `factor` after every so many epochs."""

    kind: Literal["step"] = pydantic.Field(description="The rate falls in steps.")
    every: PositiveInt = pydantic.Field(description="Epochs of one step.")
    factor: Annotated[float, pydantic.Field(gt=0, lt=1)] = pydantic.Field(default=0.1, description="By which it falls.")


class PlateauSchedule(Schedule):
    """The rate times `factor` whenever the validation loss stood still for `patience` epochs."""

    kind: Literal["plateau"] = pydantic.Field(description="The rate falls whenever the validation loss stands still.")
    patience: PositiveInt = pydantic.Field(default=5, description="Epochs to wait for a better loss.")
    factor: Annotated[float, pydantic.Field(gt=0, lt=1)] = pydantic.Field(default=0.1, description="By which it falls.")


AnySchedule = ConstantSchedule | CosineSchedule | StepSchedule | PlateauSchedule


class Optimizer(Section):
    """How weights are moved."""

    kind: Literal["sgd", "momentum", "adam", "adamw"] = pydantic.Field(default="adam", description="Update rule.")
    learning_rate: Annotated[float, pydantic.Field(gt=0, le=10)] = pydantic.Field(
        default=0.001, description="Step size."
    )
    momentum: Annotated[float, pydantic.Field(ge=0, lt=1)] = pydantic.Field(
        default=0.9, description="Share of the last step that is kept; only used by momentum."
    )
    weight_decay: Share = pydantic.Field(
        default=0.0,
        description="Pull of the weights towards zero: part of the gradient, with adamw apart from it.",
    )
    # Defaults are left out of specs, so that these keep the digests they had before there was a choice.
    schedule: Annotated[AnySchedule, pydantic.Field(discriminator="kind")] | None = pydantic.Field(
        default=None, exclude_if=lambda value: value is None, description="Left out: the rate stays as it is."
    )
    clip: Annotated[float, pydantic.Field(gt=0)] | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Greatest norm of all gradients together; a greater one is scaled down to it. Left out: any.",
    )
    accumulate: Annotated[int, pydantic.Field(ge=1, le=65_536)] = pydantic.Field(
        default=1,
        exclude_if=lambda value: value == 1,
        description="Batches whose gradients make one step: that of a batch so many times larger, in the memory of "
        "one.",
    )
    average: Annotated[float, pydantic.Field(gt=0, lt=1)] | None = pydantic.Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Share of the moving average of the weights that each step keeps, such as 0.999, and less in the "
        "first steps; the average is what is validated and served. Left out: the weights themselves are.",
    )
