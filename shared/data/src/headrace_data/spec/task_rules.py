"""Rules about the task, and what goes with each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from headrace_data.spec.draft import SCHEMA, Draft, Finding, closest
from headrace_data.spec.feature_rules import RESERVED, WRITES_TEXTS
from headrace_data.spec.networks import IMAGE_KINDS
from headrace_data.spec.pipeline import default_task
from headrace_data.spec.stream import Field
from headrace_data.spec.variants import OF_TEXTS, VARIANT_NAMES
from headrace_data.spec.yaml_tree import Path
from headrace_data.tasks import COMMON_GATES, TASKS
from headrace_data.tasks.deciding import MAXIMISED

_ONE_NUMBER: Final = frozenset({"imported", "trees"})
"""Networks that answer one number, or one of several classes, and nothing with places of its own."""
_VARIANT_KINDS: Final = (*VARIANT_NAMES, "chain")
"""Kinds of variants."""
_BY_MEASURE: Final = ("limits", "worse", "slices", "worseInSlices")
"""Sections of `compress.gates` that say limits by measure."""
_HEEDED: Final = frozenset(name for task in TASKS.values() for name in task.heeds)


def task_fits_label(draft: Draft) -> Iterator[Finding]:
    """Demand a label that the task can learn."""
    task, label = draft.at("train", "task"), _label(draft)
    if label is None or not isinstance(task, str) or task not in TASKS:
        return
    if not _fits(task, label):
        fit = " or ".join(kind for kind in TASKS if _fits(kind, label))
        shaped = f" and shape {list(label.shape)}" if label.shape else ""
        # Labels that no task learns have a problem of their own.
        if fit:
            yield ("train", "task"), f"expected {fit} for a label of type {label.type}{shaped}, got {task}"


def settings_are_of_the_task(draft: Draft) -> Iterator[Finding]:
    """Demand settings that the task heeds from a document that says some."""
    task = _task(draft)
    for name in sorted(_HEEDED - TASKS[task].heeds) if task is not None else ():
        # A default that is said all the same asks for nothing.
        if (value := draft.at("train", name)) is not None and value != "none":
            heeding = " or ".join(f"a {kind}" for kind, each in TASKS.items() if name in each.heeds)
            told = value if isinstance(value, str | bool | int | float) else "one"
            yield ("train", name), f"expected none for a {task}, as only {heeding} heeds it, got {told!r}"


def augmenting_fits_the_task(draft: Draft) -> Iterator[Finding]:
    """Demand classes from who makes rare ones come more often, and rows of no groups from who mixes rows."""
    strength, task = draft.at("train", "augment", "oversample"), _task(draft)
    if strength and task is not None and task != "classification":
        yield ("train", "augment", "oversample"), f"expected none for a {task}, which has no classes, got {strength}"
    if draft.at("train", "augment", "mixup") and task is not None and TASKS[task].grouped:
        yield ("train", "augment", "mixup"), f"expected none for a {task}: rows of different groups are not ranked"


def task_fits_network(draft: Draft) -> Iterator[Finding]:
    """Demand a network that can learn the task."""
    kind, task = draft.at("train", "network", "kind"), _task(draft)
    if task is None or not isinstance(kind, str):
        return
    if TASKS[task].answers_texts != (kind in WRITES_TEXTS):
        learned = ", ".join(each for each in TASKS if TASKS[each].answers_texts == (kind in WRITES_TEXTS))
        yield (
            ("train", "network", "kind"),
            f"expected {task} of a network that learns it, got {kind}, which learns {learned}",
        )
    elif kind in (unfit := _unfit_networks(draft, task)):
        several = "" if TASKS[task].unfit_networks else " with several numbers"
        told = (
            f"expected a network that learns a {task}{several}, which {' and '.join(sorted(unfit))} do not, got {kind}"
        )
        yield ("train", "network", "kind"), told


def _unfit_networks(draft: Draft, task: str) -> frozenset[str]:
    """Return the kinds of networks that cannot learn a task of the document's label."""
    label = _label(draft)
    return TASKS[task].unfit_networks | (_ONE_NUMBER if label is not None and label.shape else frozenset())


def _fits(task: str, label: Field) -> bool:
    return label.type not in TASKS[task].unfit and len(label.shape) in TASKS[task].dimensions


def groups_are_there(draft: Draft) -> Iterator[Finding]:
    """Demand a field with role group from who ranks the rows of one, and rows that stay in theirs."""
    task = _task(draft)
    if task is None or not TASKS[task].grouped:
        return
    if positions := draft.by_role("group"):
        if draft.items[positions[0]].get("nullable") is True:
            told = f"expected false for role group of a {task}: a row without a group has no others to be ranked among"
            yield (*SCHEMA, positions[0], "nullable"), told
    else:
        told = (
            f"expected a field with role group, such as a user or a query, whose rows a {task} puts in order, got none"
        )
        yield SCHEMA, told


def features_leave_the_task_its_names(draft: Draft) -> Iterator[Finding]:
    """Demand that no feature is called as an answer of the task is."""
    task = _task(draft)
    names = set(TASKS[task].outputs) - RESERVED if task is not None else set()
    for position in draft.by_role("feature"):
        name = draft.items[position].get("name")
        if isinstance(name, str) and name in names:
            yield (
                (*SCHEMA, position, "name"),
                f"expected another name for a feature: {name!r} belongs to the answers of a {task}",
            )


def measures_are_of_the_task(draft: Draft) -> Iterator[Finding]:
    """Demand measures that the task has from gates that name some."""
    gates, task = draft.at("compress", "gates"), _task(draft)
    if not isinstance(gates, dict) or task is None:
        return
    known = TASKS[task].measures
    named: list[tuple[Path, object]] = [(("compress", "gates", "measure"), gates.get("measure"))]
    for section in _BY_MEASURE:
        held = gates.get(section)
        named += [(("compress", "gates", section, name), name) for name in held] if isinstance(held, dict) else []
    for place, name in named:
        if isinstance(name, str) and name not in known:
            yield place, f"{closest(name, list(known))}, measures of a {task}, got {name!r}"


def an_attack_needs_losses_of_rows(draft: Draft) -> Iterator[Finding]:
    """Demand a task that tells how far off each answer is from who limits what its losses give away."""
    limit, task = draft.at("compress", "gates", "membershipAuc"), _task(draft)
    if limit is not None and task is not None and not TASKS[task].has_row_losses:
        fit = " or ".join(kind for kind, each in TASKS.items() if each.has_row_losses)
        yield ("compress", "gates", "membershipAuc"), f"expected none for a {task}, as only {fit} has it, got {limit}"


def positive_is_a_value_of_the_label(draft: Draft) -> Iterator[Finding]:
    """Demand a value of the label's type from who looks for one."""
    value, label, task = draft.at("train", "positive"), _label(draft), _task(draft)
    if value is None or label is None or task is None or not TASKS[task].counts_labels:
        return
    place = ("train", "positive")
    wanted = {"string": str, "bool": bool}.get(label.type, int)
    if type(value) is not wanted:
        yield place, f"expected a value of type {label.type}, as the label's, got {value!r}"


def thresholds_are_for_two_classes(draft: Draft) -> Iterator[Finding]:
    """Demand one thing to choose by from who asks for a threshold."""
    threshold, task, place = draft.at("train", "threshold"), _task(draft), ("train", "threshold")
    if not isinstance(threshold, dict) or task is None or not TASKS[task].counts_labels:
        return
    maximised = threshold.get("maximise")
    if (maximised is None) == (threshold.get("costs") is None):
        yield place, "expected either maximise or costs, got " + ("neither" if maximised is None else "both")
    elif isinstance(maximised, str) and maximised not in MAXIMISED:
        yield (*place, "maximise"), f"{closest(maximised, list(MAXIMISED))}, got {maximised!r}"


def trees_are_compared_with_others(draft: Draft) -> Iterator[Finding]:
    """Demand a network of a table from who compares with trees."""
    kind = draft.at("train", "network", "kind")
    if draft.at("train", "compareWith") is not None and kind in ("trees", *IMAGE_KINDS):
        yield ("train", "compareWith"), f"expected a network that takes features side by side beside it, got {kind}"


def gates_fit_the_task(draft: Draft) -> Iterator[Finding]:
    """Demand gates that the task has. For documents only: every gate has a default."""
    gates, task = draft.at("compress", "gates"), _task(draft)
    if not isinstance(gates, dict) or task is None:
        return
    own = [gate.name for gate in (*TASKS[task].gates, *COMMON_GATES)]
    others: dict[str, list[str]] = {}
    for other, each in TASKS.items():
        for gate in each.gates:
            if gate.name not in own and gate.name in gates:
                others.setdefault(gate.name, []).append(other)
    for name, of in others.items():
        told = f"expected gates of a {task} ({', '.join(own)}), got one of a {' or a '.join(of)}"
        yield ("compress", "gates", name), told


def variants_fit_the_task(draft: Draft) -> Iterator[Finding]:
    """Demand variants of texts' own files from who answers texts, and none of these from others."""
    variants, task = draft.at("compress", "variants"), _task(draft)
    for position, variant in enumerate(variants if isinstance(variants, list) and task is not None else ()):
        kind = variant.get("kind") if isinstance(variant, dict) else None
        if isinstance(kind, str) and kind in _VARIANT_KINDS and (kind in OF_TEXTS) != TASKS[task or ""].answers_texts:
            fit = ", ".join(each for each in _VARIANT_KINDS if (each in OF_TEXTS) == (kind not in OF_TEXTS))
            yield ("compress", "variants", position, "kind"), f"expected one of {fit} for a {task}, got {kind}"


def slices_are_of_a_field(draft: Draft) -> Iterator[Finding]:
    """Demand fields of few values from who measures by slice, and some from who judges slices."""
    named, place = draft.at("train", "slices"), ("train", "slices")
    for position, name in enumerate(named) if isinstance(named, list) and draft.complete else ():
        if not isinstance(name, str):
            continue
        field = draft.field(name)
        if field is None:
            yield (*place, position), f"{closest(name, draft.names)}, fields of stream.schema, got {name!r}"
        elif field.role in ("label", "id"):
            yield (*place, position), f"expected a feature, a group or a slice, got {name!r} with role {field.role}"
        elif field.type.startswith("float") or field.shape:
            told = f"shape {list(field.shape)}" if field.shape else f"type {field.type}"
            yield (*place, position), f"expected a single text, bool or whole number, got {name!r} of {told}"
        elif name in named[:position]:
            yield (*place, position), f"expected each field once, got {name!r} again"
    for section in ("slices", "worseInSlices"):
        if draft.at("compress", "gates", section) and not named:
            yield ("compress", "gates", section), "expected fields in train.slices to tell slices apart by, got none"


def trees_learn_the_task_that_they_are_compared_in(draft: Draft) -> Iterator[Finding]:
    """Demand a task that trees learn from who compares with them. For documents only: nothing is grown otherwise."""
    task = _task(draft)
    if draft.at("train", "compareWith") is not None and task is not None and "trees" in _unfit_networks(draft, task):
        several = "" if "trees" in TASKS[task].unfit_networks else " with several numbers"
        yield ("train", "compareWith"), f"expected none for a {task}{several}, which trees do not learn"


def versions_are_chosen_by_what_tells(draft: Draft) -> Iterator[Finding]:
    """Demand a measure that is not won by telling nothing. For documents only, as `limits_can_be_met`."""
    task, name = _task(draft), draft.at("compress", "gates", "measure")
    if task is not None and isinstance(name, str) and name in TASKS[task].unfit_to_choose:
        fit = ", ".join(each for each in TASKS[task].measures if each not in TASKS[task].unfit_to_choose)
        told = f"expected one of {fit}, got {name}: who tells nothing would win; limits and worse may hold {name}"
        yield ("compress", "gates", "measure"), told


def limits_can_be_met(draft: Draft) -> Iterator[Finding]:
    """Demand limits that a measure can have, or can be worse by. For documents only: old ones stay readable."""
    task = _task(draft)
    known = TASKS[task].measures if task is not None else {}
    for section in _BY_MEASURE:
        held = draft.at("compress", "gates", section)
        for name, value in held.items() if isinstance(held, dict) else ():
            if name not in known or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            # By as much as there is at all a variant may always be worse: the gate would be none.
            beside = section in ("worse", "worseInSlices")
            is_idle = beside and known[name].unit == "share" and value >= 1
            if expected := "less than 1" if is_idle else known[name].expected(value) if not beside else "":
                told = f"expected {expected}, as {name} is a share" if is_idle else f"expected {expected}"
                yield ("compress", "gates", section, name), f"{told}, got {value}"


def labels_begin_where_the_task_does(draft: Draft) -> Iterator[Finding]:
    """Demand a range of the label that the task can learn. For documents only: an old one may lack such values.

    Without a range, a run tells of the first such label.
    """
    task, label = _task(draft), _label(draft)
    if task is not None and label is not None and label.range and label.range[0] < (least := TASKS[task].least):
        place = (*SCHEMA, draft.by_role("label")[0], "range", 0)
        yield place, f"expected at least {least:g} for a {task}, got {label.range[0]:g}"


def positive_can_be_there(draft: Draft) -> Iterator[Finding]:
    """Demand a value that a record's label may have from who looks for one. For documents only, as `limits_can_be_met`.

    Whether it is of the label's type at all is asked of every spec.
    """
    value, label = draft.at("train", "positive"), _label(draft)
    if label is None or label.type.startswith("float") or isinstance(value, bool):
        return
    if value == "" and label.type == "string":
        yield ("train", "positive"), "expected a text that is not empty: an empty label is missing"
    if not isinstance(value, int) or label.type in ("string", "bool"):
        return
    limits = np.iinfo(label.type)
    low, high = label.range or (int(limits.min), int(limits.max))
    if not low <= value <= high:
        told = "as the label's range says" if label.range else f"which is what {label.type} holds"
        yield ("train", "positive"), f"expected a value from {low} to {high}, {told}, got {value}"


def classes_have_rows(draft: Draft) -> Iterator[Finding]:
    """Demand a task with classes where each is to have a number of rows."""
    task, path = _task(draft), ("prepare", "minClassRows")
    if task is not None and draft.at(*path) is not None and not TASKS[task].counts_labels:
        yield path, f"expected none for a {task}, which tells no classes apart, got {draft.at(*path)}"


def _label(draft: Draft) -> Field | None:
    positions = draft.by_role("label")
    return draft.fields.get(positions[0]) if len(positions) == 1 else None


def _task(draft: Draft) -> str | None:
    """Return the task that a document asks for, or that its label suggests; None when that cannot be told."""
    task, label = draft.at("train", "task"), _label(draft)
    if isinstance(task, str) and task in TASKS:
        return task
    if task is not None or label is None:
        return None
    return default_task(label)


TASK_RULES: Final[tuple[Callable[[Draft], Iterator[Finding]], ...]] = (
    task_fits_label,
    settings_are_of_the_task,
    task_fits_network,
    groups_are_there,
    augmenting_fits_the_task,
    features_leave_the_task_its_names,
    measures_are_of_the_task,
    an_attack_needs_losses_of_rows,
    positive_is_a_value_of_the_label,
    thresholds_are_for_two_classes,
    trees_are_compared_with_others,
    slices_are_of_a_field,
    classes_have_rows,
    variants_fit_the_task,
)
"""The rules about the task of every spec."""
TASK_DOCUMENT_RULES: Final[tuple[Callable[[Draft], Iterator[Finding]], ...]] = (
    gates_fit_the_task,
    trees_learn_the_task_that_they_are_compared_in,
    versions_are_chosen_by_what_tells,
    limits_can_be_met,
    labels_begin_where_the_task_does,
    positive_can_be_there,
)
"""The rules about the task of documents alone."""
