"""What topics are to exist and how large: the control topics as the embedded platform, or a cluster, needs them.

The declaration in `headrace_runtime.topics` is the one source. A plan travels to where topics are made as JSON: the
Helm chart renders it, and `headrace_runtime.provision` carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from headrace_runtime.errors import InvalidInput
from headrace_runtime.topics import CONTROL_TOPICS

BROKERS_CHOICE = -1
"""As many replicas as the brokers' `default.replication.factor` says."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class PlannedTopic(_Part):
    """One topic as it is to be made."""

    partitions: int = Field(ge=1)
    replication_factor: int = Field(default=BROKERS_CHOICE, ge=-1)
    config: Mapping[str, str] = {}


class TopicPlan(_Part):
    """Topics by name."""

    topics: Mapping[str, PlannedTopic]

    @classmethod
    def embedded(cls) -> TopicPlan:
        """Return the control topics at the embedded platform's size."""
        return cls(
            topics={each.name: PlannedTopic(partitions=each.partitions, config=each.config) for each in CONTROL_TOPICS}
        )

    @classmethod
    def production(cls) -> TopicPlan:
        """Return the control topics at the size of a cluster; replicas are the installer's choice."""
        return cls(
            topics={
                each.name: PlannedTopic(partitions=each.production_partitions, config=each.config)
                for each in CONTROL_TOPICS
            }
        )

    @classmethod
    def parse(cls, document: bytes) -> TopicPlan:
        """Return the plan of a JSON document.

        Raises InvalidInput that names what is wrong, or which control topics of this version it lacks.
        """
        try:
            plan = cls.model_validate_json(document)
        except ValidationError as error:
            problems = (f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
            raise InvalidInput(f"topic plan: {'; '.join(problems)}") from error
        if missing := sorted({topic.name for topic in CONTROL_TOPICS} - plan.topics.keys()):
            raise InvalidInput(
                f"topic plan: expected every control topic of this version, {', '.join(missing)} is missing; "
                "are chart and image of the same version?"
            )
        return plan
