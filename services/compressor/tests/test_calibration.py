"""Methods are given rows of the training split: those that were asked for, and no others."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import load_pipeline
from headrace_data.windows import only_dataset
from headrace_learning.graphs import Columns
from headrace_learning.methods.calibration import NO_ROWS, digest, of_columns, of_dataset
from headrace_runtime.object_store import ObjectStore

_PIPELINE = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: rows}
stream:
  topic: rows
  format: json
  schema:
    - {name: id, type: string, role: id}
    - {name: pair, type: float32, shape: [2], role: feature}
    - {name: sort, type: string, role: feature}
    - {name: number, type: int64, role: label, range: [0, 9]}
prepare: {transform: {sort: {encode: onehot}}}
train: {network: {kind: mlp}}
"""
_PROVENANCE = Provenance(cluster_id="test", topic="rows", topic_id="", sources=(), clean_ranges=(), rejected={})


@pytest.fixture
def reader(tmp_path: Path) -> DatasetReader:
    pipeline, store = load_pipeline(_PIPELINE), ObjectStore(str(tmp_path))
    values = [
        json.dumps({"id": str(row), "pair": [row, -row], "sort": f"s{row % 3}", "number": row % 10}).encode()
        for row in range(400)
    ]
    writer = SegmentWriter(pipeline, store)
    for start in (0, 150):  # several parts
        some = values[start : start + 150] if start == 0 else values[start:]
        checked = RecordChecker(pipeline.stream).check(some, [0] * len(some), range(start, start + len(some)), None)
        assert isinstance(checked.batch, pa.RecordBatch)
        writer.add(checked.batch)
    return DatasetReader(only_dataset(writer.finish(_PROVENANCE), pipeline, store), store)


def test_rows_are_some_of_the_training_split_and_the_same_ones_again(reader: DatasetReader) -> None:
    training = reader.columns("train")
    calibration = of_dataset(reader, seed=3)
    assert calibration.count == len(training["pair"]) > 200

    rows = calibration.rows(40)

    assert rows.keys() == {"pair", "sort"}
    drawn = rows["pair"][:, 0]
    places = np.searchsorted(training["pair"][:, 0], drawn)
    assert (np.diff(places) > 0).all()
    assert len(drawn) == 40
    assert (rows["pair"] == training["pair"][places]).all()
    assert (rows["sort"] == training["sort"][places]).all()
    assert digest(calibration.rows(40)) == digest(rows)
    assert digest(of_dataset(reader, seed=4).rows(40)) != digest(rows)
    # Not the first ones, which may be those of one day.
    assert places.max() > 0.8 * calibration.count
    everything = calibration.rows(10_000)
    assert digest(everything) == digest({name: training[name] for name in ("pair", "sort")})


def test_large_rows_are_fewer() -> None:
    wide = of_columns({"x": np.zeros((100, 2), np.float32)})
    assert len(wide.rows(50)["x"]) == 50
    large = type(wide)(wide.count, wide.read, row_bytes=2**24)
    assert len(large.rows(50)["x"]) == 4
    assert NO_ROWS.rows(50) == {}


def test_a_digest_tells_names_types_shapes_and_values_apart() -> None:
    x = np.arange(6, dtype=np.float32)
    others: list[Columns] = [
        {"x": x},
        {"y": x},
        {"x": x.astype(np.float64)},
        {"x": x.reshape(3, 2)},
        {"x": x + 1},
        {"x": np.array(["a", "b"], object)},
        {"x": np.array(["ab", ""], object)},
    ]
    assert len({digest(columns) for columns in others}) == len(others)
    assert digest({"x": x, "y": x + 1}) == digest({"y": x + 1, "x": x})
