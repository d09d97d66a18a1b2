"""Rules about features: their names, their gaps, and how they become numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

import numpy as np

from headrace_data.spec.cleaning import drops_without
from headrace_data.spec.draft import SCHEMA, Draft, Finding, built, closest
from headrace_data.spec.prepare import MAX_TRANSFORMS, Clean
from headrace_data.spec.stream import Field
from headrace_data.spec.transform import ENCODES_TEXTS, Buckets, Constant, Target, Transform
from headrace_data.spec.yaml_tree import Path

_TRANSFORM: Final[Path] = ("prepare", "transform")
_TEXTS: Final = "onehot, ordinal, hash, target or text"
_SINGLE: Final = ("quantile", "buckets", "cyclic")
"""Kinds for numbers that are no part of an array: each has places of its own."""
READS_TEXTS: Final = ("encoder", "causal-lm", "new-causal-lm")
"""Kinds of networks that read language."""
WRITES_TEXTS: Final = ("causal-lm", "new-causal-lm")
"""Those of them that write it: they read one text, or none, and learn no task but to answer with a text."""
EMBEDDING: Final = "embedding"
"""Name of the output with the embeddings of texts, where a network that reads language answers them."""
READ_TOGETHER: Final = (1, 2)
"""How many texts a network reads as one that answers no text: a text, or a pair."""
RESERVED: Final = frozenset({"label", "probabilities", "logits", "classes", "prediction"})
"""Names that belong to a model's answers; no feature may have one."""


def features_leave_answers_their_names(draft: Draft) -> Iterator[Finding]:
    """Demand that no feature is called as a part of the model's answer is."""
    for position in draft.by_role("feature"):
        name = draft.items[position].get("name")
        if isinstance(name, str) and name in RESERVED:
            yield (
                (*SCHEMA, position, "name"),
                f"expected another name for a feature: {name!r} belongs to the model's answers",
            )


def missing_values_have_a_rule(draft: Draft) -> Iterator[Finding]:
    """Demand that rows with gaps are dropped where nothing fills the gap."""
    clean = draft.section(Clean, "prepare", "clean")
    if clean is None:
        return
    told = "while prepare.clean.missing " + ("is keep" if clean.missing == "keep" else "does not name it under any")
    for position, field in draft.fields.items():
        place = (*SCHEMA, position, "nullable")
        if not field.nullable or drops_without(clean.missing, field.name):
            continue
        if field.role == "label":
            yield place, f"expected false for a label {told}, got true"
        elif field.role == "feature":
            transform = _transform(draft, field.name)
            if transform is not None and transform.impute is None:
                wanted = f"prepare.transform.{field.name}.impute"
                yield place, f"expected {wanted} {told}, got none: nothing fills the gaps"


def transforms_name_features(draft: Draft) -> Iterator[Finding]:
    """Demand that only features are transformed."""
    transform = draft.at(*_TRANSFORM)
    features = [draft.items[position].get("name") for position in draft.by_role("feature")]
    known = [name for name in features if isinstance(name, str)]
    for name in islice(transform, MAX_TRANSFORMS) if isinstance(transform, dict) else ():
        place = (*_TRANSFORM, name)
        if name in known:
            continue
        if field := draft.field(name):
            yield place, f"expected a feature, got {name!r} with role {field.role}"
        elif draft.named and name not in draft.names:
            yield place, f"unknown feature {name!r}; {closest(name, known)}"


def categories_are_encoded(draft: Draft) -> Iterator[Finding]:
    """Demand that text becomes numbers."""
    for position, field in draft.fields.items():
        if field.role != "feature" or field.type != "string":
            continue
        transform = _transform(draft, field.name)
        if transform is None or transform.encode is not None:
            continue
        if draft.at(*_TRANSFORM, field.name) is None:
            wanted = f"prepare.transform.{field.name}.encode"
            yield (*SCHEMA, position, "type"), f"expected {wanted} ({_TEXTS}) for a string feature, got none"
        else:
            reason = f"expected encode ({_TEXTS}) for the string feature {field.name!r}, got none"
            yield (*_TRANSFORM, field.name), reason


def transforms_fit_features(draft: Draft) -> Iterator[Finding]:
    """Demand that what is filled may be missing, that categories are encoded and that numbers are scaled."""
    for field in draft.fields.values():
        if field.role != "feature" or draft.at(*_TRANSFORM, field.name) is None:
            continue
        transform = _transform(draft, field.name)
        if transform is None:
            continue
        place = (*_TRANSFORM, field.name)
        if transform == Transform() and field.type != "string":
            yield place, "expected impute, encode or scale, got none of them"
        if transform.impute is not None and not field.nullable:
            reason = f"expected a nullable feature, got {field.name!r} with nullable: false, which is never missing"
            yield (*place, "impute"), reason
        yield from (_text if field.type == "string" else _number)(field, transform, place)


def targets_fit_the_label(draft: Draft) -> Iterator[Finding]:
    """Demand a label that a category can be encoded by as it is asked for."""
    labels = draft.by_role("label")
    label = draft.fields.get(labels[0]) if len(labels) == 1 else None
    for field in draft.fields.values():
        transform = _transform(draft, field.name) if field.role == "feature" and field.type == "string" else None
        if label is None or transform is None or transform.kind_of("string") != "target":
            continue
        if label.shape:
            told = f"expected another encoding beside a label of shape {list(label.shape)}, got target"
            yield (*_TRANSFORM, field.name, "encode"), told
            continue
        of, place = transform.told(Target).of, (*_TRANSFORM, field.name, "encode", "of")
        if of == "shares" and label.type.startswith("float"):
            yield place, f"expected mean for a label of type {label.type}, got shares"
        if of == "mean" and label.type == "string":
            yield place, "expected shares for a label of type string, got mean"


def _text(field: Field, transform: Transform, place: Path) -> Iterator[Finding]:
    if transform.scale is not None:
        yield (*place, "scale"), f"expected scale on numbers only, got it on {field.name!r} of type string"
    if transform.encode is not None and (kind := transform.kind_of(field.type)) not in ENCODES_TEXTS:
        yield (*place, "encode"), f"expected {_TEXTS} for the string feature {field.name!r}, got {kind}"
    is_language = transform.kind_of(field.type) == "text"
    if transform.impute in ("mean", "median") or (is_language and transform.impute == "mostFrequent"):
        wanted = "{constant: TEXT}" if is_language else "mostFrequent or {constant: TEXT}"
        yield (*place, "impute"), f"expected {wanted} for a string feature, got {transform.impute}"
    if isinstance(transform.impute, Constant) and not isinstance(transform.impute.constant, str):
        reason = f"expected a text for a string feature, got {transform.impute.constant}"
        yield (*place, "impute", "constant"), reason


def _number(field: Field, transform: Transform, place: Path) -> Iterator[Finding]:
    yield from _number_kind(field, transform, place)
    if not isinstance(transform.impute, Constant):
        return
    constant = transform.impute.constant
    if isinstance(constant, str):
        yield (*place, "impute", "constant"), f"expected a number for a feature of type {field.type}, got {constant!r}"
        return
    # A feature with gaps is served as a float: whole numbers as float64, which has the NaN that they lack.
    holder = "float32" if field.type == "float32" else "float64"
    if abs(constant) > float(np.finfo(holder).max):
        yield (*place, "impute", "constant"), f"expected a value that {holder} can hold, got {constant}"


def _number_kind(field: Field, transform: Transform, place: Path) -> Iterator[Finding]:
    kind = transform.kind_of(field.type)
    where = "encode" if transform.encode is not None else "scale"
    if kind in ENCODES_TEXTS:
        yield (*place, where), f"expected {kind} on string features only, got it on {field.name!r} of {field.type}"
    elif transform.encode is not None and transform.scale is not None:
        yield (*place, "scale"), f"expected encode or scale, got both: {kind} makes inputs that need no scale"
    if field.shape and kind in _SINGLE:
        yield (
            (*place, where),
            f"expected {kind} on single numbers, got it on {field.name!r} of shape {list(field.shape)}",
        )
    edges = transform.encode.edges if isinstance(transform.encode, Buckets) else None
    # Intervals are kept as float64, in which whole numbers beyond 2^53 may be equal.
    if edges is not None and not (np.diff(np.array(edges, dtype=np.float64)) > 0).all():
        yield (*place, "encode", "edges"), f"expected rising numbers, got {list(edges)}"


def language_has_a_reader(draft: Draft) -> Iterator[Finding]:
    """Demand one text or two and nothing else for a network that reads language, and no such text for another."""
    kind = draft.at("train", "network", "kind")
    if not isinstance(kind, str) or not draft.complete:
        return
    features = [field for field in draft.fields.values() if field.role == "feature"]
    chosen = {field.name: _transform(draft, field.name) for field in features if field.type == "string"}
    texts = [name for name, found in chosen.items() if found is not None and found.encode == "text"]
    readable, told = (
        ((0, 1), "one feature, or none,") if kind in WRITES_TEXTS else (READ_TOGETHER, "one feature or two,")
    )
    if kind in READS_TEXTS and (len(texts) != len(features) or len(texts) not in readable):
        yield (
            ("train", "network", "kind"),
            f"{kind} expects {told} each a string with prepare.transform.NAME.encode: text, got "
            f"{len(features)} of which {len(texts)} are",
        )
    for name in texts if kind not in READS_TEXTS else ():
        yield (
            (*_TRANSFORM, name, "encode"),
            f"text expects a network that reads language ({', '.join(READS_TEXTS)}), got {kind}",
        )


def embeddings_are_of_one_text(draft: Draft) -> Iterator[Finding]:
    """Demand one text of another name from who wants its embedding, and no gate for it from who does not."""
    place, gate = ("train", "network", EMBEDDING), ("compress", "gates", "embeddingCosine")
    if draft.at(*place) is not True:
        if draft.at(*gate) is not None:
            yield gate, f"expected none without train.network.{EMBEDDING}: true, got {draft.at(*gate)}"
        return
    if not draft.complete:
        return
    positions = draft.by_role("feature")
    if len(positions) > 1:
        yield place, f"expected one text, got {len(positions)}: what a pair becomes is no place among texts"
    for position in positions:
        if draft.items[position].get("name") == EMBEDDING:
            told = f"expected another name for a feature beside train.network.{EMBEDDING}: it belongs to the answers"
            yield (*SCHEMA, position, "name"), told


def _transform(draft: Draft, name: str) -> Transform | None:
    """Return a feature's transform, one that does nothing when it has none; None when it is wrong by itself."""
    section = draft.at(*_TRANSFORM)
    if section is not None and not isinstance(section, dict):
        return None
    value = draft.at(*_TRANSFORM, name)
    return Transform() if value is None else built(Transform, value)


FEATURE_RULES: Final[tuple[Callable[[Draft], Iterator[Finding]], ...]] = (
    features_leave_answers_their_names,
    missing_values_have_a_rule,
    transforms_name_features,
    categories_are_encoded,
    transforms_fit_features,
    language_has_a_reader,
    embeddings_are_of_one_text,
    targets_fit_the_label,
)
"""The rules about features."""
