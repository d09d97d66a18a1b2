"""One compression run: the variants of a version, measured, and the version beside the champion on equal rows."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version as version_of

from headrace_data.spec import REFERENCE_VARIANT, AnyVariant
from headrace_engines.beside import Graph, is_language
from headrace_learning.graphs import classes_of_graph, task_of_graph
from headrace_learning.methods import METHODS
from headrace_learning.methods.method import Made, NotApplicable, Source

from headrace_compressor.core.measurement import Rows, evaluate, measure, reads

logger = logging.getLogger(__name__)

_LIBRARIES = {True: ("gguf", "numpy"), False: ("numpy", "onnx", "onnxruntime")}
"""Packages whose versions decide what a method makes, by whether it is a model of language."""


@dataclass(frozen=True)
class Version:
    """A version and where it comes from."""

    version_id: str
    """Digest of the version."""
    dataset_id: str
    """Id of the dataset that it was trained on."""
    graph: Graph
    """The ONNX graph as it was trained."""


@dataclass(frozen=True)
class Variant:
    """One form of a version and what was measured of it."""

    name: str
    graph: Graph
    metrics: Mapping[str, float]
    told: Mapping[str, str] = field(default_factory=dict)
    """How it came about, by name; empty of the reference."""


@dataclass(frozen=True)
class Evaluation:
    """What one version scored on the test split of one dataset, or of several together: `dataset_id` is empty then."""

    version_id: str
    dataset_id: str
    rows: int
    metrics: Mapping[str, float]
    task: str
    """The version's kind of task."""


Report = Callable[[int, int, Mapping[str, float], float], None]
"""Takes the variants measured, the variants planned, the latest one's measurements, and the seconds to go."""


def make_variants(source: Source, asked: Iterable[AnyVariant]) -> tuple[dict[str, Made], dict[str, NotApplicable]]:
    """Return a version's variants by name, the reference first, and which do not apply to it, and why."""
    results = {each.called: METHODS[each.kind].make(source, each) for each in asked}
    libraries = {name: version_of(name) for name in _LIBRARIES[is_language(source.graph)]}
    made = {
        name: replace(each, told=libraries | dict(each.told))
        for name, each in results.items()
        if isinstance(each, Made)
    }
    others = {name: each for name, each in results.items() if isinstance(each, NotApplicable)}
    return {REFERENCE_VARIANT: Made(source.graph), **made}, others


def measure_variants(made: Mapping[str, Made], rows: Rows, report: Report) -> list[Variant]:
    """Return the measured variants of a version, the reference first, and report each as it is done."""
    start = time.monotonic()
    variants = []
    for name, metrics in measure({name: each.graph for name, each in made.items()}, rows):
        variants.append(Variant(name, made[name].graph, metrics, made[name].told))
        each_s = (time.monotonic() - start) / len(variants)
        report(len(variants), len(made), metrics, each_s * (len(made) - len(variants)))
    return variants


def compare(versions: Sequence[Version], splits: Sequence[Rows]) -> Iterator[Evaluation]:
    """Yield what each version scores on each test split.

    A version that asks for features which a split does not have, because the pipeline's schema changed between the
    two, cannot be evaluated there: that evaluation is left out. Where the versions know other classes, each of all
    these is looked for in both: precision of one class of two, and the mean over three, could not be compared.
    """
    compared = sorted({value for version in versions for value in classes_of_graph(version.graph)}, key=str)
    for rows in splits:
        for version in versions:
            if reads(version.graph, rows.first):
                metrics, task = evaluate(version.graph, rows, compared), task_of_graph(version.graph)
                yield Evaluation(version.version_id, rows.dataset_id, rows.count, metrics, task.kind)
            else:
                logger.warning("version %s cannot read the features of %s", version.version_id, rows.dataset_id)
