"""What became of one record of a producers' topic."""

from dataclasses import dataclass

from headrace_model_registry.core import specs
from headrace_model_registry.core.catalogue import Catalogue, Dataset, Version


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
class RecordFate:
    """What became of a record in one pipeline.

    Nothing at all when a dataset was cut from its range and holds it not, and no dead letter of it is left.
    """

    pipeline: str
    rejection: RecordRejection | None
    dataset_id: str
    split: str
    versions: tuple[Version, ...]
    waiting: bool
    deleted: bool = False
    """Whether the pipeline was deleted since."""


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


def fate(
    catalogue: Catalogue,
    pipeline: str,
    place: RecordPlace,
    rejection: RecordRejection | None,
    held: tuple[Dataset, str] | None,
    *,
    deleted: bool = False,
) -> RecordFate:
    """Return the fate of a record; `held` is the newest dataset with it and its split, None when there is none.

    Both are told where both are found. A replayed record goes on under a new place and stays rejected at its old one.
    """
    read_now = not deleted and specs.topic(catalogue.pipelines[pipeline].spec) == place.topic
    if held is None:
        waiting = read_now and rejection is None and not covering(catalogue, pipeline, place)
        return RecordFate(pipeline, rejection, "", "", (), waiting, deleted)
    dataset, split = held
    trained = tuple(
        version
        for (name, _), version in catalogue.versions.items()
        if (name, version.trained.dataset_id) == (pipeline, dataset.frozen.dataset_id)
    )
    return RecordFate(pipeline, rejection, dataset.frozen.dataset_id, split, trained, waiting=False, deleted=deleted)


def _was_cut_from(catalogue: Catalogue, dataset: Dataset, place: RecordPlace) -> bool:
    frozen = dataset.frozen
    spec = catalogue.specs.get((frozen.pipeline, frozen.spec_digest))
    if spec is None or specs.topic(spec) != place.topic:
        return False
    return any(
        source.partition == place.partition and source.start <= place.offset < source.end for source in frozen.sources
    )
