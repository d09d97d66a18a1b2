"""Rules about `stream.labels` and the rest of a document."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from headrace_data.spec.draft import Draft, Finding, built
from headrace_data.spec.labels import Labels
from headrace_data.spec.pipeline import default_task
from headrace_data.tasks import TASKS

_PLACE: Final = ("stream", "labels")


def labels_find_their_rows(draft: Draft) -> Iterator[Finding]:
    """Demand a key that rows are found by, another topic than theirs, and two names in a label's record."""
    said = draft.at(*_PLACE)
    if not isinstance(said, dict):
        return
    if draft.at("stream", "key") is None and not draft.by_role("id") and draft.complete:
        yield (
            _PLACE,
            "expected stream.key or a field with role id, by which labels find their rows, got neither",
        )
    if said.get("topic") is not None and said.get("topic") == draft.at("stream", "topic"):
        yield (*_PLACE, "topic"), f"expected another topic than stream.topic, got {said['topic']!r} for both"
    labels, key = built(Labels, said), draft.at("stream", "key") or _name(draft, "id")
    label = _name(draft, "label")
    if labels is None or key is None or label is None:
        return
    if (labels.key or key) == (labels.label or label):
        yield (*_PLACE, "label"), f"expected another key than the one of the row's key, got {labels.label or label!r}"


def quality_has_labels(draft: Draft) -> Iterator[Finding]:
    """Demand labels that come later, and answers that can be measured row by row, where quality is measured live."""
    if draft.at("serve", "quality") is not True:
        return
    place = ("serve", "quality")
    if draft.at(*_PLACE) is None:
        yield place, "expected stream.labels beside it, from which answers are measured, got none"
    if draft.at("stream", "personal") is not None:
        yield place, "expected no stream.personal beside it: what was answered is not told of personal records"
    label = next((field for field in draft.fields.values() if field.role == "label"), None)
    kind = draft.at("train", "task") or (default_task(label) if label else None)
    if kind in TASKS and (TASKS[kind].grouped or TASKS[kind].answers_texts):
        yield place, f"expected a task whose answers are measured row by row, got {kind}"


def _name(draft: Draft, role: str) -> str | None:
    names = [field.name for field in draft.fields.values() if field.role == role]
    return names[0] if len(names) == 1 else None


LABEL_RULES: Final[tuple[Callable[[Draft], Iterator[Finding]], ...]] = (labels_find_their_rows, quality_has_labels)
