"""The page of a dataset whose features become inputs in every way."""

import json
import re
from pathlib import Path
from typing import Any

from headrace_client.report.dataset_page import dataset_page
from headrace_client.report.facts import DatasetFacts
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import parse_canonical
from headrace_data.spec.loading import load_pipeline
from headrace_data.windows import only_dataset
from headrace_runtime.object_store import ObjectStore

EXAMPLES = Path(__file__).parents[3] / "examples"
TRANSFORMS = {
    "island": {"encode": {"kind": "hash", "inputs": 8}},
    "bill_length_mm": {"impute": {"constant": 41.5}, "scale": "winsorize"},
    "bill_depth_mm": {"impute": {"constant": 17.25}, "scale": "quantile"},
    "flipper_length_mm": {"impute": "mean", "encode": "buckets"},
    "body_mass_g": {"impute": "median", "encode": {"kind": "cyclic", "periods": [1000]}},
    "sex": {"impute": {"constant": "unknown"}, "encode": {"kind": "onehot", "maxCategories": 1}},
}

FAR = [{"field": "body_mass_g", "low": 2000.5, "high": 6100, "rows": 3}]


def test_every_kind_of_transform_is_told(tmp_path: Path) -> None:
    document = json.loads(
        load_pipeline((EXAMPLES / "penguins-species" / "pipeline.yaml").read_bytes()).canonical_json()
    )
    document["prepare"]["transform"] = TRANSFORMS
    pipeline, store = parse_canonical(json.dumps(document).encode()), ObjectStore(str(tmp_path))
    lines = (EXAMPLES / "penguins" / "rows.jsonl").read_bytes().splitlines()
    writer = SegmentWriter(pipeline, store)
    writer.add(RecordChecker(pipeline.stream).check(lines, [0] * len(lines), range(len(lines))).batch)
    origin = Provenance(cluster_id="c", topic="penguins", topic_id="t", sources=(), clean_ranges=(), rejected={})
    manifest = only_dataset(writer.finish(origin), pipeline, store)
    told: dict[str, Any] = {"dataset_id": manifest.dataset_id, "rejected": {}, "masked": {}, "sources": []}
    told |= {
        "repeated_keys": 0,
        "late_rows": 0,
        "outliers": FAR,
        "leaks": {"exact": 1200, "near": 34, "examples": ["t:0:7 as t:1:9", "t:2:5"]},
    }
    told |= {"rarest": {"label": "Chinstrap", "split": "test", "rows": 9}}
    told |= {"rows": {name: split.rows for name, split in manifest.splits.items()}}
    told |= {"freeze_time": "2026-05-17T14:30:00.000Z"}

    page = dataset_page(DatasetFacts(told, manifest, DatasetReader(manifest, store).columns_of()))

    text = re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))
    assert "24 inputs of the network" in text
    for word in ("hash", "winsorize", "quantile", "buckets", "cyclic", "missing becomes 17.25", "missing becomes 41.5"):
        assert word in text
    assert "rarest class 9 of Chinstrap in test leaks 1,234 training rows that validation or test has, too" in text
    assert "body_mass_g 2000.5 6100 3" in text
    assert "t:0:7 t:1:9 t:2:5 one that it nearly repeats" in text
    assert "After the transform: 8 inputs." in text
    assert "2 inputs, one for each category that is told apart and one for all others" in text
