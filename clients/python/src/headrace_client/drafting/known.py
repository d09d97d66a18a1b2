"""What a sample tells of rows, for advice."""

from __future__ import annotations

from math import prod
from typing import Final

from headrace_client.advising import Known
from headrace_client.drafting.observing import Observed
from headrace_client.drafting.roles import Roles

ONEHOT: Final = 20
"""Most categories that get an input of their own."""
_SMALLEST_SIDE: Final = 8
"""Least height and width of what is taken for an image."""


def known_of(roles: Roles, rows: int) -> Known:
    """Return what is known of rows like these, of which a dataset has so many."""
    label = roles.label.field
    features = [placed.field for placed in roles.features]
    counts = list(label.values.values()) if roles.task == "classification" and label.values else []
    return Known(
        rows=rows,
        inputs=sum(_width(field) for field in features),
        task=roles.task,
        classes=len(counts),
        imbalance=counts[0] / counts[-1] if counts else 1.0,
        texts=sum(field.type == "string" for field in features),
        image=features[0].shape if len(features) == 1 and _is_image(features[0].shape) else (),
    )


def _width(field: Observed) -> int:
    return min(field.distinct, ONEHOT + 1) if field.type == "string" else prod(field.shape)


def _is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) in (2, 3) and min(shape[-2:]) >= _SMALLEST_SIDE
