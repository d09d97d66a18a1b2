"""Where things come from and what became of them: the catalogue together with what Kafka and the store still hold."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from headrace_data.spec import own_name
from headrace_runtime.errors import InvalidInput, NotFound

from headrace_model_registry.core import fate, holding, lineage, prediction_ids
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.fate import HeldRow, RecordFate, RecordPlace
from headrace_model_registry.core.lineage import Lineage
from headrace_model_registry.core.records import Dataset
from headrace_model_registry.core.state import State
from headrace_model_registry.ports import Datasets, Predictions, Records

_LISTED = 10
"""Most ids that an error lists."""


class Stories:
    """Lineage and record fates. Both may wait for Kafka or the object store. Safe for use by several threads."""

    def __init__(self, state: State, predictions: Predictions, records: Records, datasets: Datasets) -> None:
        self._state = state
        self._predictions = predictions
        self._records = records
        self._datasets = datasets

    def lineage(self, name: str) -> Lineage:
        """Return what lies behind a prediction, version, run or dataset, named by its id or a unique beginning of it.

        Raises InvalidInput when several begin so, listing them, and NotFound when none does.
        """
        beginning = name.strip().lower()
        if not beginning:
            raise InvalidInput("the id is empty: expected one of a prediction, version, run or dataset")
        catalogue, board = self._state.catalogue, self._state.board
        # What lies behind a thing is known where the thing is: nothing of a deleted pipeline leads out of it.
        homes = {each: home for home in reversed(catalogue.homes) for each in lineage.matches(home, beginning)}
        found = {each: lineage.matches(home, beginning)[each] for each, home in homes.items()}
        if len(found) == 1:
            (thing,) = found
            return lineage.of_thing(homes[thing], board, thing)
        if found:
            raise InvalidInput(_ambiguous(name, found))
        window = prediction_ids.window_ms(beginning)
        served = self._predictions.starting_with(beginning, *window) if window else {}
        if len(served) > 1:
            raise InvalidInput(_ambiguous(name, dict.fromkeys(served, "prediction")))
        for prediction in served.values():
            return lineage.of_prediction(catalogue, board, prediction)
        raise NotFound(
            f"no prediction, version, run or dataset has an id that begins with {name!r}; predictions are kept for "
            "some days only, and of their ids at least the first eight characters are needed"
        )

    def fates(self, place: RecordPlace) -> list[RecordFate]:
        """Return what became of a record in each pipeline that reads its topic, by pipeline.

        Where none does, in those that took it in by a backfill: the topic may be the name of a file. Raises NotFound
        when no pipeline did either, and when the topic holds no such record yet.
        """
        homes = self._state.catalogue.homes
        readers = [(home, pipeline) for home in homes for pipeline in fate.readers(home, place.topic)]
        if not readers:
            if found := [each for home in homes for each in self._backfilled(home, place)]:
                return sorted(found, key=lambda each: (each.pipeline, each.deleted))
            known = ", ".join(sorted({topic for home in homes for topic in fate.topics(home)})) or "none"
            raise NotFound(
                f"no pipeline reads topic {place.topic!r}; topics that are read: {known}; "
                f"and no backfill that there is a dataset of took in {place}"
            )
        bounds = self._records.bounds_of(place.topic, place.partition)
        if bounds is None:
            raise NotFound(f"topic {place.topic} has no partition {place.partition}")
        beginning, end = bounds
        if not 0 <= place.offset < end:
            raise NotFound(f"there is no record {place} yet: partition {place.partition} ends before offset {end}")
        found = [self._fate(home, pipeline, place, beginning) for home, pipeline in readers]
        return sorted(found, key=lambda each: (each.pipeline, each.deleted))

    def _backfilled(self, home: Catalogue, place: RecordPlace) -> Iterator[RecordFate]:
        for pipeline, applied in home.pipelines.items():
            datasets = fate.backfilled(home, pipeline)
            held = list(self._held(home, datasets, place))
            rejection = None
            if datasets:
                rejection = self._records.rejection_of(own_name(pipeline, applied.incarnation), place, 0)
            if held or rejection:
                deleted = home is not self._state.catalogue
                yield fate.fate(home, pipeline, place, rejection, held, beginning=0, deleted=deleted)

    def _fate(self, home: Catalogue, pipeline: str, place: RecordPlace, beginning: int) -> RecordFate:
        applied = home.pipelines[pipeline]
        rejection = self._records.rejection_of(own_name(pipeline, applied.incarnation), place)
        held = list(self._held(home, fate.covering(home, pipeline, place), place))
        deleted = home is not self._state.catalogue
        found = fate.fate(home, pipeline, place, rejection, held, beginning=beginning, deleted=deleted)
        return found if held else self._suspected(home, found, place)

    def _suspected(self, home: Catalogue, found: RecordFate, place: RecordPlace) -> RecordFate:
        """Return a record's fate with the held or dropped segment that has its row, if one has."""
        for segment in holding.covering(home, found.pipeline, place):
            # Its range was cut, so the record waits no more, also where it was rejected.
            found = replace(found, waiting=False, deleted_unread=False)
            if row := self._datasets.row_of_segment(segment, place):
                held, state = segment.segment_id, segment.state
                return replace(found, event_time=row.time, held_segment=held, hold_state=state)
        return found

    def _held(
        self, home: Catalogue, newest_first: list[Dataset], place: RecordPlace
    ) -> Iterator[tuple[Dataset, HeldRow]]:
        """Yield the newest dataset that holds a record, and of the others those that a version learned from."""
        found = False
        for dataset in newest_first:
            frozen = dataset.frozen
            if found and frozen.dataset_id not in fate.with_versions(home, frozen.pipeline):
                continue
            if row := self._datasets.row_of(frozen, place):
                found = True
                yield dataset, row


def _ambiguous(name: str, found: Mapping[str, str]) -> str:
    listed = [f"{kind} {each}" for each, kind in found.items()]
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return f"{len(listed)} ids begin with {name!r}: {', '.join(listed[:_LISTED])}{more}"
