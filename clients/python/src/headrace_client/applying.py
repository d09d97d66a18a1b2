"""What putting a changed spec in force leads to, in one sentence: whether anything is trained, and on which rows."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final

from headrace.events.v1.pipeline_pb2 import PipelineApplied, PipelineSpec

from headrace_client.registry import RegistryClient
from headrace_client.views import short_id

if TYPE_CHECKING:
    from headrace_data.spec import Pipeline

NO_DATASET: Final = "there is no dataset yet: the first one is made by it"
NEW_ROWS: Final = (
    "the newest dataset was made of another topic, or with other event times: rows of before stay as they are, and it "
    "holds for records that come from now on"
)
PREPARED_AGAIN: Final = (
    "the newest dataset was prepared in another way: the rows that there are, are prepared again as it says, and a "
    "model is trained on them"
)
SAME_ROWS: Final = "neither rows nor training changed: it holds for what is made from now on"


def consequence(registry: RegistryClient, before: PipelineApplied, after: PipelineApplied) -> str:
    """Return what follows from a change of a pipeline that was there before; empty when a spec cannot be read."""
    old, new = _parsed(before.spec), _parsed(after.spec)
    if old is None or new is None:
        return ""
    datasets = registry.datasets(after.pipeline)
    if not datasets:
        return NO_DATASET
    frozen = datasets[-1].frozen
    prepared_with: Pipeline | None = old
    if frozen.spec_digest != before.spec.digest:
        then = registry.pipelines(after.pipeline, as_of=datasets[-1].freeze_time.ToDatetime(tzinfo=UTC))
        prepared_with = next((_parsed(one.spec) for one in then if one.spec.digest == frozen.spec_digest), old)
    if prepared_with is None or _source(prepared_with) != _source(new):
        return NEW_ROWS
    if prepared_with.preparation != new.preparation:
        return PREPARED_AGAIN
    if old.train != new.train:
        newest = short_id(frozen.dataset_id)
        return f"its train section changed: the newest dataset, {newest}, is trained on next"
    return SAME_ROWS


def _source(pipeline: Pipeline) -> tuple[str, str | None]:
    return pipeline.stream.topic, pipeline.stream.time


def _parsed(spec: PipelineSpec) -> Pipeline | None:
    from headrace_data.spec import SpecInvalid, parse_canonical

    try:
        return parse_canonical(spec.json)
    except SpecInvalid:
        return None  # of another release of the platform
