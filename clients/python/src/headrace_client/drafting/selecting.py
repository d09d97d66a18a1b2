"""A SELECT for records that are not rows yet: nested values, names that a tensor cannot have, texts that are numbers.

A sample of flat records with plain names and values of their types needs none, and is drafted as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import md5
from typing import Any, Final

from headrace_data.select.tree import Leaf, Path
from headrace_data.select.values import text_of

from headrace_client.drafting.forms import Form, form_of
from headrace_client.drafting.moments import is_called_a_moment
from headrace_client.drafting.observing import INT64, in_order
from headrace_client.drafting.roles import LABEL_NAMES, MOST_FIELDS, is_called_an_id
from headrace_client.words import is_no_number, is_no_text

_FIELD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_OTHER: Final = re.compile(r"[^A-Za-z0-9]+")
_LETTERS: Final = str.maketrans({"ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "AE", "ł": "l", "Ł": "L", "đ": "d"})
_DEEPEST: Final = 8
DIGEST: Final = "row"
"""What a digest of a row is called."""
_IN_DIGEST: Final = 16
"""Columns that it is made of, those with the most different values."""
_FEW: Final = 10
_ENOUGH: Final = 20
"""Records from which on so few whole numbers as text are taken for categories."""


@dataclass(frozen=True)
class Column:
    """A field of the rows to come, and where it is found in a record."""

    name: str
    paths: tuple[Path, ...]
    """Where its value is; of several, no record of the sample has two."""
    values: tuple[Any, ...]
    """What the SELECT makes of each record of the sample."""
    sql: str
    told: str = ""
    """What is done to the values, for a comment."""
    usual: bool = True
    """Whether records with such values may do without a SELECT."""
    doubt: str = ""
    """What may be meant otherwise, or cannot be read; empty where nothing is."""


@dataclass(frozen=True)
class Selection:
    """A SELECT for some records, and what it makes of them."""

    columns: Mapping[str, Column]
    label: str | None
    """The field that will be predicted, by its name in the rows; None where nobody named one."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows that the SELECT makes of the sample; what is missing is not there."""
        held = [(name, column.values) for name, column in self.columns.items()]
        count = len(held[0][1]) if held else 0
        return [{name: values[at] for name, values in held if values[at] is not None} for at in range(count)]


def selection_for(
    records: Sequence[Mapping[str, Any]], label: str | None = None, *, comma: bool = False, always: bool = False
) -> Selection | None:
    """Return the SELECT that records need; None where they are rows already, unless there is `always` one.

    `label` is what will be predicted. `comma` says that decimals of the source stand behind a comma.
    """
    found = _flattened(records)
    names = _names(found)
    label = next((name for name, paths in names.items() if label in (name, *_called(paths))), label)
    columns: dict[str, Column] = {}
    for name, paths in names.items():
        columns[name] = _column(name, paths, [found[path] for path in paths], label, comma=comma)
    there = {name: column for name, column in columns.items() if any(value is not None for value in column.values)}
    changed = any(column.paths != ((name,),) or not column.usual for name, column in there.items())
    return Selection(columns, label) if changed or always else None


def with_digest(selection: Selection) -> Selection:
    """Return a SELECT with one field more, by which rows are divided: a digest of what is no label."""
    others = [column for name, column in selection.columns.items() if name != selection.label]
    others.sort(key=lambda column: -len({str(value) for value in column.values}))
    texts = [column_text(*path) for column in others[:_IN_DIGEST] for path in column.paths[:1]]
    held = zip(*(column.values for column in others[:_IN_DIGEST]), strict=True)
    values = tuple(md5(repr(row).encode(), usedforsecurity=False).hexdigest() for row in held)
    name = _free(DIGEST, selection.columns)
    told = "rows of the same values stay on one side of the split"
    digest = Column(name, (), values, f"md5(concat_ws('|', {', '.join(texts)}))", told, usual=False)
    return replace(selection, columns={**selection.columns, name: digest})


def column_text(*parts: str | int) -> str:
    """Return a path as SQL writes it."""
    return str(Leaf(tuple(parts)))


def _called(paths: Sequence[Path]) -> list[str]:
    """Return what a caller may call the value at some paths."""
    return [*map(_dotted, paths), *(column_text(*path) for path in paths)]


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))


def _flattened(records: Sequence[Mapping[str, Any]]) -> dict[Path, list[Any]]:
    """Return what each record has at each path that leads to something else than an object."""
    flat = [_flat(record) for record in records]
    paths = in_order(flat)[: 2 * MOST_FIELDS]
    outer = {path[:depth] for path in paths for depth in range(1, len(path))}
    found = {path: [each.get(path) for each in flat] for path in paths}
    # Where some records have null and others an object nothing is lost without the null.
    return {path: values for path, values in found.items() if path not in outer or values != [None] * len(flat)}


def _has_name(key: str) -> bool:
    """Tell whether SQL can name a key."""
    return key != "" and "\0" not in key


def _flat(record: Mapping[str, Any]) -> dict[Path, Any]:
    found: dict[Path, Any] = {}
    waiting: list[tuple[Path, Any]] = [
        ((key,), value) for key, value in reversed(list(record.items())) if _has_name(key)
    ]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict) and value and len(path) < _DEEPEST:
            # What a row was before a change is no part of what it is now.
            kept = [key for key in value if _has_name(key) and (key != "before" or "after" not in value)]
            waiting += [((*path, key), value[key]) for key in reversed(kept)]
        else:
            found[path] = None if value == {} else value
    return found


def _names(found: Mapping[Path, Sequence[Any]]) -> dict[str, tuple[Path, ...]]:
    """Return a name for each path, or for several of which a record has one."""
    by_last: dict[str, list[Path]] = {}
    for path in found:
        by_last.setdefault(_plain(path[-1:], path), []).append(path)
    names: dict[str, tuple[Path, ...]] = {}
    for name, paths in by_last.items():
        if len(paths) == 1 or _are_one([found[path] for path in paths]):
            names[_free(name, names)] = tuple(paths)
            continue
        for path in paths:
            names[_free(_plain(path, path) if len(path) > 1 else name, names)] = (path,)
    return names


def _free(name: str, taken: Mapping[str, Any]) -> str:
    free, number = name, 2
    while free in taken:
        free, number = f"{name[:60]}_{number}", number + 1
    return free


def _plain(parts: Sequence[str | int], path: Path) -> str:
    """Return a name that a tensor can have: as it is where it can have it."""
    text = "_".join(map(str, parts))
    if _FIELD.fullmatch(text):
        return text
    letters = unicodedata.normalize("NFKD", text.translate(_LETTERS)).encode("ascii", "ignore").decode()
    plain = _OTHER.sub("_", letters).strip("_")[:64]
    if not plain:
        return f"field_{sum(map(ord, _dotted(path))) % 1000}"
    return plain if plain[0].isalpha() else f"n{plain}"[:64]


def _are_one(columns: Sequence[Sequence[Any]]) -> bool:
    """Tell whether values of several paths are one field's: no record has two, and all are of one kind."""
    kinds = {_kind(value) for column in columns for value in column if value is not None}
    once = all(sum(value is not None for value in row) <= 1 for row in zip(*columns, strict=True))
    return once and len(kinds) == 1 and kinds <= {"str", "number", "bool"}


def _kind(value: Any) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


def _column(
    name: str, paths: tuple[Path, ...], found: Sequence[Sequence[Any]], label: str | None, *, comma: bool
) -> Column:
    values = [next((value for value in row if value is not None), None) for row in zip(*found, strict=True)]
    texts = [column_text(*path) for path in paths]
    text = texts[0] if len(texts) == 1 else f"coalesce({', '.join(texts)})"
    there = [value for value in values if value is not None]
    is_text = [isinstance(value, str) for value in there]
    if any(is_text) and all(_kind(value) in ("str", "number", "bool") for value in there):
        made = _of_texts(name, text, [text_of(value) for value in values], label, mixed=not all(is_text), comma=comma)
        if made is not None and _reads_texts(values, made[0]):
            return Column(name, paths, *made)
    if len(paths) > 1 and not all(is_text):
        whole = all(type(value) is int and value in INT64 for value in there)
        kind = "BOOLEAN" if _kind(there[0]) == "bool" else "BIGINT" if whole else "DOUBLE"
        text = f"CAST({text} AS {kind})"
    return Column(name, paths, tuple(values), text)


def _reads_texts(values: Sequence[Any], made: Sequence[Any]) -> bool:
    """Tell whether most texts are read or taken for missing: a single odd one among numbers is a fault of its own."""
    texts = [(value, now) for value, now in zip(values, made, strict=True) if isinstance(value, str)]
    odd = sum(now is None and not is_no_number(value.strip()) for value, now in texts)
    return 2 * odd < len(texts)


def _of_texts(
    name: str, text: str, values: Sequence[str | None], label: str | None, *, mixed: bool, comma: bool
) -> tuple[tuple[Any, ...], str, str, bool, str] | None:
    """Return the values of texts, the SQL that makes them, what it does, whether such texts are usual, and doubts.

    None stands for texts that stay as they are.
    """
    numbers = [value for value in values if value is not None and not is_no_number(value.strip())]
    is_label = name == label or (label is None and name.lower() in LABEL_NAMES)
    form = None if is_called_an_id(name) and not mixed else _form(name, numbers, is_label=is_label, comma=comma)
    if form is None and mixed:
        return None
    is_nothing = is_no_text if form is None else is_no_number
    words = Counter(value.strip() for value in values if value is not None and is_nothing(value.strip()))
    if form is None and not words:
        return None
    blanks = any(value != value.strip() for value in values if value is not None and (form or value.strip() in words))
    inner = f"trim({text})" if blanks else text
    for word in sorted(words):
        inner = f"nullif({inner}, '{word}')"
    told = [form.told] if form else []
    told += [f"{_listed(words)} taken for missing"] if words else []
    kept = [None if value is None or value.strip() in words else value for value in values]
    if form is None:
        made = tuple(None if value is None else value.strip() if blanks else value for value in kept)
        return made, inner, "; ".join(told), False, ""
    read = tuple(None if value is None else form.read(value.strip()) for value in kept)
    return read, form.sql.replace("{}", inner), "; ".join(told), form.usual and not words, form.doubt


def _form(name: str, there: Sequence[str], *, is_label: bool, comma: bool) -> Form | None:
    """Return the form of all texts but a few, which are rejected or missing."""
    texts = Counter(value.strip() for value in there)
    categories = len(texts) <= _FEW and len(there) >= _ENOUGH
    return form_of(texts, categories=categories, label=is_label, time=is_called_a_moment(name), comma=comma)


def _listed(words: Counter[str]) -> str:
    return ", ".join(f"'{word}' ({count})" for word, count in words.most_common())
