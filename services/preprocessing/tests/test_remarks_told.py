"""What the announcement of a dataset says of its classes and of rows that are taught and held out."""

import pytest
from headrace.events.v1 import dataset_pb2
from headrace_data.class_rows import ClassRows
from headrace_data.leaks import Leak, Leaks
from headrace_data.manifest import Manifest, Provenance, Source, SplitParts
from headrace_data.outliers import Outlying
from headrace_data.spec import load_pipeline
from headrace_data.transforms import FittedTransforms
from headrace_data.windows import Remarks
from headrace_preprocessing.transport.converters import Seen, frozen_message
from headrace_runtime.object_store import Artifact

DIGEST = f"sha256:{'0' * 64}"
FILE = -(2**30) - 7
PIPELINE = load_pipeline("""\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: p}
stream:
  topic: readings
  schema:
    - {name: id, type: int64, role: id}
    - {name: x, type: float32, role: feature}
    - {name: y, type: int64, role: label}
train: {network: {kind: mlp}}
""")


def announced(remarks: Remarks) -> dataset_pb2.DatasetFrozen:
    source = Source(name="rows.csv", digest=DIGEST, number=FILE)
    origin = Provenance(
        cluster_id="c", topic="readings", topic_id="", sources=(), clean_ranges=(), rejected={}, backfilled=(source,)
    )
    manifest = Manifest(
        dataset_id=DIGEST,
        spec_digest=DIGEST,
        prepare_digest=DIGEST,
        split_digest=DIGEST,
        schema_digest=PIPELINE.schema_digest,
        pipeline="p",
        fields=PIPELINE.stream.fields,
        splits={name: SplitParts(rows=0) for name in ("train", "validation", "test")},
        classes=(),
        transforms=FittedTransforms(()),
        provenance=origin,
    )
    return frozen_message(manifest, Artifact("m", DIGEST, 1), PIPELINE, seen=Seen(remarks=remarks))


def test_the_rarest_class_and_leaks_are_told_by_where_they_came_from() -> None:
    leaks = Leaks(7, 2, (Leak(3, 17, (-2, 5)), Leak(FILE, 4, (0, 9)), Leak(1, 8)))

    told = announced(Remarks(ClassRows("2", "test", 3), leaks, (Outlying("x", -1.5, 2, 9),)))

    assert (told.rarest.label, told.rarest.split, told.rarest.rows) == ("2", "test", 3)
    assert list(told.outliers) == [dataset_pb2.Outliers(field="x", low=-1.5, high=2, rows=9)]
    assert (told.leaks.exact, told.leaks.near) == (7, 2)
    assert list(told.leaks.examples) == [
        "readings:3:17 as headrace.push.accepted.v1:1:5",
        "rows.csv:0:4 as readings:0:9",
        "readings:1:8",
    ]


@pytest.mark.parametrize(("remarks", "looked"), [(Remarks(), False), (Remarks(None, Leaks()), True)])
def test_what_nobody_counted_is_not_told(remarks: Remarks, looked: bool) -> None:
    told = announced(remarks)
    assert (told.HasField("rarest"), told.HasField("leaks")) == (False, looked)
