"""Ten tables: seven of real measurements that packages and examples here hold, and three that are drawn by formulas."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from sklearn import datasets

_PENGUINS: Final = Path(__file__).parents[2] / "examples" / "penguins" / "rows.jsonl"
Records = list[dict[str, Any]]


def _of(bunch: Any, classes: bool) -> Records:
    names = [str(name).replace(" ", "_").replace("(", "").replace(")", "") for name in bunch.feature_names]
    label = (lambda value: int(value)) if classes else float
    return [
        {"id": f"row-{place:05}", **dict(zip(names, map(float, values), strict=True)), "label": label(target)}
        for place, (values, target) in enumerate(zip(bunch.data, bunch.target, strict=True))
    ]


def _drawn(values: Any, targets: Any, classes: bool) -> Records:
    return [
        {"id": f"row-{place:05}", **{f"x{column}": float(value) for column, value in enumerate(row)}}
        | {"label": int(target) if classes else float(target)}
        for place, (row, target) in enumerate(zip(values, targets, strict=True))
    ]


def _penguins(label: str) -> Records:
    records = [json.loads(line) for line in _PENGUINS.read_text().splitlines()]
    kept = [record for record in records if record.get(label) is not None]
    return [{**{name: value for name, value in each.items() if name != label}, "label": each[label]} for each in kept]


def _imbalanced() -> Records:
    values, targets = datasets.make_classification(
        3_000, 20, n_informative=6, n_redundant=4, weights=[0.9], flip_y=0.02, random_state=5
    )
    return _drawn(values, targets, classes=True)


def _hastie() -> Records:
    values, targets = datasets.make_hastie_10_2(4_000, random_state=5)
    return _drawn(values, np.where(targets > 0, 1, 0), classes=True)


def _friedman() -> Records:
    values, targets = datasets.make_friedman1(2_000, n_features=10, noise=1.0, random_state=5)
    return _drawn(values, targets, classes=False)


def _mass() -> Records:
    return [{**each, "label": float(each["label"])} for each in _penguins("body_mass_g")]


TABLES: Final[dict[str, Callable[[], Records]]] = {
    "breast_cancer": lambda: _of(datasets.load_breast_cancer(), classes=True),
    "digits": lambda: _of(datasets.load_digits(), classes=True),
    "iris": lambda: _of(datasets.load_iris(), classes=True),
    "wine": lambda: _of(datasets.load_wine(), classes=True),
    "penguins species": lambda: _penguins("species"),
    "penguins mass": _mass,
    "diabetes": lambda: _of(datasets.load_diabetes(), classes=False),
    "drawn: rare class": _imbalanced,
    "drawn: sum of squares": _hastie,
    "drawn: friedman 1": _friedman,
}
"""By name: records with `id` and `label`."""
