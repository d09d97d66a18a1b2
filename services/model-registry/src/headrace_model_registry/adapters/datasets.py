"""The rows of frozen datasets, in the object store."""

import pyarrow.compute as pc
from headrace_data.batches import OFFSET, TIME
from headrace_data.dataset import DatasetReader
from headrace_data.errors import DataError
from headrace_data.manifest import Manifest, Part, SegmentManifest, Source
from headrace_data.parts import Blob, read_columns
from headrace_data.slices import left_out_by
from headrace_runtime.errors import Corrupt, NotFound
from headrace_runtime.object_store import ObjectStore

from headrace_model_registry.core.facts import DatasetFrozen
from headrace_model_registry.core.facts.hold import HeldSegment
from headrace_model_registry.core.fate import HeldRow, RecordPlace


class StoredDatasets:
    """Reads manifests, and of the parts only those whose offsets reach over the record."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._parts = _LatestPart(store)

    def row_of(self, frozen: DatasetFrozen, place: RecordPlace) -> HeldRow | None:
        """Return the row that a record became, None when the dataset has none.

        One that was collected holds nothing. Raises Corrupt when manifest or parts are not what they should be.
        """
        try:
            manifest = Manifest.from_json(self._store.get(frozen.manifest))
            partitions = {source.number for source in manifest.provenance.backfilled if _is_of(source, place)}
            if manifest.provenance.topic == place.topic:
                partitions.add(place.partition)
            held = manifest.reaching(lambda part: part.partition in partitions and _reaches_over(part, place.offset))
            for split, rows in DatasetReader(held, self._parts).rows():
                row = pc.index(rows.column(OFFSET), place.offset).as_py()
                if row >= 0:
                    return HeldRow(split, rows.column(TIME)[row].as_py())
            return self._left_out(held, place)
        except NotFound:
            return None
        except DataError as error:
            raise Corrupt(f"dataset {frozen.dataset_id}: {error}") from error

    def row_of_segment(self, segment: HeldSegment, place: RecordPlace) -> HeldRow | None:
        """Return the row of a suspected segment that a record became, None when it has none.

        One that was collected holds nothing. Raises Corrupt when manifest or parts are not what they should be.
        """
        try:
            manifest = SegmentManifest.from_json(self._store.get(segment.manifest))
            for part in manifest.parts if manifest.provenance.topic == place.topic else ():
                if part.partition == place.partition and _reaches_over(part, place.offset):
                    rows = read_columns(part, [OFFSET, TIME], self._parts)
                    row = pc.index(rows.column(OFFSET), place.offset).as_py()
                    if row >= 0:
                        return HeldRow("", rows.column(TIME)[row].as_py())
        except NotFound:
            return None
        except DataError as error:
            raise Corrupt(f"segment {segment.segment_id}: {error}") from error
        return None

    def _left_out(self, held: Manifest, place: RecordPlace) -> HeldRow | None:
        """Return the row of a record that training leaves out, None when it is none."""
        for part in held.parts:
            for rule in part.left_out:
                rows = read_columns(part, [OFFSET, TIME], self._parts)
                row = pc.index(rows.column(OFFSET), place.offset).as_py()
                if row >= 0 and left_out_by(rule, part)[row]:
                    return HeldRow("train", rows.column(TIME)[row].as_py(), rule)
        return None


class _LatestPart:
    """The object store, with the part at hand that was read last: windows share parts."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._latest = ("", b"")

    def put(self, data: bytes) -> Blob:
        """Keep bytes."""
        return self._store.put(data)

    def get(self, blob: Blob) -> bytes:
        """Return a blob's bytes."""
        digest, data = self._latest
        if digest != blob.digest:
            data = self._store.get(blob)
            self._latest = (blob.digest, data)
        return data


def _is_of(source: Source, place: RecordPlace) -> bool:
    return (source.name, source.partition) == (place.topic, place.partition)


def _reaches_over(part: Part, offset: int) -> bool:
    return part.first_offset <= offset <= part.last_offset
