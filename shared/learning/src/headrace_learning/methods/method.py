"""What a method is asked for, and what it gives."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace_data.dataset import DatasetReader
from headrace_data.spec import Pipeline
from headrace_engines.beside import Graph, is_language, total_bytes

from headrace_learning import large
from headrace_learning.methods.calibration import NO_ROWS, Calibration
from headrace_learning.training.ports import Artifacts, NoArtifacts


@dataclass(frozen=True)
class NotApplicable:
    """A method has nothing to do with a version, which is no fault of the version: the others are made all the same."""

    reason: str
    """For a person: what the method needs, and what came."""


@dataclass(frozen=True)
class Training:
    """How the version was trained, for methods that learn."""

    pipeline: Pipeline
    """The spec in force."""
    reader: DatasetReader
    """Of the dataset that the version was trained on; nothing is read before it is asked for."""
    weights: Callable[[], bytes] | None
    """Reads the version's weights, safetensors; None for a version whose command did not name them."""
    artifacts: Artifacts = field(default_factory=NoArtifacts)
    """Reads what the spec names by its digest, such as an encoder's tokenizer."""
    memory_bytes: int = sys.maxsize
    """What there is for learning, at most."""
    folder: Path | None = None
    """Where a method may leave files that its graph needs beside it; None for nowhere."""


@dataclass(frozen=True)
class Source:
    """What a variant is made of."""

    graph: Graph
    """A version's ONNX graph; in a chain what the step before has made of it."""
    calibration: Calibration = NO_ROWS
    """Rows that the version was trained on."""
    training: Training | None = None
    """None where there is a graph and nothing else."""
    cpu_class: str = ""
    """The class of processors that variants are measured for, and served on; empty for that of this machine."""


@dataclass(frozen=True)
class Made:
    """The graph of a variant."""

    graph: Graph
    """ONNX: inputs and outputs as those of the source's."""
    told: Mapping[str, str] = field(default_factory=dict)
    """How it came about, for the record, by name: such as the digest of the rows that it was calibrated on."""


@dataclass(frozen=True)
class Method:
    """One way to make a version smaller."""

    function: Callable[[Source, Any], Made | NotApplicable]
    """Takes what a version is made of, and the spec's section. Inputs and outputs of the graph keep their names, types
    and shapes; equal graphs and rows give equal bytes."""
    large: bool = False
    """Whether it takes a graph with weights beside it, one after the other."""
    writes: bool = False
    """Whether it takes models of language, and nothing else."""

    def make(self, source: Source, section: Any) -> Made | NotApplicable:
        """Return the variant of a version, or why there is none."""
        if is_language(source.graph) != self.writes:
            wanted, given = (
                ("a model of language", "an ONNX graph") if self.writes else ("an ONNX graph", "a model of language")
            )
            return NotApplicable(f"{section.kind}: expected {wanted}, got {given}")
        if self.large or isinstance(source.graph, bytes):
            return self.function(source, section)
        return NotApplicable(
            f"{section.kind}: expected a graph in one file, up to {large.LARGEST_BYTES:,} bytes, got "
            f"{total_bytes(source.graph):,} with weights beside it"
        )


def of_graph(make: Callable[[Graph], Graph | NotApplicable], *, large: bool = False) -> Method:
    """Return a method that needs the graph alone, without settings."""

    def made(source: Source, _section: Any) -> Made | NotApplicable:
        graph = make(source.graph)
        return graph if isinstance(graph, NotApplicable) else Made(graph)

    return Method(made, large)
