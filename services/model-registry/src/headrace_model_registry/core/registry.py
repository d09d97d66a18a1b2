"""The registry as its callers see it: writes go through the log, reads come from what is committed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from headrace_data.spec import Pipeline, SpecInvalid, load_pipeline, own_name
from headrace_runtime.errors import FailedPrecondition, InvalidInput, NotFound

from headrace_model_registry.core import (
    canary,
    candidates,
    forgetting,
    holding,
    ledger,
    origins,
    queries,
    specs,
    withheld,
)
from headrace_model_registry.core.canary import CanaryShown
from headrace_model_registry.core.evolution import require_same_rows
from headrace_model_registry.core.facts import (
    CHAMPION,
    CompressionRequested,
    DatasetRequested,
    ModelReleased,
    ModelWithdrawn,
    PipelineApplied,
    PipelineDeleted,
    PipelineSpec,
)
from headrace_model_registry.core.facts.backfill import Artifact, Backfill, require_sound
from headrace_model_registry.core.facts.forgotten import KeyDigest
from headrace_model_registry.core.facts.hold import Hold
from headrace_model_registry.core.progress import PipelineTroubled
from headrace_model_registry.core.queries import Evaluated, Lag, PipelineStatus, ProgressBoard, Run
from headrace_model_registry.core.records import Dataset, ForgottenKey, Held, Release, Version
from headrace_model_registry.core.rollout import Rollout
from headrace_model_registry.core.state import State
from headrace_model_registry.core.tested import Decided
from headrace_model_registry.core.wishes import Canary, Recalibration, Rollback, RolloutOrder
from headrace_model_registry.ports import Topics, Writer

ReadHistories = Callable[[], Mapping[tuple[str, int], Artifact]]
"""Returns where the history of each pipeline is that was ever cut, by name and incarnation."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What is in force after an `apply`, and whether that call changed it."""

    applied: PipelineApplied
    changed: bool
    max_message_bytes: int = 0
    """Largest message that the producers' topic takes; 0 where that is not to be known."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion did, and what stays. `deleted` is None when the pipeline was deleted before."""

    deleted: PipelineDeleted | None
    withdrawn: tuple[ModelWithdrawn, ...]
    purged: bool
    topics: tuple[str, ...]
    """Record topics that were deleted, or stay."""
    groups: tuple[str, ...]
    """Consumer groups that were deleted, or stay."""
    datasets: int
    versions: int


@dataclass(frozen=True, slots=True)
class Purged:
    """The topics and groups of deleted pipelines that are deleted now, and whether one of the name is in force."""

    topics: tuple[str, ...]
    groups: tuple[str, ...]
    in_force: bool


class Registry:
    """Catalogue of pipelines, datasets, runs, versions and releases. Safe for use by several threads.

    The methods that write, and `list_lags`, wait for Kafka; a caller of the former waits `until_s` (time.monotonic).
    The other lists fold the log anew when they are asked for a past moment (`as_of`, aware); None stands for now.
    `new_id` gives ids that nobody else has, `histories` the newest history of each pipeline by name and incarnation.
    """

    def __init__(
        self, state: State, topics: Topics, writer: Writer, new_id: Callable[[], str], histories: ReadHistories = dict
    ) -> None:
        self._state = state
        self._topics = topics
        self._writer = writer
        self._new_id = new_id
        self._histories = histories

    def apply_pipeline(
        self, document: bytes, create_topic: bool, until_s: float | None = None, *, dry_run: bool = False
    ) -> Applied:
        """Check a spec, create the pipeline's topics and put it in force; nothing is written when it is so already.

        With `dry_run` nothing is created or written at all: what would be in force is returned.

        Raises InvalidInput with every problem of the spec, and FailedPrecondition when the producers' topic is missing,
        or when the pipeline exists and rows of another schema may wait in its topics.
        """
        pipeline = _load(document)
        known = self._state.catalogue.pipelines.get(pipeline.name)
        if known:
            require_same_rows(pipeline, specs.parse(known.spec).stream)
        pipeline = specs.settled(pipeline, known.spec if known else None)
        if missing := origins.objection(pipeline, self._state.catalogue):
            raise FailedPrecondition(missing)
        incarnation = self._state.catalogue.incarnation(pipeline.name)
        own = own_name(pipeline.name, incarnation)
        if dry_run:
            partitions = self._topics.partitions_of(pipeline.stream.topic)
            missing_topic = next((name for name in pipeline.topics if not self._topics.partitions_of(name)), "")
            if missing_topic and not create_topic:
                raise _no_topic(pipeline, missing_topic)
        else:
            partitions = self._topics.create_record_topics(own, self._partitions(pipeline, create_topic))
            self._prepare_scoring(pipeline, own)
        spec = PipelineSpec(pipeline.canonical_json(), pipeline.digest)
        wanted = PipelineApplied(pipeline.name, spec, partitions, incarnation)
        changed = self._state.catalogue.pipelines.get(pipeline.name) != wanted
        if changed and not dry_run:
            self._writer.write(wanted, until_s)
        return Applied(wanted, changed=changed, max_message_bytes=self._topics.max_message_bytes(pipeline.stream.topic))

    def delete_pipeline(self, pipeline: str, purge: bool, until_s: float | None = None) -> Deleted:
        """Delete a pipeline and withdraw its releases; with `purge` its record topics and consumer groups too.

        A pipeline that was deleted before can still be purged. Raises NotFound for an unknown one, FailedPrecondition
        when a pipeline is to be purged that was applied again while topics of the deleted one were there, and
        Unavailable when its loops have not ended in time: the pipeline is deleted then, and may be purged later.
        """
        applied = self._state.catalogue.pipelines.get(pipeline)
        if applied is None and not (purge and self._state.catalogue.incarnation(pipeline)):
            self._must_know(pipeline)
        if applied and purge:
            self._require_one_meaning(pipeline)
        deleted = PipelineDeleted(pipeline, applied.incarnation) if applied else None
        events = [entry.event for entry in self._writer.write(deleted, until_s)] if deleted else []
        gone = [each for (name, _), each in self._state.catalogue.departed.items() if name == pipeline]
        names = self._departed(pipeline)
        topics, groups = self._topics.purge(names) if purge else self._topics.belongings(names)
        return Deleted(
            deleted=deleted,
            withdrawn=tuple(event for event in events if isinstance(event, ModelWithdrawn)),
            purged=purge,
            topics=tuple(topics),
            groups=tuple(groups),
            datasets=sum(len(each.datasets) for each in gone),
            versions=sum(len(each.versions) for each in gone),
        )

    def delete_leftovers(self, pipeline: str) -> Purged:
        """Delete the record topics and consumer groups of deleted pipelines of that name, of none that is in force.

        Raises NotFound when none of that name was deleted, and Unavailable when loops of one have not ended in time.
        """
        if not self._state.catalogue.incarnation(pipeline):
            self._must_know(pipeline)
            raise NotFound(f"no pipeline {pipeline!r} was deleted: the one in force is the first of its name")
        topics, groups = self._topics.purge(self._departed(pipeline))
        return Purged(tuple(topics), tuple(groups), pipeline in self._state.catalogue.pipelines)

    def _departed(self, pipeline: str) -> list[str]:
        """Return the own names of the deleted pipelines of that name, in the order in which they were applied."""
        return [own_name(name, number) for name, number in self._state.catalogue.departed if name == pipeline]

    def _require_one_meaning(self, pipeline: str) -> None:
        """Raise FailedPrecondition when a purge may mean the pipeline in force, or one that was deleted before."""
        departed = self._departed(pipeline)
        if departed and (left := self._topics.left_of(departed)):
            raise FailedPrecondition(
                f"pipeline {pipeline!r} is in force again, and {', '.join(left)} of one that was deleted before are "
                f"left: `headrace delete leftovers {pipeline}` deletes these alone; to delete the one in force too, "
                "delete it without --purge first. Nothing was deleted"
            )

    def freeze_dataset(self, pipeline: str, until_s: float | None = None, backfill: Backfill | None = None) -> str:
        """Ask for a dataset now, or for one with a backfill, and return the request's id.

        Raises NotFound for an unknown pipeline, and InvalidInput for a backfill that it cannot take in.
        """
        applied = self._must_know(pipeline)
        if backfill is not None:
            require_sound(backfill, specs.parse(applied.spec))
        return self._request(DatasetRequested(pipeline, self._new_id(), applied.incarnation, backfill), until_s)

    def settle_hold(self, pipeline: str, hold: Hold, until_s: float | None = None) -> str:
        """Ask for a held segment to be accepted or dropped, and return the request's id. Raises as `require_held`."""
        applied = self._must_know(pipeline)
        holding.require_held(self._state.catalogue, pipeline, hold)
        return self._request(DatasetRequested(pipeline, self._new_id(), applied.incarnation, hold=hold), until_s)

    def _request(self, request: DatasetRequested, until_s: float | None) -> str:
        self._writer.write(request, until_s)
        return request.request_id

    def forget_key(self, pipeline: str, key: KeyDigest | None, retrain: bool, until_s: float | None = None) -> str:
        """Ask for a key to be forgotten, and return the request's id.

        Raises NotFound for an unknown pipeline, and InvalidInput for what is no digest, or for records without keys.
        """
        applied = self._must_know(pipeline)
        wanted = forgetting.order(applied, key, self._state.catalogue, retrain=retrain)
        request = DatasetRequested(pipeline, self._new_id(), applied.incarnation, forget=wanted)
        self._writer.write(request, until_s)
        return request.request_id

    def list_forgotten(self, pipeline: str, as_of: datetime | None = None) -> list[ForgottenKey]:
        """Return what was done about keys, oldest first; of all pipelines when `pipeline` is empty."""
        known = self._state.as_of(as_of).forgotten
        return [each for each in known if pipeline in ("", each.forgotten.pipeline)]

    def rollback_model(self, model: str, ordinal: int, until_s: float | None = None) -> Release:
        """Make an earlier release of a model again and return the new one; the one before the current for ordinal 0.

        While a candidate is rolled out it goes, and for ordinal 0 the champion stays: its release is returned.

        Raises NotFound for an unknown model, and FailedPrecondition when there is no such release to go back to.
        """
        known = {version.trained.model for version in self._state.catalogue.versions.values()}
        if model not in known:
            raise NotFound(f"model {model!r} has no version; known models: {', '.join(sorted(known)) or 'none'}")
        for entry in self._writer.write(Rollback(model, ordinal), until_s):
            if isinstance(entry.event, ModelReleased):
                return Release(entry.event, entry.occur_time)
        # A candidate went, and the champion stays.
        if champion := self._state.catalogue.aliases.get((model, CHAMPION)):
            return champion
        raise FailedPrecondition(f"nothing followed from the rollback of model {model}")

    def recalibrate_model(self, model: str, until_s: float | None = None) -> str:
        """Ask for the variants of a model's champion again, with rows of the newest dataset; return the run's id.

        Raises FailedPrecondition with the reason when there is nothing to be made.
        """
        for entry in self._writer.write(Recalibration(model), until_s):
            if isinstance(entry.event, CompressionRequested):
                return entry.event.run_id
        raise FailedPrecondition(f"nothing followed from the recalibration of model {model}")

    def list_pipelines(self, pipeline: str, as_of: datetime | None = None) -> list[PipelineApplied]:
        """Return the pipelines by name; all when `pipeline` is empty."""
        return queries.pipelines(self._state.as_of(as_of), pipeline)

    def list_datasets(self, pipeline: str, as_of: datetime | None = None) -> list[Dataset]:
        """Return the datasets, oldest first; of all pipelines when `pipeline` is empty."""
        return queries.datasets(self._state.as_of(as_of), pipeline)

    def list_runs(self, pipeline: str, as_of: datetime | None = None) -> list[Run]:
        """Return the runs, oldest first; of all pipelines when `pipeline` is empty."""
        # Progress is not recorded, so none is known of the past.
        board = self._state.board if as_of is None else ProgressBoard()
        return queries.runs(self._state.as_of(as_of), board, pipeline)

    def list_versions(self, model: str, as_of: datetime | None = None) -> list[Version]:
        """Return the versions, oldest first; of all models when `model` is empty."""
        return queries.versions(self._state.as_of(as_of), model)

    def list_releases(self, model: str, as_of: datetime | None = None) -> list[Release]:
        """Return the releases, oldest first; of all models when `model` is empty."""
        return queries.releases(self._state.as_of(as_of), model)

    def list_held(self, pipeline: str) -> list[Held]:
        """Return the segments that are held or were dropped, oldest first; of all pipelines for an empty name."""
        return holding.listed(self._state.catalogue, pipeline)

    def list_decisions(self, pipeline: str, as_of: datetime | None = None) -> list[Decided]:
        """Return decisions whether to train, oldest first; of all pipelines when `pipeline` is empty."""
        return queries.decisions(self._state.as_of(as_of), pipeline)

    def list_evaluations(self, pipeline: str, as_of: datetime | None = None) -> list[Evaluated]:
        """Return what was scored on new rows, oldest first; of all pipelines when `pipeline` is empty."""
        return queries.evaluations(self._state.as_of(as_of), pipeline)

    def move_rollout(self, model: str, advance: bool, until_s: float | None = None) -> Rollout:
        """Begin the next step of a model's candidate, or take it back; return where the rollout stands.

        Raises FailedPrecondition when there is none.
        """
        self._writer.write(RolloutOrder(model, advance), until_s)
        return self.list_rollouts(model)[-1]

    def list_rollouts(self, model: str, as_of: datetime | None = None) -> list[Rollout]:
        """Return the rollouts, those that are over first; of all models when `model` is empty."""
        # Counts are not recorded before a step ends, so none are known of the past.
        board = self._state.board if as_of is None else ProgressBoard()
        return candidates.listed(self._state.as_of(as_of), board, as_of or datetime.now(UTC), model)

    def try_canary(self, wish: Canary, until_s: float | None = None) -> str:
        """Hold a version against another on rows of the past; return the run's id.

        Raises FailedPrecondition with the reason when that is not possible, and Unavailable without Kafka.
        """
        catalogue = self._state.catalogue
        applied = catalogue.pipelines.get(canary.pipeline_of(catalogue, wish))
        if applied is not None:
            wish = replace(wish, history=self._histories().get((applied.pipeline, applied.incarnation)))
        request = canary.wanted(catalogue, wish)
        if isinstance(request, str):
            raise FailedPrecondition(request)
        self._writer.write(wish, until_s)
        return request.run_id

    def list_canaries(self, model: str, as_of: datetime | None = None) -> list[CanaryShown]:
        """Return what came of versions that were held against others; of all models when `model` is empty."""
        return canary.listed(self._state.as_of(as_of), model)

    def list_lags(self) -> list[Lag]:
        """Return how far each consumer group is behind, by group and topic; also one that has read nothing yet.

        Groups of deleted pipelines are left out.
        """
        catalogue = self._state.catalogue
        abandoned = self._topics.groups([own_name(*key) for key in catalogue.departed])
        lags = self._topics.lags(reader for each in catalogue.pipelines.values() for reader in specs.readers(each))
        return [lag for lag in lags if lag.group not in abandoned]

    def list_troubles(self) -> list[PipelineTroubled]:
        """Return what services report to be wrong with pipelines now, by pipeline and part."""
        catalogue, now = self._state.catalogue, datetime.now(UTC)
        told = [*queries.troubles(catalogue, self._state.board, now), *ledger.troubles(catalogue, now)]
        told += [*withheld.troubles(catalogue), *holding.troubles(catalogue)]
        return sorted(told, key=lambda trouble: (trouble.pipeline, trouble.part, trouble.instance, trouble.subject))

    def status(self, pipeline: str) -> PipelineStatus:
        """Return where a pipeline stands. Raises NotFound for an unknown one."""
        self._must_know(pipeline)
        status = queries.status(self._state.catalogue, self._state.board, pipeline)
        troubles = [trouble for trouble in self.list_troubles() if trouble.pipeline == pipeline]
        going = [each for each in self.list_rollouts("") if each.pipeline == pipeline and each.end_time is None]
        return replace(status, troubles=tuple(troubles), rollout=going[-1] if going else None)

    def _must_know(self, pipeline: str) -> PipelineApplied:
        known = self._state.catalogue.pipelines
        if pipeline not in known:
            names = ", ".join(sorted(known)) or "none"
            why = "was deleted" if self._state.catalogue.incarnation(pipeline) else "was never applied"
            raise NotFound(f"pipeline {pipeline!r} {why}; known pipelines: {names}")
        return known[pipeline]

    def _prepare_scoring(self, pipeline: Pipeline, own: str) -> None:
        """Make the topic of answers, and keep where the records begin that get one."""
        if pipeline.scored is None or pipeline.serve.scoring is None:
            return
        self._topics.create_scored_topic(own, pipeline.scored)
        if pipeline.serve.scoring.start == "latest":
            self._topics.begin_at_end(specs.scoring_group(own), pipeline.scored)

    def _partitions(self, pipeline: Pipeline, create_topic: bool) -> int:
        partitions: list[int] = []
        for topic in pipeline.topics:
            if create_topic:
                self._topics.create(topic)
            partitions.append(self._topics.partitions_of(topic))
            if not partitions[-1]:
                raise _no_topic(pipeline, topic)
        return partitions[0]


def _no_topic(pipeline: Pipeline, topic: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"the producers' topic {topic!r} of pipeline {pipeline.name} does not exist: "
        "create it, or apply with --create-topic"
    )


def _load(document: bytes) -> Pipeline:
    try:
        return load_pipeline(document)
    except SpecInvalid as error:
        problems = "\n".join(f"  {problem}" for problem in error.problems)
        raise InvalidInput(f"the pipeline is invalid:\n{problems}") from error
