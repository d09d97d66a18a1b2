"""Proofs of rows of frozen datasets, from the object store."""

from collections.abc import Callable, Mapping, Sequence

from headrace_data.errors import DataError
from headrace_data.history import History
from headrace_data.manifest import Manifest, SegmentManifest, Slice
from headrace_data.row_proofs import SegmentProof, prove_rows
from headrace_data.spec import Field
from headrace_runtime.errors import Corrupt, InvalidInput, NotFound
from headrace_runtime.object_store import ObjectStore

from headrace_model_registry.adapters.datasets import StoredDatasets
from headrace_model_registry.core.facts import DatasetFrozen
from headrace_model_registry.core.facts.backfill import Artifact
from headrace_model_registry.core.fate import ProvenRow, RecordPlace

Histories = Callable[[], Mapping[tuple[str, int], Artifact]]


class StoredRows:
    """Reads all parts of the segments that hold the rows; those of another segment are left alone."""

    def __init__(self, store: ObjectStore, datasets: StoredDatasets, histories: Histories) -> None:
        """`histories` returns where the history of each pipeline is, by name and incarnation."""
        self._store = store
        self._datasets = datasets
        self._histories = histories

    def prove(
        self, frozen: DatasetFrozen, places: Sequence[RecordPlace], schemas: Mapping[str, Sequence[Field]]
    ) -> tuple[list[ProvenRow], list[SegmentProof]]:
        """Return the rows that records became, and the proofs of the segments that hold them.

        Raises InvalidInput when the dataset has no such row, NotFound when a segment is gone, and Corrupt when one is
        not what its id says.
        """
        try:
            manifest = Manifest.from_json(self._store.get(frozen.manifest))
            rows = [row for place in dict.fromkeys(places) for row in self._held(frozen, manifest, place)]
            wanted = {(row.partition, row.place.offset) for row in rows}
            proofs = [
                prove_rows(segment, self._fields(segment, manifest, schemas), self._store, wanted)
                for segment in self._segments(frozen, manifest, wanted)
            ]
        except DataError as error:
            raise Corrupt(f"dataset {frozen.dataset_id}: {error}") from error
        return rows, [proof for proof in proofs if proof.rows]

    def _held(self, frozen: DatasetFrozen, manifest: Manifest, place: RecordPlace) -> list[ProvenRow]:
        held = self._datasets.row_of(frozen, place)
        if held is None:
            raise InvalidInput(
                f"dataset {frozen.dataset_id} has no row of record {place}: "
                f"`headrace where {place}` tells what became of it"
            )
        told = manifest.provenance
        numbers = [
            each.number for each in told.backfilled if (each.name, each.partition) == (place.topic, place.partition)
        ]
        if told.topic == place.topic:
            numbers.append(place.partition)
        return [ProvenRow(place, held, number) for number in numbers]

    def _segments(
        self, frozen: DatasetFrozen, manifest: Manifest, wanted: set[tuple[int, int]]
    ) -> list[SegmentManifest]:
        """Return the segments that may hold these rows, whole."""
        if not manifest.slices:
            return [SegmentManifest.from_json(manifest.to_json())]
        taken = [each for each in manifest.slices if _may_hold(each, wanted)]
        if [each.segment_id for each in taken] == [manifest.dataset_id]:
            return [SegmentManifest.from_json(manifest.to_json())]
        history = self._histories().get((frozen.pipeline, frozen.incarnation))
        if history is None:
            raise NotFound(f"the history of pipeline {frozen.pipeline} is gone, and with it what its segments are")
        entries = {each.segment_id: each for each in History.from_json(self._store.get(history)).entries}
        if gone := [each.segment_id for each in taken if each.segment_id not in entries]:
            raise NotFound(f"segment {gone[0]} is in the history of pipeline {frozen.pipeline} no more")
        return [SegmentManifest.from_json(self._store.get(entries[each.segment_id].manifest)) for each in taken]

    def _fields(
        self, segment: SegmentManifest, manifest: Manifest, schemas: Mapping[str, Sequence[Field]]
    ) -> Sequence[Field]:
        """Return the fields that a segment was cut under."""
        if segment.schema_digest == manifest.schema_digest:
            return manifest.fields
        if segment.schema_digest not in schemas:
            raise NotFound(f"no spec that was ever in force has the schema {segment.schema_digest} of a segment")
        return schemas[segment.schema_digest]


def _may_hold(taken: Slice, wanted: set[tuple[int, int]]) -> bool:
    return any(
        part.partition == partition and part.first_offset <= offset <= part.last_offset
        for part in taken.parts
        for partition, offset in wanted
    )
