"""Records that the model answers on another topic, as `serve.scoring` names theirs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pydantic

from headrace_data.spec.draft import Draft, Finding
from headrace_data.spec.scalars import TopicName
from headrace_data.spec.section import Section


class Scoring(Section):
    """Which records are answered on the pipeline's topic of answers, one answer for each."""

    topic: TopicName | None = pydantic.Field(
        default=None,
        description="The topic of the records, in the cluster of the producers' topic, read as those of this are: "
        "records of another one need no labels, and nothing is trained on them. Default: the producers' topic.",
    )
    start: Literal["latest", "earliest"] = pydantic.Field(
        default="latest",
        description="Where a topic that nobody has scored begins. latest: with what comes once the pipeline is "
        "applied. earliest: with what the topic has. Partitions that it gets later are read whole.",
    )


def scored_records_are_rows(draft: Draft) -> Iterator[Finding]:
    """Demand records that hold what the model reads, for a model that answers rows."""
    if not isinstance(draft.at("serve", "scoring"), dict):
        return
    place = ("serve", "scoring")
    if draft.at("train", "task") == "generation":
        yield place, "expected none for a task generation: a model of language is asked with texts, not with records"
    if draft.at("stream", "references") is not None and draft.at("stream", "format", "lines") is True:
        yield place, "expected none where records refer to values of many lines, each of which would have an answer"
