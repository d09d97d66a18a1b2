"""Lets the record topics of each pipeline grow with the producers' topic, and tells when one of them is missing."""

from __future__ import annotations

import logging

from headrace_data.spec import own_name
from headrace_runtime.errors import HeadraceError
from headrace_runtime.kafka import Admin
from headrace_runtime.kafka.troubles import Troubles
from headrace_runtime.process.service import Background
from headrace_runtime.record_topics import record_topics, scored_topic
from headrace_runtime.settings import ServiceSettings
from kafka.errors import KafkaError

from headrace_model_registry.core import specs
from headrace_model_registry.core.facts import PipelineApplied
from headrace_model_registry.core.state import State
from headrace_model_registry.core.wishes import PartitionsAdded
from headrace_model_registry.ports import Writer

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
TELL_EVERY = 12
"""A trouble that lasts is told again after so many looks."""
TOLD_FOR_S = 300.0


class Growth(Background):
    """Looks at the topics of all pipelines every few seconds.

    A topic's partitions are used once a new `pipeline.applied` says how many there are: by then all topics have grown,
    so that a record from a new partition has a place in each. A pipeline that cannot grow is held there; the others
    are not concerned.
    """

    def __init__(self, settings: ServiceSettings, state: State, writer: Writer) -> None:
        super().__init__("registry growth")
        self._settings = settings
        self._state = state
        self._writer = writer
        self._troubles = Troubles(settings, "model-registry")
        self._told: dict[str, tuple[str, int]] = {}
        """What was told of each pipeline, and how many looks ago."""

    def run(self) -> None:
        """Look until stopped."""
        while not self.stopping.is_set():
            try:
                with Admin(self._settings, "registry.growth") as admin:
                    while not self.stopping.wait(LOOK_EVERY_S):
                        self._look(admin)
            except (HeadraceError, KafkaError, OSError) as error:
                logger.warning("cannot look at the topics of pipelines: %r", error)
                self.stopping.wait(LOOK_EVERY_S)

    def _look(self, admin: Admin) -> None:
        pipelines = dict(self._state.catalogue.pipelines)
        topics = {
            name: [specs.topic(applied.spec), *record_topics(own_name(name, applied.incarnation))]
            for name, applied in pipelines.items()
        }
        scored = {name: _scored(applied) for name, applied in pipelines.items()}
        everything = {topic for names in (*topics.values(), *scored.values()) for topic in names}
        counts = admin.partition_counts(sorted(everything))
        for name, applied in pipelines.items():
            trouble = self._tend(admin, applied, {topic: counts[topic] for topic in topics[name]})
            self._tell(
                name, trouble or self._tend_scored(admin, applied, {each: counts[each] for each in scored[name]})
            )

    def _tend(self, admin: Admin, applied: PipelineApplied, counts: dict[str, int]) -> str:
        """Let a pipeline grow if it must; return what is wrong, or nothing."""
        source, *own = counts
        if not counts[source]:
            return f"the producers' topic {source!r} does not exist or cannot be seen: records are read once it can"
        if missing := [topic for topic in own if not counts[topic]]:
            return f"{', '.join(missing)} does not exist: apply the pipeline once more, which makes it anew"
        wanted = max(counts[source], applied.partitions)
        try:
            if any(counts[topic] < wanted for topic in own):
                logger.info("pipeline %s grows with topic %s to %s partitions", applied.pipeline, source, wanted)
                admin.grow_record_topics(own_name(applied.pipeline, applied.incarnation), wanted)
            if wanted > applied.partitions:
                self._writer.write(PartitionsAdded(applied.pipeline, wanted))
        except (HeadraceError, KafkaError) as error:
            return (
                f"the producers' topic {source!r} has {wanted} partitions, and only the first {applied.partitions} are "
                f"read: {', '.join(own)} cannot grow to as many ({error!r}); alter them by hand, or let the registry"
            )
        return ""

    def _tend_scored(self, admin: Admin, applied: PipelineApplied, counts: dict[str, int]) -> str:
        """Let a pipeline's topic of answers grow if it must; return what is wrong, or nothing."""
        if not counts:
            return ""
        (source, wanted), (answers, there) = counts.items()
        if not wanted:
            return f"the topic {source!r} of serve.scoring does not exist or cannot be seen: it is read once it can"
        if there >= wanted:
            return ""
        try:
            admin.ensure_scored_topic(own_name(applied.pipeline, applied.incarnation), wanted)
        except (HeadraceError, KafkaError) as error:
            told = f"{answers} has {there} partitions, and {source!r}, whose records are answered there, has {wanted}"
            return f"{told}: it cannot grow to as many ({error!r}); alter it by hand, or let the registry"
        logger.info("pipeline %s: %s has %s partitions, as %s", applied.pipeline, answers, wanted, source)
        return ""

    def _tell(self, pipeline: str, trouble: str) -> None:
        before, looks = self._told.pop(pipeline, ("", 0))
        if trouble != before or looks >= TELL_EVERY:
            self._troubles.tell(pipeline, "registry", trouble, valid_s=TOLD_FOR_S)
            looks = 0
        if trouble:
            self._told[pipeline] = (trouble, looks + 1)


def _scored(applied: PipelineApplied) -> list[str]:
    """Return the topic of the records that a pipeline's model answers, and that of the answers; none without."""
    source = specs.scored(applied.spec)
    return [] if source is None else [source, scored_topic(own_name(applied.pipeline, applied.incarnation))]
