"""What trees of default size score on the same rows: what most tables want, and what a network has to beat."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from headrace_data.spec import Pipeline, TreesModel
from headrace_data.spec.learn import EarlyStop
from headrace_data.tasks import TASKS, TREES
from headrace_learning.errors import LearningError
from headrace_learning.evaluation import Labelled, evaluate_batches
from headrace_learning.export import export_graph
from headrace_learning.families import FAMILIES
from headrace_learning.families.family import Run, Sources
from headrace_learning.served import ServedModel
from headrace_learning.training.checkpoint import Checkpoint
from headrace_learning.training.objectives import Objective
from headrace_learning.training.rows import Rows
from torch import nn

logger = logging.getLogger(__name__)

MOST_INPUTS: Final = 20_000_000
"""Rows times the inputs of each, at most: this many take some ten seconds for each output."""
_TREES: Final = TreesModel(kind="trees", rounds=100, learning_rate=0.1)
_PATIENCE: Final = 10


class _Unwatched:
    """Keeps no checkpoints, and tells nobody: trees to compare with are grown anew by another attempt."""

    def newest(self, subject: str) -> Checkpoint | None:
        return None

    def due(self, *, midway: bool) -> bool:
        return False

    def save(self, checkpoint: Checkpoint) -> None:
        pass

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        pass


def compared(
    pipeline: Pipeline,
    rows: Sources,
    objective: Objective,
    run: Run,
    serve: Callable[[nn.Module], ServedModel],
    test: Labelled,
) -> dict[str, float]:
    """Return trees_<measure> of each measure, over the test rows; nothing where the spec asks for no trees.

    So it is where there can be none: of rows that are streamed or many, without LightGBM, or of a label that trees do
    not learn. The version is as good as it is without them.
    """
    train, values = pipeline.train, rows.train
    if train.compare_with is None:
        return {}
    if len(run.shape) != 1 or not isinstance(values, Rows) or values.inputs.numel() > MOST_INPUTS:
        logger.warning("no trees are compared with: the dataset is no table, or too large for it")
        return {}
    alone = train.model_copy(
        update={"network": _TREES, "early_stop": EarlyStop(patience=_PATIENCE), "augment": None, "budget": None}
    )
    told = replace(run, train=alone, checkpoints=_Unwatched(), progress=_Unwatched())
    try:
        grown = FAMILIES[_TREES.kind].fit(_TREES, rows, objective, told)
        model = serve(grown.network)
        features, _ = next(iter(test))
        graph = export_graph(model, run.classes, {name: column[:1] for name, column in features.items()})
        measured = evaluate_batches(graph.data, test, pipeline.positive)
    except LearningError as error:
        logger.warning("no trees are compared with: %s", error)
        return {}
    known = TASKS[pipeline.task].measures
    return {f"{TREES}{name}": value for name, value in measured.items() if name in known}
