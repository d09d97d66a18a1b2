"""Sketches as files: NumPy's .npz, with what is no array as JSON in one of them."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from typing import Any, Final

import numpy as np
import orjson

from headrace_data.errors import DatasetInvalid
from headrace_data.sampling import RowSample
from headrace_data.sketches import Moments, NumberSketch, Side, Sketch, Values, sample_capacity
from headrace_data.spec import Pipeline
from headrace_data.split import SPLITS
from headrace_data.spread import Spread

KEPT_ROWS: Final = 2**15
"""Most rows of a segment's sample that are kept on disk: the medians of windows of larger segments are estimates."""
KEPT_VALUES: Final = 2**20
"""Most values of all features' samples together that are kept on disk."""
_MOMENTS: Final = ("means", "squares", "low", "high")
_PLAIN: Final = "plain"
_PLACES: Final = "places"
_SPREAD: Final = "spread"

Arrays = dict[str, np.ndarray[Any, Any]]


def to_bytes(sketch: Sketch) -> bytes:
    """Return a sketch as a file."""
    arrays: Arrays = {}
    plain: dict[str, Any] = {
        "labels": _plain_values(sketch.labels),
        "sides": {name: _plain_side(f"{name}/", sketch.sides[name], arrays) for name in SPLITS},
    }
    if sketch.places is not None:
        plain["places"] = _plain_number(_PLACES, sketch.places, 0, arrays)
    if sketch.spread is not None:
        plain[_SPREAD] = _plain_spread(sketch.spread, arrays)
    arrays[_PLAIN] = np.frombuffer(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS), np.uint8)
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def from_bytes(data: bytes, pipeline: Pipeline, *, spread: bool = True) -> Sketch:
    """Return the sketch of a file, of rows of this pipeline; without how numbers are spread unless that is wanted.

    Raises DatasetInvalid.
    """
    sketch = Sketch(pipeline)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if spread or not name.startswith(f"{_SPREAD}/")}
        plain = orjson.loads(arrays[_PLAIN].tobytes())
        _restore_values(sketch.labels, plain["labels"])
        if sketch.places is not None:
            sketch.places.settle(_moments(_PLACES, plain["places"], arrays))
        sketch.spread = _spread(plain, arrays, pipeline) if spread else None
        for name, side in sketch.sides.items():
            _restore_side(f"{name}/", side, plain["sides"][name], arrays, sample_capacity(pipeline))
    except (ValueError, KeyError, TypeError, IndexError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetInvalid(f"expected the sketch of a segment, got what cannot be read: {error!r}") from error
    return sketch


def _plain_side(prefix: str, side: Side, arrays: Arrays) -> dict[str, Any]:
    samples = sum(number.field.size for number in side.numbers.values() if number.sample is not None)
    most = min(KEPT_ROWS, max(1, KEPT_VALUES // max(samples, 1)))
    numbers = {name: _plain_number(prefix + name, number, most, arrays) for name, number in side.numbers.items()}
    return {
        "rows": side.rows,
        "numbers": numbers,
        "texts": {name: _plain_values(values) for name, values in side.texts.items()},
        **({"labels": _plain_values(side.labels)} if side.labels is not None else {}),
        **({"sums": {name: list(sums.found()) for name, sums in side.sums.items()}} if side.sums else {}),
    }


def _plain_number(name: str, number: NumberSketch, most: int, arrays: Arrays) -> dict[str, Any]:
    moments = number.moments()
    arrays |= {f"{name}/{each}": getattr(moments, each) for each in _MOMENTS}
    plain: dict[str, Any] = {"count": moments.count}
    if number.sample is not None and moments.count:
        highest, arrays[f"{name}/ranks"], arrays[f"{name}/sample"] = number.sample.kept(most)
        plain["highest"] = str(highest)
    return plain


def _plain_values(values: Values) -> dict[str, Any]:
    counts = [[value, count] for value, count in values.counts.items()]
    return {"counts": counts, "missing": values.missing, "beyond": values.beyond}


def _restore_side(prefix: str, side: Side, plain: dict[str, Any], arrays: Arrays, capacity: int) -> None:
    side.rows = int(plain["rows"])
    if side.labels is not None and "labels" in plain:
        _restore_values(side.labels, plain["labels"])
    else:
        side.labels = None
    for name, values in side.texts.items():
        _restore_values(values, plain["texts"][name])
    for name, sums in side.sums.items():
        sums.settle((tuple(key), int(rows), float(total)) for key, rows, total in plain["sums"][name])
    for name, number in side.numbers.items():
        told, place = plain["numbers"][name], prefix + name
        number.settle(_moments(place, told, arrays))
        if "highest" in told:
            ranks, sample = arrays[f"{place}/ranks"], arrays[f"{place}/sample"]
            number.sample = RowSample.restored(capacity, int(told["highest"]), ranks, sample)


def _plain_spread(spread: Spread, arrays: Arrays) -> dict[str, Any]:
    if not spread.sample.rows:
        return {}
    highest, arrays[f"{_SPREAD}/ranks"], arrays[f"{_SPREAD}/sample"] = spread.sample.kept(spread.sample.rows)
    return {"highest": str(highest)}


def _spread(plain: dict[str, Any], arrays: Arrays, pipeline: Pipeline) -> Spread | None:
    """Return how numbers are spread; None of a file of before that was kept."""
    if _SPREAD not in plain:
        return None
    spread = Spread(pipeline)
    if plain[_SPREAD]:
        ranks, sample = arrays[f"{_SPREAD}/ranks"], arrays[f"{_SPREAD}/sample"]
        spread.settle(int(plain[_SPREAD]["highest"]), ranks, sample)
    return spread


def _moments(place: str, told: dict[str, Any], arrays: Arrays) -> Moments:
    return Moments(int(told["count"]), *(arrays[f"{place}/{each}"] for each in _MOMENTS))


def _restore_values(values: Values, plain: dict[str, Any]) -> None:
    values.counts = Counter({value: int(count) for value, count in plain["counts"]})
    values.missing, values.beyond = int(plain["missing"]), str(plain["beyond"])
