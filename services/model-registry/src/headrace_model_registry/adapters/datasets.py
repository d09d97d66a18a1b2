"""The rows of frozen datasets, in the object store."""

import pyarrow.compute as pc
from headrace_data.batches import OFFSET
from headrace_data.errors import DataError
from headrace_data.manifest import Manifest, Part
from headrace_data.parts import read_part
from headrace_data.split import SPLITS
from headrace_runtime.errors import Corrupt
from headrace_runtime.object_store import ObjectStore

from headrace_model_registry.core.facts import DatasetFrozen
from headrace_model_registry.core.fate import RecordPlace


class StoredDatasets:
    """Reads manifests, and of the parts only those whose offsets reach over the record."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def split_of(self, frozen: DatasetFrozen, place: RecordPlace) -> str | None:
        """Return the split that holds a record, None when the dataset does not.

        Raises Corrupt when manifest or parts are not what they should be, and NotFound when they are gone.
        """
        try:
            manifest = Manifest.from_json(self._store.get(frozen.manifest))
            for split in SPLITS:
                for part in manifest.splits[split].parts:
                    if _reaches_over(part, place) and self._holds(manifest, part, place):
                        return split
        except DataError as error:
            raise Corrupt(f"dataset {frozen.dataset_id}: {error}") from error
        return None

    def _holds(self, manifest: Manifest, part: Part, place: RecordPlace) -> bool:
        rows = read_part(part, manifest.fields, self._store)
        return bool(pc.any(pc.equal(rows.column(OFFSET), place.offset)).as_py())


def _reaches_over(part: Part, place: RecordPlace) -> bool:
    return part.partition == place.partition and part.first_offset <= place.offset <= part.last_offset
