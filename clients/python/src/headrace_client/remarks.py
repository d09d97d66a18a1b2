"""What is said of a dataset, for which it may be better not to train on it, as plain JSON values."""

from __future__ import annotations

from typing import Any

from headrace.events.v1.dataset_pb2 import DatasetFrozen


def remarks_view(frozen: DatasetFrozen) -> dict[str, Any]:
    """Return the class with the fewest rows in a split, what is taught and held out, and the bounds of outliers.

    The first two are null where nobody counted.
    """
    rarest, leaks = frozen.rarest, frozen.leaks
    least = {"label": rarest.label, "split": rarest.split, "rows": rarest.rows}
    both = {"exact": leaks.exact, "near": leaks.near, "examples": list(leaks.examples)}
    return {
        "rarest": least if frozen.HasField("rarest") else None,
        "leaks": both if frozen.HasField("leaks") else None,
        "outliers": [
            {"field": one.field, "low": one.low, "high": one.high, "rows": one.rows} for one in frozen.outliers
        ],
    }
