"""Several methods one after the other, as one variant: each step is given what the step before it made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from headrace_data.spec import Chain

from headrace_learning.methods.method import Made, Method, NotApplicable, Source


def chain_of(methods: Mapping[str, Method]) -> Method:
    """Return the method whose steps are those of a table, by the kind that the spec names."""

    def made(source: Source, section: Chain) -> Made | NotApplicable:
        told: dict[str, str] = {}
        for step in section.steps:
            result = methods[step.kind].make(source, step)
            if isinstance(result, NotApplicable):
                return NotApplicable(f"chain: expected each step to apply, got of one: {result.reason}")
            source = replace(source, graph=result.graph)
            told |= {f"{step.kind}.{name}": text for name, text in result.told.items()}
        return Made(source.graph, {"steps": ", ".join(step.kind for step in section.steps)} | told)

    return Method(made, large=True)
