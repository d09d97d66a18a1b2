"""What a method is asked for, and what it gives."""

from collections.abc import Callable
from dataclasses import dataclass

from headrace_data.spec import Variant


@dataclass(frozen=True)
class NotApplicable:
    """A method has nothing to do with a version, which is no fault of the version: the others are made all the same."""

    reason: str
    """For a person: what the method needs, and what came."""


@dataclass(frozen=True)
class Method:
    """One way to make a version smaller."""

    variant: str
    """Name of the variant that it makes, its own."""
    make: Callable[[bytes, Variant], bytes | NotApplicable]
    """Takes a version's ONNX graph and the spec's section; returns the variant's graph. Inputs and outputs keep their
    names, types and shapes, and equal graphs give equal bytes."""
