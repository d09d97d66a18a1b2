"""The kinds of models that a pipeline can ask for under `train.network`: one file each.

A family turns prepared rows into what answers them. Transforms stand before it and the task behind it; both are the
same for every family, so that each is served, gated, swapped and rolled back alike.
"""

from collections.abc import Mapping
from typing import Final

from headrace_learning.families import (
    causal_lm,
    cnn,
    encoder,
    factorization,
    imported,
    mlp,
    new_causal_lm,
    python,
    residual,
    trees,
)
from headrace_learning.families.family import Family

FAMILIES: Final[Mapping[str, Family]] = {
    "mlp": mlp.FAMILY,
    "cnn": cnn.FAMILY,
    "residual": residual.FAMILY,
    "factorization": factorization.FAMILY,
    "trees": trees.FAMILY,
    "imported": imported.FAMILY,
    "python": python.FAMILY,
    "encoder": encoder.FAMILY,
    "causal-lm": causal_lm.FAMILY,
    "new-causal-lm": new_causal_lm.FAMILY,
}
"""The families by the kind that the spec names."""
