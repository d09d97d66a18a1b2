"""The heads: what is learned for each task of `headrace_data.tasks`, and how it is served. A head is one file."""

from collections.abc import Mapping
from typing import Final

from headrace_learning.heads import classification, count, generation, multilabel, quantile, ranking, regression
from headrace_learning.heads.head import Head

HEADS: Final[Mapping[str, Head]] = {
    "classification": classification.learn,
    "regression": regression.learn,
    "quantile": quantile.learn,
    "ranking": ranking.learn,
    "multilabel": multilabel.learn,
    "count": count.learn,
    "generation": generation.learn,
}
"""The heads by the kind of their task."""
