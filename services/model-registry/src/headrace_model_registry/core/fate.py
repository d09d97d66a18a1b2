"""What became of one record of a producers' topic."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from headrace_model_registry.core import specs
from headrace_model_registry.core.catalogue import Catalogue
from headrace_model_registry.core.facts import SourceRange
from headrace_model_registry.core.facts.hold import HoldState
from headrace_model_registry.core.records import Dataset, Version


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """Where the producer's message lies."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class RecordRejection:
    """Why a record was rejected, and by which stage. `field` is empty when the whole record is at fault."""

    stage: str
    rule: str
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class HeldRow:
    """The row of a dataset that a record became: the split that it is in, and its event time where it has one.

    Of a held segment the split is empty. `left_out` is the rule by which the dataset leaves it out of what is learned;
    empty when it does not.
    """

    split: str
    time: datetime | None = None
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class ProvenRow:
    """A record, and the row that it became in a dataset; `partition` is its number in the row's segment."""

    place: RecordPlace
    held: HeldRow
    partition: int


@dataclass(frozen=True, slots=True)
class RecordFate:
    """What became of a record in one pipeline.

    Nothing at all when a dataset was cut from its range and holds it not, and no dead letter of it is left.
    """

    pipeline: str
    rejection: RecordRejection | None
    dataset_id: str
    split: str
    versions: tuple[Version, ...]
    """Those that learned from a dataset that holds it and does not leave it out, oldest first."""
    waiting: bool
    deleted: bool = False
    """Whether the pipeline was deleted since."""
    deleted_unread: bool = False
    """Whether the record was deleted from its topic before the pipeline began to read there."""
    event_time: datetime | None = None
    """The event time of its row; None where no dataset holds it, or the row has none."""
    left_out: str = ""
    """The rule by which the dataset leaves it out of what is learned; empty when it does not."""
    held_segment: str = ""
    """Id of the held or dropped segment that has its row; empty when none has."""
    hold_state: HoldState = HoldState.UNSPECIFIED
    """Where that segment stands."""


def readers(catalogue: Catalogue, topic: str) -> list[str]:
    """Return the pipelines that read a topic, or did by an earlier spec, by name."""
    return sorted({pipeline for (pipeline, _), spec in catalogue.specs.items() if specs.topic(spec) == topic})


def topics(catalogue: Catalogue) -> list[str]:
    """Return the producers' topics that pipelines read or have read, by name."""
    return sorted({specs.topic(spec) for spec in catalogue.specs.values()})


def covering(catalogue: Catalogue, pipeline: str, place: RecordPlace) -> list[Dataset]:
    """Return a pipeline's datasets that were cut from ranges with this record in them, the newest first."""
    return [
        dataset
        for (name, _), dataset in reversed(catalogue.datasets.items())
        if name == pipeline and _was_cut_from(catalogue, dataset, place)
    ]


def backfilled(catalogue: Catalogue, pipeline: str) -> list[Dataset]:
    """Return where rows of a pipeline's backfills may be: in all datasets since the first one, the newest first."""
    datasets = [each for (name, _), each in catalogue.datasets.items() if name == pipeline]
    first = next((place for place, each in enumerate(datasets) if each.frozen.backfilled is not None), len(datasets))
    return datasets[first:][::-1]


def fate(
    catalogue: Catalogue,
    pipeline: str,
    place: RecordPlace,
    rejection: RecordRejection | None,
    held: Sequence[tuple[Dataset, HeldRow]],
    *,
    beginning: int,
    deleted: bool = False,
) -> RecordFate:
    """Return the fate of a record; `held` are datasets with it and its row there, the newest first.

    `beginning` is the first offset that the record's partition still has.

    Both are told where both are found. A replayed record goes on under a new place and stays rejected at its old one.
    """
    read_now = not deleted and specs.topic(catalogue.pipelines[pipeline].spec) == place.topic
    if not held:
        unknown = read_now and rejection is None and not covering(catalogue, pipeline, place)
        # A topic that was made anew has records before those that were read of the old one: these do wait.
        gone = unknown and place.offset < beginning and _began_after(catalogue, pipeline, place)
        return RecordFate(pipeline, rejection, "", "", (), unknown and not gone, deleted, gone)
    dataset, row = held[0]
    learned = {each.frozen.dataset_id for each, row in held if not row.left_out}
    trained = tuple(version for version in _versions(catalogue, pipeline) if version.trained.dataset_id in learned)
    return RecordFate(
        pipeline,
        rejection,
        dataset.frozen.dataset_id,
        row.split,
        trained,
        waiting=False,
        deleted=deleted,
        event_time=row.time,
        left_out=row.left_out,
    )


def with_versions(catalogue: Catalogue, pipeline: str) -> Collection[str]:
    """Return the ids of the datasets that versions of a pipeline learned from."""
    return {version.trained.dataset_id for version in _versions(catalogue, pipeline)}


def _versions(catalogue: Catalogue, pipeline: str) -> Iterator[Version]:
    return (version for (name, _), version in catalogue.versions.items() if name == pipeline)


def _began_after(catalogue: Catalogue, pipeline: str, place: RecordPlace) -> bool:
    """Tell whether a pipeline's datasets show that it began to read the partition behind the record."""
    starts = [
        source.start
        for (name, _), dataset in catalogue.datasets.items()
        if name == pipeline
        for source in _sources(catalogue, dataset, place)
    ]
    return bool(starts) and place.offset < min(starts)


def _was_cut_from(catalogue: Catalogue, dataset: Dataset, place: RecordPlace) -> bool:
    return any(source.start <= place.offset < source.end for source in _sources(catalogue, dataset, place))


def _sources(catalogue: Catalogue, dataset: Dataset, place: RecordPlace) -> list[SourceRange]:
    """Return the ranges of the record's partition that a dataset was cut from."""
    frozen = dataset.frozen
    spec = catalogue.specs.get((frozen.pipeline, frozen.spec_digest))
    if spec is None or specs.topic(spec) != place.topic:
        return []
    return [source for source in frozen.sources if source.partition == place.partition]
