"""One section of `compress.variants` for each method, for tests of what all of them promise."""

from collections.abc import Mapping
from typing import Any, Final

import pydantic
from headrace_data.spec import AnyVariant
from headrace_learning.graphs import Columns
from headrace_learning.large import whole
from headrace_learning.methods import METHODS
from headrace_learning.methods.calibration import of_columns
from headrace_learning.methods.method import Made, Source

_NEEDED: Final[Mapping[str, Mapping[str, Any]]] = {
    "distilled": {"network": {"kind": "mlp", "hidden": (4,)}},
    "chain": {"name": "both", "steps": ({"kind": "weight-only-int8"}, {"kind": "float16-weights"})},
}
"""What a section needs beside its kind."""


def section(kind: str, **settings: Any) -> Any:
    """Return a section of a kind."""
    plain = {"kind": kind, **_NEEDED.get(kind, {}), **settings}
    return pydantic.TypeAdapter[Any](AnyVariant).validate_python(plain)


SECTIONS: Final = {kind: section(kind) for kind in METHODS if not METHODS[kind].writes}


def graph_of(kind: str, graph: bytes, rows: Columns, **settings: Any) -> bytes:
    """Return what a method makes of a graph; it must apply."""
    made = METHODS[kind].make(Source(graph, of_columns(rows)), section(kind, **settings))
    assert isinstance(made, Made), made
    return whole(made.graph)
