import hashlib
import itertools
import json
import struct

import pyarrow as pa
import pytest
from headrace_data.errors import DatasetInvalid
from headrace_data.identity import MerkleTree, RowsIdentity, dataset_id
from headrace_data.records import RecordChecker
from headrace_data.spec import Pipeline, parse_canonical
from hypothesis import given, settings
from hypothesis import strategies as st


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def reference_root(leaves: list[bytes]) -> bytes:
    """The definition of RFC 6962 §2.1, word for word."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0])
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return sha256(b"\x01" + reference_root(leaves[:half]) + reference_root(leaves[half:]))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=4), max_size=70))
def test_the_tree_is_that_of_rfc_6962(leaves: list[bytes]) -> None:
    tree = MerkleTree()
    for count, leaf in enumerate(leaves):
        assert tree.leaves == count
        tree.append(leaf)

    assert tree.root() == reference_root(leaves)
    assert tree.root() == reference_root(leaves)


def test_the_tree_has_the_known_roots_of_certificate_transparency() -> None:
    """Test vectors of the certificate-transparency project's reference implementation."""
    leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    roots = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    tree = MerkleTree()
    for leaf in leaves:
        tree.append(bytes.fromhex(leaf))
        if tree.leaves in roots:
            assert tree.root().hex() == roots[tree.leaves]


TEXTS = st.text(max_size=3).filter(str.strip)  # a blank one is a missing value
ROWS = st.lists(
    st.tuples(
        st.integers(-2, 2),
        TEXTS,
        st.sampled_from([None, [0.0] * 6, [1.5] * 6]),
        st.none() | st.integers(0, 255),
        st.none() | TEXTS,
    ),
    max_size=30,
)
Row = tuple[int, str, list[float] | None, int | None, str | None]


def batch_of(pipeline: Pipeline, rows: list[Row]) -> pa.RecordBatch:
    """Rows of several producer partitions, interleaved; two rows to an offset."""
    values = [
        json.dumps({"id": key, "team": 1, "image": image, "amount": 2, "age": age, "kind": kind}).encode()
        for _, key, image, age, kind in rows
    ]
    partitions = [row[0] for row in rows]
    before = [partitions[:position].count(partition) for position, partition in enumerate(partitions)]
    checked = RecordChecker(pipeline.stream).check(
        values, partitions, [place // 2 for place in before], [place % 2 for place in before]
    )
    assert checked.rejected == []
    return checked.batch


def root_of(pipeline: Pipeline, *batches: pa.RecordBatch) -> bytes:
    identity = RowsIdentity(pipeline.stream)
    for batch in batches:
        identity.add(batch)
    assert identity.rows == sum(map(len, batches))
    return identity.root()


@settings(deadline=None)
@given(ROWS, st.lists(st.integers(0, 30), max_size=5))
def test_the_root_does_not_depend_on_batches_or_interleaving(mixed: Pipeline, rows: list[Row], cuts: list[int]) -> None:
    batch = batch_of(mixed, rows)
    ends = sorted({0, len(rows), *(cut for cut in cuts if cut <= len(rows))})
    pieces = [batch.slice(start, end - start) for start, end in itertools.pairwise(ends)]
    ordered = batch_of(mixed, sorted(rows, key=lambda row: row[0]))

    assert root_of(mixed, *pieces) == root_of(mixed, batch) == root_of(mixed, ordered)


@settings(deadline=None)
@given(ROWS, ROWS)
def test_different_rows_have_different_roots(mixed: Pipeline, first: list[Row], second: list[Row]) -> None:
    def by_partition(rows: list[Row]) -> list[list[tuple[object, ...]]]:
        return [[row[1:] for row in rows if row[0] == partition] for partition in sorted({row[0] for row in rows})]

    same = by_partition(first) == by_partition(second)

    assert (root_of(mixed, batch_of(mixed, first)) == root_of(mixed, batch_of(mixed, second))) is same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"id": "ab", "kind": "c"}, {"id": "a", "kind": "bc"}),
        ({"id": "", "kind": "a"}, {"id": "a", "kind": ""}),
        ({"kind": None}, {"kind": ""}),
        ({"age": None}, {"age": 0}),
        ({"image": None}, {"image": [0] * 6}),
        ({"image": [0, 0, 0, 0, 0, 1]}, {"image": [1, 0, 0, 0, 0, 0]}),
        ({"team": 1}, {"team": 256}),
    ],
)
def test_no_two_rows_share_their_bytes(mixed: Pipeline, one: dict[str, object], other: dict[str, object]) -> None:
    good = {"id": "a", "team": 1, "image": [0] * 6, "amount": 1, "age": 3, "kind": "x"}
    checker = RecordChecker(mixed.stream)
    roots = {
        root_of(mixed, checker.check([json.dumps(good | change).encode()], [0], [0]).batch) for change in (one, other)
    }

    assert len(roots) == 2


def test_where_rows_stood_is_not_part_of_them(mixed: Pipeline) -> None:
    value = b'{"id": "a", "team": 1, "amount": 1}'
    checker = RecordChecker(mixed.stream)

    first = checker.check([value, value], [0, 0], [0, 1]).batch
    second = checker.check([value, value], [3, 3], [10, 12], [4, 0]).batch

    assert root_of(mixed, first) == root_of(mixed, second)


@pytest.mark.parametrize("offsets", [[1, 0], [5, 5]])
def test_rows_out_of_order_are_refused(mixed: Pipeline, offsets: list[int]) -> None:
    value = b'{"id": "a", "team": 1, "amount": 1}'
    checker = RecordChecker(mixed.stream)
    together = checker.check([value, value], [0, 0], offsets).batch

    with pytest.raises(DatasetInvalid, match="expected rows of partition 0 after"):
        root_of(mixed, together)
    with pytest.raises(DatasetInvalid, match="expected rows of partition 0 after"):
        root_of(mixed, together.slice(0, 1), together.slice(1))


def test_a_refused_batch_changes_nothing(mixed: Pipeline) -> None:
    value = b'{"id": "a", "team": 1, "amount": 1}'
    checker = RecordChecker(mixed.stream)
    identity = RowsIdentity(mixed.stream)
    identity.add(checker.check([value], [0], [5]).batch)
    root = identity.root()

    with pytest.raises(DatasetInvalid):
        identity.add(checker.check([value, value], [1, 0], [0, 5]).batch)

    assert identity.root() == root
    identity.add(checker.check([value], [1], [0]).batch)
    assert identity.rows == 2


def test_the_id_covers_schema_preparation_and_split(mixed: Pipeline) -> None:
    document = json.loads(mixed.canonical_json())
    ids = {dataset_id(RowsIdentity(mixed.stream), mixed)}
    for change in (
        lambda spec: spec["stream"]["schema"][3].update(unit="litre"),
        lambda spec: spec["prepare"]["clean"].update(duplicates="keep"),
        lambda spec: spec["prepare"]["split"].update(salt="other"),
    ):
        changed = json.loads(json.dumps(document))
        change(changed)
        pipeline = parse_canonical(json.dumps(changed).encode())
        ids.add(dataset_id(RowsIdentity(pipeline.stream), pipeline))

    assert len(ids) == 4
    assert all(one.startswith("sha256:") and len(one) == 71 for one in ids)


def test_the_bytes_of_rows_stay_as_they_are(mixed: Pipeline) -> None:
    """Ids that were given once must come out again in later releases."""
    rows: list[Row] = [(0, "a", [1.5] * 6, 3, "x"), (1, "é", None, None, None), (0, "b", [0.0] * 6, 0, "")]
    number_formats = "<?q ?6f ?d ?B"
    first = (
        struct.pack(number_formats, True, 1, True, *[1.5] * 6, True, 2.0, True, 3) + b"\x01\x01\0\0\0a\x01\x01\0\0\0x"
    )
    second = struct.pack(number_formats, True, 1, False, *[0.0] * 6, True, 2.0, False, 0) + b"\x01\x02\0\0\0\xc3\xa9\0"
    third = struct.pack(number_formats, True, 1, True, *[0.0] * 6, True, 2.0, True, 0) + b"\x01\x01\0\0\0b\x01\0\0\0\0"

    root = root_of(mixed, batch_of(mixed, rows))

    assert root == reference_root([reference_root([first, third]), reference_root([second])])
    assert root.hex() == "07931f5e32c1dcd5d8cdc0a57f78c48e89db4f4d4de2324fd6c208a2101c9b61"
