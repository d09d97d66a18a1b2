"""Rules that concern more than one key of a pipeline document.

They work on the document's plain values, not on a built `Pipeline`, so that they speak up even when another part of the
document is wrong. A rule that needs a part which is wrong itself stays silent: that part has its own problem already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final, get_args

import numpy as np

from headrace_data.spec.augment import (
    images_stay_in_sight,
    rare_classes_are_made_up_for_once,
    rows_are_changed_as_the_network_reads_them,
)
from headrace_data.spec.cleaning import gaps_are_of_fields, outliers_are_numbers
from headrace_data.spec.compute import (
    blocks_are_recomputed_where_there_are_some,
    processes_learn_apart,
    weights_can_be_spread,
)
from headrace_data.spec.draft import SCHEMA, Draft, Finding, closest
from headrace_data.spec.feature_rules import FEATURE_RULES
from headrace_data.spec.format_rules import columns_hold_the_fields, files_fit_a_field, schemas_can_be_read
from headrace_data.spec.hold import exempt_are_fields
from headrace_data.spec.label_rules import LABEL_RULES
from headrace_data.spec.network_size import network_fits_a_graph
from headrace_data.spec.networks import IMAGE_KINDS, heads_share_the_width
from headrace_data.spec.prepare import Clean, Freeze, Split
from headrace_data.spec.privacy_rules import a_run_fits_the_total, fits_look_at_no_row, rows_are_learned_one_by_one
from headrace_data.spec.private_rules import PRIVATE_RULES
from headrace_data.spec.rollout import arrays_are_rolled_out, steps_lead_somewhere
from headrace_data.spec.scoring import scored_records_are_rows
from headrace_data.spec.select_rules import conditions_are_of_rows, select_makes_the_rows
from headrace_data.spec.serve import there_is_something_cheaper
from headrace_data.spec.stream import Field, Role
from headrace_data.spec.task_rules import TASK_DOCUMENT_RULES, TASK_RULES, augmenting_fits_the_task
from headrace_data.spec.texts import something_is_looked_for, texts_are_looked_at
from headrace_data.spec.transfer import layers_are_of_a_version
from headrace_data.spec.tune import space_is_of_the_section, trials_can_be_trained, values_keep_a_rule
from headrace_data.spec.upstream import engine_fits_the_rest
from headrace_data.spec.variants import steps_are_different, variants_are_different
from headrace_data.spec.yaml_tree import Path
from headrace_data.tasks import TASKS

_MAX_ELEMENTS: Final = 2**20
MAX_PLACES: Final = 1000
"""Most places of a label: each is an output of a network, and measured."""
_NAMELESS: Final = ("float32", "float64", "bool")
"""Types whose values cannot name or group records."""
_UNHEEDED: Final = {
    "trees": ("from", "epochs", "batchSize", "optimizer", "augment", "compute"),
    "imported": ("from",),
    "imported onnx": ("compute",),
    "encoder": ("compareWith", "freeze", "rates"),
    "causal-lm": ("compareWith", "freeze", "rates", "augment"),
    "new-causal-lm": ("compareWith", "freeze", "rates", "augment"),
}
"""Settings under train that a kind of network has no use for, or one format of a kind."""


def names_are_unique(draft: Draft) -> Iterator[Finding]:
    """Demand that a name stands for one field."""
    seen: dict[str, int] = {}
    for position, item in enumerate(draft.items):
        name = item.get("name") if isinstance(item, dict) else None
        if isinstance(name, str) and seen.setdefault(name, position) != position:
            first = f"schema[{seen[name]}]"
            yield (*SCHEMA, position, "name"), f"expected a name of its own, got {name!r}, which {first} has already"


def roles_are_complete(draft: Draft) -> Iterator[Finding]:
    """Demand one label, at most one id and at most one group, and a feature of every task that does not write texts."""
    for role in ("label", "id", "group"):
        first, *others = draft.by_role(role) or [0]
        for position in others:
            yield (
                (*SCHEMA, position, "role"),
                f"expected one field with role {role}, got another beside schema[{first}]",
            )
    roles = [item.get("role") if isinstance(item, dict) else None for item in draft.items]
    if roles and all(role in get_args(Role) for role in roles):
        if "label" not in roles:
            yield SCHEMA, "expected one field with role label, got none"
        task = draft.at("train", "task")
        if "feature" not in roles and not (isinstance(task, str) and task in TASKS and TASKS[task].answers_texts):
            yield SCHEMA, "expected at least one field with role feature, got none"


def types_fit_roles(draft: Draft) -> Iterator[Finding]:
    """Demand types and shapes that suit what a field is for."""
    for position, field in draft.fields.items():
        place = (*SCHEMA, position)
        if field.role in ("id", "group") and field.type in _NAMELESS:
            yield (*place, "type"), f"expected an integer type or string for role {field.role}, got {field.type}"
        if field.role == "slice" and field.type.startswith("float"):
            yield (*place, "type"), f"expected a whole number, bool or string for role slice, got {field.type}"
        if field.role == "feature" and field.type == "string" and field.shape:
            yield (*place, "shape"), f"expected a single value for a string feature, got shape {list(field.shape)}"
        if field.role in ("id", "group") and field.shape:
            yield (*place, "shape"), f"expected a single value for role {field.role}, got shape {list(field.shape)}"
        if field.role == "label" and field.shape:
            yield from _label_has_places(field, place)
        if field.size > _MAX_ELEMENTS:
            yield (*place, "shape"), f"expected at most {_MAX_ELEMENTS} elements, got {field.size}"


def _label_has_places(field: Field, place: Path) -> Iterator[Finding]:
    """Demand a label of one dimension, of numbers or booleans."""
    if field.type == "string":
        yield (*place, "shape"), f"expected a single value for a string label, got shape {list(field.shape)}"
    elif len(field.shape) > 1 or field.size > MAX_PLACES:
        told = f"expected one dimension of at most {MAX_PLACES} for a label"
        yield (*place, "shape"), f"{told}, got shape {list(field.shape)}"


def places_are_of_a_label(draft: Draft) -> Iterator[Finding]:
    """Demand names of places of a label alone, one for each place and each once."""
    for position, field in draft.fields.items():
        place = (*SCHEMA, position, "places")
        if field.places is None:
            continue
        if field.role != "label" or not field.shape:
            yield place, f"expected names of places of a label with a shape only, got some of {field.name!r}"
        elif len(field.places) != field.size:
            yield place, f"expected {field.size} names, one for each place of the label, got {len(field.places)}"
        elif len(set(field.places)) != field.size:
            twice = next(name for name in field.places if field.places.count(name) > 1)
            yield place, f"expected each name once, got {twice!r} again"


def ranges_fit_types(draft: Draft) -> Iterator[Finding]:
    """Demand that a range is for numbers and that its ends are values of the field's type."""
    for position, field in draft.fields.items():
        place = (*SCHEMA, position, "range")
        if field.range is None:
            continue
        if field.type in ("string", "bool"):
            yield place, f"expected no range for type {field.type}"
            continue
        limits = np.finfo(field.type) if field.type.startswith("float") else np.iinfo(field.type)
        for end, bound in enumerate(field.range):
            if not float(limits.min) <= bound <= float(limits.max):
                yield (*place, end), f"expected a value of type {field.type}, got {bound}"


def _names_a_field(draft: Draft, place: Path, name: object) -> Iterator[Finding]:
    """Demand that a field which identifies or groups rows exists, is one integer or text, and is never missing."""
    if not isinstance(name, str):
        return
    if name not in draft.names:
        if draft.named:
            yield place, f"unknown field {name!r}; {closest(name, draft.names)}"
        return
    field = draft.field(name)
    if field is None:
        return
    if field.shape or field.type in _NAMELESS:
        yield place, f"expected a field of one integer or string, got {name!r} of type {field.type}"
    elif field.nullable:
        yield place, f"expected a field that is always there, got {name!r}, which is nullable"


def key_names_a_field(draft: Draft) -> Iterator[Finding]:
    """Demand that records are identified by a field that is always there."""
    key = draft.at("stream", "key")
    if key is not None:
        yield from _names_a_field(draft, ("stream", "key"), key)
    elif len(draft.by_role("id")) == 1:
        position = draft.by_role("id")[0]
        yield from _names_a_field(draft, (*SCHEMA, position, "nullable"), draft.items[position].get("name"))


def split_names_a_field(draft: Draft) -> Iterator[Finding]:
    """Demand that rows are divided by a field that is always there."""
    group = draft.at("prepare", "split", "group")
    if group is not None:
        yield from _names_a_field(draft, ("prepare", "split", "group"), group)
        return
    for role in ("group", "id"):
        if positions := draft.by_role(role):
            # The id was looked at by the rule for keys already, unless another field is the key.
            if role == "group" or draft.at("stream", "key") is not None:
                name = draft.items[positions[0]].get("name")
                yield from _names_a_field(draft, (*SCHEMA, positions[0], "nullable"), name)
            return
    if draft.complete:
        yield SCHEMA, "expected a field to split by: one with role id or group, or prepare.split.group; got none"


def fractions_sum_to_one(draft: Draft) -> Iterator[Finding]:
    """Demand that the three splits share all rows."""
    split = draft.section(Split, "prepare", "split")
    if split is None:
        return
    total = math.fsum((split.train, split.validation, split.test))
    if abs(total - 1) > 1e-9:
        yield ("prepare", "split"), f"expected train, validation and test to sum to 1, got {total:g}"


def minimum_can_be_reached(draft: Draft) -> Iterator[Finding]:
    """Demand that fewer rows than the minimum can be held back, and that no more are demanded than are cut at once."""
    freeze = draft.section(Freeze, "prepare", "freeze")
    if freeze is None or freeze.min_records == 1:
        return
    place = ("prepare", "freeze", "minRecords")
    if freeze.after_idle is None:
        yield place, "expected afterIdle beside it, the one condition that it holds back, got none"
    if freeze.after_records is not None and freeze.min_records > freeze.after_records:
        yield place, f"expected at most afterRecords ({freeze.after_records}), got {freeze.min_records}"


def an_image_is_looked_at(draft: Draft) -> Iterator[Finding]:
    """Demand exactly one feature with two or three dimensions for a convolutional network."""
    kind = draft.at("train", "network", "kind")
    if kind not in IMAGE_KINDS or not draft.complete:
        return
    shapes = [list(field.shape) for field in draft.fields.values() if field.role == "feature"]
    place = ("train", "network", "kind")
    if len(shapes) > 1:
        yield (
            place,
            f"{kind} expects exactly one feature of shape [height, width] or [channels, height, width], got "
            f"{len(shapes)}",
        )
    elif shapes and len(shapes[0]) not in (2, 3):
        yield place, f"{kind} expects a feature of shape [height, width] or [channels, height, width], got {shapes[0]}"


def settings_fit_the_network(draft: Draft) -> Iterator[Finding]:
    """Demand settings that the network heeds from a document that says them."""
    kind, form = draft.at("train", "network", "kind"), draft.at("train", "network", "format")
    space = draft.at("train", "tune", "space")
    for told in (f"{kind}", f"{kind} {form}"):
        for name in _UNHEEDED.get(told, ()):
            tried = [path for path in space if path.partition(".")[0] == name] if isinstance(space, dict) else []
            given = [("train", name)] if draft.at("train", name) is not None else []
            for place in (*given, *(("train", "tune", "space", path) for path in tried)):
                yield place, f"expected none for {told}, which do not heed it, got one"


def trials_keep_the_rules(draft: Draft) -> Iterator[Finding]:
    """Demand of each value that a search tries what is demanded of it in its place."""
    for rule in _RULES_OF_VALUES:
        yield from values_keep_a_rule(draft, rule)


_RULES_OF_VALUES: Final[tuple[Callable[[Draft], Iterator[Finding]], ...]] = (
    rows_are_changed_as_the_network_reads_them,
    blocks_are_recomputed_where_there_are_some,
    rare_classes_are_made_up_for_once,
    augmenting_fits_the_task,
    images_stay_in_sight,
    network_fits_a_graph,
    rows_are_learned_one_by_one,
)
"""The rules about what a search may vary."""


def duplicates_have_a_key(draft: Draft) -> Iterator[Finding]:
    """Demand a key from who asks for duplicates to be dropped. For documents only: defaults ask for nothing."""
    if draft.at("prepare", "clean", "duplicates") != "drop" or not draft.complete:
        return
    if draft.at("stream", "key") is None and not draft.by_role("id"):
        yield ("prepare", "clean", "duplicates"), "drop expects stream.key or a field with role id, got neither"


def key_windows_of_time_are_of_the_stream(draft: Draft) -> Iterator[Finding]:
    """Demand the scope stream beside a time: a partition's keys are known by number alone."""
    clean = draft.section(Clean, "prepare", "clean")
    if clean is not None and isinstance(clean.duplicate_window, float) and clean.duplicate_scope != "stream":
        yield ("prepare", "clean", "duplicateWindow"), "a time expects duplicateScope: stream beside it, got partition"


RULES: Final[tuple[Callable[[Draft], Iterator[Finding]], ...]] = (
    names_are_unique,
    roles_are_complete,
    types_fit_roles,
    places_are_of_a_label,
    ranges_fit_types,
    columns_hold_the_fields,
    key_names_a_field,
    split_names_a_field,
    fractions_sum_to_one,
    minimum_can_be_reached,
    key_windows_of_time_are_of_the_stream,
    an_image_is_looked_at,
    variants_are_different,
    steps_are_different,
    there_is_something_cheaper,
    engine_fits_the_rest,
    scored_records_are_rows,
    arrays_are_rolled_out,
    steps_lead_somewhere,
    rows_are_changed_as_the_network_reads_them,
    blocks_are_recomputed_where_there_are_some,
    processes_learn_apart,
    weights_can_be_spread,
    rare_classes_are_made_up_for_once,
    layers_are_of_a_version,
    space_is_of_the_section,
    heads_share_the_width,
    gaps_are_of_fields,
    outliers_are_numbers,
    exempt_are_fields,
    texts_are_looked_at,
    something_is_looked_for,
    *LABEL_RULES,
    *PRIVATE_RULES,
    *FEATURE_RULES,
    *TASK_RULES,
)
"""The rules of every spec."""
DOCUMENT_RULES: Final[tuple[Callable[[Draft], Iterator[Finding]], ...]] = (
    duplicates_have_a_key,
    schemas_can_be_read,
    files_fit_a_field,
    select_makes_the_rows,
    conditions_are_of_rows,
    *TASK_DOCUMENT_RULES,
    network_fits_a_graph,
    images_stay_in_sight,
    settings_fit_the_network,
    rows_are_learned_one_by_one,
    fits_look_at_no_row,
    a_run_fits_the_total,
    trials_can_be_trained,
    trials_keep_the_rules,
)
"""The rules of documents alone: canonical JSON has defaults in it that nobody asked for."""
