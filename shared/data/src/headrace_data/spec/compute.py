"""On what a network is trained, and in which numbers: `train.compute`."""

from __future__ import annotations

from typing import Literal

import pydantic

from headrace_data.spec.scalars import PositiveInt
from headrace_data.spec.section import Section


class Compute(Section):
    """On what a network is trained. The version says what it was.

    Another device, precision or number of threads sums in another order: the same spec then gives another version.
    """

    device: Literal["auto", "cpu", "cuda"] = pydantic.Field(
        default="auto",
        description="auto: the GPU where there is one. cuda: a run without one fails before it begins. Whatever it is, "
        "the version is exported and measured on the CPU.",
    )
    precision: Literal["fp32", "bf16"] = pydantic.Field(
        default="fp32",
        description="bf16: layers compute in 16 bits where that suits them; weights, the loss and validation stay in "
        "32.",
    )
    threads: PositiveInt | Literal["auto"] = pydantic.Field(
        default=1, description="Threads of the CPU, at most as many as the trainer has cores. auto: all of these."
    )
