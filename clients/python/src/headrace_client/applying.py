"""What putting a changed spec in force leads to, in one sentence: whether anything is trained, and on which rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from math import inf
from typing import TYPE_CHECKING, Final

from headrace.events.v1.dataset_pb2 import DatasetFrozen
from headrace.events.v1.pipeline_pb2 import PipelineApplied, PipelineSpec

from headrace_client.registry import RegistryClient
from headrace_client.views import short_id

if TYPE_CHECKING:
    from headrace_data.spec import Field, Pipeline

NO_DATASET: Final = "there is no dataset yet: the first one is made by it"
NEW_ROWS: Final = (
    "the newest dataset was made of another topic, with other event times or other personal fields, or by another "
    "SELECT: rows of before stay as they are, and it holds for records that come from now on"
)
PREPARED_AGAIN: Final = (
    "the newest dataset was prepared in another way: a dataset of the rows that there are ({rows}) is made as it says, "
    "and a model is trained on it"
)
LOOSER: Final = (
    "; what was rejected or dropped before by a stricter rule ({rules}) stays out: a looser rule holds for records "
    "that come from now on"
)
TAKEN_OR_NOT: Final = (
    "what a dataset must be like to be trained on changed: the newest one is trained on if it is so and was not before"
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
    if prepared_with is None or (_prepared(prepared_with) == _prepared(new) and _source(prepared_with) != _source(new)):
        return NEW_ROWS
    if _prepared(prepared_with) != _prepared(new):
        rules = ", ".join(_looser(prepared_with, new))
        return PREPARED_AGAIN.format(rows=_rows(new, frozen)) + (LOOSER.format(rules=rules) if rules else "")
    if old.train != new.train:
        newest = short_id(frozen.dataset_id)
        return f"its train section changed: the newest dataset, {newest}, is trained on next"
    if _demands(old) != _demands(new):
        return TAKEN_OR_NOT
    return SAME_ROWS


def _rows(pipeline: Pipeline, frozen: DatasetFrozen) -> str:
    """Return in words which of a pipeline's rows its window takes."""
    from headrace_data.spec import Last, Newest

    window, total = pipeline.prepare.window, frozen.segment_rows
    if window == "new" or not total:
        return "those of the newest cut"
    whole = f"{total:,} in {frozen.segments} segment{'s' if frozen.segments != 1 else ''}"
    if not isinstance(window, Newest | Last):
        return f"all {whole}"
    if isinstance(window, Newest):
        return f"the newest {min(window.rows, total):,} of {whole}"
    return f"those of the last {window.last / 86_400:g} days among {whole}"


def _looser(old: Pipeline, new: Pipeline) -> Iterator[str]:
    """Yield where the new spec takes what the old one did not."""
    from headrace_data.spec.cleaning import drops_fewer

    before, after = old.prepare.clean, new.prepare.clean
    if drops_fewer(after.missing, before.missing):
        yield "prepare.clean.missing"
    for name, key in (("out_of_range", "outOfRange"), ("duplicates", "duplicates")):
        if getattr(before, name) == "drop" and getattr(after, name) == "keep":
            yield f"prepare.clean.{key}"
    if not set(before.where) <= set(after.where):
        yield "prepare.clean.where"
    if before.personal is not None and before.personal.goes_beyond(after.personal):
        yield "prepare.clean.personal"
    known = {field.name: field for field in old.stream.fields}
    for field in new.stream.fields:
        was = known.get(field.name)
        if was is not None and (_wider(was, field) or field.nullable > was.nullable):
            yield f"schema field {field.name}"


def _wider(old: Field, new: Field) -> bool:
    low, high = new.range or (-inf, inf)
    lowest, highest = old.range or (-inf, inf)
    return low < lowest or high > highest


def _prepared(pipeline: Pipeline) -> tuple[str, ...]:
    return (pipeline.schema_digest, pipeline.prepare_digest, pipeline.split_digest, pipeline.window_digest)


def _demands(pipeline: Pipeline) -> tuple[str | None, int | None]:
    return pipeline.prepare.leak, pipeline.prepare.min_class_rows


def _source(pipeline: Pipeline) -> tuple[object, ...]:
    # Rows of before were treated as they were then.
    stream = pipeline.stream
    return stream.topic, stream.time, stream.personal, stream.select, stream.labels


def _parsed(spec: PipelineSpec) -> Pipeline | None:
    from headrace_data.spec import SpecInvalid, parse_canonical

    try:
        return parse_canonical(spec.json)
    except SpecInvalid:
        return None  # of another release of the platform
