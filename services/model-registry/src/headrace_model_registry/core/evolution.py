"""How a pipeline's stream may change under its name."""

from headrace_data.batches import arrow_type, widens
from headrace_data.spec import Field, Pipeline, Stream
from headrace_runtime.errors import FailedPrecondition


def require_same_rows(pipeline: Pipeline, before: Stream) -> None:
    """Raise FailedPrecondition when rows that wait in the pipeline's topics are none of its new stream.

    Rows of one topic, format, key and schema go on. A unit is for people, a range is for cleaning, names of
    places may be given where there were none, and a field that may
    lack a value now holds the old rows too. So does a feature of a wider type; a new feature that may be missing is
    missing in them. Labels may begin to come later: what waits has its own. Once they do, rows wait for them.
    """
    stream = pipeline.stream
    changed = [name for name in ("topic", "format", "key") if getattr(stream, name) != getattr(before, name)]
    changed += ["labels"] if before.labels and _apart(stream) != _apart(before) else []
    old, new = ({field.name: field for field in fields} for fields in (before.fields, stream.fields))
    changed += [f"schema field {name!r}" for name in [*old, *(new.keys() - old)] if not _holds(new, old, name)]
    if list(old) != [name for name in new if name in old] and not changed:
        changed = ["the order of the schema"]
    if changed:
        raise FailedPrecondition(
            f"pipeline {pipeline.name} exists with another stream section ({', '.join(changed)}), and rows of the old "
            "one may wait in its topics: apply the new one under another name; with "
            f"train.model: {pipeline.model} it serves the same model"
        )


def _apart(stream: Stream) -> tuple[object, ...] | None:
    """Return what labels that come later are known by; None where rows have theirs. How long they take may change."""
    labels = stream.labels
    return None if labels is None else (labels.topic, labels.format, labels.envelope, labels.key, labels.label)


def _holds(new: dict[str, Field], old: dict[str, Field], name: str) -> bool:
    """Tell whether rows of before have a value of the new field of that name, or may lack one."""
    if name not in new:
        return False
    field = new[name]
    if name not in old:
        return field.role == "feature" and field.nullable
    before = old[name]
    kept = {"unit", "range", "nullable", "type"} | ({"places"} if before.places is None else set())
    alike = field.model_copy(update=before.model_dump(include=kept)) == before
    widened = field.type == before.type or (field.role == "feature" and widens(arrow_type(before), arrow_type(field)))
    return alike and widened and field.nullable >= before.nullable
